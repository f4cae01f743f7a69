"""For pytest, in the tests of langgraph-checkpoint-postgres: stores are those of AMFS.

The tests make a database for each store. `AMFS_TEST_STORE` says what it is here: a directory
(`local`), a SQLite file (`sqlite`), or a schema in the database `AMFS_TEST_DSN` (`postgres`).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import langgraph.store.postgres
import psycopg

from amfs import AgentMemory
from amfs_agents.langgraph import AMFSStore, items
from amfs_agents.langgraph.items import StoredItem
from amfs_core.format import MemoryEntry
from amfs_core.storage import StorageAdapter
from amfs_local import LocalAdapter
from amfs_postgres import PostgresAdapter
from amfs_sqlite import SqliteAdapter

Row = TypeVar("Row")


def opened(conn_string: str, stack: contextlib.ExitStack) -> AgentMemory:
    """A store for each database."""
    name = conn_string.rpartition("/")[2].partition("?")[0]
    path = Path(tempfile.gettempdir()) / name
    adapter: StorageAdapter
    match os.environ["AMFS_TEST_STORE"]:
        case "local":
            adapter = LocalAdapter(path, durability="none")
        case "sqlite":
            adapter = SqliteAdapter(path, durability="none")
        case _:
            adapter = PostgresAdapter(os.environ["AMFS_TEST_DSN"], name)
    stack.enter_context(contextlib.closing(adapter))
    return stack.enter_context(AgentMemory("tests", adapter=adapter))


class Store(AMFSStore):
    """Opened as PostgresStore is, which has names for what it is made of."""

    MIGRATIONS: Sequence[str] = ()

    def __init__(self, memory: AgentMemory, *, index: Any = None, **how: Any) -> None:
        super().__init__(memory, index=index, **how)
        self.index_config = index

    @classmethod
    @contextlib.contextmanager
    def from_conn_string(
        cls, conn_string: str, *, pipeline: bool = False, pool_config: Any = None, **how: Any
    ) -> Iterator[Self]:
        with contextlib.ExitStack() as stack:
            yield cls(opened(conn_string, stack), **how)

    def setup(self) -> None:
        """Nothing is to be made."""

    @contextlib.contextmanager
    def _cursor(self) -> Iterator[Rows]:
        yield Rows(self)


class Rows:
    """What the tests do to the row of an item, done to its memory."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._row: dict[str, Any] = {}

    def execute(self, statement: str, values: Sequence[Any] = ()) -> None:
        if statement.startswith("DROP TABLE IF EXISTS"):
            return  # there is none
        *settings, prefix, key = values
        place = self._store.address(tuple(prefix.split(".")), key)
        newest = self._store._memory.history(*place)[-1]
        if statement.startswith("SELECT"):
            self._row = {"n": 1, "expires_at": newest.expires_at}
        elif "SET expires_at" in statement:
            self._expire(place, newest)
        else:
            assert "SET updated_at" in statement, statement
            self._date(place, newest, *settings)

    def fetchone(self) -> dict[str, Any]:
        return self._row

    def _expire(self, place: tuple[str, str], newest: MemoryEntry) -> None:
        written = self._store._memory.write(*place, newest.value, ttl=0.001)
        assert written.expires_at is not None
        while datetime.now(UTC) <= written.expires_at:
            time.sleep(0.001)

    def _date(self, place: tuple[str, str], newest: MemoryEntry, seconds: int) -> None:
        if not newest.is_live():
            return  # nobody reads when it was updated
        item = StoredItem.of(newest).json()
        item["updated_at"] = (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()
        self._store._memory.update(*place, lambda _: item, ttl=60)


class AsyncRows:
    """`Rows`, awaited."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def execute(self, statement: str, values: Sequence[Any] = ()) -> None:
        self._rows.execute(statement, values)

    async def fetchone(self) -> dict[str, Any]:
        return self._rows.fetchone()


class AsyncStore(Store):
    """Opened as AsyncPostgresStore is."""

    @classmethod
    @contextlib.asynccontextmanager
    async def from_conn_string(cls, conn_string: str, **how: Any) -> AsyncIterator[Self]:  # type: ignore[override]
        with super().from_conn_string(conn_string, **how) as store:
            yield store

    async def setup(self) -> None:  # type: ignore[override]
        """Nothing is to be made."""

    @contextlib.asynccontextmanager
    async def _cursor(self) -> AsyncIterator[AsyncRows]:  # type: ignore[override]
        yield AsyncRows(Rows(self))

    async def start_ttl_sweeper(self) -> Future[None]:  # type: ignore[override]
        return super().start_ttl_sweeper()

    async def stop_ttl_sweeper(self) -> bool:  # type: ignore[override]
        return super().stop_ttl_sweeper()


class NoServer(psycopg.Connection[Row]):
    """Makes no database: each store is made when it is opened."""

    @classmethod
    @contextlib.contextmanager
    def connect(cls, *where: Any, **how: Any) -> Iterator[Any]:  # type: ignore[override]
        yield cls.__new__(cls)

    def execute(self, statement: Any, *more: Any, **how: Any) -> Any:
        assert statement.startswith(("CREATE DATABASE", "DROP DATABASE", "DELETE FROM")), statement


class AsyncNoServer(psycopg.AsyncConnection[Row]):
    """`NoServer`, awaited."""

    @classmethod
    async def connect(cls, *where: Any, **how: Any) -> Any:
        return contextlib.nullcontext(cls.__new__(cls))

    async def execute(self, statement: Any, *more: Any, **how: Any) -> Any:
        assert statement.startswith(("CREATE DATABASE", "DROP DATABASE", "DELETE FROM")), statement


psycopg.Connection = NoServer  # type: ignore[misc]
psycopg.AsyncConnection = AsyncNoServer  # type: ignore[misc]
# A time to live begins again with each read, as the tests have it, and not after a hundredth of it.
items._REFRESHED_AFTER = 0.0
langgraph.store.postgres.PostgresStore = Store  # type: ignore[assignment,misc]
langgraph.store.postgres.AsyncPostgresStore = AsyncStore  # type: ignore[assignment,misc]
