"""Random programs of several agents over a store that fails, against what must come of them.

The model is a sum: whatever order, retries, late requests and crashes there were, the newest claim
of a memory has the evidence of every recorded outcome about it, once each.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from amfs_core.errors import AMFSError, InvalidValueError, OutcomeConflictError
from amfs_core.format import Cause, OutcomeType
from amfs_core.memory import AgentMemory
from amfs_core.outcomes import evidence
from amfs_core.testing import Crash, Fault, FaultyAdapter, ModelAdapter
from tests.support.known import told

KEYS = ("a", "b")
PATIENT = (False, False, True)

_agents = st.integers(0, len(PATIENT) - 1)
_keys = st.sampled_from(KEYS)
_refs = st.integers(0, 7).map("r{}".format)
_skips = st.integers(0, 6)
_verbs = st.sampled_from(("create", "get", "list"))


def _kind(ref: str) -> OutcomeType:
    """Each reference has a type of its own, so that committing it again is the same outcome."""
    return list(OutcomeType)[int(ref[1:]) % len(OutcomeType)]


class OutcomesMachine(RuleBasedStateMachine):
    """Writes, updates, deletions, purges, commits and repairs, with faults in between."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = ModelAdapter()
        self.faulty = FaultyAdapter(self.inner)
        self.agents: list[AgentMemory] = []
        self.claims = 0
        self.acknowledged: set[str] = set()

    @initialize(priors=st.tuples(st.floats(0, 1), st.floats(0, 1)))
    def begin(self, priors: tuple[float, float]) -> None:
        self.agents = [self._agent(index) for index in range(len(PATIENT))]
        for key, prior in zip(KEYS, priors, strict=True):
            self.write(0, key, prior)

    def _agent(self, index: int) -> AgentMemory:
        patience = 60.0 if PATIENT[index] else 0.0
        memory = AgentMemory(f"agent-{index}", adapter=self.faulty, patience=patience)
        return told(memory, AgentMemory("judge", adapter=self.inner))

    def _ask(self, index: int, call: Callable[[AgentMemory], Any]) -> bool:
        """Do it; an agent that crashes is replaced by one that knows nothing."""
        try:
            call(self.agents[index])
        except Crash:
            self.agents[index] = self._agent(index)
        except (InvalidValueError, OutcomeConflictError):
            raise
        except AMFSError:
            assert not PATIENT[index]
        else:
            return True
        return False

    @rule(agent=_agents, key=_keys, prior=st.floats(0, 1))
    def write(self, agent: int, key: str, prior: float) -> None:
        self.claims += 1
        value = {"claim": self.claims, "prior": prior}
        self._ask(agent, lambda memory: memory.write("e", key, value, confidence=prior))

    @rule(agent=_agents, key=_keys)
    def update(self, agent: int, key: str) -> None:
        self.claims += 1
        claim = {"claim": self.claims, "prior": 1.0}
        self._ask(agent, lambda memory: memory.update("e", key, lambda old: old or claim))

    @rule(agent=_agents, key=_keys)
    def read(self, agent: int, key: str) -> None:
        self._ask(agent, lambda memory: memory.read("e", key))

    @rule(agent=_agents, key=_keys)
    def delete(self, agent: int, key: str) -> None:
        self._ask(agent, lambda memory: memory.delete("e", key))

    @rule(agent=_agents, key=_keys)
    def purge(self, agent: int, key: str) -> None:
        self._ask(agent, lambda memory: memory.purge("e", key))

    @rule(agent=_agents, ref=_refs, old=st.booleans())
    def commit(self, agent: int, ref: str, old: bool) -> None:
        """About the versions that there are now, or about some that were there before."""
        recorded = AgentMemory("reader", adapter=self.inner).read_outcome(ref)
        about = self._causes(old) if recorded is None else None
        try:
            done = self._ask(
                agent, lambda memory: memory.commit_outcome(ref, _kind(ref), entries=about)
            )
        except OutcomeConflictError:
            # The create of an earlier try, about other versions, arrived in the meantime.
            done = False
        if done:
            self.acknowledged.add(ref)

    def _causes(self, old: bool) -> list[Cause]:
        numbers = {key: len(self._bodies(key)) for key in KEYS}
        return [
            Cause("e", key, max(1, number // 2) if old else number)
            for key, number in numbers.items()
            if number
        ]

    @rule(agent=_agents)
    def repair(self, agent: int) -> None:
        self._ask(agent, lambda memory: memory.verify(repair=True))

    @rule(
        fault=st.sampled_from((Fault.UNAVAILABLE, Fault.CRASH_BEFORE, Fault.CRASH_AFTER)),
        verb=_verbs,
        skip=_skips,
    )
    def fault(self, fault: Fault, verb: str, skip: int) -> None:
        self.faulty.inject(fault, on=verb, skip=skip)

    @rule(
        fault=st.sampled_from((Fault.LOST_ANSWER, Fault.LOST_REQUEST, Fault.CONFLICT, Fault.LATE)),
        skip=_skips,
    )
    def fault_of_a_create(self, fault: Fault, skip: int) -> None:
        self.faulty.inject(fault, skip=skip)

    @rule(agent=_agents, other=_agents, ref=_refs, skip=_skips)
    def race(self, agent: int, other: int, ref: str, skip: int) -> None:
        """Another agent finishes the same outcome, or writes on, between two requests."""

        def between() -> None:
            if AgentMemory("reader", adapter=self.inner).read_outcome(ref):
                self.agents[other].commit_outcome(ref, _kind(ref))
            for key in KEYS:
                self.agents[other].update("e", key, lambda old: old or {"claim": 0, "prior": 1.0})

        if agent == other or not PATIENT[other]:
            return
        self.faulty.clear()
        self.faulty.before(between, skip=skip)
        self.commit(agent, ref, old=False)
        self.faulty.clear()

    @rule()
    def deliver(self) -> None:
        self.faulty.deliver()

    def teardown(self) -> None:
        """Everything late arrives, whatever was left is repaired, and then the sums are right."""
        self.faulty.clear()
        self.faulty.deliver()
        reader = AgentMemory("reader", adapter=self.inner)
        assert reader.verify(repair=True).ok or self._half_purged(reader)
        recorded = {outcome.ref: outcome for outcome in reader.list_outcomes()}
        assert self.acknowledged <= set(recorded)
        for key in KEYS:
            bodies = self._bodies(key)
            counted = [body["provenance"].get("outcome_ref") for body in bodies]
            refs = [ref for ref in counted if ref is not None]
            assert len(refs) == len(set(refs)), "counted twice"
            if bodies and not bodies[-1]["deleted"]:
                self._check(key, bodies, recorded)
        for agent in (reader, *self.agents):
            agent.close()

    @staticmethod
    def _half_purged(reader: AgentMemory) -> bool:
        findings = reader.verify().findings
        return all("ordered its erasure" in finding.problem for finding in findings)

    def _check(self, key: str, bodies: list[dict[str, Any]], recorded: dict[str, Any]) -> None:
        newest = bodies[-1]
        claim = 1 + max((index for index, body in enumerate(bodies) if body["deleted"]), default=-1)
        while bodies[claim]["value"]["claim"] != newest["value"]["claim"]:
            claim += 1
        about = [
            outcome.type
            for outcome in recorded.values()
            if any((cause.key, cause.version > claim) == (key, True) for cause in outcome.causes)
        ]
        successes = sum(evidence.WEIGHTS[kind][0] for kind in about)
        failures = sum(evidence.WEIGHTS[kind][1] for kind in about)
        told = newest["evidence"]
        assert (told["successes"], told["failures"]) == (successes, failures)
        prior = newest["value"]["prior"]
        expected = evidence.confidence(prior, successes, failures) if about else prior
        assert newest["confidence"] == expected

    def _bodies(self, key: str) -> list[dict[str, Any]]:
        bodies: list[dict[str, Any]] = []
        while body := self.inner.get(f"default/entries/e/{key}/v{len(bodies) + 1}.json"):
            bodies.append(json.loads(body))
        return bodies


TestOutcomesMachine = OutcomesMachine.TestCase
TestOutcomesMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
