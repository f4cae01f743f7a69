"""What every method of a memory stands on: who calls, which store, and what was opened for it."""

from __future__ import annotations

import importlib
import os
import threading
import uuid
import weakref
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from amfs_core import arguments, fork
from amfs_core.errors import InvalidValueError
from amfs_core.format import Layout
from amfs_core.memory.read_log import SessionReads
from amfs_core.outcomes import Outcomes
from amfs_core.parallel import mapped
from amfs_core.storage import (
    DEFAULT_PATIENCE,
    Metrics,
    Patience,
    StorageAdapter,
    StoreClient,
    check_adapter,
)
from amfs_core.versions import DEFAULT_MAX_VALUE_BYTES, VersionLog

if TYPE_CHECKING:
    from amfs_core.catalog import Embedder, Search
    from amfs_core.watch import Watch

THREADS = 32
"""How many requests of one call are under way at the same time, at most."""


class Session:
    """One agent at work in one namespace, from when it was opened until it is closed."""

    def __init__(
        self,
        agent_id: str,
        *,
        adapter: StorageAdapter,
        namespace: str = "default",
        session_id: str | None = None,
        patience: float = DEFAULT_PATIENCE,
        owns_adapter: bool = False,
        embedder: Embedder | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        max_value_bytes: int = DEFAULT_MAX_VALUE_BYTES,
    ) -> None:
        self.agent_id = arguments.text(agent_id, "agent_id")
        self.session_id = (
            str(uuid.uuid4()) if session_id is None else arguments.text(session_id, "session_id")
        )
        self.namespace = namespace
        check_adapter(adapter)
        self.adapter = adapter
        self._layout = Layout(namespace)
        self._versions = VersionLog(
            StoreClient(adapter, arguments.seconds(patience, "patience")),
            self._layout,
            arguments.count(max_value_bytes, "max_value_bytes"),
        )
        self._patience: Patience = self._versions.store.patience
        self._outcomes = Outcomes(self._versions)
        self._reads = SessionReads()
        self._owns_adapter = owns_adapter
        if embedder is not None and not callable(embedder):
            raise InvalidValueError(
                "embedder must be callable: from a list of texts to a list of vectors"
            )
        self._embedder = embedder
        self._cache_dir = None if cache_dir is None else Path(cache_dir)
        self._search: Search | None = None
        self._watches: weakref.WeakSet[Watch] = weakref.WeakSet()
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        """Take a new lock in a forked child."""
        # Re-entrant, as all locks here: a signal handler that uses the memory may interrupt the
        # thread that has it.
        self._lock = threading.RLock()

    @property
    def metrics(self) -> Metrics:
        """Requests by kind, bytes, retries, lost races and cache hits so far."""
        return self._versions.store.meter.snapshot()

    def close(self) -> None:
        """End the threads and the watches, and close the adapter if it was opened here. Closing
        twice is fine."""
        with self._lock:
            watches = list(self._watches)
            search, self._search = self._search, None
        for watch in watches:
            watch.cancel()
        if search:
            search.close()
        if self._owns_adapter:
            self.adapter.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        # As its arguments: connections, threads and caches stay in this process. What comes out of
        # it elsewhere has an adapter of its own, which it closes.
        arguments = {
            "agent_id": self.agent_id,
            "adapter": self.adapter,
            "namespace": self.namespace,
            "session_id": self.session_id,
            "patience": self._patience.seconds,
            "owns_adapter": True,
            "embedder": self._embedder,
            "cache_dir": self._cache_dir,
            "max_value_bytes": self._versions.max_value_bytes,
        }
        return _remade, (type(self), arguments)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(agent_id={self.agent_id!r}, namespace={self.namespace!r}, "
            f"adapter={self.adapter!r})"
        )

    def _searching(self) -> Search:
        search = self._search
        if search is not None and search.is_at_work_here():
            # A signal handler came in the middle of a search of this very thread, which cannot go
            # on before the handler has ended. It gets a catalog of its own.
            from amfs_core.catalog import Search

            return Search(self._versions, None, self._embedder, is_for_one_call=True)
        if search is None:
            # By another thread: a signal handler that interrupts an import of its own thread gets
            # half of the module, but it can wait for the import of another.
            mapped(importlib.import_module, ["amfs_core.catalog.search"], 1)
        with self._lock:
            if self._search is None:
                from amfs_core.catalog import Search  # SQLite: not before it is needed

                made = Search(self._versions, self._cache_dir, self._embedder)
                if self._search is None:  # a signal handler may have been quicker
                    self._search = made
            return self._search


def _remade(kind: type[Session], arguments: dict[str, Any]) -> Session:
    made = kind.__new__(kind)
    Session.__init__(made, **arguments)
    return made
