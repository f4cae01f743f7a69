"""Random writers, outages, restarts and others' writes, beside what was acknowledged."""

from __future__ import annotations

import random

import pytest

from amfs_core.degraded import keeper
from amfs_core.errors import AMFSError
from amfs_core.format import MemoryEntry
from amfs_core.layers import Layered
from amfs_core.memory import AgentMemory
from amfs_core.storage import breaker
from amfs_core.testing import ModelAdapter
from tests.layers.stores import Outage
from tests.support.waiting import until

STEPS = 50
KEYS = "abc"


@pytest.fixture(autouse=True)
def known_to_be_down_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "_LEAST_SECONDS", 0.2)
    monkeypatch.setattr(breaker, "_FIRST_PAUSE", 0.02)
    monkeypatch.setattr(breaker, "_LONGEST_PAUSE", 0.1)
    monkeypatch.setattr(keeper, "_PAUSE", 0.02)


class Program:
    """Three writers that share a fallback, and what they were told."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.truth = ModelAdapter()
        self.primary = Outage(self.truth)
        self.fallback = ModelAdapter()
        self.writers = [self.memory(f"w{number}") for number in range(3)]
        self.told: list[tuple[str, MemoryEntry, bool]] = []

    def memory(self, name: str) -> AgentMemory:
        store = Layered(self.primary, fallback=self.fallback)
        return AgentMemory(name, adapter=store, patience=0.05)

    def run(self) -> None:
        """Do so many random steps, and then let everybody reach the primary."""
        others = AgentMemory("others", adapter=self.truth)
        for step in range(STEPS):
            what = self.dice.random()
            if what < 0.08:
                self.primary.down = True
            elif what < 0.12:
                self.primary.last = self.dice.choice(["landed", "lost"])
            elif what < 0.24:
                self.primary.down, self.primary.last = False, None
            elif what < 0.29:
                number = self.dice.randrange(3)
                self.writers[number].close()
                self.writers[number] = self.memory(f"w{number}")
            elif what < 0.38:
                others.write("e", self.dice.choice(KEYS), ["others", step])
            else:
                self.write(step)
        self.primary.down, self.primary.last = False, None

    def write(self, step: int) -> None:
        memory, key = self.dice.choice(self.writers), self.dice.choice(KEYS)
        is_conditional = self.dice.random() < 0.3
        try:
            if is_conditional:
                entry = memory.update("e", key, lambda _: [memory.agent_id, step])
            else:
                entry = memory.write("e", key, [memory.agent_id, step])
        except AMFSError:
            return  # not acknowledged
        self.told.append((memory.agent_id, entry, is_conditional))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_each_acknowledged_write_is_there_once_and_in_order_or_a_named_conflict(seed: int) -> None:
    program = Program(seed)
    program.run()
    with program.memory("judge") as judge:
        until(lambda: judge.reconcile().waiting == 0)
        aside = [conflict.entry.provenance.write_id for conflict in judge.conflicts()]
    with AgentMemory("truth", adapter=program.truth) as truth:
        assert truth.verify().ok
        histories = {key: truth.history("e", key) for key in KEYS}
    places = {
        entry.provenance.write_id: (key, entry.version)
        for key, entries in histories.items()
        for entry in entries
    }
    assert len(places) == sum(len(entries) for entries in histories.values()), "landed twice"
    newest: dict[tuple[str, str], int] = {}
    for name, entry, is_conditional in program.told:
        write_id = entry.provenance.write_id
        assert (write_id in places) + aside.count(write_id) == 1, entry
        assert is_conditional or write_id in places, entry
        if write_id in places and not is_conditional:
            key, version = places[write_id]
            assert version > newest.get((name, key), 0), entry
            newest[name, key] = version
    for writer in program.writers:
        writer.close()
