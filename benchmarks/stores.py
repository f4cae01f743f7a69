"""The stores of AMFS beside each other, and LangGraph's stores on the same databases."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any, Protocol

import psycopg

from amfs import AgentMemory
from amfs_core.storage import StorageAdapter
from amfs_local import LocalAdapter
from amfs_postgres import PostgresAdapter
from amfs_sqlite import SqliteAdapter
from benchmarks.figure import Figure
from benchmarks.scale import Scale
from benchmarks.workplace import workplace
from tests.support.postgres import new_schema
from tests.support.postgres import running as running_postgres
from tests.support.servers import ServerUnavailableError

SECTION = "stores"
WRITERS = 8
TURNS = 50
"""Memories that are written together: a conversation."""
WHOLE = 10_000 * TURNS
QUERIES = 100

DIRECTORY, SQLITE, POSTGRES = "AMFS, directory", "AMFS, SQLite", "AMFS, PostgreSQL"
THEIR_SQLITE, THEIR_POSTGRES = "LangGraph SqliteStore", "LangGraph PostgresStore"
OURS = (DIRECTORY, SQLITE, POSTGRES)
PEERS = (*OURS, THEIR_SQLITE, THEIR_POSTGRES)

_WORDS = ("invoice", "retry", "timeout", "Lisbon", "rollback", "budget", "schema", "garden")


class Store(Protocol):
    """A store that is open in this process."""

    def put(self, path: str, key: str, text: str) -> None:
        """Write one memory, durable when it returns."""

    def put_many(self, path: str, texts: dict[str, str]) -> None:
        """Write memories together, durable when it returns."""

    def get(self, path: str, key: str) -> object:
        """Read one."""


@dataclass(frozen=True, slots=True)
class Where:
    """A place of a peer, which any process can open."""

    peer: str
    directory: Path
    dsn: str
    schema: str

    def adapter(self) -> StorageAdapter:
        """Return AMFS's store there."""
        if self.peer == DIRECTORY:
            return LocalAdapter(self.directory)
        if self.peer == SQLITE:
            return SqliteAdapter(self.directory / "store.db")
        return PostgresAdapter(self.dsn, self.schema)

    def opened(self, stack: ExitStack) -> Store:
        """Open the store until the stack ends."""
        if self.peer in OURS:
            adapter = stack.enter_context(closing(self.adapter()))
            return _Memory(stack.enter_context(AgentMemory("bench", adapter=adapter)))
        if self.peer == THEIR_SQLITE:
            from langgraph.store.sqlite import SqliteStore

            path = str(self.directory / "store.db")
            theirs: Any = stack.enter_context(SqliteStore.from_conn_string(path))
        else:
            from langgraph.store.postgres import PostgresStore

            dsn = (
                f"{self.dsn}{'&' if '?' in self.dsn else '?'}options=-csearch_path%3D{self.schema}"
            )
            theirs = stack.enter_context(PostgresStore.from_conn_string(dsn))
        theirs.setup()
        return _BaseStore(theirs)

    def bytes_on_disk(self) -> int:
        """Return what it takes there, with its indexes."""
        if self.peer in (POSTGRES, THEIR_POSTGRES):
            with psycopg.connect(self.dsn) as connection:
                row = connection.execute(
                    "select sum(pg_total_relation_size(c.oid)) from pg_class c join pg_namespace n "
                    "on n.oid = c.relnamespace where n.nspname = %s and c.relkind = 'r'",
                    [self.schema],
                ).fetchone()
            return int(row[0]) if row and row[0] else 0
        files = (path for path in self.directory.rglob("*") if path.is_file())
        return sum(path.stat().st_size for path in files)


class _Memory:
    def __init__(self, memory: AgentMemory) -> None:
        self._memory = memory

    def put(self, path: str, key: str, text: str) -> None:
        self._memory.write(path, key, {"text": text})

    def put_many(self, path: str, texts: dict[str, str]) -> None:
        self._memory.write_many(
            {"entity_path": path, "key": key, "value": {"text": text}}
            for key, text in texts.items()
        )

    def get(self, path: str, key: str) -> object:
        return self._memory.read(path, key)


class _BaseStore:
    def __init__(self, store: Any) -> None:
        self._store = store

    def put(self, path: str, key: str, text: str) -> None:
        self._store.put((path,), key, {"text": text})

    def put_many(self, path: str, texts: dict[str, str]) -> None:
        from langgraph.store.base import PutOp

        self._store.batch([PutOp((path,), key, {"text": text}) for key, text in texts.items()])

    def get(self, path: str, key: str) -> object:
        return self._store.get((path,), key)


def beside(scale: Scale) -> Iterator[Figure]:
    """Yield rates of one process and of eight, and what a large load and searches in it take."""
    with ExitStack() as stack:
        try:
            dsn, missing = stack.enter_context(running_postgres()).dsn, ""
        except ServerUnavailableError as reason:
            dsn, missing = "", str(reason)
        for peer in PEERS:
            if missing and peer in (POSTGRES, THEIR_POSTGRES):
                yield Figure(SECTION, "write", peer, "/s", note=missing)
                continue
            where = _place(peer, dsn)
            for writers in (1, WRITERS):
                yield from _written(where, writers, scale)
            yield from _read(where, scale)
            yield from _loaded(_place(peer, dsn), scale)


