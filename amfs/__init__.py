"""AMFS: shared, versioned memory for agents whose only server is a bucket.

from amfs import AgentMemory

with AgentMemory("my-agent") as memory:        # the store comes from the configuration
    memory.write("checkout-service", "retry-pattern", {"max_retries": 3})
    memory.read("checkout-service", "retry-pattern").value
"""

from amfs.agent_memory import AgentMemory
from amfs_core.diff import Change, Diff
from amfs_core.entry import Evidence, MemoryEntry, Provenance
from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    BucketNotFoundError,
    ConditionalWritesUnsupportedError,
    ConfigurationError,
    CorruptEntryError,
    InvalidKeyError,
    InvalidValueError,
    OutcomeUnknownError,
    PermissionDeniedError,
    VersionConflictError,
    WriteManyError,
    WriteOutcomeUnknownError,
)
from amfs_core.health import Health
from amfs_core.integrity import Finding, VerifyReport
from amfs_core.metrics import Metrics
from amfs_core.scan import Stats

__version__ = "0.1.0"

__all__ = [
    "AMFSError",
    "AgentMemory",
    "BackendUnavailableError",
    "BucketNotFoundError",
    "Change",
    "ConditionalWritesUnsupportedError",
    "ConfigurationError",
    "CorruptEntryError",
    "Diff",
    "Evidence",
    "Finding",
    "Health",
    "InvalidKeyError",
    "InvalidValueError",
    "MemoryEntry",
    "Metrics",
    "OutcomeUnknownError",
    "PermissionDeniedError",
    "Provenance",
    "Stats",
    "VerifyReport",
    "VersionConflictError",
    "WriteManyError",
    "WriteOutcomeUnknownError",
    "__version__",
]
