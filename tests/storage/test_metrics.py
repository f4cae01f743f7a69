"""Every request is counted, the failed ones too: they are paid for as well."""

from __future__ import annotations

import dataclasses
import pickle
from concurrent.futures import ThreadPoolExecutor

from amfs_core.memory import AgentMemory
from amfs_core.storage import StoreClient
from amfs_core.storage.metrics import Meter
from amfs_core.testing import Fault, FaultyAdapter, ModelAdapter


def test_each_failed_attempt_of_a_read_is_a_request_and_each_repeat_a_retry() -> None:
    adapter = FaultyAdapter(ModelAdapter())
    memory = AgentMemory("agent", adapter=adapter)
    memory.write("e", "k", 1)
    before = memory.metrics
    adapter.inject(Fault.UNAVAILABLE, on="get", times=3)

    assert memory.read("e", "k") is not None

    assert memory.metrics.requests["get"] - before.requests["get"] == 4
    assert memory.metrics.retries - before.retries == 3


def test_a_removal_is_counted_and_tried_again_like_other_requests() -> None:
    adapter = FaultyAdapter(ModelAdapter())
    store = StoreClient(adapter)
    store.create("scratch", b"x")
    adapter.inject(Fault.UNAVAILABLE, on="delete", times=2)
    store.delete("scratch")
    assert store.get("scratch") is None
    metrics = store.meter.snapshot()
    assert (metrics.requests["delete"], metrics.retries) == (3, 2)


def test_they_are_a_value_that_can_be_sent_and_kept() -> None:
    memory = AgentMemory("agent", adapter=ModelAdapter())
    memory.write("e", "k", 1)
    metrics = memory.metrics
    assert pickle.loads(pickle.dumps(metrics)) == metrics
    assert dataclasses.asdict(metrics)["requests"]["create"] == 1
    memory.write("e", "k", 2)
    assert metrics.requests["create"] == 1


def test_none_is_lost_between_threads_while_the_totals_are_asked_for() -> None:
    meter = Meter()

    def count(_: int) -> list[int]:
        seen = []
        for _ in range(3_000):
            meter.add("get", read=2)
            meter.add("create", written=3)
            seen.append(meter.snapshot().bytes_read)
        return seen

    with ThreadPoolExecutor(6) as pool:
        seen = list(pool.map(count, range(6)))

    totals = meter.snapshot()
    assert (totals.requests["get"], totals.requests["create"]) == (18_000, 18_000)
    assert (totals.bytes_read, totals.bytes_written) == (36_000, 54_000)
    assert all(readings == sorted(readings) for readings in seen)  # they never fall


def test_versions_that_wait_to_be_counted_are_bounded() -> None:
    meter = Meter()
    for _ in range(10_000):
        meter.add("get")
    assert len(meter._waiting) <= 1_000
    assert meter.snapshot().requests["get"] == 10_000