def _place(peer: str, dsn: str) -> Where:
    schema = new_schema()
    directory = workplace() / f"stores-{schema}"
    directory.mkdir()
    if dsn:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f'create schema if not exists "{schema}"')
    return Where(peer, directory, dsn, schema)


def _written(where: Where, writers: int, scale: Scale) -> Iterator[Figure]:
    with ExitStack() as stack:
        where.opened(stack)  # its tables are there before eight processes make them
    context = multiprocessing.get_context("spawn")
    each = "1 process" if writers == 1 else f"{writers} processes"
    ways = {"write": (_put, 1), f"write {TURNS} together": (_put_together, TURNS)}
    with context.Manager() as manager, ProcessPoolExecutor(writers, mp_context=context) as pool:
        barrier = manager.Barrier(writers)
        for name, (work, count) in ways.items():
            rates = []
            for repetition in range(scale.repetitions):
                arguments = [f"{count}-{repetition}-{number}" for number in range(writers)]
                running = [
                    pool.submit(_raced, work, where, barrier, path, scale.seconds)
                    for path in arguments
                ]
                rates.append(sum(future.result() for future in running) * count)
            yield Figure(SECTION, f"{name}, {each}", where.peer, "/s", tuple(rates))


def _read(where: Where, scale: Scale) -> Iterator[Figure]:
    with ExitStack() as stack:
        store = where.opened(stack)
        store.put_many("read", {f"k{number}": _text(number, 0) for number in range(1_000)})
        rates = tuple(
            _rate(lambda number: store.get("read", f"k{number % 1_000}"), scale.seconds)
            for _ in range(scale.repetitions)
        )
    yield Figure(SECTION, "read, 1 process", where.peer, "/s", rates)


def _loaded(where: Where, scale: Scale) -> Iterator[Figure]:
    """Load conversations as far as the time allows; then, in AMFS, search them by words."""
    until = time.monotonic() + 2 * scale.loading
    with ExitStack() as stack:
        store = where.opened(stack)
        started, done = time.perf_counter(), 0
        for talk in range(scale.conversations):
            store.put_many(f"talk-{talk}", {f"t{n}": _text(talk, n) for n in range(TURNS)})
            done += TURNS
            if time.monotonic() > until:
                break
        spent = time.perf_counter() - started
    whole = done == scale.conversations * TURNS
    note = "" if whole else f"stopped after {2 * scale.loading:.0f} s"
    yield Figure(SECTION, "turns loaded, 50 together", where.peer, "turns", (done,), note)
    yield Figure(SECTION, "loading them", where.peer, "s", (spent,), note)
    yield Figure(SECTION, "size of a turn", where.peer, "bytes", (where.bytes_on_disk() / done,))
    if where.peer not in OURS:
        return  # words are found by an embedder there
    with closing(where.adapter()) as adapter, AgentMemory("reader", adapter=adapter) as memory:
        started = time.perf_counter()
        memory.search("Lisbon budget", limit=10)
        built = time.perf_counter() - started
        times = [_milliseconds(memory, number) for number in range(QUERIES)]
    among = f"among {done:,} turns"
    yield Figure(SECTION, "first search", where.peer, "s", (built,), among)
    yield from _percentiles("search, again", where.peer, times, among)


def _percentiles(name: str, peer: str, times: Sequence[float], among: str) -> Iterator[Figure]:
    yield Figure(SECTION, f"{name}, p50", peer, "ms", (quantiles(times, n=2)[0],), among)
    yield Figure(SECTION, f"{name}, p95", peer, "ms", (quantiles(times, n=20)[-1],), among)


def _milliseconds(memory: AgentMemory, number: int) -> float:
    first, second = _WORDS[number % 8], _WORDS[number // 8 % 8]
    started = time.perf_counter()
    memory.search(f"{first} {second} {number}", limit=10)
    return (time.perf_counter() - started) * 1_000


def _raced(
    work: Callable[[Store, str, int], None],
    where: Where,
    barrier: Any,
    path: str,
    seconds: float,
) -> float:
    """Do the work together with all others, and return how often a second."""
    with ExitStack() as stack:
        store = where.opened(stack)
        barrier.wait()
        return _rate(lambda number: work(store, path, number), seconds)


def _rate(work: Callable[[int], object], seconds: float) -> float:
    started, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - started) < seconds:
        work(done)
        done += 1
    return done / spent


def _put(store: Store, path: str, number: int) -> None:
    store.put(path, f"k{number}", _text(0, number))


def _put_together(store: Store, path: str, number: int) -> None:
    store.put_many(path, {f"k{number}-{n}": _text(number, n) for n in range(TURNS)})


def _text(talk: int, turn: int) -> str:
    word = _WORDS[(talk + turn) % len(_WORDS)]
    return f"turn {turn} of {talk}: about the {word} of yesterday, and what is to be done about it"
