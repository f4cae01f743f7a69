"""Many processes and threads on one bucket; processes that are killed; every write exactly once."""

from __future__ import annotations

import json
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.s3_store import Place, Worker, count_up, write_for_ever, write_numbers
from tests.support.servers import Server

PROCESSES = 8
KILLS = 40


@pytest.fixture
def place(s3_server: Server, bucket: str) -> Place:
    return Place.on(s3_server, bucket)


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_eight_processes_writing_one_memory_lose_and_double_nothing(
    place: Place, method: str
) -> None:
    workers = [
        Worker(write_numbers, place, f"agent-{number}", "k", 25, method=method)
        for number in range(PROCESSES)
    ]
    acknowledged = [told for worker in workers for told in worker.result()]
    assert len(acknowledged) == 200
    with place.memory("reader") as reader:
        history = reader.history("load", "k")
        assert [entry.version for entry in history] == list(range(1, 201))
        there = {entry.version: entry.provenance.write_id for entry in history}
        assert there == dict(acknowledged)
        assert len(set(there.values())) == 200
        said = Counter(json.dumps(entry.value) for entry in history)
        assert set(said.values()) == {1}
        for number in range(PROCESSES):
            own = [entry.value[1] for entry in history if entry.value[0] == f"agent-{number}"]
            assert own == list(range(25))
        report = reader.verify()
    assert report.ok, report.findings


def test_eight_processes_that_count_with_update_come_to_800(place: Place) -> None:
    workers = [Worker(count_up, place, f"agent-{number}", "n", 100) for number in range(PROCESSES)]
    made = [value for worker in workers for value in worker.result()]
    assert sorted(made) == list(range(1, 801))
    with place.memory("reader") as reader:
        newest = reader.read("load", "n")
        assert newest is not None
        assert (newest.version, newest.value) == (800, 800)
        assert [entry.value for entry in reader.history("load", "n")] == list(range(1, 801))
        report = reader.verify()
    assert report.ok, report.findings


def test_thirty_two_threads_share_one_memory(place: Place) -> None:
    with place.memory(patience=60) as memory, ThreadPoolExecutor(32) as threads:

        def work(number: int) -> list[tuple[int, str]]:
            acknowledged = []
            for turn in range(5):
                entry = memory.write("load", "shared", [number, turn])
                acknowledged.append((entry.version, entry.provenance.write_id))
                own = memory.write("load", f"own-{number}", turn)
                assert own.version == turn + 1
                assert memory.read("load", f"own-{number}") == own
                memory.update("load", "counter", lambda old: (old or 0) + 1)
            return acknowledged

        told = [pair for ones in threads.map(work, range(32)) for pair in ones]
    with place.memory("reader") as reader:
        history = reader.history("load", "shared")
        assert {entry.version: entry.provenance.write_id for entry in history} == dict(told)
        assert len(history) == len(told) == 160
        counter = reader.read("load", "counter")
        assert counter is not None
        assert counter.value == 160
        assert len(reader.list("load")) == 34
        report = reader.verify()
    assert report.ok, report.findings


def test_writers_killed_at_random_moments_lose_nothing_that_was_acknowledged(place: Place) -> None:
    dice = random.Random()
    acknowledged: list[tuple[str, int, str, Any]] = []
    waiting = [Worker(write_for_ever, place, f"agent-{number}") for number in range(3)]
    for number in range(3, KILLS + 3):
        victim = waiting.pop(0)
        victim.wait_told(dice.randrange(1, 15))
        victim.listen(dice.uniform(0, 0.01))  # so that it dies anywhere within a write
        acknowledged += victim.kill()
        if number < KILLS:
            waiting.append(Worker(write_for_ever, place, f"agent-{number}"))
    with place.memory("reader") as reader:
        histories = {
            key: reader.history("killed", key) for key in {told[0] for told in acknowledged}
        }
        for key, version, write_id, value in acknowledged:
            entry = histories[key][version - 1]
            assert (entry.version, entry.provenance.write_id) == (version, write_id)
            assert entry.value == value
        for history in histories.values():
            assert len({entry.provenance.write_id for entry in history}) == len(history)
        report = reader.verify()
    assert report.ok, report.findings
    # A writer that was killed may have one write more in the store than it could tell of.
    assert len(acknowledged) <= report.versions <= len(acknowledged) + KILLS
