"""AMFS over HTTP: the server that makes a store reachable for any client.

It translates requests into calls of `AgentMemory` and adds no rules of its own.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amfs_server.app import make_app
    from amfs_server.settings import Settings

__all__ = ["Settings", "make_app"]


def __getattr__(name: str) -> Any:
    """Import the web framework only when the server is used."""
    if name == "make_app":
        from amfs_server.app import make_app

        return make_app
    if name == "Settings":
        from amfs_server.settings import Settings

        return Settings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
