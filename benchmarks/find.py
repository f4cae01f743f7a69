"""Lists, refreshes and searches, beside raw listings and raw gets of the same objects.

The memories are pieces of real text (the topics of Python's own help), 0.5 KB each.
"""

from __future__ import annotations

import multiprocessing
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import obstore

from amfs import AgentMemory
from amfs_core.storage import StorageAdapter
from amfs_local import LocalAdapter
from benchmarks.measure import Comparison, Sample
from benchmarks.s3 import raw_store
from benchmarks.watch import Bucket, Directory, Open
from tests.servers import Server

THREADS = 32
PATHS = 100
QUERIES = 200
_BODY_TEXT = 300  # characters; with the fields around them about 0.5 KB
_TEXT = " ".join(" ".join(topics.values()).split())
_WORDS = sorted({word for word in _TEXT.split() if word.isalpha() and len(word) > 4})


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value that is no comparison."""

    name: str
    value: str
    goal: str


@dataclass(frozen=True, slots=True)
class Store:
    """A store, and by what means its objects are listed and got without AMFS."""

    name: str
    opened: Open
    listing: Callable[[], Iterable[object]]
    get: Callable[[list[str]], None]


def memories(count: int) -> Iterator[dict[str, Any]]:
    """Yield arguments of `write`, always the same."""
    dice = random.Random(1)
    for number in range(count):
        start = dice.randrange(len(_TEXT) - _BODY_TEXT)
        yield {
            "entity_path": f"project-{number % PATHS}/notes",
            "key": f"note-{number}",
            "value": {"text": _TEXT[start : start + _BODY_TEXT], "number": number},
            "tags": ["even"] if number % 2 == 0 else [],
        }


def local(root: Path, count: int, repetitions: int) -> Iterator[Comparison | Figure]:
    """Yield what is measured on a directory."""
    opened = Directory(str(root))
    adapter = LocalAdapter(root, durability="none")
    _fill(adapter, count)

    def read(keys: list[str]) -> None:
        for key in keys:
            with open(root / key, "rb") as file:
                file.read()

    store = Store("local", opened, lambda: adapter.list(""), read)
    yield from _measured(store, count, repetitions)


def s3(server: Server, count: int, repetitions: int) -> Iterator[Comparison | Figure]:
    """Yield what is measured on an S3 server."""
    bucket = server.new_bucket()
    raw = raw_store(server, bucket)
    opened = Bucket(bucket, server.endpoint_url, server.access_key, server.secret_key)
    _fill(opened(), count)

    def listing() -> Iterable[object]:
        return (one for page in obstore.list(raw, "amfs/default/entries") for one in page)

    def get(keys: list[str]) -> None:
        def one(key: str) -> object:
            return obstore.get(raw, f"amfs/{key}").bytes()

        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(one, keys, chunksize=1))

    yield from _measured(Store(server.name, opened, listing, get), count, repetitions)


def _fill(adapter: StorageAdapter, count: int) -> None:
    with AgentMemory("bench", adapter=adapter) as memory:
        memory.write_many(memories(count))


def _measured(store: Store, count: int, repetitions: int) -> Iterator[Comparison | Figure]:
    adapter = store.opened()
    keys = [info.key for info in adapter.list("default/entries/")]
    name = f"{store.name}, {count:,} memories"
    cold: list[tuple[Sample, Sample]] = []
    warm: list[tuple[Sample, Sample]] = []
    few: list[float] = []
    for _ in range(repetitions):
        with AgentMemory("bench", adapter=adapter) as memory:
            ours = _sample(count, lambda memory=memory: memory.search(limit=1))  # type: ignore[misc]
            first = dict(memory.metrics.requests)
            cold.append((ours, _sample(count, lambda: store.get(keys))))
            ours = _sample(count, lambda memory=memory: memory.search(limit=1))  # type: ignore[misc]
            again = dict(memory.metrics.requests)
            warm.append((ours, _sample(count, lambda: [None for _ in store.listing()])))
            writer = AgentMemory("other", adapter=adapter)
            for number in range(10):
                writer.write("project-0/notes", f"note-{number * PATHS}", {"text": "changed"})
            few.append(count / _sample(count, lambda memory=memory: memory.search(limit=1)).rate)  # type: ignore[misc]
            last = dict(memory.metrics.requests)
    # A directory's listing alone takes as long as its gets: docs/design/speed.md.
    goal = ">= 0.80" if adapter.backend_type != "local" else ""
    yield _comparison(f"{name}: cold scan / raw gets", cold, goal)
    yield _comparison(f"{name}: refresh, nothing new / raw list", warm, ">= 0.83 (1 / 1.2)")
    yield Figure(f"{name}: refresh, 10 new", f"{statistics.median(few):.2f} s", "")
    for step, now, then in (
        ("cold", first, {}),
        ("nothing new", again, first),
        ("10 new", last, again),
    ):
        made = {kind: made - then.get(kind, 0) for kind, made in now.items()}
        yield Figure(
            f"{name}: requests, {step}", f"{made['list']} lists, {made['get']} gets", "exact"
        )
    peaks = [_peak(store.opened, scan) for scan in (False, True)]
    yield Figure(f"{name}: memory that a scan takes", f"{peaks[1] - peaks[0]:.0f} MB", "bounded")
    with closing(AgentMemory("bench", adapter=adapter)) as memory:
        started = time.perf_counter()
        memory.search("nothing")
        yield Figure(f"{name}: first search, cold", f"{time.perf_counter() - started:.2f} s", "")
        times = sorted(_searches(memory))
    yield Figure(f"{name}: warm search, p50", f"{_at(times, 0.5):.1f} ms", "<= 20 ms")
    yield Figure(f"{name}: warm search, p95", f"{_at(times, 0.95):.1f} ms", "")
    adapter.close()


def _searches(memory: AgentMemory) -> Iterator[float]:
    """Yield how many milliseconds each of some searches takes, of two or three words."""
    dice = random.Random(2)
    for _ in range(QUERIES):
        query = " ".join(dice.choices(_WORDS, k=dice.choice([2, 3])))
        started = time.perf_counter()
        memory.search(query, max_age=3600)
        yield (time.perf_counter() - started) * 1000


def _at(times: list[float], part: float) -> float:
    return times[int(len(times) * part)]


def _sample(count: int, work: Callable[[], object]) -> Sample:
    cpu, started = time.process_time(), time.perf_counter()
    work()
    elapsed = time.perf_counter() - started
    return Sample(count / elapsed, (time.process_time() - cpu) / count * 1e6)


def _comparison(name: str, pairs: list[tuple[Sample, Sample]], goal: str) -> Comparison:
    def median(samples: list[Sample]) -> Sample:
        return Sample(
            statistics.median(one.rate for one in samples),
            statistics.median(one.cpu for one in samples),
        )

    return Comparison(
        name,
        median([ours for ours, _ in pairs]),
        median([raw for _, raw in pairs]),
        tuple(ours.rate / raw.rate for ours, raw in pairs),
        goal,
    )


def _peak(opened: Open, scan: bool) -> float:
    """Return the most memory that a process of its own had, in MB, with or without a scan."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_scan, args=(opened, scan, theirs))
    process.start()
    theirs.close()  # so that a child that fails is an end of file here
    found: float = mine.recv()
    process.join()
    return found


def _scan(opened: Open, scan: bool, answer: Connection) -> None:
    adapter = opened()
    with AgentMemory("bench", adapter=adapter) as memory:
        memory.search(limit=1, entity_path=None if scan else "nothing/there")
        answer.send(_megabytes())
    adapter.close()


def _megabytes() -> float:
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
