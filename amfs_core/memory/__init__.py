"""What users call: `AgentMemory`, its asynchronous twin, and the engine under them."""

from typing import TYPE_CHECKING, Any

from amfs_core.memory import jsonl
from amfs_core.memory.agent_memory import AgentMemory
from amfs_core.memory.drafts import WRITE_PARAMETERS
from amfs_core.memory.namespace import Namespace
from amfs_core.memory.records import Imported, Record, Unreadable, import_records

if TYPE_CHECKING:
    from amfs_core.memory.async_memory import AsyncAgentMemory

__all__ = [
    "WRITE_PARAMETERS",
    "AgentMemory",
    "AsyncAgentMemory",
    "Imported",
    "Namespace",
    "Record",
    "Unreadable",
    "import_records",
    "jsonl",
]


def __getattr__(name: str) -> Any:
    """Import the asynchronous twin, which needs an event loop's modules, when it is asked for."""
    if name == "AsyncAgentMemory":
        from amfs_core.memory.async_memory import AsyncAgentMemory

        return AsyncAgentMemory
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
