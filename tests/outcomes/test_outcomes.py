"""Outcomes: the record, what it is about, and the confidence that it moves exactly once."""

from __future__ import annotations

import json
import math
import pickle
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import amfs_core.memory.read_log
from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    CommitUnknownError,
    CorruptEntryError,
    InvalidKeyError,
    InvalidValueError,
    OutcomeConflictError,
    OutcomePendingError,
)
from amfs_core.format import Cause, Layout, MemoryEntry, Outcome, OutcomeType, outcome
from amfs_core.format.seal import sealed
from amfs_core.memory import AgentMemory
from amfs_core.outcomes import apply, evidence
from amfs_core.testing import Crash, Fault, FaultyAdapter, ModelAdapter
from amfs_core.testing.cases import in_forked_child, together
from amfs_core.upkeep import copy
from tests.support.known import known

HASTY = 0.0  # gives up at the first fault
PATIENT = 60.0  # gets through all that these tests inject
LAYOUT = Layout("default")
RECORD = "default/outcomes/r.json"


@pytest.fixture
def faulty() -> FaultyAdapter:
    return FaultyAdapter(ModelAdapter())


@pytest.fixture
def mem(faulty: FaultyAdapter) -> Iterator[AgentMemory]:
    with known(AgentMemory("a", adapter=faulty, patience=PATIENT)) as memory:
        faulty.calls.clear()
        yield memory


@pytest.fixture
def hasty(faulty: FaultyAdapter) -> Iterator[AgentMemory]:
    with known(AgentMemory("hasty", adapter=faulty, patience=HASTY)) as memory:
        faulty.calls.clear()
        yield memory


@pytest.fixture
def other(faulty: FaultyAdapter) -> Iterator[AgentMemory]:
    with known(AgentMemory("other", adapter=faulty)) as memory:
        faulty.calls.clear()
        yield memory


def fresh(faulty: FaultyAdapter) -> AgentMemory:
    """A process that has seen nothing, without faults."""
    return AgentMemory("fresh", adapter=faulty.inner)


def newest(faulty: FaultyAdapter, key: str = "k") -> MemoryEntry:
    return fresh(faulty).history("e", key)[-1]


def moved(faulty: FaultyAdapter, key: str = "k") -> list[str]:
    """The outcomes that were counted into a memory, in the order of its versions."""
    refs = [version.provenance.outcome_ref for version in fresh(faulty).history("e", key)]
    return [ref for ref in refs if ref is not None]


def body_of(faulty: FaultyAdapter, ref: str = "r") -> bytes:
    return faulty.inner.get(LAYOUT.outcome_key(ref)) or b""


def read_back(body: bytes, ref: str = "r") -> Outcome:
    return outcome.decode_outcome(body, LAYOUT, ref)


def written(faulty: FaultyAdapter, memory: AgentMemory, **more: Any) -> list[str]:
    """The objects that a call creates."""
    faulty.calls.clear()
    memory.commit_outcome("r", "failure", **more)
    return sorted(call.key for call in faulty.calls if call.verb == "create")


REFS = st.text(min_size=1, max_size=40).filter(
    lambda text: LAYOUT.parse_outcome(f"default/outcomes/{text}.json") is not None
)
NAMES = st.text("abcé👋 -", min_size=1, max_size=8).filter(lambda text: text == text.strip())
OUTCOMES = st.builds(
    Outcome,
    namespace=st.just("default"),
    ref=REFS,
    type=st.sampled_from(OutcomeType),
    agent_id=st.text(max_size=9),
    session_id=st.text(max_size=9),
    committed_at=st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.replace(fold=0)),
    write_id=st.text(max_size=9),
    causes=st.lists(st.builds(Cause, NAMES, NAMES, st.integers(1, 10**9)), max_size=4).map(tuple),
    sha256=st.just(""),
    extra=st.dictionaries(st.text(max_size=5).map("new_{}".format), st.integers(), max_size=2),
)


