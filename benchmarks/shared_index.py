"""An index for all agents: what many processes pay for it on a bucket, and how fast it answers."""

from __future__ import annotations

import multiprocessing
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amfs_core.catalog import Catalog, Filters, Version
from amfs_core.catalog.sqlite.catalog import SqliteCatalog
from amfs_core.memory import AgentMemory
from amfs_core.testing import ModelAdapter
from amfs_postgres.index import PostgresIndex
from benchmarks.figure import Figure
from benchmarks.scale import Scale
from benchmarks.workplace import serving, workplace
from tests.support.postgres import Postgres, new_schema
from tests.support.postgres import running as running_postgres
from tests.support.s3_store import Place
from tests.support.servers import MINIO

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

SECTION = "shared index"
WITH, WITHOUT = WAYS = ("with an index", "without")
_PROCESSES = 10
_AGENTS = 10  # in each
_TOPICS = 1_013
_TOGETHER = 4_000
_QUESTIONS = 50
_SPAWNING = multiprocessing.get_context("spawn")


def shared(scale: Scale) -> Iterator[Figure]:
    """Yield what a hundred agents on one bucket pay, then what a search takes among many."""
    yield from _on_a_bucket(scale.scanned_on_s3)
    yield from _among_many(scale)


# -- a hundred agents in ten processes -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Answer:
    lists: int
    gets: int
    seconds: float


def _on_a_bucket(size: int) -> Iterator[Figure]:
    with serving(MINIO) as server, running_postgres() as database:
        place = Place.on(server, server.new_bucket())
        with closing(place.adapter()) as store, AgentMemory("writer", adapter=store) as writer:
            _write(writer, size)
            for name, dsn in ((WITH, database.dsn), (WITHOUT, None)):
                yield from _hundred(name, place, dsn, writer, size)


def _hundred(
    name: str, place: Place, dsn: str | None, writer: AgentMemory, size: int
) -> Iterator[Figure]:
    pipes, processes = [], []
    for _ in range(_PROCESSES):
        ours, theirs = _SPAWNING.Pipe()
        process = _SPAWNING.Process(target=_agents, args=(place, dsn, theirs))
        process.start()
        pipes.append(ours)
        processes.append(process)
    for pipe in pipes:
        pipe.recv()  # it has begun
    yield from _round(f"first search of 100 agents, {size:,} memories", name, pipes)
    writer.write("e1", "last", "the last one on topic 7")
    yield from _round(f"search after one write, {size:,} memories", name, pipes)
    for pipe in pipes:
        pipe.send(False)
    for process in processes:
        process.join()


def _round(what: str, name: str, pipes: list[Connection[Any, Any]]) -> Iterator[Figure]:
    started = time.perf_counter()
    for pipe in pipes:
        pipe.send(True)
    answers: list[_Answer] = [pipe.recv() for pipe in pipes]
    took = time.perf_counter() - started
    yield Figure(SECTION, what, name, "s", (took,))
    yield Figure(SECTION, what, name, "LIST", (float(sum(answer.lists for answer in answers)),))
    yield Figure(SECTION, what, name, "GET", (float(sum(answer.gets for answer in answers)),))


def _agents(place: Place, dsn: str | None, pipe: Connection[Any, Any]) -> None:
    """Be the agents of one process, who search whenever they are told."""
    with ExitStack() as stack:
        store = stack.enter_context(closing(place.adapter()))
        index = None if dsn is None else stack.enter_context(closing(PostgresIndex(dsn)))
        first = stack.enter_context(AgentMemory("a0", adapter=store, index=index))
        agents = [first]
        agents += [AgentMemory(f"a{n}", engine=first.engine) for n in range(1, _AGENTS)]
        pipe.send(True)
        while pipe.recv():
            before, started = first.metrics.requests, time.perf_counter()
            for agent in agents:
                agent.search("topic 7")
            after = first.metrics.requests
            lists, gets = (after[kind] - before[kind] for kind in ("list", "get"))
            pipe.send(_Answer(lists, gets, time.perf_counter() - started))


