"""Lists, refreshes and searches, beside raw listings and raw gets of the same objects.

The memories are pieces of real text (the topics of Python's own help), 0.5 KB each.
"""

from __future__ import annotations

import multiprocessing
import random
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import obstore

from amfs_core.memory import AgentMemory
from amfs_core.storage import StorageAdapter
from amfs_local import LocalAdapter
from amfs_s3 import S3Adapter
from benchmarks.figure import Figure
from benchmarks.measure import SECTION, Comparison, Sample
from benchmarks.peer import places
from benchmarks.peers import peak
from benchmarks.s3 import raw_store
from benchmarks.scale import Scale
from benchmarks.workplace import serving
from tests.support.servers import MINIO, REGION, Server

THREADS = 32
PATHS = 100
QUERIES = 200
_BODY_TEXT = 300  # characters; with the fields around them about 0.5 KB
_TEXT = " ".join(" ".join(topics.values()).split())
_WORDS = sorted({word for word in _TEXT.split() if word.isalpha() and len(word) > 4})


@dataclass(frozen=True, slots=True)
class Bucket:
    """Opens an adapter on a bucket, in any process."""

    name: str
    endpoint_url: str
    access_key: str
    secret_key: str

    def __call__(self) -> StorageAdapter:
        return S3Adapter(
            self.name,
            endpoint_url=self.endpoint_url,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
        )


@dataclass(frozen=True, slots=True)
class Directory:
    """Opens an adapter on a directory, in any process."""

    root: str

    def __call__(self) -> StorageAdapter:
        return LocalAdapter(self.root)


Open = Bucket | Directory


@dataclass(frozen=True, slots=True)
class StoreClient:
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


def scans(scale: Scale) -> Iterator[Figure]:
    """Yield what is measured on an S3 server and on a directory."""
    with serving(MINIO) as server:
        yield from _s3(server, scale.scanned_on_s3, scale.repetitions)
    with places() as made:
        yield from _local(made.root, scale.scanned_on_disk, scale.repetitions)


def _local(root: Path, count: int, repetitions: int) -> Iterator[Figure]:
    opened = Directory(str(root))
    adapter = LocalAdapter(root, durability="none")
    _fill(adapter, count)

    def read(keys: list[str]) -> None:
        for key in keys:
            with open(root / key, "rb") as file:
                file.read()

    store = StoreClient("directory", opened, lambda: adapter.list(""), read)
    yield from _measured(store, count, repetitions)


def _s3(server: Server, count: int, repetitions: int) -> Iterator[Figure]:
    bucket = server.new_bucket()
    raw = raw_store(server, bucket)
    opened = Bucket(bucket, server.endpoint_url, server.access_key, server.secret_key)
    _fill(opened(), count)

    def listing() -> Iterable[object]:
        return (
            object_meta
            for page in obstore.list(raw, "amfs/default/entries")
            for object_meta in page
        )

    def get(keys: list[str]) -> None:
        def one(key: str) -> object:
            return obstore.get(raw, f"amfs/{key}").bytes()

        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(one, keys, chunksize=1))

    yield from _measured(StoreClient("bucket", opened, listing, get), count, repetitions)


def _fill(adapter: StorageAdapter, count: int) -> None:
    with AgentMemory("bench", adapter=adapter) as memory:
        memory.write_many(memories(count))


