"""What users call: `AgentMemory`, its asynchronous twin, and the engine under them."""

from typing import TYPE_CHECKING, Any

from amfs_core.memory import jsonl, records
from amfs_core.memory.agent_memory import AgentMemory
from amfs_core.memory.namespace import Namespace

if TYPE_CHECKING:
    from amfs_core.memory.async_memory import AsyncAgentMemory

__all__ = ["AgentMemory", "AsyncAgentMemory", "Namespace", "jsonl", "records"]


def __getattr__(name: str) -> Any:
    """Import the asynchronous twin, which needs an event loop's modules, when it is asked for."""
    if name == "AsyncAgentMemory":
        from amfs_core.memory.async_memory import AsyncAgentMemory

        return AsyncAgentMemory
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
