"""For pytest, in the tests of langgraph-checkpoint-sqlite: savers and stores are those of AMFS."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Self

import langgraph.checkpoint.sqlite
import langgraph.checkpoint.sqlite.aio
import langgraph.store.sqlite
import langgraph.store.sqlite.aio

from amfs import AgentMemory
from amfs_agents.langgraph import AMFSSaver, AMFSStore
from amfs_sqlite import SqliteAdapter


@contextlib.contextmanager
def opened(conn_string: str) -> Iterator[AgentMemory]:
    """One file is one store; what is to be in memory is gone afterwards."""
    with contextlib.ExitStack() as stack:
        if conn_string == ":memory:":
            path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "store"
        else:
            path = Path(f"{conn_string}.amfs")
        adapter = stack.enter_context(contextlib.closing(SqliteAdapter(path)))
        yield stack.enter_context(AgentMemory("tests", adapter=adapter))


class Saver(AMFSSaver):
    """Opened as SqliteSaver is."""

    @classmethod
    @contextlib.contextmanager
    def from_conn_string(cls, conn_string: str, **how: Any) -> Iterator[Self]:
        with opened(conn_string) as memory:
            yield cls(memory, **how)


class AsyncSaver(AMFSSaver):
    """Opened as AsyncSqliteSaver is."""

    @classmethod
    @contextlib.asynccontextmanager
    async def from_conn_string(cls, conn_string: str, **how: Any) -> AsyncIterator[Self]:
        with opened(conn_string) as memory:
            yield cls(memory, **how)


class Store(AMFSStore):
    """Opened as SqliteStore is, which has a name of its own for the fields of its index."""

    def __init__(self, memory: AgentMemory, *, index: Any = None, **how: Any) -> None:
        if index is not None:
            index = {**index, "fields": index.get("text_fields")}
        super().__init__(memory, index=index, **how)

    @classmethod
    @contextlib.contextmanager
    def from_conn_string(cls, conn_string: str, **how: Any) -> Iterator[Self]:
        with opened(conn_string) as memory:
            yield cls(memory, **how)

    def setup(self) -> None:
        """Nothing is to be made."""


class AsyncStore(Store):
    """Opened as AsyncSqliteStore is."""

    @classmethod
    @contextlib.asynccontextmanager
    async def from_conn_string(cls, conn_string: str, **how: Any) -> AsyncIterator[Self]:  # type: ignore[override]
        with opened(conn_string) as memory:
            yield cls(memory, **how)

    async def setup(self) -> None:  # type: ignore[override]
        """Nothing is to be made."""

    async def sweep_ttl(self) -> int:  # type: ignore[override]
        return super().sweep_ttl()


langgraph.checkpoint.sqlite.SqliteSaver = Saver  # type: ignore[assignment,misc]
langgraph.checkpoint.sqlite.aio.AsyncSqliteSaver = AsyncSaver  # type: ignore[assignment,misc]
langgraph.store.sqlite.SqliteStore = Store  # type: ignore[assignment,misc]
langgraph.store.sqlite.aio.AsyncSqliteStore = AsyncStore  # type: ignore[assignment,misc]
langgraph.store.sqlite.AsyncSqliteStore = AsyncStore  # type: ignore[assignment,misc]
