"""Outcomes under load: eight processes at once, and processes that are killed."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from amfs_core.format import OutcomeType
from amfs_core.memory import AgentMemory
from amfs_core.outcomes import evidence
from amfs_local import LocalAdapter
from tests.support.s3_store import Place, Tell, Worker

PROCESSES = 8
OWN = 12
SHARED = 10
KILLS = 24
KEYS = ("a", "b")


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory, as a worker process needs it."""

    path: str

    def memory(self, agent_id: str = "tester", patience: float = 10.0) -> AgentMemory:
        return AgentMemory(
            agent_id, adapter=LocalAdapter(self.path), patience=patience, owns_adapter=True
        )


StoreClient = Directory | Place


@pytest.fixture(params=["local", "minio"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> StoreClient:
    if request.param == "local":
        return Directory(str(tmp_path))
    server = request.getfixturevalue("minio")
    return Place.on(server, server.new_bucket())


def kind_of(number: int) -> OutcomeType:
    return list(OutcomeType)[number % len(OutcomeType)]


def commit_all(store: StoreClient, who: int, tell: Tell) -> None:
    """Commit own outcomes, and the shared ones that every process commits, in an own order."""
    with store.memory(f"agent-{who}", patience=60) as memory:
        for key in KEYS:
            memory.read("e", key)
        refs = [(f"{who}-{number}", number) for number in range(OWN)]
        refs += [(f"shared-{number}", number) for number in range(SHARED)]
        random.Random(who).shuffle(refs)
        for ref, number in refs:
            about = [("e", key) for key in KEYS]
            tell(memory.commit_outcome(ref, kind_of(number), entries=about).ref)


def commit_for_ever(store: StoreClient, who: int, tell: Tell) -> None:
    """Commit outcomes until killed, and tell of each before it begins and when it is done."""
    with store.memory(f"agent-{who}", patience=60) as memory:
        number = 0
        while True:
            about = [("e", key) for key in KEYS]
            memory.commit_outcome(f"{who}-{number}", kind_of(number), entries=about)
            tell(f"{who}-{number}")
            number += 1


def expect(memory: AgentMemory, prior: float) -> None:
    """Every recorded outcome is counted into each memory once, and into the confidence."""
    recorded = {outcome.ref: outcome.type for outcome in memory.list_outcomes()}
    successes = sum(evidence.WEIGHTS[kind][0] for kind in recorded.values())
    failures = sum(evidence.WEIGHTS[kind][1] for kind in recorded.values())
    for key in KEYS:
        history = memory.history("e", key)
        counted = Counter(str(version.provenance.outcome_ref) for version in history[1:])
        assert counted == Counter(list(recorded))
        newest = history[-1]
        assert (newest.evidence.successes, newest.evidence.failures) == (successes, failures)
        assert newest.confidence == evidence.confidence(prior, successes, failures)
        assert newest.value == {"of": key}


def prepare(store: StoreClient) -> None:
    with store.memory() as memory:
        for key in KEYS:
            memory.write("e", key, {"of": key}, confidence=0.7)


def test_eight_processes_count_every_outcome_once(store: StoreClient) -> None:
    prepare(store)
    workers = [Worker(commit_all, store, who) for who in range(PROCESSES)]
    told: list[Any] = [ref for worker in workers for ref in worker.result()]
    assert len(told) == PROCESSES * (OWN + SHARED)
    with store.memory("reader") as reader:
        recorded = reader.list_outcomes()
        assert {outcome.ref for outcome in recorded} == set(told)
        assert len(recorded) == PROCESSES * OWN + SHARED
        expect(reader, 0.7)
        report = reader.verify()
    assert report.ok, report.findings


def test_processes_killed_at_random_moments_leave_nothing_that_repair_does_not_finish(
    store: StoreClient,
) -> None:
    prepare(store)
    dice = random.Random()
    acknowledged: list[str] = []
    waiting = [Worker(commit_for_ever, store, who) for who in range(3)]
    for who in range(3, KILLS + 3):
        victim = waiting.pop(0)
        victim.wait_told(dice.randrange(1, 6))
        victim.listen(dice.uniform(0, 0.01))  # so that it dies anywhere within a commit
        acknowledged += victim.kill()
        if who < KILLS:
            waiting.append(Worker(commit_for_ever, store, who))
    with store.memory("reader") as reader:
        before = reader.verify()
        assert all(finding.repairable for finding in before.findings), before.findings
        repaired = reader.verify(repair=True)
        assert repaired.ok, repaired.findings
        assert len(repaired.repaired) == len(before.findings)
        refs = {outcome.ref for outcome in reader.list_outcomes()}
        assert set(acknowledged) <= refs
        assert len(refs) <= len(acknowledged) + KILLS
        expect(reader, 0.7)
        assert reader.verify().ok
