"""AMFS: shared, versioned memory for agents whose only server is a bucket.

from amfs import AgentMemory

with AgentMemory("my-agent") as memory:        # the store comes from the configuration
    memory.write("checkout-service", "retry-pattern", {"max_retries": 3})
    memory.read("checkout-service", "retry-pattern").value
"""

from typing import TYPE_CHECKING, Any

from amfs.agent_memory import AgentMemory
from amfs_core.catalog import SearchHit
from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    BucketNotFoundError,
    CircuitOpenError,
    CommitUnknownError,
    ConditionalWritesUnsupportedError,
    ConfigurationError,
    CorruptEntryError,
    DegradedError,
    InvalidKeyError,
    InvalidValueError,
    OutcomeConflictError,
    OutcomePendingError,
    OutcomeUnknownError,
    PermissionDeniedError,
    StorageFullError,
    UnknownFeatureError,
    VersionConflictError,
    WriteManyError,
    WriteOutcomeUnknownError,
)
from amfs_core.format import Cause, Evidence, MemoryEntry, Outcome, OutcomeType, Provenance
from amfs_core.storage import Metrics
from amfs_core.upkeep import Finding, Health, Stats, VerifyReport
from amfs_core.versions import Change, Diff

if TYPE_CHECKING:
    from amfs.async_memory import AsyncAgentMemory
    from amfs.config import open_store
    from amfs_core.layers import Decision, Fallback, Layered, Merge, Mirror, Routed
    from amfs_core.upkeep.backup import Backup, Backups
    from amfs_core.watch import Watch

__version__ = "0.1.0"

__all__ = [
    "AMFSError",
    "AgentMemory",
    "AsyncAgentMemory",
    "BackendUnavailableError",
    "Backup",
    "Backups",
    "BucketNotFoundError",
    "Cause",
    "Change",
    "CircuitOpenError",
    "CommitUnknownError",
    "ConditionalWritesUnsupportedError",
    "ConfigurationError",
    "CorruptEntryError",
    "Decision",
    "DegradedError",
    "Diff",
    "Evidence",
    "Fallback",
    "Finding",
    "Health",
    "InvalidKeyError",
    "InvalidValueError",
    "Layered",
    "MemoryEntry",
    "Merge",
    "Metrics",
    "Mirror",
    "Outcome",
    "OutcomeConflictError",
    "OutcomePendingError",
    "OutcomeType",
    "OutcomeUnknownError",
    "PermissionDeniedError",
    "Provenance",
    "Routed",
    "SearchHit",
    "Stats",
    "StorageFullError",
    "UnknownFeatureError",
    "VerifyReport",
    "VersionConflictError",
    "Watch",
    "WriteManyError",
    "WriteOutcomeUnknownError",
    "__version__",
    "open_store",
]


def __getattr__(name: str) -> Any:
    """Import a name on first use if its module is slow to import and not every program needs it."""
    if name == "AsyncAgentMemory":
        from amfs.async_memory import AsyncAgentMemory

        return AsyncAgentMemory
    if name in ("Backup", "Backups"):
        from amfs_core.upkeep import backup

        return getattr(backup, name)
    if name == "Watch":
        from amfs_core.watch import Watch

        return Watch
    if name in ("Decision", "Fallback", "Layered", "Merge", "Mirror", "Routed"):
        from amfs_core import layers

        return getattr(layers, name)
    if name == "open_store":
        from amfs.config import open_store

        return open_store
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