def _write(memory: AgentMemory, size: int) -> None:
    for first in range(0, size, 1_000):
        memory.write_many(
            {"entity_path": f"e{n % 97}", "key": f"k{n}", "value": _text(n)}
            for n in range(first, min(size, first + 1_000))
        )


# -- among many ------------------------------------------------------------------------------


class _Nowhere(ModelAdapter):
    """A store in memory that an index knows by a location."""

    def __init__(self) -> None:
        super().__init__()
        self._location = f"bench://{new_schema()}"

    @property
    def location(self) -> str:
        return self._location


def _among_many(scale: Scale) -> Iterator[Figure]:
    sizes = (scale.scanned_on_disk, 10 * scale.scanned_on_disk)
    with running_postgres() as database:
        for size in sizes:
            schema = new_schema()
            with (
                closing(PostgresIndex(database.dsn, schema)) as index,
                AgentMemory("writer", adapter=_Nowhere(), index=index) as memory,
            ):
                catalog = index.catalog(memory.engine.versions, None)
                yield from _filled("PostgreSQL", size, memory, catalog)
                megabytes = _size(database, schema)
                yield Figure(SECTION, f"size, {size:,} memories", "PostgreSQL", "MB", (megabytes,))
                yield from _searched("PostgreSQL", size, catalog)
    directory = workplace() / new_schema()
    with AgentMemory("writer", adapter=_Nowhere()) as memory:
        catalog = SqliteCatalog(memory.engine.versions, directory, None)
        with closing(catalog):
            yield from _filled("SQLite", sizes[0], memory, catalog)
            yield from _searched("SQLite", sizes[0], catalog)


def _filled(kind: str, size: int, memory: AgentMemory, catalog: Catalog) -> Iterator[Figure]:
    """Fill a catalog as a refresh does, from versions that are in no store: the time of the catalog
    is measured, and not that of the store."""
    took = 0.0
    for first in range(0, size, _TOGETHER):
        versions = _versions(memory, range(first, min(size, first + _TOGETHER)))
        begun = time.perf_counter()
        catalog.put(versions)
        took += time.perf_counter() - begun
    begun = time.perf_counter()
    catalog.ranked("topic", Filters(), 1)  # a SQLite catalog indexes words at the first search
    took += time.perf_counter() - begun
    yield Figure(SECTION, f"build, {size:,} memories", kind, "s", (took,))


def _searched(kind: str, size: int, catalog: Catalog) -> Iterator[Figure]:
    among = f"{size:,} memories"
    dice = random.Random(7)
    for what, filters in (("search", Filters()), ("search in one path", Filters("e7"))):
        times = []
        for _ in range(_QUESTIONS):
            question = f"number {dice.randrange(size)} topic {dice.randrange(_TOPICS)}"
            begun = time.perf_counter()
            catalog.ranked(question, filters, 10)
            times.append((time.perf_counter() - begun) * 1_000)
        yield Figure(SECTION, f"{what}, {among}", kind, "ms", tuple(times))
        slow = statistics.quantiles(times, n=20)[-1]
        yield Figure(SECTION, f"{what}, 95th percentile, {among}", kind, "ms", (slow,))


def _versions(memory: AgentMemory, numbers: range) -> list[Version]:
    store = memory.engine.stored.store.inner
    made = memory.write_many(
        {"entity_path": f"e{n % 97}", "key": f"k{n}", "value": _text(n)} for n in numbers
    )
    versions = []
    for entry in made:
        address = memory.engine.layout.address(entry.entity_path, entry.key)
        object_key = address.object_key(entry.version)
        body = store.get(object_key)
        assert body is not None
        store.delete(object_key)
        versions.append(Version(address, entry, body, None))
    return versions


def _text(number: int) -> str:
    dice = random.Random(number)
    words = " ".join(f"word{int(dice.paretovariate(0.6)) % 50_000}" for _ in range(40))
    return f"number {number} on topic {number % _TOPICS}: {words}"


def _size(database: Postgres, schema: str) -> float:
    ((size,),) = database.sql(
        "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c "
        f"JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = '{schema}' AND relkind = 'r'"
    )[0]
    return int(size) / 1e6
