"""The options before the command, and the memory that they open."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from amfs.cli import output
from amfs.cli.user_cache import catalogs

if TYPE_CHECKING:
    from amfs import AgentMemory
    from amfs.config import Config
    from amfs_core.storage import StorageAdapter

MANY = 500
"""From this many objects on, fetching takes long enough that a person wants to know why."""


@dataclass(slots=True)
class Session:
    """One run of the program."""

    store: str | None = None
    namespace: str | None = None
    agent: str | None = None
    config: str | None = None
    json: bool = False
    no_cache: bool = False
    _opened: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def memory(self) -> AgentMemory:
        """Open the memory; it is closed at the end of the run."""
        from amfs import AgentMemory

        settings = self.settings()
        return self._opened.enter_context(
            AgentMemory(
                self.agent,
                adapter=self.open(self.store) if self.store is not None else None,
                namespace=self.namespace,
                config=settings,
            )
        )

    def open(self, place: str) -> StorageAdapter:
        """Open the store at a place; it is closed at the end of the run."""
        from amfs.config import open_store

        adapter = open_store(place)
        self._opened.callback(adapter.close)
        return adapter

    def open_existing(self, place: str, purpose: str) -> StorageAdapter:
        """Open the store at a place; raises `ConfigurationError` when the place is a directory or a
        file that does not exist. `purpose` completes the sentence "there is no directory 'x' …"."""
        from amfs_core.errors import ConfigurationError

        store = self.open(place)
        absent = _absent(store)
        if absent is not None:
            raise ConfigurationError(f"there is no {absent[0]} {place!r} {purpose}")
        return store

    def explain_nothing(self, adapter: StorageAdapter, namespace: str) -> bool:
        """After nothing was found, tell the user on stderr if the store is not there, or if the
        namespace is empty and another one is not: a name may be mistyped. Return whether that is
        so. Up to 2 requests."""
        from amfs.doctor import other_namespace
        from amfs_core.errors import AMFSError

        absent = _absent(adapter)
        if absent is not None:
            output.note(f"there is no {absent[0]} {absent[1]!r} yet; the first write makes it")
            return True
        with contextlib.suppress(AMFSError):  # this only explains what has been said
            other = other_namespace(adapter, namespace)
            if other is not None:
                output.note(
                    f"nothing is in the namespace {namespace!r}, but there is a namespace "
                    f"{other!r}; did you mean --namespace {other}?"
                )
                return True
        return False

    def suggest_catalog(self, memory: AgentMemory) -> None:
        """After a fetch of many objects, tell the user how to fetch only new ones next time."""
        fetched = memory.metrics.requests["get"]
        if fetched > MANY and self.settings().cache_dir is None:
            output.hint(
                f"fetched {fetched:,} objects; without --no-cache, or with AMFS_CACHE_DIR set to a "
                "directory, the next run fetches only new ones"
            )

    def settings(self) -> Config:
        """Return the settings; a command keeps its catalog between runs unless told otherwise."""
        from amfs.config import load

        settings = load(self.config)
        if self.no_cache:
            return replace(settings, cache_dir=None, index=None)
        return replace(settings, cache_dir=settings.cache_dir or catalogs())

    def close(self) -> None:
        """Close what was opened."""
        self._opened.close()


def _absent(store: StorageAdapter) -> tuple[str, str] | None:
    """Return what a store on this machine is, "directory" or "file", and its path, if that does not
    exist."""
    root, path = getattr(store, "root", None), getattr(store, "path", None)
    if isinstance(root, str) and not os.path.isdir(root):
        return "directory", root
    if isinstance(path, str) and not os.path.exists(path):
        return "file", path
    return None