class TestTheRecord:
    @given(OUTCOMES)
    def test_every_outcome_comes_back_exactly_and_gives_the_same_bytes_again(
        self, one: Outcome
    ) -> None:
        made, body = outcome.seal_outcome(one)
        assert read_back(body, one.ref) == made
        assert outcome.encode_outcome(read_back(body, one.ref)) == body
        assert body.count(b"\n") == 0

    def test_the_published_format_does_not_change(self) -> None:
        made, body = outcome.seal_outcome(
            Outcome(
                namespace="default",
                ref="deploy-42",
                type=OutcomeType.MINOR_FAILURE,
                agent_id="a1",
                session_id="s1",
                committed_at=datetime(2026, 11, 21, 4, 27, 20, 123456, UTC),
                write_id="w1",
                causes=(Cause("checkout-service", "retry-pattern", 2),),
                sha256="",
            )
        )
        assert body.decode() == (
            '{"format":1,"namespace":"default","ref":"deploy-42","type":"minor_failure",'
            '"agent_id":"a1","session_id":"s1","committed_at":"2026-11-21T04:27:20.123456Z",'
            '"write_id":"w1","causes":[{"entity_path":"checkout-service","key":"retry-pattern",'
            f'"version":2}}],"sha256":"{made.sha256}"}}'
        )

    def test_it_is_an_object_of_its_own_under_its_reference(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        recorded = mem.commit_outcome("deploys/42: done.", "success", entries=[])
        key = "default/outcomes/deploys%2F42%3A done%2E.json"
        assert faulty.inner.get(key) == outcome.encode_outcome(recorded)
        assert LAYOUT.parse_outcome(key) == "deploys/42: done."

    def test_an_outcome_names_its_author_type_and_time(self, mem: AgentMemory) -> None:
        before = datetime.now(UTC)
        entry = mem.write("e", "k", 1)
        recorded = mem.commit_outcome("r", OutcomeType.FAILURE, entries=[entry])
        assert (recorded.ref, recorded.type, recorded.agent_id) == ("r", "failure", "a")
        assert recorded.session_id == mem.session_id
        assert before <= recorded.committed_at <= datetime.now(UTC)
        assert recorded.causes == (Cause("e", "k", 1),)
        assert recorded.causes[0].entity_path == "e"
        with pytest.raises(AttributeError):
            recorded.ref = "other"  # type: ignore[misc]
        assert pickle.loads(pickle.dumps(recorded)) == recorded
        assert len({recorded, mem.read_outcome("r")}) == 1

    def test_the_layout_page_shows_a_real_one(self) -> None:
        page = (Path(__file__).resolve().parents[2] / "docs" / "layout.md").read_text()
        (body,) = re.findall(r'^\{"format":1,"namespace":"default","ref":.*$', page, re.MULTILINE)
        shown = read_back(body.encode(), "deploy-42")
        address = LAYOUT.address("checkout-service", "timeout")
        assert shown.causes == (Cause("checkout-service", "timeout", 1),)
        assert f'"write_id":"{apply.write_id(LAYOUT, "deploy-42", address)}"' in page

    @pytest.mark.parametrize("place", [0, 30, 200, -1, -40])
    def test_damage_is_found_by_whoever_reads_it(
        self,
        mem: AgentMemory,
        faulty: FaultyAdapter,
        place: int,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        mem.commit_outcome("r", "success", entries=[mem.write("e", "k", 1)])
        body = bytearray(body_of(faulty))
        body[place] ^= 1
        faulty.inner.replace(RECORD, bytes(body))
        for call in (
            lambda: fresh(faulty).read_outcome("r"),
            lambda: fresh(faulty).commit_outcome("r", "success"),
        ):
            with pytest.raises(CorruptEntryError, match=r"r\.json: .*; restore") as caught:
                call()
            assert caught.value.object_key == RECORD
        assert fresh(faulty).list_outcomes() == []
        assert f"left out: {RECORD}" in caplog.text

    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            ({"format": 2}, "newer than 1: upgrade"),
            ({"ref": "another"}, "says it is the outcome 'another'"),
            ({"namespace": "another"}, "in another"),
            ({"type": "disaster"}, "not an outcome as the format describes it"),
            ({"causes": [{"entity_path": "", "key": "k", "version": 1}]}, "not an outcome"),
            ({"causes": [{"key": "k"}]}, "not an outcome"),
            ({"committed_at": "yesterday"}, "not an outcome"),
        ],
    )
    def test_an_outcome_of_another_place_or_format_is_refused(
        self, mem: AgentMemory, faulty: FaultyAdapter, changes: dict[str, Any], problem: str
    ) -> None:
        mem.commit_outcome("r", "success", entries=[])
        fields = {**json.loads(body_of(faulty)), **changes}
        del fields["sha256"]
        with pytest.raises(CorruptEntryError, match=problem):
            read_back(sealed(fields))

    def test_fields_of_a_newer_writer_are_kept(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        mem.commit_outcome("r", "success", entries=[])
        fields = {**json.loads(body_of(faulty)), "note": {"by": "a newer writer"}}
        del fields["sha256"]
        body = sealed(fields)
        assert read_back(body).extra == {"note": {"by": "a newer writer"}}
        assert outcome.encode_outcome(read_back(body)) == body
        assert read_back(body).to_dict() == json.loads(body)

    @pytest.mark.parametrize("ref", ["", "x" * 251, "é" * 126, "\ud800", None, 7])
    def test_a_reference_that_cannot_be_a_name_everywhere_is_refused(
        self, mem: AgentMemory, faulty: FaultyAdapter, ref: Any
    ) -> None:
        for call in (
            mem.read_outcome,
            lambda reference: mem.commit_outcome(reference, "success", entries=[]),
        ):
            with pytest.raises(InvalidKeyError, match="outcome reference"):
                call(ref)
        assert not faulty.calls

    @pytest.mark.parametrize(
        "ref", ["x" * 250, "v1", "v1.json", ".hidden", "a/b", "%", "👋 x", "é"]
    )
    def test_a_reference_that_fits_comes_back(self, mem: AgentMemory, ref: str) -> None:
        mem.commit_outcome(ref, "success", entries=[])
        (record,) = mem.list_outcomes()
        assert record.ref == ref
        assert len(LAYOUT.outcome_key(ref).removeprefix("default/outcomes/").encode()) <= 255

    def test_a_key_that_the_layout_never_makes_is_not_an_outcome(self) -> None:
        for name in ("", ".json", "a", "a/b.json", "%41.json", ".a.json", f"{'x' * 251}.json"):
            assert LAYOUT.parse_outcome(f"default/outcomes/{name}") is None
        assert LAYOUT.parse_outcome("other/outcomes/a.json") is None


class TestWhatItIsAbout:
    def test_an_entry_stands_for_its_version_and_a_pair_for_the_newest(
        self, mem: AgentMemory
    ) -> None:
        first = mem.write("e", "k", 1)
        mem.update("e", "k", lambda old: old + 1)
        mem.write("e", "j", 1)
        mem.write("e", "j", 2)
        entries: list[Any] = [("e", "j"), first, ["e", "j"]]
        recorded = mem.commit_outcome("r", "success", entries=entries)
        assert recorded.causes == (Cause("e", "j", 2), Cause("e", "k", 1))

    def test_a_cause_of_another_outcome_stands_for_its_version(self, mem: AgentMemory) -> None:
        mem.write("e", "k", 1)
        causes = mem.commit_outcome("one", "success", entries=[("e", "k")]).causes
        assert mem.commit_outcome("two", "failure", entries=causes).causes == causes

    def test_it_may_be_about_nothing(self, mem: AgentMemory, faulty: FaultyAdapter) -> None:
        assert written(faulty, mem, entries=[]) == [RECORD]
        assert (mem.read_outcome("r") or pytest.fail()).causes == ()

    @pytest.mark.parametrize("gone", ["absent", "deleted", "expired"])
    def test_a_pair_without_a_live_version_is_refused_by_name(
        self, mem: AgentMemory, faulty: FaultyAdapter, gone: str
    ) -> None:
        if gone == "deleted":
            mem.write("e", "k", 1)
            mem.delete("e", "k")
        elif gone == "expired":
            mem.write("e", "k", 1, ttl=timedelta(microseconds=1))
        with pytest.raises(InvalidValueError, match="e/k has no live version"):
            mem.commit_outcome("r", "success", entries=[("e", "k")])
        assert not body_of(faulty)

    def test_an_entry_that_is_not_of_this_store_is_refused(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        elsewhere = AgentMemory("a", adapter=ModelAdapter())
        foreign = AgentMemory("a", adapter=ModelAdapter(), namespace="other").write("e", "k", 1)
        with pytest.raises(InvalidValueError, match=r"there is no e/k v1 in this store"):
            mem.commit_outcome("r", "success", entries=[elsewhere.write("e", "k", 1)])
        mem.write("e", "k", 1)
        with pytest.raises(InvalidValueError, match="is not the entry that was given"):
            mem.commit_outcome("r", "success", entries=[(elsewhere.read("e", "k"))])  # type: ignore[list-item]
        with pytest.raises(InvalidValueError, match="namespace 'other'"):
            mem.commit_outcome("r", "success", entries=[foreign])
        assert not body_of(faulty)

    @pytest.mark.parametrize(
        "entries",
        [
            *("e/k", ("e", "k"), [("e",)], [("e", "k", 1)], [None], ["ek"], {"e": "k"}, 7),
            [Cause("e", "k", 0)],
        ],
    )
    def test_entries_that_are_none_are_refused_and_nothing_is_sent(
        self, mem: AgentMemory, faulty: FaultyAdapter, entries: Any
    ) -> None:
        with pytest.raises((InvalidValueError, InvalidKeyError), match=r"entries|key"):
            mem.commit_outcome("r", "success", entries=entries)
        assert "create" not in faulty.requests()

    @pytest.mark.parametrize("kind", ["success", "minor_failure", "failure", "critical_failure"])
    def test_its_type_may_be_text(self, mem: AgentMemory, kind: str) -> None:
        recorded = mem.commit_outcome("r", kind, entries=[])
        assert recorded.type is OutcomeType(kind)
        assert recorded.type == kind

    @pytest.mark.parametrize("kind", ["sucess", "SUCCESS", "", None, 1])
    def test_another_type_is_refused(
        self, mem: AgentMemory, faulty: FaultyAdapter, kind: Any
    ) -> None:
        with pytest.raises(InvalidValueError, match="must be one of success, minor_failure"):
            mem.commit_outcome("r", kind, entries=[])
        with pytest.raises(InvalidValueError, match="did you mean 'success'"):
            mem.commit_outcome("r", "sucess", entries=[])
        assert not faulty.calls


class TestWhatASessionRead:
    def test_without_entries_it_is_about_the_versions_that_were_read(
        self, mem: AgentMemory, other: AgentMemory
    ) -> None:
        for key in "abc":
            mem.write("e", key, 1)
        read = mem.read("e", "a")
        mem.read("e", "b", max_age=3600)
        other.update("e", "a", lambda old: old + 1)
        recorded = mem.commit_outcome("r", "success")
        assert recorded.causes == (Cause("e", "a", 1), Cause("e", "b", 1))
        assert (read or pytest.fail()).version == 1

    def test_of_several_versions_the_newest_that_was_read_counts(self, mem: AgentMemory) -> None:
        for number in range(4):
            mem.write("e", "k", number)
        mem.read("e", "k", version=3)
        mem.read("e", "k", version=2)
        assert mem.commit_outcome("r", "success").causes == (Cause("e", "k", 3),)

    def test_a_read_of_the_past_is_a_read(self, mem: AgentMemory) -> None:
        first = mem.write("e", "k", 1)
        mem.write("e", "k", 2)
        assert mem.read("e", "k", at=first.provenance.written_at) == first
        assert mem.commit_outcome("r", "success").causes == (Cause("e", "k", 1),)

    def test_looking_around_is_not_reading(self, mem: AgentMemory, faulty: FaultyAdapter) -> None:
        entry = mem.write("e", "k", 1, confidence=0.5)
        mem.list()
        mem.history("e", "k")
        mem.update("e", "k", lambda old: old)
        mem.read("e", "absent")
        mem.read("e", "k", min_confidence=0.9)
        mem.diff("e", "k")
        mem.find_write("e", "k", entry.provenance.write_id)
        mem.commit_outcome("earlier", "success", entries=[("e", "k")])
        with pytest.raises(
            InvalidValueError, match=r"read nothing .*entries=\[\(entity_path, key\)"
        ):
            mem.commit_outcome("r", "success")
        assert not body_of(faulty)

    def test_two_sessions_on_one_store_are_two(self, mem: AgentMemory, other: AgentMemory) -> None:
        mem.write("e", "k", 1)
        mem.read("e", "k")
        with pytest.raises(InvalidValueError, match="read nothing"):
            other.commit_outcome("r", "success")

    def test_so_many_memories_are_remembered_and_those_read_longest_ago_are_forgotten(
        self, mem: AgentMemory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(amfs_core.memory.read_log, "MAX_MEMORIES", 3)
        for key in "abcd":
            mem.write("e", key, 1)
        for key in "abcad":
            mem.read("e", key)
        assert [cause.key for cause in mem.commit_outcome("r", "success").causes] == ["a", "c", "d"]
        assert amfs_core.memory.read_log.MAX_MEMORIES == 3

    def test_threads_share_what_was_read(self, mem: AgentMemory) -> None:
        keys = [f"k{number}" for number in range(40)]
        for key in keys:
            mem.write("e", key, 1)

        def read(some: list[str]) -> bool:
            return all(mem.read("e", key) for key in some for _ in range(5))

        assert all(together([lambda i=i: read(keys[i::8]) for i in range(8)]))  # type: ignore[misc]
        assert {cause.key for cause in mem.commit_outcome("r", "success").causes} == set(keys)

    def test_a_forked_child_has_read_nothing_and_can_commit(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        mem.write("e", "k", 1)
        mem.read("e", "k")

        def use() -> None:
            with pytest.raises(InvalidValueError, match="read nothing"):
                mem.commit_outcome("r", "failure")
            mem.read("e", "k")
            assert mem.commit_outcome("r", "failure").causes == (Cause("e", "k", 1),)
            assert (mem.read("e", "k") or pytest.fail()).confidence == 0.8
            mem.close()

        in_forked_child(use)
        assert mem.commit_outcome("r", "success").causes == (Cause("e", "k", 1),)


class TestConfidence:
    @pytest.mark.parametrize(
        ("kind", "confidence", "successes", "failures"),
        [
            ("success", 0.6, 1, 0),
            ("minor_failure", 2 / 4.5, 0, 0.5),
            ("failure", 0.4, 0, 1),
            ("critical_failure", 2 / 6, 0, 2),
        ],
    )
    def test_each_type_moves_it_so_far(
        self,
        mem: AgentMemory,
        kind: str,
        confidence: float,
        successes: float,
        failures: float,
    ) -> None:
        entry = mem.write("e", "k", 1, confidence=0.5)
        mem.commit_outcome("r", kind, entries=[entry])
        now = mem.read("e", "k")
        assert now is not None
        assert now.confidence == confidence
        assert (now.evidence.successes, now.evidence.failures) == (successes, failures)
        assert now.evidence.prior == 0.5

    def test_the_version_that_moves_it_says_why_and_keeps_everything_else(
        self, mem: AgentMemory, other: AgentMemory
    ) -> None:
        entry = mem.write(
            "e", "k", {"v": 1}, tags=["t"], memory_type="belief", ttl=3600, pattern_refs=["p"]
        )
        other.commit_outcome("r", "failure", entries=[("e", "k")])
        now = mem.read("e", "k")
        assert now is not None
        assert (now.version, now.value, now.tags) == (2, {"v": 1}, ("t",))
        assert (now.memory_type, now.expires_at) == ("belief", entry.expires_at)
        assert (now.claim, entry.claim) == (1, None)
        provenance = now.provenance
        assert (provenance.outcome_ref, provenance.pattern_refs) == ("r", ("p",))
        assert (provenance.agent_id, provenance.session_id) == ("other", other.session_id)
        assert entry.provenance.outcome_ref is None

    def test_a_memory_without_evidence_has_the_bytes_that_it_always_had(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        mem.write("e", "k", 1)
        fields = json.loads(faulty.inner.get("default/entries/e/k/v1.json") or b"")
        assert fields["evidence"] == {"successes": 0, "failures": 0}
        assert not {"claim", "outcome_ref"} & {*fields, *fields["provenance"]}

    def test_fields_of_a_newer_writer_are_carried_on(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        mem.write("e", "k", 1)
        fields = json.loads(faulty.inner.get("default/entries/e/k/v1.json") or b"")
        del fields["sha256"]
        fields["evidence"]["doubts"] = 3
        fields["transaction"] = "t1"
        faulty.inner.replace("default/entries/e/k/v1.json", sealed(fields))
        fresh(faulty).commit_outcome("r", "success", entries=[("e", "k")])
        assert newest(faulty).evidence.extra == {"doubts": 3}
        assert newest(faulty).extra == {"transaction": "t1"}

    @pytest.mark.parametrize("prior", [0.0, 0.1, 1 / 3, 0.9, 1.0])
    def test_any_order_gives_the_very_same_number(self, prior: float) -> None:
        kinds = ["success", "minor_failure", "failure", "critical_failure", "minor_failure"]
        results = set()
        for order in permutations(range(5)):
            memory = AgentMemory("a", adapter=ModelAdapter())
            entry = memory.write("e", "k", 1, confidence=prior)
            for number in order:
                memory.commit_outcome(f"r{number}", kinds[number], entries=[entry])
            now = memory.read("e", "k")
            assert now is not None
            results.add((now.confidence, repr(now.evidence)))
        ((confidence, counts),) = results
        assert confidence == (4 * prior + 1) / (4 + 1 + 4)
        assert "successes=1, failures=4.0" in counts

    @given(st.floats(0, 1), st.lists(st.sampled_from(OutcomeType), max_size=60))
    def test_it_is_the_mean_of_the_posterior_and_never_leaves_its_range(
        self, prior: float, kinds: list[OutcomeType]
    ) -> None:
        successes = math.fsum(evidence.WEIGHTS[kind][0] for kind in kinds)
        failures = math.fsum(evidence.WEIGHTS[kind][1] for kind in kinds)
        confidence = evidence.confidence(prior, successes, failures)
        alpha, beta = 4 * prior + successes, 4 * (1 - prior) + failures
        assert 0 <= confidence <= 1
        assert confidence == pytest.approx(alpha / (alpha + beta))

    def test_two_versions_of_one_memory_are_one_memory(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        first = mem.write("e", "k", 1)
        second = mem.update("e", "k", lambda old: 2)
        recorded = mem.commit_outcome("r", "failure", entries=[second, first])
        assert len(recorded.causes) == 2
        assert moved(faulty) == ["r"]
        assert mem.verify().ok

    def test_an_update_is_the_same_claim(self, mem: AgentMemory, faulty: FaultyAdapter) -> None:
        first = mem.write("e", "k", 1, confidence=0.5)
        mem.update("e", "k", lambda old: 2)
        mem.commit_outcome("one", "success", entries=[first])
        mem.update("e", "k", lambda old: 3)
        mem.commit_outcome("two", "success", entries=[first])
        now = newest(faulty)
        assert (now.value, now.confidence, now.claim) == (3, (2 + 2) / 6, 1)
        assert moved(faulty) == ["one", "two"]

    @pytest.mark.parametrize(
        "since",
        [
            lambda memory: memory.write("e", "k", "new"),
            lambda memory: memory.delete("e", "k"),
            lambda memory: memory.purge("e", "k"),
            lambda memory: (memory.delete("e", "k"), memory.write("e", "k", "new")),
            lambda memory: (memory.delete("e", "k"), memory.update("e", "k", lambda _: "new")),
            lambda memory: memory.write("e", "k", "new", ttl=timedelta(microseconds=1)),
        ],
        ids=["written", "deleted", "purged", "deleted-written", "deleted-updated", "expired"],
    )
    def test_blame_does_not_pass_to_a_claim_that_was_not_used(
        self, mem: AgentMemory, faulty: FaultyAdapter, since: Callable[[AgentMemory], object]
    ) -> None:
        used = mem.write("e", "k", "old")
        since(fresh(faulty))
        before = newest(faulty)
        recorded = mem.commit_outcome("r", "critical_failure", entries=[used])
        assert recorded.causes == (Cause("e", "k", 1),)
        assert newest(faulty) == before
        assert fresh(faulty).verify().ok

    def test_a_memory_that_expired_is_not_moved(self, mem: AgentMemory) -> None:
        used = mem.write("e", "k", "old", ttl=timedelta(microseconds=1))
        mem.commit_outcome("r", "success", entries=[used])
        assert len(mem.history("e", "k")) == 1
        assert mem.verify().ok

    def test_evidence_versions_are_not_reads(self, mem: AgentMemory) -> None:
        mem.commit_outcome("r", "success", entries=[mem.write("e", "k", 1)])
        with pytest.raises(InvalidValueError, match="read nothing"):
            mem.commit_outcome("again", "success")


class TestTheSameReferenceAgain:
    def test_the_same_content_is_the_same_outcome(
        self, mem: AgentMemory, other: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        entries = [mem.write("e", key, 1) for key in "kj"]
        recorded = mem.commit_outcome("r", "failure", entries=entries)
        for again in (entries, entries[::-1], [("e", "k"), ("e", "j")], recorded.causes, None):
            for who in (mem, other):
                assert who.commit_outcome("r", "failure", entries=again) == recorded
        assert moved(faulty) == moved(faulty, "j") == ["r"]

    def test_a_pair_is_the_same_although_it_is_deleted_by_now(
        self, mem: AgentMemory, other: AgentMemory
    ) -> None:
        mem.write("e", "k", 1)
        recorded = mem.commit_outcome("r", "failure", entries=[("e", "k")])
        mem.delete("e", "k")
        assert other.commit_outcome("r", "failure", entries=[("e", "k")]) == recorded

    @pytest.mark.parametrize(
        ("kind", "entries", "difference"),
        [
            ("success", [("e", "k")], "it is a failure, not a success"),
            ("success", None, "it is a failure, not a success"),
            ("failure", [("e", "k"), ("e", "j")], "it is not about e/j"),
            ("failure", [("e", "j")], "it is not about e/j"),
            ("failure", [], "it is about e/k v1 too"),
            ("failure", [Cause("e", "k", 2)], "it is not about e/k v2"),
        ],
    )
    def test_other_content_is_refused_and_named(
        self,
        *,
        mem: AgentMemory,
        other: AgentMemory,
        faulty: FaultyAdapter,
        kind: str,
        entries: Any,
        difference: str,
    ) -> None:
        mem.write("e", "k", 1)
        mem.write("e", "j", 1)
        mem.commit_outcome("r", "failure", entries=[("e", "k")])
        before = body_of(faulty)
        for who in (mem, other):
            with pytest.raises(OutcomeConflictError, match=f"outcome 'r'.* {difference}") as caught:
                who.commit_outcome("r", kind, entries=entries)
            assert (caught.value.outcome_ref, caught.value.object_key) == ("r", RECORD)
        assert body_of(faulty) == before
        assert (moved(faulty), moved(faulty, "j")) == (["r"], [])


class TestReadingThemBack:
    def test_they_come_oldest_first_and_by_reference(
        self, mem: AgentMemory, other: AgentMemory
    ) -> None:
        made = [mem.commit_outcome(ref, "success", entries=[]) for ref in ("b", "a", "c")]
        assert other.list_outcomes() == mem.list_outcomes() == made
        assert other.read_outcome("a") == made[1]
        assert other.read_outcome("absent") is None

    def test_those_about_memories_under_a_path_can_be_asked_for(self, mem: AgentMemory) -> None:
        for ref, path in (("one", "a/b"), ("two", "ab"), ("three", "a")):
            mem.commit_outcome(ref, "success", entries=[mem.write(path, "k", 1)])
        assert [record.ref for record in mem.list_outcomes("a")] == ["one", "three"]
        assert [record.ref for record in mem.list_outcomes("a/b")] == ["one"]
        assert mem.list_outcomes("b") == []
        with pytest.raises(InvalidKeyError):
            mem.list_outcomes("a//b")

    def test_a_namespace_has_its_own(self, mem: AgentMemory, faulty: FaultyAdapter) -> None:
        mem.commit_outcome("r", "success", entries=[])
        elsewhere = AgentMemory("a", adapter=faulty, namespace="elsewhere")
        assert elsewhere.list_outcomes() == []
        assert elsewhere.commit_outcome("r", "failure", entries=[]).type == "failure"

    def test_only_so_many_bytes_of_them_are_remembered(
        self, mem: AgentMemory, other: AgentMemory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = [mem.commit_outcome(f"r{number}", "success", entries=[]) for number in range(5)]
        monkeypatch.setattr("amfs_core.outcomes.records.MAX_KNOWN_BYTES", 1000)
        assert other.list_outcomes() == other.list_outcomes() == made

    def test_a_copy_has_them_and_what_they_moved(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        recorded = mem.commit_outcome("r", "failure", entries=[mem.write("e", "k", 1)])
        target = ModelAdapter()
        assert copy.copy(faulty, target).copied == 3
        with AgentMemory("b", adapter=target) as copied:
            assert copied.list_outcomes() == [recorded]
            assert copied.verify().ok
            assert copied.commit_outcome("r", "failure") == recorded
            assert copied.history("e", "k") == mem.history("e", "k")

    def test_they_are_no_versions_and_no_memories(self, mem: AgentMemory) -> None:
        mem.commit_outcome("r", "success", entries=[mem.write("e", "k", 1)])
        stats = mem.stats()
        assert (stats.memories, stats.versions, stats.foreign) == (1, 2, 0)
        assert [entry.key for entry in mem.list()] == ["k"]


class TestExactlyOnce:
    @pytest.mark.parametrize(
        "fault", [Fault.LOST_ANSWER, Fault.LOST_REQUEST, Fault.CONFLICT, Fault.UNAVAILABLE]
    )
    @pytest.mark.parametrize("skip", [0, 1, 2])
    def test_no_fault_of_a_create_loses_or_doubles_it(
        self, mem: AgentMemory, faulty: FaultyAdapter, fault: Fault, skip: int
    ) -> None:
        entries = [mem.write("e", key, 1) for key in "kj"]
        faulty.inject(fault, skip=skip, times=2)
        recorded = mem.commit_outcome("r", "failure", entries=entries)
        assert moved(faulty) == moved(faulty, "j") == ["r"]
        assert fresh(faulty).read_outcome("r") == recorded
        assert fresh(faulty).verify().ok

    def test_a_lost_answer_of_the_record_is_recognised_by_its_write_id(
        self, mem: AgentMemory, other: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        entry = mem.write("e", "k", 1)
        faulty.inject(Fault.LOST_REQUEST)
        faulty.before(lambda: other.commit_outcome("r", "failure", entries=[entry]), skip=1)
        recorded = mem.commit_outcome("r", "failure", entries=[entry])
        assert recorded.agent_id == "other"
        assert moved(faulty) == ["r"]

    def test_the_same_outcome_from_two_processes_at_once_is_counted_once(
        self, mem: AgentMemory, other: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        entry = mem.write("e", "k", 1)
        other.read("e", "k")
        for skip in range(2):
            faulty.before(lambda: other.commit_outcome("r", "failure", entries=[entry]), skip=skip)
            mem.commit_outcome("r", "failure", entries=[entry])
            assert moved(faulty) == ["r"]

    def test_racing_writers_do_not_hide_that_it_was_counted(
        self, mem: AgentMemory, other: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        entry = mem.write("e", "k", 0)

        def get_ahead() -> None:
            other.commit_outcome("r", "failure", entries=[entry])
            for _ in range(40):
                other.update("e", "k", lambda old: old + 1)

        faulty.before(get_ahead, skip=1)  # between the record and the version
        mem.commit_outcome("r", "failure", entries=[entry])
        assert moved(faulty) == ["r"]
        assert newest(faulty).value == 40
        assert mem.verify().ok

    def test_a_request_that_lands_late_is_not_counted_again(
        self, mem: AgentMemory, hasty: AgentMemory, other: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        entry = mem.write("e", "k", 1)
        hasty.read("e", "k")
        faulty.inject(Fault.LATE, skip=1)
        with pytest.raises(OutcomePendingError):
            hasty.commit_outcome("r", "failure", entries=[entry])
        other.commit_outcome("r", "failure")
        faulty.deliver()
        assert moved(faulty) == ["r"]
        assert hasty.commit_outcome("r", "failure").ref == "r"
        assert moved(faulty) == ["r"]

    def test_threads_that_commit_different_outcomes_lose_none(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        entry = mem.write("e", "k", 1, confidence=0.5)

        def commit(who: int) -> bool:
            for number in range(6):
                kind = "success" if number % 2 else "failure"
                mem.commit_outcome(f"{who}-{number}", kind, entries=[entry])
            return True

        assert all(together([lambda who=who: commit(who) for who in range(8)]))  # type: ignore[misc]
        now = newest(faulty)
        assert (now.evidence.successes, now.evidence.failures) == (24, 24)
        assert now.confidence == 0.5
        assert len(set(moved(faulty))) == len(moved(faulty)) == 48

    def test_an_update_in_the_way_keeps_the_evidence(
        self, mem: AgentMemory, other: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        entry = mem.write("e", "k", 1)
        faulty.before(lambda: other.update("e", "k", lambda old: old + 1), skip=1)
        mem.commit_outcome("r", "failure", entries=[entry])
        assert (newest(faulty).value, newest(faulty).confidence) == (2, 0.8)
        faulty.before(lambda: mem.commit_outcome("r2", "failure", entries=[entry]))
        other.update("e", "k", lambda old: old + 1)
        assert (newest(faulty).value, newest(faulty).confidence) == (3, 4 / 6)

    def test_a_purge_in_the_way_wins(
        self, mem: AgentMemory, other: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        entry = mem.write("e", "k", "private")
        faulty.before(lambda: other.purge("e", "k"), skip=1)
        mem.commit_outcome("r", "failure", entries=[entry])
        assert [version.value for version in fresh(faulty).history("e", "k")] == [None, None]
        assert fresh(faulty).verify().ok


class TestCrashes:
    CRASHES = (Fault.CRASH_BEFORE, Fault.CRASH_AFTER)

    def crashed(self, faulty: FaultyAdapter, fault: Fault, skip: int) -> None:
        """A process that dies at the create of the record (skip 0) or of a version."""
        victim = AgentMemory("victim", adapter=faulty)
        entries = [victim.write("e", key, 1) for key in "kj"]
        faulty.inject(fault, skip=skip)
        with pytest.raises(Crash):
            victim.commit_outcome("r", "failure", entries=entries)

    @pytest.mark.parametrize("fault", CRASHES)
    @pytest.mark.parametrize("skip", [0, 1, 2])
    def test_committing_it_again_finishes_it(
        self, faulty: FaultyAdapter, fault: Fault, skip: int, other: AgentMemory
    ) -> None:
        self.crashed(faulty, fault, skip)
        recorded = other.commit_outcome("r", "failure", entries=[("e", "k"), ("e", "j")])
        assert moved(faulty) == moved(faulty, "j") == ["r"]
        assert newest(faulty).confidence == newest(faulty, "j").confidence == 0.8
        assert other.verify().ok
        if recorded.agent_id == "victim":
            assert newest(faulty).provenance.agent_id == "victim"

    @pytest.mark.parametrize("fault", CRASHES)
    @pytest.mark.parametrize("skip", [1, 2])
    def test_verify_says_that_it_is_not_finished_and_repair_finishes_it(
        self, faulty: FaultyAdapter, fault: Fault, skip: int, other: AgentMemory
    ) -> None:
        self.crashed(faulty, fault, skip)
        owed = 2 - len(moved(faulty)) - len(moved(faulty, "j"))
        report = other.verify()
        assert (report.ok, report.outcomes) == (not owed, 1)
        assert len(report.findings) == owed
        for finding in report.findings:
            assert finding.repairable and finding.object_key == RECORD
            assert "has not been counted into e/" in finding.problem
        repaired = other.verify(repair=True)
        assert repaired.ok
        assert len(repaired.repaired) == owed
        assert moved(faulty) == moved(faulty, "j") == ["r"]
        assert other.verify(repair=True).repaired == ()

    def test_a_store_that_goes_away_is_reported_and_a_second_call_finishes(
        self, hasty: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        entries = [hasty.write("e", key, 1) for key in "kj"]
        faulty.inject(Fault.UNAVAILABLE, skip=1)
        with pytest.raises(
            OutcomePendingError, match=r"'r' is recorded, .* 1 of 2 .*e/[kj]: "
        ) as caught:
            hasty.commit_outcome("r", "failure", entries=entries)
        error = caught.value
        assert (error.outcome_ref, error.outcome) == ("r", hasty.read_outcome("r"))
        ((name, cause),) = error.errors.items()
        assert name in {("e", "k"), ("e", "j")}
        assert isinstance(cause, BackendUnavailableError) and error.__cause__ is cause
        back = pickle.loads(pickle.dumps(error))
        assert (back.outcome, str(back.errors)) == (error.outcome, str(error.errors))
        hasty.commit_outcome("r", "failure", entries=entries)
        assert moved(faulty) == moved(faulty, "j") == ["r"]

    @pytest.mark.parametrize("fault", [Fault.LOST_ANSWER, Fault.LOST_REQUEST, Fault.LATE])
    def test_an_outcome_that_stays_unknown_is_raised_and_a_second_call_finishes(
        self, hasty: AgentMemory, faulty: FaultyAdapter, fault: Fault
    ) -> None:
        entry = hasty.write("e", "k", 1)
        faulty.inject(fault)
        with pytest.raises(CommitUnknownError, match=r"'r' was recorded.*again") as caught:
            hasty.commit_outcome("r", "failure", entries=[entry])
        assert (caught.value.outcome_ref, caught.value.object_key) == ("r", RECORD)
        assert moved(faulty) == []
        faulty.deliver()
        hasty.commit_outcome("r", "failure", entries=[entry])
        assert moved(faulty) == ["r"]
        assert fresh(faulty).verify().ok

    def test_a_store_that_is_down_records_nothing(
        self, hasty: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        entry = hasty.write("e", "k", 1)
        faulty.inject(Fault.UNAVAILABLE)
        with pytest.raises(BackendUnavailableError):
            hasty.commit_outcome("r", "failure", entries=[entry])
        assert not body_of(faulty)

    def test_a_damaged_memory_holds_up_no_other(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        entries = [mem.write("e", key, 1) for key in "kj"]
        faulty.inner.replace("default/entries/e/k/v1.json", b"damaged")
        damaged = AgentMemory("b", adapter=faulty)
        faulty.inject(Fault.CRASH_AFTER)
        with pytest.raises(Crash):
            mem.commit_outcome("r", "failure", entries=entries)
        with pytest.raises(OutcomePendingError) as caught:
            damaged.commit_outcome("r", "failure")
        assert isinstance(caught.value.errors["e", "k"], CorruptEntryError)
        assert moved(faulty, "j") == ["r"]
        report = damaged.verify(repair=True)
        assert [finding.object_key for finding in report.findings] == [
            "default/entries/e/k/v1.json"
        ]
        damaged.purge("e", "k")
        assert damaged.verify().ok


class TestVerify:
    def test_it_names_a_damaged_a_foreign_and_a_misplaced_outcome(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        for ref in ("cut", "good", "swapped"):
            mem.commit_outcome(ref, "success", entries=[])
        good = body_of(faulty, "good")
        faulty.inner.replace(LAYOUT.outcome_key("cut"), good[:40])
        faulty.inner.replace(LAYOUT.outcome_key("swapped"), good)
        faulty.inner.create("default/outcomes/notes.txt", b"hello")
        report = mem.verify()
        findings = {finding.object_key.rpartition("/")[2]: finding for finding in report.findings}
        assert set(findings) == {"cut.json", "swapped.json", "notes.txt"}
        assert "cut short or not an outcome" in findings["cut.json"].problem
        assert "says it is the outcome 'good'" in findings["swapped.json"].problem
        assert not any(finding.repairable for finding in report.findings)
        assert not mem.verify(repair=True).ok

    def test_it_names_a_cause_that_is_not_there(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        entry = mem.write("e", "k", 1)
        mem.commit_outcome("r", "success", entries=[entry])
        for version in (1, 2):
            faulty.inner.delete(f"default/entries/e/k/v{version}.json")
        (finding,) = fresh(faulty).verify(repair=True).findings
        assert (finding.object_key, finding.repairable) == (RECORD, False)
        assert "names v1 of e/k, which is not there" in finding.problem
        with pytest.raises(OutcomePendingError) as caught:
            fresh(faulty).commit_outcome("r", "success")
        assert isinstance(caught.value.errors["e", "k"], CorruptEntryError)

    def test_nothing_is_appended_where_the_version_that_was_used_has_not_arrived(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        for number in range(3):
            mem.update("e", "k", lambda old, number=number: number)  # type: ignore[misc]
        mem.commit_outcome("r", "success", entries=[("e", "k")])
        for version in (3, 4):  # as in a store that is still being copied
            faulty.inner.delete(f"default/entries/e/k/v{version}.json")
        with pytest.raises(OutcomePendingError, match=r"k/v3\.json is missing"):
            fresh(faulty).commit_outcome("r", "success")
        assert not fresh(faulty).verify(repair=True).ok
        assert newest(faulty).version == 2

    def test_it_names_a_record_that_is_lost(self, mem: AgentMemory, faulty: FaultyAdapter) -> None:
        mem.commit_outcome("r", "success", entries=[mem.write("e", "k", 1)])
        faulty.inner.delete(RECORD)
        (finding,) = mem.verify(repair=True).findings
        assert finding.object_key == "default/entries/e/k/v2.json"
        assert "counts the outcome 'r', of which there is no record" in finding.problem

    def test_an_outcome_that_is_recorded_meanwhile_is_not_a_finding(
        self, mem: AgentMemory, other: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        entry = mem.write("e", "k", 1)
        # after the manifest (a get and a list) and the list of outcomes
        faulty.before(lambda: mem.commit_outcome("r", "success", entries=[entry]), skip=3)
        report = other.verify()
        assert (report.ok, report.outcomes, report.versions) == (True, 0, 2)

    def test_under_a_path_only_its_memories_are_looked_at_and_repaired(
        self, faulty: FaultyAdapter, other: AgentMemory
    ) -> None:
        victim = AgentMemory("victim", adapter=faulty)
        entries = [victim.write(path, "k", 1) for path in ("a", "b")]
        faulty.inject(Fault.CRASH_AFTER)
        with pytest.raises(Crash):
            victim.commit_outcome("r", "failure", entries=entries)
        report = other.verify("a", repair=True)
        assert [finding.problem for finding in report.repaired] == [
            "it has not been counted into a/k yet"
        ]
        assert len(other.history("b", "k")) == 1
        assert other.verify("a").ok
        assert not other.verify().ok

    def test_an_outcome_under_way_is_not_a_finding_once_it_is_done(
        self, mem: AgentMemory, other: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        entry = mem.write("e", "k", 1)
        faulty.inject(Fault.CRASH_AFTER)
        with pytest.raises(Crash):
            mem.commit_outcome("r", "failure", entries=[entry])
        # after verify has read the versions, and before it looks again: the manifest (a get and a
        # list), outcomes (a list and a get), versions (a list and a get)
        faulty.before(lambda: mem.commit_outcome("r", "failure"), skip=6)
        assert other.verify().ok
        assert moved(faulty) == ["r"]

    def test_it_costs_a_request_for_each_outcome_and_version(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        for number in range(5):
            entry = mem.write("e", f"k{number}", 1)
            mem.commit_outcome(f"r{number}", "success", entries=[entry])
        faulty.calls.clear()
        assert fresh(faulty).verify().ok
        assert AgentMemory("b", adapter=faulty).verify().ok
        assert faulty.requests() == {"list": 2 + 1, "get": 15 + 1}  # and the manifest

    def test_erasing_a_memory_that_an_outcome_names_leaves_the_record_and_nothing_to_do(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        mem.write("e", "k", "private")
        recorded = mem.commit_outcome("r", "failure", entries=[("e", "k")])
        assert mem.purge("e", "k") == 2
        everything = b"".join(faulty.inner.get(info.key) or b"" for info in faulty.inner.list(""))
        assert b"private" not in everything
        assert fresh(faulty).commit_outcome("r", "failure") == recorded
        assert fresh(faulty).read_outcome("r") == recorded
        assert fresh(faulty).verify(repair=True).ok
        assert [entry.deleted for entry in fresh(faulty).history("e", "k")] == [True, True, True]


class TestRequestBudget:
    def made(self, faulty: FaultyAdapter, call: Callable[[], object]) -> dict[str, int]:
        faulty.calls.clear()
        call()
        return dict(faulty.requests())

    @pytest.mark.parametrize("causes", [0, 1, 2, 50])
    def test_an_outcome_of_known_memories_is_1_and_1_for_each(
        self, mem: AgentMemory, faulty: FaultyAdapter, causes: int
    ) -> None:
        entries = [mem.write("e", f"k{number}", 1) for number in range(causes)]
        made = self.made(faulty, lambda: mem.commit_outcome("r", "success", entries=entries))
        assert made == {"create": 1 + causes}

    def test_memories_that_were_read_cost_the_same(
        self, mem: AgentMemory, other: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        for key in "abc":
            other.write("e", key, 1)
            mem.read("e", key)
        assert self.made(faulty, lambda: mem.commit_outcome("r", "success")) == {"create": 4}

    def test_a_pair_is_a_read_more(self, mem: AgentMemory, faulty: FaultyAdapter) -> None:
        mem.write("e", "k", 1)
        made = self.made(faulty, lambda: mem.commit_outcome("r", "success", entries=[("e", "k")]))
        assert made == {"create": 2, "get": 1}

    def test_versions_from_before_the_record_are_not_looked_at(
        self, mem: AgentMemory, other: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        entry = mem.write("e", "k", 0)
        for _ in range(40):
            other.update("e", "k", lambda old: old + 1)
        mem.read("e", "k")
        made = self.made(faulty, lambda: mem.commit_outcome("r", "success", entries=[entry]))
        assert made == {"create": 2}

    def test_the_same_again_is_the_refused_create_its_read_back_and_a_look_at_the_versions(
        self, mem: AgentMemory, other: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        entry = mem.write("e", "k", 1)
        mem.commit_outcome("r", "success", entries=[entry])
        made = self.made(faulty, lambda: mem.commit_outcome("r", "success", entries=[entry]))
        assert made == {"create": 1, "get": 1}
        made = self.made(faulty, lambda: other.commit_outcome("r", "success"))
        assert made == {"get": 3, "list": 1}  # the record, and the memory as a read finds it

    def test_reading_them_back(
        self, mem: AgentMemory, other: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        for number in range(5):
            mem.commit_outcome(f"r{number}", "success", entries=[])
        assert self.made(faulty, mem.list_outcomes) == {"list": 1}
        assert self.made(faulty, lambda: other.read_outcome("r1")) == {"get": 1}
        assert self.made(faulty, lambda: other.read_outcome("r1")) == {}
        assert self.made(faulty, other.list_outcomes) == {"list": 1, "get": 4}
        assert self.made(faulty, lambda: other.list_outcomes("e")) == {"list": 1}


def test_every_error_of_outcomes_is_an_amfs_error() -> None:
    for kind in (OutcomeConflictError, OutcomePendingError, CommitUnknownError):
        assert issubclass(kind, AMFSError)


def test_an_outcome_costs_the_same_however_many_were_counted_in_between() -> None:
    costs = []
    for between in (600, 1_200):
        inner = ModelAdapter()
        store = FaultyAdapter(inner)
        agent = AgentMemory("a", adapter=store)
        used = agent.write("e", "k", 1)
        other = AgentMemory("b", adapter=inner)
        for number in range(between):
            other.commit_outcome(f"other-{number}", "success", entries=[used])
        store.calls.clear()
        agent.commit_outcome("mine", "failure", entries=[used])
        costs.append(len(store.calls))
        newest = agent.read("e", "k")
        assert newest is not None
        assert (newest.evidence.successes, newest.evidence.failures) == (between, 1)
    # Finding the newest by doubling and halving: two more for twice as many.
    assert costs[1] <= costs[0] + 2
    assert costs[1] < 35


def test_the_version_that_counted_a_fresh_outcome_is_found_although_many_followed() -> None:
    inner = ModelAdapter()
    store = FaultyAdapter(inner)
    agent = AgentMemory("a", adapter=store)
    used = agent.write("e", "k", 1)
    other = AgentMemory("b", adapter=inner)
    for number in range(20):
        other.commit_outcome(f"before-{number}", "success", entries=[used])

    def meanwhile() -> None:
        assert other.verify(repair=True).repaired
        for number in range(20):
            other.commit_outcome(f"after-{number}", "success", entries=[used])

    store.before(meanwhile, skip=1)  # the record is there, and nothing is counted yet
    agent.commit_outcome("mine", "failure", entries=[used])
    newest = agent.read("e", "k")
    assert newest is not None
    assert (newest.evidence.successes, newest.evidence.failures) == (40, 1)
    assert agent.verify().ok
