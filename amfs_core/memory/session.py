"""The base of every method of a memory: who calls, in which session, on which engine."""

from __future__ import annotations

import os
import uuid
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from amfs_core import arguments
from amfs_core.errors import InvalidValueError
from amfs_core.memory.namespace import Namespace
from amfs_core.memory.read_log import SessionReads
from amfs_core.storage import DEFAULT_PATIENCE, Metrics, Patience, StorageAdapter
from amfs_core.versions import DEFAULT_MAX_VALUE_BYTES

if TYPE_CHECKING:
    from amfs_core.catalog import Embedder, Index, Search
    from amfs_core.watch import Watch

THREADS = 32
"""How many requests of one call are under way at the same time, at most."""


class Session:
    """One agent at work in one namespace, from when it was opened until it is closed."""

    def __init__(
        self,
        agent_id: str,
        *,
        adapter: StorageAdapter | None = None,
        namespace: str = "default",
        session_id: str | None = None,
        patience: float = DEFAULT_PATIENCE,
        owns_adapter: bool = False,
        embedder: Embedder | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        max_value_bytes: int = DEFAULT_MAX_VALUE_BYTES,
        index: Index | None = None,
        owns_index: bool = False,
        engine: Namespace | None = None,
    ) -> None:
        self.agent_id = arguments.text(agent_id, "agent_id")
        self.session_id = (
            str(uuid.uuid4()) if session_id is None else arguments.text(session_id, "session_id")
        )
        if engine is None:
            if adapter is None:
                raise InvalidValueError("give an adapter, or an engine to work on")
            engine = Namespace(
                adapter,
                namespace,
                patience=patience,
                owns_adapter=owns_adapter,
                embedder=embedder,
                cache_dir=cache_dir,
                max_value_bytes=max_value_bytes,
                index=index,
                owns_index=owns_index,
            )
        self._engine = engine
        self._layout = engine.layout
        self._versions = engine.versions
        self._patience: Patience = engine.patience
        self._reads = SessionReads()
        self._watches: weakref.WeakSet[Watch] | None = None  # made with the first: few have any
        if not engine.join(self):
            raise InvalidValueError(
                "the engine is closed",
                hint="make another",
            )

    @property
    def engine(self) -> Namespace:
        """The engine of this handle, for other handles on it: `AgentMemory(…, engine=…)`."""
        return self._engine

    @property
    def namespace(self) -> str:
        """The namespace that this is the memory of."""
        return self._engine.name

    @property
    def adapter(self) -> StorageAdapter:
        """The store."""
        return self._engine.adapter

    @property
    def metrics(self) -> Metrics:
        """Requests by kind, bytes, retries, lost races and cache hits so far, of all handles on
        the same engine."""
        return self._engine.metrics

    def close(self) -> None:
        """End the watches that were started here. With the last handle on the engine the catalog
        closes, and the adapter if it was opened here. Closing twice is fine."""
        for watch in list(self._watches or ()):
            watch.cancel()
        self._engine.leave(self)

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
        # it elsewhere has an engine of its own, with an adapter of its own, which it closes.
        engine = self._engine
        arguments = {
            "agent_id": self.agent_id,
            "adapter": engine.adapter,
            "namespace": engine.name,
            "session_id": self.session_id,
            "patience": engine.patience.seconds,
            "owns_adapter": True,
            "embedder": engine.embedder,
            "cache_dir": engine.cache_dir,
            "max_value_bytes": engine.versions.max_value_bytes,
            "index": engine.index,
            "owns_index": True,
        }
        return _remade, (type(self), arguments)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(agent_id={self.agent_id!r}, namespace={self.namespace!r}, "
            f"adapter={self.adapter!r})"
        )

    def _searching(self) -> Search:
        return self._engine.search()


def _remade(kind: type[Session], arguments: dict[str, Any]) -> Session:
    made = kind.__new__(kind)
    Session.__init__(made, **arguments)
    return made
