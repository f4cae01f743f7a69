"""What a look costs when nothing is new: with a change log, with a listing, and with neither."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from statistics import median

from amfs import AgentMemory, open_store
from amfs_core.storage import StorageAdapter
from benchmarks.figure import Figure
from benchmarks.scale import Scale
from benchmarks.workplace import serving, workplace
from tests.support.postgres import new_schema
from tests.support.postgres import running as running_postgres
from tests.support.s3_store import Place
from tests.support.servers import MINIO, ServerUnavailableError

SECTION = "looks"
GOAL = 1.5
"""Times of what `max_age` takes, at most."""

_TOPICS = 1_013
_TOGETHER = 5_000
_TIMES = 15


def with_nothing_new(scale: Scale) -> Iterator[Figure]:
    """Yield milliseconds of a search in each kind of store, by the number of memories."""
    for size in (max(300, scale.scanned_on_disk // 10), scale.scanned_on_disk):
        for kind, open_it in _stores():
            with ExitStack() as stack:
                try:
                    again = open_it(stack)
                except ServerUnavailableError as reason:
                    yield Figure(SECTION, "search", kind, "ms", note=str(reason))
                    continue
                most = scale.scanned_on_s3 if kind == "bucket" else size
                yield from _looks(kind, again, min(size, most))


def _stores() -> Iterator[tuple[str, Callable[[ExitStack], Callable[[], StorageAdapter]]]]:
    def files(place: str) -> Callable[[ExitStack], Callable[[], StorageAdapter]]:
        return lambda stack: lambda: open_store(place)

    def database(stack: ExitStack) -> Callable[[], StorageAdapter]:
        from amfs_postgres import PostgresAdapter

        dsn, schema = stack.enter_context(running_postgres()).dsn, new_schema()
        return lambda: PostgresAdapter(dsn, schema)

    def bucket(stack: ExitStack) -> Callable[[], StorageAdapter]:
        server = stack.enter_context(serving(MINIO))
        place = Place.on(server, server.new_bucket())
        return place.adapter

    yield "directory", files(str(workplace() / f"looks-{new_schema()}"))
    yield "SQLite", files(f"sqlite:///{workplace() / f'looks-{new_schema()}'}.db")
    yield "PostgreSQL", database
    yield "bucket", bucket


def _looks(kind: str, again: Callable[[], StorageAdapter], size: int) -> Iterator[Figure]:
    with closing(again()) as store, AgentMemory("writer", adapter=store) as memory:
        for first in range(0, size, _TOGETHER):
            numbers = range(first, min(size, first + _TOGETHER))
            memory.write_many(
                {
                    "entity_path": f"e{number % 97}",
                    "key": f"k{number}",
                    "value": f"number {number} on topic {number % _TOPICS}",
                }
                for number in numbers
            )
    with closing(again()) as store, AgentMemory("reader", adapter=store) as memory:
        memory.search("topic 7")
        memory.search("topic 7")  # who looks for the second time begins to follow the change log
        before = memory.metrics.requests["list"]
        ways: list[Callable[[], object]] = [
            lambda: memory.search("topic 7"),
            lambda: memory.search("topic 7", max_age=3_600),
        ]
        # In turns: what else the machine does is shared by both.
        times = [[_milliseconds(way) for way in ways] for _ in range(_TIMES)]
        requests = (memory.metrics.requests["list"] - before) / _TIMES
        log, none = (median(samples) for samples in zip(*times, strict=True))
        listing = median(
            _milliseconds(lambda: memory.search("topic 7", complete=True)) for _ in range(3)
        )
    among = f"{size:,} memories"
    yield Figure(SECTION, f"nothing new, {among}", kind, "ms", (log,))
    yield Figure(SECTION, f"nothing new, {among}", kind, "LIST", (requests,))
    yield Figure(SECTION, f"within max_age, {among}", kind, "ms", (none,))
    yield Figure(SECTION, f"listing everything, {among}", kind, "ms", (listing,))
    goal = None if kind == "bucket" else GOAL
    over = (log / none,)
    yield Figure(SECTION, f"nothing new over max_age, {among}", kind, "times", over, goal=goal)


def _milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1_000
