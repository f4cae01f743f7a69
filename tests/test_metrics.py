"""Every request is counted, the failed ones too: they are paid for as well."""

from __future__ import annotations

import dataclasses
import pickle

from amfs_core.memory import AgentMemory
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


def test_they_are_a_value_that_can_be_sent_and_kept() -> None:
    memory = AgentMemory("agent", adapter=ModelAdapter())
    memory.write("e", "k", 1)
    metrics = memory.metrics
    assert pickle.loads(pickle.dumps(metrics)) == metrics
    assert dataclasses.asdict(metrics)["requests"]["create"] == 1
    memory.write("e", "k", 2)
    assert metrics.requests["create"] == 1