def _measured(store: StoreClient, count: int, repetitions: int) -> Iterator[Figure]:
    adapter = store.opened()
    keys = [info.key for info in adapter.list("default/entries/")]
    name = f"{store.name}, {count:,} memories"
    cold: list[tuple[Sample, Sample]] = []
    warm: list[tuple[Sample, Sample]] = []
    few: list[float] = []
    for _ in range(min(repetitions, 3)):
        with AgentMemory("bench", adapter=adapter) as memory:
            ours = _sample(count, lambda memory=memory: memory.search(limit=1))  # type: ignore[misc]
            first = dict(memory.metrics.requests)
            cold.append((ours, _sample(count, lambda: store.get(keys))))
            again = _refreshed(store, memory, count, warm)
            writer = AgentMemory("other", adapter=adapter)
            for number in range(10):
                writer.write("project-0/notes", f"note-{number * PATHS}", {"text": "changed"})
            before = dict(memory.metrics.requests)
            few.append(count / _sample(count, lambda memory=memory: memory.search(limit=1)).rate)  # type: ignore[misc]
            last = dict(memory.metrics.requests)
    # A directory's listing alone takes as long as its gets: docs/design/speed.md.
    goal = 0.8 if adapter.backend_type != "local" else None
    yield from Comparison(f"{name}: cold scan", "raw gets", tuple(cold), goal).figures()
    once = round(1 / 1.2, 2)
    yield from Comparison(f"{name}: refresh, nothing new", "raw list", tuple(warm), once).figures()
    for step, seconds in (
        ("cold scan, time", [count / ours.rate for ours, _ in cold]),
        ("refresh, nothing new, time", [count / ours.rate for ours, _ in warm]),
        ("refresh, 10 new, time", few),
    ):
        yield Figure(SECTION, f"{name}: {step}", "AMFS", "s", tuple(seconds))
    for step, now, then in (
        ("cold", first, {}),
        ("nothing new", again, first),
        ("10 new", last, before),
    ):
        for kind in ("list", "get"):
            made = now[kind] - then.get(kind, 0)
            yield Figure(SECTION, f"{name}: requests, {step}", "AMFS", kind.upper(), (made,))
    took = _peak(store.opened, scan=True) - _peak(store.opened, scan=False)
    yield Figure(SECTION, f"{name}: memory that a scan takes", "AMFS", "MB", (took,))
    with closing(AgentMemory("bench", adapter=adapter)) as memory:
        started = time.perf_counter()
        memory.search("nothing")
        first_search = time.perf_counter() - started
        yield Figure(SECTION, f"{name}: first search, cold", "AMFS", "s", (first_search,))
        times = tuple(_searches(memory))
    yield Figure(SECTION, f"{name}: warm search", "AMFS", "ms", times, goal=20.0)
    slow = statistics.quantiles(times, n=20)[-1]
    yield Figure(SECTION, f"{name}: warm search, p95", "AMFS", "ms", (slow,))
    adapter.close()


def _refreshed(
    store: StoreClient, memory: AgentMemory, count: int, pairs: list[tuple[Sample, Sample]]
) -> dict[str, int]:
    """Compare a refresh with the raw listing, each first in one of two turns, after a listing that
    warms up: the gets left other things in the caches. Return the requests up to the first refresh.
    """

    def refresh() -> Sample:
        return _sample(count, lambda: memory.search(limit=1))

    def listing() -> Sample:
        return _sample(count, lambda: [None for _ in store.listing()])

    deque(store.listing(), maxlen=0)
    ours = refresh()
    requests = dict(memory.metrics.requests)
    pairs.append((ours, listing()))
    raw = listing()
    pairs.append((refresh(), raw))
    return requests


def _searches(memory: AgentMemory) -> Iterator[float]:
    """Yield how many milliseconds each of some searches takes, of two or three words."""
    dice = random.Random(2)
    for _ in range(QUERIES):
        query = " ".join(dice.choices(_WORDS, k=dice.choice([2, 3])))
        started = time.perf_counter()
        memory.search(query, max_age=3600)
        yield (time.perf_counter() - started) * 1000


def _sample(count: int, work: Callable[[], object]) -> Sample:
    cpu, started = time.process_time(), time.perf_counter()
    work()
    elapsed = time.perf_counter() - started
    return Sample(count / elapsed, (time.process_time() - cpu) / count * 1e6)


def _peak(opened: Open, *, scan: bool) -> float:
    """Return the most memory that a process of its own had, in MB, with or without a scan."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_scan, args=(opened, scan, theirs))
    process.start()
    theirs.close()  # so that a child that fails is an end of file here
    megabytes: float = mine.recv()
    process.join()
    return megabytes


def _scan(opened: Open, scan: bool, answer: Connection) -> None:
    peak.forget()
    adapter = opened()
    with AgentMemory("bench", adapter=adapter) as memory:
        memory.search(limit=1, entity_path=None if scan else "nothing/there")
        answer.send(peak.megabytes())
    adapter.close()
