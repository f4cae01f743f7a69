"""How soon a watch delivers what another process wrote: from the write's return to the callback."""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from amfs import AgentMemory
from amfs_core.entry import MemoryEntry
from amfs_core.storage import StorageAdapter
from amfs_local import LocalAdapter
from amfs_s3 import S3Adapter
from tests import servers

MEMORIES = 100
GOAL = "p50 < 100 ms"
INTERVAL = 2.0
SECONDS = 30.0

Open = Callable[[], StorageAdapter]


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from a write's return, in another process, to its delivery."""

    name: str
    p50: float
    p95: float
    writes: int
    goal: str


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
            region_name=servers.REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
        )


@dataclass(frozen=True, slots=True)
class Directory:
    """Opens an adapter on a directory, in any process."""

    root: str

    def __call__(self) -> StorageAdapter:
        return LocalAdapter(self.root)


def latencies(*, quick: bool) -> Iterator[Latency]:
    """Yield how soon a watch delivers, on disk and on MinIO, among 100 other memories."""
    writes = 30 if quick else 200
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as root:
        yield _latency("watch on disk, write to delivery", Directory(root), writes)
    with servers.running(servers.MINIO_PUSHING) as server:
        keys = server.access_key, server.secret_key
        bucket = Bucket(server.new_bucket(), server.endpoint_url, *keys)
        yield _latency("watch on minio, write to delivery", bucket, writes)


def _latency(name: str, opened: Open, writes: int) -> Latency:
    delivered: dict[int, float] = {}
    came = threading.Condition()

    def note(entry: MemoryEntry) -> None:
        now = time.monotonic()  # one clock for all processes of a machine (clock_gettime(2))
        with came:
            delivered[entry.value] = now
            came.notify()

    adapter = opened()
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    writer = context.Process(target=_write, args=(opened, theirs), daemon=True)
    returned: dict[int, float] = {}
    with AgentMemory("reader", adapter=adapter) as memory:
        memory.write_many(
            {"entity_path": f"bench/{number % 10}", "key": f"k{number}", "value": -1}
            for number in range(MEMORIES)
        )
        with memory.watch(callback=note, interval=INTERVAL):
            writer.start()
            for number in range(-5, writes):  # the first few warm up
                mine.send(number)
                returned[number] = mine.recv()
                with came:
                    came.wait_for(lambda number=number: number in delivered, SECONDS)  # type: ignore[misc]
        mine.send(None)
        writer.join()
    adapter.close()
    spent = sorted(1000 * (delivered[number] - returned[number]) for number in range(writes))
    return Latency(name, statistics.median(spent), spent[int(0.95 * len(spent))], len(spent), GOAL)


def _write(opened: Open, orders: Connection) -> None:
    adapter = opened()
    with AgentMemory("writer", adapter=adapter) as memory:
        while (number := orders.recv()) is not None:
            memory.write(f"bench/{number % 10}", f"k{number % 7}", number)
            orders.send(time.monotonic())
    adapter.close()


if __name__ == "__main__":
    for one in latencies(quick=True):
        print(f"{one.name}: p50 {one.p50:.0f} ms, p95 {one.p95:.0f} ms ({one.goal})")
