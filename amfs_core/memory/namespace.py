"""`Namespace`: the engine under all handles that work in one namespace of one store."""

from __future__ import annotations

import dataclasses
import importlib
import os
import weakref
from collections.abc import Hashable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from amfs_core import arguments, fork
from amfs_core.errors import InvalidValueError
from amfs_core.format import Layout
from amfs_core.outcomes import Outcomes
from amfs_core.parallel import mapped, new_lock
from amfs_core.storage import (
    DEFAULT_PATIENCE,
    Degraded,
    Metrics,
    StorageAdapter,
    StoreClient,
    check_adapter,
)
from amfs_core.versions import DEFAULT_MAX_VALUE_BYTES, GuardedClient, VersionLog

if TYPE_CHECKING:
    from amfs_core.catalog import Embedder, Index, Search
    from amfs_core.degraded import DegradableLog


class Namespace:
    """What a process knows about one namespace, and the means to reach it.

    It has the client of the store, the log of versions with its cache, the catalog for lists and
    searches, and the records of outcomes. `AgentMemory` is a handle on it: a thousand agents in one
    process are a thousand handles on one engine, so what one of them has read costs the others
    nothing.

    Safe to share between threads, and usable after a fork. It closes when the last handle on it
    does; an adapter or index that it owns closes with it. The arguments are those of `AgentMemory`.
    """

    def __init__(
        self,
        adapter: StorageAdapter,
        name: str = "default",
        *,
        patience: float = DEFAULT_PATIENCE,
        owns_adapter: bool = False,
        embedder: Embedder | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        max_value_bytes: int = DEFAULT_MAX_VALUE_BYTES,
        index: Index | None = None,
        owns_index: bool = False,
    ) -> None:
        check_adapter(adapter)
        self.adapter = adapter
        self.owns_adapter = owns_adapter
        self.name = name
        self.layout = Layout(name)
        client = StoreClient(adapter, arguments.seconds(patience, "patience"))
        self.stored = VersionLog(
            GuardedClient(client, self.layout),
            self.layout,
            arguments.count(max_value_bytes, "max_value_bytes"),
        )
        # With what waits in a fallback, where the store has one; `stored` is what the store has.
        self.versions, self.degradable = self.stored, self._degradable()
        if self.degradable is not None:
            self.versions = self.degradable
        self.patience = self.stored.store.patience
        self.outcomes = Outcomes(self.stored)
        if embedder is not None and not callable(embedder):
            raise InvalidValueError(
                "embedder must be callable: from a list of texts to a list of vectors"
            )
        self.embedder = embedder
        self.cache_dir = None if cache_dir is None else Path(cache_dir)
        self.index = index
        self.owns_index = owns_index
        self.is_closed = False
        self.tended: datetime | None = None  # since when outcomes have not been looked after
        self._search: Search | None = None
        self._handles: weakref.WeakSet[Hashable] = weakref.WeakSet()
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        """Take a new lock in a forked child."""
        self._lock = new_lock()

    @property
    def metrics(self) -> Metrics:
        """Requests by kind, bytes, retries, lost races and cache hits so far, of all handles."""
        store = self.stored.store
        queries = 0 if self.index is None else self.index.queries()
        return dataclasses.replace(
            store.meter.snapshot(),
            mirrors=tuple(store.mirror_lags()),
            degraded=self.degraded(),
            index_queries=queries,
        )

    def _degradable(self) -> DegradableLog | None:
        if not self.stored.store.fallback_of(self.layout.root):
            return None
        from amfs_core.degraded import DegradableLog  # few stores have a fallback

        return DegradableLog(self.stored)

    def degraded(self) -> Degraded | None:
        """Return what waits in a fallback store, None where the store has none. 2 requests to the
        fallback."""
        return None if self.degradable is None else self.degradable.degraded()

    @property
    def keeps_catalog(self) -> bool:
        """Whether there is a catalog, of this process, on disk or of many, that may hold
        contents."""
        return self._search is not None or self.cache_dir is not None or self.index is not None

    def join(self, handle: Hashable) -> bool:
        """Count a handle; False, with nothing done, once the last handle has closed this engine."""
        with self._lock:
            if self.is_closed:
                return False
            self._handles.add(handle)
            return True

    def leave(self, handle: Hashable) -> None:
        """Stop counting a handle; the engine closes with the last one. Twice is fine.

        A handle that is used afterwards still works: what it needs is opened again.
        """
        with self._lock:
            self._handles.discard(handle)
            if self._handles:
                return
            self.is_closed = True
            search, self._search = self._search, None
        if search is not None:
            search.close()
        if self.degradable is not None:
            self.degradable.close()
        if self.owns_adapter:
            self.adapter.close()
        if self.owns_index and self.index is not None:
            self.index.close()

    def search(self) -> Search:
        """Return the catalog's search, made when it is first asked for: while something waits in a
        fallback, one that has that too."""
        view = None if self.degradable is None else self.degradable.view()
        if view is not None:
            from amfs_core.catalog import Search

            # Thrown away with the call: what waits changes its number when it lands.
            return Search(view, None, self.embedder, is_for_one_call=True)
        search = self._search
        if search is not None and search.is_at_work_here():
            # A signal handler came in the middle of a search of this very thread, which cannot go
            # on before the handler has ended. It gets a catalog of its own.
            from amfs_core.catalog import Search

            return Search(self.stored, None, self.embedder, index=self.index, is_for_one_call=True)
        if search is None:
            # By another thread: a signal handler that interrupts an import of its own thread gets
            # half of the module, but it can wait for the import of another.
            mapped(importlib.import_module, ["amfs_core.catalog.search"], 1)
        with self._lock:
            if self._search is None:
                from amfs_core.catalog import Search  # SQLite: not before it is needed

                made = Search(self.stored, self.cache_dir, self.embedder, index=self.index)
                if self._search is None:  # a signal handler may have been quicker
                    self._search = made
            return self._search

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.adapter!r}, {self.name!r})"
