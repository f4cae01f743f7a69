"""What a store must pass to be in the table of servers: `tests.support.portability` runs it.

The variable `PORTABILITY_PLACE` says which store: as `--store` does, or a bucket as JSON.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from amfs.config import adapters
from amfs.config.places import read_place
from amfs_core.memory import AgentMemory
from amfs_core.storage import StorageAdapter
from amfs_core.testing.cases import StorageAdapterCases
from amfs_core.testing.machine import AdapterMachine, VersionsMachine
from tests.support.s3_store import Place, Worker, write_numbers

WRITERS, WRITES = 8, 25


@dataclass(frozen=True)
class Store:
    """A directory, a file or a database, as `Place` is a bucket."""

    place: str

    def adapter(self, prefix: str = "") -> StorageAdapter:
        name, options = read_place(self.place, {})
        return adapters.make(name, {**options, "prefix": prefix})

    def memory(self, agent_id: str = "tester", patience: float = 10.0) -> AgentMemory:
        return AgentMemory(agent_id, adapter=self.adapter(), patience=patience, owns_adapter=True)


def _place() -> Store | Place:
    spec = os.environ["PORTABILITY_PLACE"]
    return Place(**json.loads(spec)) if spec.startswith("{") else Store(spec)


PLACE = _place()


class TestContract(StorageAdapterCases):
    rings = isinstance(PLACE, Store)

    @pytest.fixture
    def adapter(self) -> Iterator[StorageAdapter]:
        made = PLACE.adapter(prefix=f"cases/{uuid.uuid4().hex}")
        yield made
        made.close()


class _Fresh:
    """A prefix of its own for each program."""

    def make_adapter(self) -> StorageAdapter:
        self.made = PLACE.adapter(prefix=f"runs/{uuid.uuid4().hex}")
        return self.made

    def teardown(self) -> None:
        super().teardown()  # type: ignore[misc]
        self.made.close()


class _Adapter(_Fresh, AdapterMachine):
    pass


class _Versions(_Fresh, VersionsMachine):
    pass


@pytest.mark.parametrize("machine", [_Adapter, _Versions], ids=["adapter", "versions"])
def test_random_programs(machine: Any) -> None:
    case = machine.TestCase
    case.settings = settings(
        max_examples=12,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    case().runTest()


def test_processes_that_write_at_once_lose_double_and_skip_nothing(tmp_path: Path) -> None:
    workers = [Worker(write_numbers, PLACE, f"w{n}", "one", WRITES) for n in range(WRITERS)]
    told = [pair for worker in workers for pair in worker.result()]
    with PLACE.memory(patience=60) as memory:
        history = memory.history("load", "one")
        assert [entry.version for entry in history] == list(range(1, WRITERS * WRITES + 1))
        pairs = {(entry.version, entry.provenance.write_id) for entry in history}
        assert pairs == set(told)
        assert len(told) == WRITERS * WRITES
        assert len(memory.list("load")) == 1
        assert memory.verify("load").ok
