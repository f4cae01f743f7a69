"""Checkpoints and the store of LangGraph, kept in AMFS (docs/langgraph.md)."""

try:
    import langgraph.checkpoint.base as _  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"AMFSSaver and AMFSStore need their extra: pip install 'amfs[langgraph]' ({error})"
    ) from error

from amfs_agents.langgraph.saver import AMFSSaver
from amfs_agents.langgraph.store import AMFSStore

__all__ = ["AMFSSaver", "AMFSStore"]
