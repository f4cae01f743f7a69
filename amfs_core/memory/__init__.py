"""What users call: `AgentMemory` and its asynchronous twin."""

from typing import TYPE_CHECKING, Any

from amfs_core.memory import jsonl
from amfs_core.memory.agent_memory import AgentMemory

if TYPE_CHECKING:
    from amfs_core.memory.async_memory import AsyncAgentMemory

__all__ = ["AgentMemory", "AsyncAgentMemory", "jsonl"]


def __getattr__(name: str) -> Any:
    """Import the asynchronous twin, which needs an event loop's modules, when it is asked for."""
    if name == "AsyncAgentMemory":
        from amfs_core.memory.async_memory import AsyncAgentMemory

        return AsyncAgentMemory
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
