"""Checkpoints and the store of LangGraph, kept in AMFS (docs/langgraph.md)."""

from amfs_agents.extras import needed_for

with needed_for("AMFSSaver or AMFSStore", "langgraph"):
    import langgraph.checkpoint.base as _  # noqa: F401

from amfs_agents.langgraph.saver import AMFSSaver
from amfs_agents.langgraph.store import AMFSStore

__all__ = ["AMFSSaver", "AMFSStore"]
