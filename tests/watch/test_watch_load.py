"""A watch under load: processes that write, a server that crashes and returns, nothing missed."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator

import pytest

from amfs_core.format import MemoryEntry
from tests.support import servers
from tests.support.s3_store import Place, Tell, Worker
from tests.support.servers import Server

WRITERS = ("ada", "bob", "cyd")
WRITES = 60
CRASHES = 2
SECONDS = 60.0


def write_slowly(place: Place, name: str, tell: Tell) -> None:
    """Write to a memory of its own and to one that all share, in turns."""
    dice = random.Random(name)
    with place.memory(name, patience=SECONDS) as memory:
        for number in range(WRITES):
            key = "shared" if number % 2 else name
            entry = memory.write("load", key, [name, number])
            tell((key, entry.version, entry.provenance.write_id))
            time.sleep(dice.uniform(0, 0.05))  # so that crashes meet all of them at work


@pytest.fixture(params=["minio", "versity"])
def crashing(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of its own, as it is killed."""
    request.getfixturevalue(request.param)  # skips where it cannot be had
    program = servers.MINIO if request.param == "minio" else servers.VERSITY
    with servers.running(program) as server:
        yield server


def test_every_version_comes_once_and_in_order_through_crashes_of_the_server(
    crashing: Server,
) -> None:
    place = Place.on(crashing, crashing.new_bucket())
    seen: list[MemoryEntry] = []
    grown = threading.Condition()

    def note(entry: MemoryEntry) -> None:
        with grown:
            seen.append(entry)
            grown.notify()

    def wait_for(count: int) -> None:
        with grown:
            assert grown.wait_for(lambda: len(seen) >= count, SECONDS), f"{len(seen)} of {count}"

    with place.memory("reader", patience=1.0) as reader:
        watch = reader.watch("load", note, interval=0.2)
        workers = [Worker(write_slowly, place, name) for name in WRITERS]
        for _ in range(CRASHES):
            wait_for(len(seen) + 20)
            crashing.kill()
            crashing.start()
        told = [write for worker in workers for write in worker.result()]
        wait_for(len(told))
        watch.cancel()
        with reader.watch("load", since=watch.cursor, interval=0.2) as later:
            reader.write("load", "last", None)
            assert next(later).key == "last", "nothing was left"

    versions: dict[str, list[int]] = defaultdict(list)
    for entry in seen:
        versions[entry.key].append(entry.version)
    for key, numbers in versions.items():
        assert numbers == list(range(1, len(numbers) + 1)), key
    delivered = {(entry.key, entry.version, entry.provenance.write_id) for entry in seen}
    assert delivered == set(told)
    assert len(seen) == len(told) == len(WRITERS) * WRITES
