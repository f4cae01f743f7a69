"""The concurrency heart: the invariants of the design's section 2 and the budget of section 4.

Each class is one of them. Faults that no real store can be made to show come from `FaultyAdapter`.
"""

from __future__ import annotations

import json
import math
import pickle
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from itertools import chain, pairwise
from typing import Any

import pytest

from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    BucketNotFoundError,
    CorruptEntryError,
    InvalidKeyError,
    InvalidValueError,
    OutcomeUnknownError,
    PermissionDeniedError,
    VersionConflictError,
    WriteManyError,
    WriteOutcomeUnknownError,
)
from amfs_core.format import Evidence, MemoryEntry, Provenance, seal_entry
from amfs_core.memory import AgentMemory
from amfs_core.storage import ObjectInfo
from amfs_core.testing import Crash, Fault, FaultyAdapter, ModelAdapter
from amfs_core.testing.cases import in_forked_child, together
from amfs_core.versions import Clock
from tests.support.errors import EVERY_ERROR
from tests.support.known import known

WEST = timezone(timedelta(hours=-1))

HASTY = 0.0  # gives up at the first fault
PATIENT = 60.0  # gets through all that these tests inject


@pytest.fixture
def faulty() -> FaultyAdapter:
    return FaultyAdapter(ModelAdapter())


@pytest.fixture
def mem(faulty: FaultyAdapter) -> Iterator[AgentMemory]:
    with known(AgentMemory("a", adapter=faulty, patience=PATIENT)) as memory:
        faulty.calls.clear()
        yield memory


@pytest.fixture
def hasty(faulty: FaultyAdapter) -> AgentMemory:
    memory = known(AgentMemory("hasty", adapter=faulty, patience=HASTY))
    faulty.calls.clear()
    return memory


@pytest.fixture
def other(faulty: FaultyAdapter) -> AgentMemory:
    memory = known(AgentMemory("other", adapter=faulty))
    faulty.calls.clear()
    return memory


def fresh(faulty: FaultyAdapter) -> AgentMemory:
    """A process that has seen nothing, without faults."""
    return AgentMemory("fresh", adapter=faulty.inner)


def values(faulty: FaultyAdapter, entity_path: str = "e", key: str = "k") -> list[Any]:
    history = fresh(faulty).history(entity_path, key)
    assert [entry.version for entry in history] == list(range(1, len(history) + 1))
    return [entry.value for entry in history]


def raw(faulty: FaultyAdapter, version: int, key: str = "k") -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(faulty.inner.get(object_key(version, key)) or b"{}")
    return fields


def object_key(version: int, key: str = "k") -> str:
    return f"default/entries/e/{key}/v{version}.json"


class Requests:
    """What a block of code asks of the storage, by `metrics` and at the adapter."""

    def __init__(self, memory: AgentMemory, faulty: FaultyAdapter) -> None:
        self._memory, self._faulty = memory, faulty

    def __enter__(self) -> Requests:
        self._before = dict(self._memory.metrics.requests)
        self._faulty.calls.clear()
        return self

    def __exit__(self, *_: object) -> None:
        now = self._memory.metrics.requests
        metered = {kind: now[kind] - self._before[kind] for kind in now}
        self.made = {kind: count for kind, count in metered.items() if count}
        assert self.made == dict(self._faulty.requests())


class TestCreateOnce:
    def test_a_write_uses_nothing_but_create(self, mem: AgentMemory, faulty: FaultyAdapter) -> None:
        mem.write("e", "k", 1)
        mem.update("e", "k", lambda old: old + 1)
        mem.delete("e", "k")
        assert {call.verb for call in faulty.calls} <= {"create", "get"}
        assert faulty.requests()["create"] == 3

    def test_a_loser_rebuilds_on_top_of_the_winner(
        self, mem: AgentMemory, other: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        mem.write("e", "k", "one")
        faulty.before(lambda: other.write("e", "k", "two"))
        assert mem.write("e", "k", "three").version == 3
        assert values(faulty) == ["one", "two", "three"]
        assert mem.metrics.conflicts == 1
        assert raw(faulty, 3)["previous"] == raw(faulty, 2)["sha256"]

    def test_threads_of_one_memory_lose_nothing(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        def write(name: str) -> list[int]:
            return [mem.write("e", "k", f"{name}{number}").version for number in range(25)]

        written = together([lambda name=name: write(name) for name in "abcdefgh"])  # type: ignore[misc]
        assert sorted(chain.from_iterable(written)) == list(range(1, 201))
        assert sorted(values(faulty)) == sorted(f"{n}{i}" for n in "abcdefgh" for i in range(25))
        assert fresh(faulty).verify().ok


class TestTakenStaysTaken:
    def test_after_a_delete_the_next_version_follows(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        mem.write("e", "k", 1)
        assert (mem.delete("e", "k") or pytest.fail()).version == 2
        assert mem.write("e", "k", 3).version == 3
        assert values(faulty) == [1, None, 3]

    def test_after_a_purge_the_next_version_follows(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        mem.write("e", "k", 1)
        mem.purge("e", "k")
        assert fresh(faulty).write("e", "k", 3).version == 3

    def test_a_gap_is_reported_and_not_papered_over(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        for number in range(3):
            mem.write("e", "k", number)
        faulty.inner.delete(object_key(2))
        with pytest.raises(CorruptEntryError, match=r"v2\.json is missing") as caught:
            fresh(faulty).history("e", "k")
        assert (caught.value.version, caught.value.object_key) == (2, object_key(2))
        (finding,) = [
            finding for finding in fresh(faulty).verify().findings if "missing" in finding.problem
        ]
        assert finding.object_key == object_key(2)


class TestAcknowledgedIsDurable:
    @pytest.mark.parametrize("fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER])
    def test_a_crash_loses_no_earlier_version_and_leaves_no_half(
        self, mem: AgentMemory, faulty: FaultyAdapter, fault: Fault
    ) -> None:
        mem.write("e", "k", "acknowledged")
        faulty.inject(fault)
        with pytest.raises(Crash):
            mem.write("e", "k", "perhaps")
        landed = ["perhaps"] if fault is Fault.CRASH_AFTER else []
        assert values(faulty) == ["acknowledged", *landed]
        fresh(faulty).write("e", "k", "next")
        assert values(faulty) == ["acknowledged", *landed, "next"]
        assert fresh(faulty).verify().ok


class TestExactlyOnce:
    @pytest.mark.parametrize("version", [1, 2])
    @pytest.mark.parametrize(
        "fault", [Fault.LOST_ANSWER, Fault.LOST_REQUEST, Fault.CONFLICT, Fault.UNAVAILABLE]
    )
    @pytest.mark.parametrize("times", [1, 3])
    def test_no_fault_of_a_create_loses_or_doubles_the_write(
        self, mem: AgentMemory, faulty: FaultyAdapter, fault: Fault, version: int, times: int
    ) -> None:
        before = [mem.write("e", "k", number).value for number in range(version - 1)]
        faulty.inject(fault, times=times)
        entry = mem.write("e", "k", "once")
        assert entry.version == version
        assert values(faulty) == [*before, "once"]
        assert fresh(faulty).read("e", "k") == entry
        assert mem.metrics.retries >= 1

    def test_a_lost_answer_is_recognised_by_its_write_id_and_not_by_its_looks(
        self, mem: AgentMemory, other: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        faulty.inject(Fault.LOST_REQUEST)
        faulty.before(lambda: other.write("e", "k", "same"), skip=1)
        entry = mem.write("e", "k", "same")
        assert entry.version == 2
        assert values(faulty) == ["same", "same"]

    def test_a_lost_answer_whose_version_was_followed_by_others_is_still_ours(
        self, mem: AgentMemory, other: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        faulty.inject(Fault.LOST_ANSWER)
        faulty.before(lambda: other.write("e", "k", "after"), skip=1)
        assert mem.write("e", "k", "first").version == 1
        assert values(faulty) == ["first", "after"]

    def test_a_lost_answer_of_an_update_calls_the_function_once(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        mem.write("e", "k", 1)
        calls: list[int] = []
        faulty.inject(Fault.LOST_ANSWER)
        assert mem.update("e", "k", lambda old: calls.append(old) or old + 1).value == 2  # type: ignore[func-returns-value]
        assert calls == [1]
        assert values(faulty) == [1, 2]

    def test_a_lost_answer_of_a_delete_makes_one_tombstone(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        mem.write("e", "k", 1)
        faulty.inject(Fault.LOST_ANSWER, times=2)
        assert (mem.delete("e", "k") or pytest.fail()).version == 2
        assert values(faulty) == [1, None]

    def test_a_version_purged_before_its_lost_answer_was_looked_up_is_still_ours(
        self, mem: AgentMemory, other: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        faulty.inject(Fault.LOST_ANSWER)
        faulty.before(lambda: other.purge("e", "k"), skip=1)
        assert mem.write("e", "k", "private").version == 1
        assert values(faulty) == [None, None]
        assert mem.write("e", "k", "next").version == 3
        assert fresh(faulty).verify().ok

    def test_expected_version_holds_under_a_lost_answer(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        faulty.inject(Fault.LOST_ANSWER)
        assert mem.write("e", "k", 1, expected_version=0).version == 1
        faulty.inject(Fault.LOST_ANSWER)
        assert mem.write("e", "k", 2, expected_version=1).version == 2
        assert values(faulty) == [1, 2]


class TestLinearizable:
    def test_a_read_sees_what_another_wrote_just_before(
        self, mem: AgentMemory, other: AgentMemory
    ) -> None:
        for number in range(20):
            other.write("e", "k", number)
            read = mem.read("e", "k")
            assert read is not None
            assert read.value == number

    @pytest.mark.parametrize("hidden", [1, 2, 5])
    def test_a_stale_listing_does_no_harm_to_a_read(
        self, mem: AgentMemory, faulty: FaultyAdapter, hidden: int
    ) -> None:
        for number in range(1, 6):
            mem.write("e", "k", number)
        faulty.hide_newest(hidden)
        read = AgentMemory("b", adapter=faulty).read("e", "k")
        assert read is not None
        assert read.value == 5

    @pytest.mark.parametrize("hidden", [1, 2, 5])
    def test_a_stale_listing_does_no_harm_to_a_write(
        self, mem: AgentMemory, faulty: FaultyAdapter, hidden: int
    ) -> None:
        for number in range(1, 6):
            mem.write("e", "k", number)
        faulty.hide_newest(hidden)
        assert AgentMemory("b", adapter=faulty).write("e", "k", 6).version == 6
        assert AgentMemory("c", adapter=faulty).update("e", "k", lambda old: old + 1).value == 7
        assert values(faulty) == [1, 2, 3, 4, 5, 6, 7]

    def test_a_history_has_at_least_what_this_process_knows(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        mem.write("e", "k", 1)
        mem.write("e", "k", 2)
        faulty.hide_newest(2)
        assert [entry.value for entry in mem.history("e", "k")] == [1, 2]

    def test_reads_never_go_back_between_threads(
        self, mem: AgentMemory, other: AgentMemory
    ) -> None:
        mem.write("e", "k", 0)
        done = threading.Event()

        def write() -> bool:
            for number in range(1, 200):
                other.write("e", "k", number)
            done.set()
            return True

        def read() -> bool:
            seen = 0
            while not done.is_set():
                entry = mem.read("e", "k")
                assert entry is not None
                assert entry.version >= seen
                seen = entry.version
            return True

        assert together([write, read, read]) == [True] * 3

    def test_an_expired_entry_is_absent_and_stays_in_the_history(self, mem: AgentMemory) -> None:
        entry = mem.write("e", "k", 1, ttl=timedelta(microseconds=1))
        assert entry.expires_at == entry.provenance.written_at + timedelta(microseconds=1)
        assert mem.read("e", "k") is None
        assert mem.list() == []
        assert mem.delete("e", "k") is None
        assert mem.read("e", "k", version=1) == entry
        assert [entry.value for entry in mem.history("e", "k")] == [1]
        assert mem.update("e", "k", lambda old: [old]).value == [None]

    def test_a_ttl_begins_now_although_the_newest_version_is_from_a_clock_ahead(
        self, mem: AgentMemory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ahead = datetime.now(UTC) + timedelta(days=200)
        with monkeypatch.context() as patch:
            patch.setattr(mem._versions.clock, "now", lambda: ahead)
            mem.write("e", "k", 1)
        before = datetime.now(UTC)
        for entry in (
            mem.write("e", "k", 2, ttl=60),
            mem.update("e", "k", lambda _: 3, ttl=60),
            mem.update("e", "k", lambda _: 3, ttl=timedelta(minutes=1)),
            *mem.write_many([{"entity_path": "e", "key": "k", "value": 4, "ttl": 60}]),
        ):
            assert entry.provenance.written_at == ahead
            assert entry.expires_at is not None
            assert before <= entry.expires_at - timedelta(seconds=60) <= datetime.now(UTC)

    def test_an_entry_expires_at_the_time_that_is_given(self, mem: AgentMemory) -> None:
        moment = datetime(2100, 1, 1, tzinfo=UTC)
        assert mem.write("e", "k", 1, expires_at=moment).expires_at == moment
        (entry,) = mem.write_many(
            [{"entity_path": "e", "key": "k", "value": 1, "expires_at": moment}]
        )
        assert entry.expires_at == moment == mem.read("e", "k").expires_at  # type: ignore[union-attr]
        naive = moment.replace(tzinfo=None)
        for wrong in ({"ttl": 1, "expires_at": moment}, {"expires_at": naive}):
            with pytest.raises(InvalidValueError):
                mem.write("e", "k", 2, **wrong)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "call",
        [
            lambda mem: mem.write("e", "k", {1}),
            lambda mem: mem.write("e", key="k", value=1, ttl=-1),
            lambda mem: mem.read("e", "k", version=0),
            lambda mem: mem.read(entity_path="e", key="k", at=datetime.max.replace(tzinfo=WEST)),
            lambda mem: mem.diff("e", "k", 1, 9),
            lambda mem: mem.update("e", "k", lambda _: math.nan),
            lambda mem: mem.write_many(
                [
                    {"entity_path": "e", "key": "other", "value": 1},
                    {"entity_path": "e", "key": "k", "value": {1}},
                ]
            ),
        ],
    )
    def test_a_refusal_names_its_memory(
        self, mem: AgentMemory, call: Callable[[AgentMemory], object]
    ) -> None:
        with pytest.raises(InvalidValueError) as caught:
            call(mem)
        assert (caught.value.entity_path, caught.value.key) == ("e", "k")
        assert mem.list() == []

    def test_a_conflict_is_told_in_plain_words(self, mem: AgentMemory) -> None:
        with pytest.raises(VersionConflictError, match=r"at version 7, but there is none; read it"):
            mem.write("e", "k", 1, expected_version=7)

    def test_an_entry_lives_until_its_ttl_is_over(self, mem: AgentMemory) -> None:
        entry = mem.write("e", "k", 1, ttl=3600)
        assert mem.read("e", "k") == entry
        assert mem.list() == [entry]
        moment = entry.provenance.written_at
        assert entry.is_live(moment + timedelta(seconds=3599))
        assert not entry.is_live(moment + timedelta(seconds=3600))
        assert mem.read("e", "k", at=moment) == entry
        assert mem.read("e", "k", at=moment + timedelta(hours=1)) is None

    def test_min_confidence_hides_a_weaker_entry(self, mem: AgentMemory) -> None:
        entry = mem.write("e", "k", 1, confidence=0.5)
        assert mem.read("e", "k", min_confidence=0.5) == entry
        assert mem.read("e", "k", min_confidence=0.51) is None

    def test_a_tombstone_hides_the_memory_and_its_version_can_be_read(
        self, mem: AgentMemory
    ) -> None:
        first = mem.write("e", "k", 1)
        tombstone = mem.delete("e", "k")
        assert tombstone is not None
        assert mem.read("e", "k") is None
        assert mem.list() == []
        assert mem.delete("e", "k") is None
        assert mem.delete("e", "never") is None
        assert mem.history("e", "k") == [first, tombstone]
        assert mem.read("e", "k", version=2) == tombstone
        assert mem.read("e", "k", version=3) is None


class TestCheckedAndChained:
    def write_three(self, mem: AgentMemory) -> None:
        for number in range(1, 4):
            mem.write("e", "k", {"n": number})

    def test_each_version_names_the_one_before(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        self.write_three(mem)
        assert raw(faulty, 1)["previous"] is None
        assert raw(faulty, 2)["previous"] == raw(faulty, 1)["sha256"]
        assert raw(faulty, 3)["previous"] == raw(faulty, 2)["sha256"]
        report = mem.verify()
        assert (report.ok, report.memories, report.versions, report.findings) == (True, 1, 3, ())

    def test_a_damaged_body_is_found_by_its_read_and_by_verify(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        self.write_three(mem)
        body = bytearray(faulty.inner.get(object_key(2)) or b"")
        body[40] ^= 1
        faulty.inner.replace(object_key(2), bytes(body))
        with pytest.raises(CorruptEntryError, match="do not match its sha256"):
            fresh(faulty).read("e", "k", version=2)
        with pytest.raises(CorruptEntryError):
            fresh(faulty).history("e", "k")
        (finding,) = mem.verify().findings  # not from the cache of who wrote it
        assert finding.object_key == object_key(2)
        assert "sha256" in finding.problem
        assert "restore" in finding.hint

    def test_a_rewritten_history_is_found_by_verify(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        self.write_three(mem)
        forged = FaultyAdapter(ModelAdapter())
        forger = AgentMemory("a", adapter=forged)
        forger.write("e", "k", {"n": "forged"})
        faulty.inner.replace(object_key(1), forged.get(object_key(1)) or b"")
        problems = [f"{finding.object_key} {finding.problem}" for finding in mem.verify().findings]
        assert any("v2.json it does not follow the v1" in problem for problem in problems)

    def test_verify_names_everything_that_is_wrong(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        for key in ("cut", "foreign", "good", "swapped"):
            mem.write("e", key, key)
        faulty.inner.replace(object_key(1, "cut"), b'{"format":1')
        faulty.inner.create("default/entries/e/foreign/notes.txt", b"hello")
        faulty.inner.replace(
            object_key(1, "swapped"), faulty.inner.get(object_key(1, "good")) or b""
        )
        problems = {finding.object_key: finding.problem for finding in mem.verify("e").findings}
        assert set(problems) == {
            object_key(1, "cut"),
            "default/entries/e/foreign/notes.txt",
            object_key(1, "swapped"),
        }
        assert "cut short" in problems[object_key(1, "cut")]
        assert "e/good" in problems[object_key(1, "swapped")]

    def test_verify_tells_its_progress(self, mem: AgentMemory) -> None:
        self.write_three(mem)
        told: list[tuple[int, int]] = []
        mem.verify(progress=lambda done, total: told.append((done, total)))
        assert told[-1] == (3, 3)


class TestComplete:
    def test_list_has_every_live_memory_at_any_depth_and_no_other(self, mem: AgentMemory) -> None:
        names = [("a", "k"), ("a", "b"), ("a/b", "k"), ("a/b/c", "k"), ("ab", "k"), ("b", "a")]
        for entity_path, key in names:
            mem.write(entity_path, key, f"old {key}")
            mem.write(entity_path, key, f"{entity_path} {key}")

        def listed(entity_path: str | None) -> list[tuple[str, str]]:
            entries = mem.list(entity_path)
            assert all(entry.value == f"{entry.entity_path} {entry.key}" for entry in entries)
            return [(entry.entity_path, entry.key) for entry in entries]

        assert listed(None) == sorted(names, key=lambda name: (name[0].split("/"), name[1]))
        assert listed("a") == [("a", "b"), ("a", "k"), ("a/b", "k"), ("a/b/c", "k")]
        assert listed("a/b") == [("a/b", "k"), ("a/b/c", "k")]
        assert listed("a/b/c") == [("a/b/c", "k")]
        assert listed("nothing") == []

    def test_stats_count_what_list_and_history_show(self, mem: AgentMemory) -> None:
        mem.write("a", "b", 1)  # its versions are under a/b/, where the entity a/b has its keys
        for number in range(3):
            mem.write("a/b", "c", number)
        mem.delete("a/b", "c")
        everything, part = mem.stats(), mem.stats("a/b")
        assert (everything.memories, everything.versions, everything.deepest) == (2, 5, 4)
        assert everything.entity_paths == 2
        assert everything.bytes > 1000
        assert everything.oldest is not None
        assert everything.newest is not None
        assert everything.oldest <= everything.newest
        assert (part.entity_paths, part.memories, part.versions) == (1, 1, 4)
        assert everything.foreign == part.foreign == 0
        empty = mem.stats("nothing")
        assert (empty.memories, empty.bytes, empty.oldest, empty.newest) == (0, 0, None, None)

    def test_verify_of_an_entity_path_counts_what_is_below_it(self, mem: AgentMemory) -> None:
        mem.write("a", "b", 1)
        mem.write("a/b", "c", 1)
        report = mem.verify("a/b")
        assert (report.memories, report.versions) == (1, 1)

    def test_foreign_objects_are_counted_and_never_read(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        mem.write("e", "k", 1)
        faulty.inner.create("default/entries/e/k/v2.json.tmp", b"x")
        faulty.inner.create("default/entries/e/k/v02.json", b"x")
        reader = AgentMemory("b", adapter=faulty)
        assert reader.stats().foreign == 2
        assert [entry.value for entry in reader.list()] == [1]
        assert [entry.value for entry in reader.history("e", "k")] == [1]
        assert all("v2.json.tmp" not in call.key for call in faulty.calls)

    def test_a_listing_that_breaks_in_the_middle_goes_on_where_it_was(self) -> None:
        faulty = FaultyAdapter(ModelAdapter(), page=7)
        writer = AgentMemory("a", adapter=faulty.inner)
        for number in range(20):
            writer.write("e", f"k{number:02}", number)
        memory = AgentMemory("b", adapter=faulty, patience=PATIENT)
        for page in range(3):
            faulty.inject(Fault.UNAVAILABLE, on="list", skip=page)
            faulty.inject(Fault.UNAVAILABLE, on="get", skip=5)
            assert [entry.value for entry in memory.list()] == list(range(20))
            faulty.clear()
        assert memory.metrics.retries >= 3

    def test_namespaces_do_not_see_each_other(self, faulty: FaultyAdapter) -> None:
        one = AgentMemory("a", adapter=faulty, namespace="one")
        two = AgentMemory("a", adapter=faulty, namespace="two")
        one.write("e", "k", 1)
        assert two.read("e", "k") is None
        assert two.list() == []
        assert two.stats().versions == 0


class TestErasure:
    SECRET = "call me at 555-0100"

    def write_three(self, mem: AgentMemory) -> list[MemoryEntry]:
        return [mem.write("e", "k", f"{self.SECRET} {n}", tags=["pii"]) for n in range(1, 4)]

    def everything(self, faulty: FaultyAdapter) -> bytes:
        return b"".join(faulty.inner.get(info.key) or b"" for info in faulty.inner.list(""))

    def test_the_content_is_gone_and_the_stubs_close_the_chain(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        entries = self.write_three(mem)
        assert mem.purge("e", "k") == 3
        assert b"555-0100" not in self.everything(faulty)
        assert b"pii" not in self.everything(faulty)
        assert fresh(faulty).read("e", "k") is None
        history = fresh(faulty).history("e", "k")
        assert [entry.erased for entry in history] == [*(entry.sha256 for entry in entries), None]
        assert [entry.purges for entry in history] == [False, False, False, True]
        assert all(entry.value is None and entry.deleted for entry in history)
        assert [entry.provenance.written_at for entry in history[:3]] == [
            entry.provenance.written_at for entry in entries
        ]
        assert fresh(faulty).verify().ok
        assert mem.verify().ok

    def test_purging_again_and_purging_nothing_do_nothing(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        assert mem.purge("e", "never") == 0
        self.write_three(mem)
        mem.purge("e", "k")
        before = self.everything(faulty)
        assert mem.purge("e", "k") == 0
        assert fresh(faulty).purge("e", "k") == 0
        assert self.everything(faulty) == before

    def test_a_memory_can_be_written_and_purged_again(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        self.write_three(mem)
        mem.purge("e", "k")
        assert mem.write("e", "k", self.SECRET).version == 5
        assert fresh(faulty).verify().ok
        mem.purge("e", "k")
        assert b"555-0100" not in self.everything(faulty)
        assert fresh(faulty).verify().ok

    @pytest.mark.parametrize("fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER])
    @pytest.mark.parametrize(("verb", "skip"), [("create", 0), *(("replace", n) for n in range(3))])
    def test_a_purge_that_crashed_goes_on_where_it_stopped(
        self, mem: AgentMemory, faulty: FaultyAdapter, fault: Fault, verb: str, skip: int
    ) -> None:
        self.write_three(mem)
        faulty.inject(fault, on=verb, skip=skip)
        with pytest.raises(Crash):
            AgentMemory("b", adapter=faulty).purge("e", "k")
        unfinished = fresh(faulty).verify()
        ordered = not (verb == "create" and fault is Fault.CRASH_BEFORE)
        finished = (verb, skip, fault) == ("replace", 2, Fault.CRASH_AFTER)
        assert unfinished.ok == (finished or not ordered)
        if not unfinished.ok:
            assert "purge the memory again" in unfinished.findings[0].hint
        AgentMemory("c", adapter=faulty).purge("e", "k")
        assert b"555-0100" not in self.everything(faulty)
        history = fresh(faulty).history("e", "k")
        assert len(history) == 4
        assert fresh(faulty).verify().ok

    def test_other_processes_drop_what_they_had_cached(
        self, mem: AgentMemory, other: AgentMemory
    ) -> None:
        self.write_three(mem)
        assert other.history("e", "k")[0].value == f"{self.SECRET} 1"
        mem.purge("e", "k")
        assert other.read("e", "k") is None
        stub = other.read("e", "k", version=1)
        assert stub is not None
        assert stub.value is None
        assert stub.erased is not None

    def test_a_history_that_meets_the_tombstone_gives_no_cached_content(
        self, mem: AgentMemory, other: AgentMemory
    ) -> None:
        self.write_three(mem)
        other.history("e", "k")
        mem.purge("e", "k")
        assert [entry.value for entry in other.history("e", "k")] == [None] * 4

    def test_content_read_while_the_purge_was_under_way_is_not_kept(
        self, mem: AgentMemory, other: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        self.write_three(mem)

        faulty.inject(Fault.CRASH_BEFORE, on="replace")
        with pytest.raises(Crash):
            mem.purge("e", "k")
        assert other.read("e", "k") is None
        assert (other.read("e", "k", version=1) or pytest.fail()).value == f"{self.SECRET} 1"
        fresh(faulty).purge("e", "k")
        stub = other.read("e", "k", version=1)
        assert stub is not None
        assert stub.value is None

    @pytest.mark.parametrize("damaged", [1, 2, 3])
    def test_a_damaged_version_is_erased_too(
        self, mem: AgentMemory, faulty: FaultyAdapter, damaged: int
    ) -> None:
        self.write_three(mem)
        body = faulty.inner.get(object_key(damaged)) or b""
        faulty.inner.replace(object_key(damaged), body.replace(b"call me", b"call ME"))
        with pytest.raises(CorruptEntryError, match="purge the memory"):
            fresh(faulty).history("e", "k")
        fresh(faulty).purge("e", "k")
        assert b"555-0100" not in self.everything(faulty)
        assert fresh(faulty).verify().ok

    def test_content_that_arrives_after_the_tombstone_was_read_is_not_kept(
        self, mem: AgentMemory, other: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        self.write_three(mem)

        class Slow(FaultyAdapter):
            """Another thread of the reader meets the purge while this answer is under way."""

            def get(self, key: str) -> bytes | None:
                data = super().get(key)
                if key == object_key(1) and not self.requests()["list"]:
                    fresh(faulty).purge("e", "k")
                    assert reader.read("e", "k") is None
                return data

        reader = AgentMemory("r", adapter=Slow(faulty.inner))
        assert (reader.read("e", "k", version=1) or pytest.fail()).value == f"{self.SECRET} 1"
        stub = reader.read("e", "k", version=1)
        assert stub is not None
        assert stub.value is None

    def test_a_writer_that_did_not_know_of_the_purge_appends_after_it(
        self, mem: AgentMemory, other: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        self.write_three(mem)
        other.read("e", "k")
        mem.purge("e", "k")
        assert other.write("e", "k", "new").version == 5
        assert values(faulty) == [None, None, None, None, "new"]
        assert fresh(faulty).verify().ok


class TestNeverPastAnUnknown:
    def test_a_late_arrival_after_the_retry_landed_changes_nothing(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        faulty.inject(Fault.LATE)
        assert mem.write("e", "k", "once").version == 1
        assert faulty.late == (object_key(1),)
        assert faulty.deliver() == 0
        assert values(faulty) == ["once"]

    def test_a_late_arrival_between_two_attempts_is_not_doubled(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        faulty.inject(Fault.LATE)
        faulty.before(faulty.deliver, skip=1)
        assert mem.write("e", "k", "once").version == 1
        assert values(faulty) == ["once"]
        assert [call.key for call in faulty.calls] == [object_key(1)] * 3

    def test_every_attempt_carries_the_same_bytes(self, mem: AgentMemory) -> None:
        sent: list[bytes] = []
        adapter = mem.adapter
        assert isinstance(adapter, FaultyAdapter)

        class Spy(FaultyAdapter):
            def create(self, key: str, data: bytes) -> bool:
                sent.append(data)
                return super().create(key, data)

        spy = Spy(adapter.inner)
        spy.inject(Fault.LOST_REQUEST, times=3)
        AgentMemory("a", adapter=spy, patience=PATIENT).write("e", "k", 1)
        assert len(sent) == 4
        assert len(set(sent)) == 1

    def test_a_writer_without_patience_says_that_it_does_not_know(
        self, hasty: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        faulty.inject(Fault.LATE)
        with pytest.raises(WriteOutcomeUnknownError, match="find_write") as caught:
            hasty.write("e", "k", "late")
        error = caught.value
        assert (error.entity_path, error.key, error.version) == ("e", "k", 1)
        assert error.object_key == object_key(1)
        assert isinstance(error.__cause__, OutcomeUnknownError)
        assert {call.key for call in faulty.calls} == {object_key(1)}
        assert hasty.find_write("e", "k", error.write_id, version=1) is None
        assert hasty.find_write("e", "k", error.write_id) is None
        faulty.deliver()
        entry = hasty.find_write("e", "k", error.write_id, version=error.version)
        assert entry is not None
        assert entry.value == "late"
        assert hasty.find_write("e", "k", error.write_id) == entry
        assert hasty.find_write("e", "k", "another", version=1) is None

    def test_after_an_unknown_the_next_write_takes_the_same_number_or_the_one_after(
        self, hasty: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        faulty.inject(Fault.LATE)
        with pytest.raises(WriteOutcomeUnknownError) as caught:
            hasty.write("e", "k", "late")
        assert hasty.write("e", "k", "next").version == 1
        assert faulty.deliver() == 0
        assert hasty.find_write("e", "k", caught.value.write_id) is None

        faulty.inject(Fault.LATE)
        with pytest.raises(WriteOutcomeUnknownError) as caught:
            hasty.write("e", "k", "late again")
        assert faulty.deliver() == 1
        assert hasty.write("e", "k", "last").version == 3
        assert (hasty.find_write("e", "k", caught.value.write_id) or pytest.fail()).version == 2
        assert values(faulty) == ["next", "late again", "last"]

    def test_an_unknown_that_cannot_be_looked_up_stays_unknown(
        self, hasty: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        faulty.inject(Fault.LOST_ANSWER)
        with pytest.raises(WriteOutcomeUnknownError) as caught:
            hasty.write("e", "k", 1)
        assert (hasty.find_write("e", "k", caught.value.write_id) or pytest.fail()).version == 1

    def test_a_request_that_was_certainly_not_applied_is_not_called_unknown(
        self, hasty: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        for fault in (Fault.UNAVAILABLE, Fault.CONFLICT):
            faulty.inject(fault)
            with pytest.raises(BackendUnavailableError):
                hasty.write("e", "k", 1)
        assert values(faulty) == []

    @pytest.mark.parametrize(
        "error", [PermissionDeniedError("no"), BucketNotFoundError("no such bucket")]
    )
    def test_a_refusal_is_raised_at_once_and_is_never_absence(self, error: AMFSError) -> None:
        class Refusing(ModelAdapter):
            def create(self, key: str, data: bytes) -> bool:
                raise error

            def get(self, key: str) -> bytes | None:
                raise error

            def list(self, prefix: str, start_after: str = "") -> Iterator[Any]:
                raise error

        memory = AgentMemory("a", adapter=Refusing(), patience=PATIENT)
        for call in (
            lambda: memory.write("e", "k", 1),
            lambda: memory.read("e", "k"),
            lambda: memory.read("e", "k", version=1),
            lambda: memory.history("e", "k"),
            memory.list,
            memory.stats,
            memory.verify,
            lambda: memory.update("e", "k", lambda old: old),
            lambda: memory.delete("e", "k"),
            lambda: memory.purge("e", "k"),
        ):
            with pytest.raises(type(error)):
                call()
        assert memory.metrics.retries == 0
        health = memory.health()
        assert (health.ok, health.error, health.backend_type) == (False, error, "model")


class SkewedClock(Clock):
    def __init__(self, skew: timedelta) -> None:
        super().__init__()
        self._skew = skew

    def now(self) -> datetime:
        return super().now() + self._skew


class TestTimeNeverGoesBackwards:
    def test_a_writer_whose_clock_is_behind_takes_the_time_of_the_version_before(
        self, mem: AgentMemory, other: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        other._versions.clock = SkewedClock(-timedelta(days=1))
        first = mem.write("e", "k", 1)
        second = other.write("e", "k", 2)
        third = mem.write("e", "k", 3)
        assert second.provenance.written_at == first.provenance.written_at
        assert third.provenance.written_at > second.provenance.written_at
        assert fresh(faulty).verify().ok

    def test_at_gives_what_was_newest_then(self, mem: AgentMemory, faulty: FaultyAdapter) -> None:
        entries = [mem.write("e", "k", number) for number in range(1, 30)]
        deleted = mem.delete("e", "k")
        assert deleted is not None
        last = mem.write("e", "k", "last")
        tick = timedelta(microseconds=1)
        for reader in (mem, fresh(faulty)):
            for entry in (*entries, last):
                moment = entry.provenance.written_at
                assert reader.read("e", "k", at=moment) == entry
            for before, entry in pairwise(entries):
                moment = entry.provenance.written_at - tick
                assert reader.read("e", "k", at=moment) == before
            assert reader.read("e", "k", at=entries[0].provenance.written_at - tick) is None
            assert reader.read("e", "k", at=deleted.provenance.written_at) is None
            assert reader.read("e", "k", at=datetime.max.replace(tzinfo=UTC)) == last
            assert reader.read("e", "nothing", at=datetime.now(UTC)) is None

    def test_a_version_and_a_time_together_are_refused(self, mem: AgentMemory) -> None:
        with pytest.raises(InvalidValueError, match="not both"):
            mem.read("e", "k", version=1, at=datetime.now(UTC))


class TestExpectedVersion:
    def test_it_writes_only_on_that_version(self, mem: AgentMemory, faulty: FaultyAdapter) -> None:
        assert mem.write("e", "k", 1, expected_version=0).version == 1
        assert mem.write("e", "k", 2, expected_version=1).version == 2
        for expected in (0, 1, 3, 9):
            for memory in (mem, fresh(faulty)):
                with pytest.raises(VersionConflictError, match="e/k") as caught:
                    memory.write("e", "k", "no", expected_version=expected)
                assert (caught.value.expected, caught.value.actual) == (expected, 2)
                assert (caught.value.entity_path, caught.value.key) == ("e", "k")
        assert fresh(faulty).write("e", "k", 3, expected_version=2).version == 3
        assert values(faulty) == [1, 2, 3]

    def test_zero_means_not_even_a_tombstone(self, mem: AgentMemory) -> None:
        mem.write("e", "k", 1)
        mem.delete("e", "k")
        with pytest.raises(VersionConflictError):
            mem.write("e", "k", 2, expected_version=0)

    def test_a_process_that_is_behind_catches_up(
        self, mem: AgentMemory, other: AgentMemory
    ) -> None:
        mem.write("e", "k", 1)
        other.write("e", "k", 2)
        assert mem.write("e", "k", 3, expected_version=2).version == 3

    def test_a_conflict_names_the_newest_version_also_after_a_lost_race(
        self, mem: AgentMemory, other: AgentMemory
    ) -> None:
        for memory, expected in ((mem, 0), (other, 1)):
            memory.write("e", "k", "x", expected_version=expected)
        other.write("e", "k", "x")
        with pytest.raises(VersionConflictError) as caught:
            mem.write("e", "k", "no", expected_version=1)
        assert (caught.value.expected, caught.value.actual) == (1, 3)
        with pytest.raises(VersionConflictError) as caught:
            mem.write("e", "k", "no", expected_version=0)
        assert caught.value.actual == 3

    def test_of_many_writers_that_expect_the_same_exactly_one_wins(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        mem.write("e", "k", 0)

        def write(number: int) -> bool:
            try:
                AgentMemory("b", adapter=faulty).write("e", "k", number, expected_version=1)
            except VersionConflictError:
                return False
            return True

        won = together([lambda number=number: write(number) for number in range(12)])  # type: ignore[misc]
        assert won.count(True) == 1
        assert values(faulty) == [0, won.index(True)]


class TestUpdate:
    def test_it_changes_the_value_and_keeps_the_rest(self, mem: AgentMemory) -> None:
        first = mem.write(
            "e", "k", [1], confidence=0.5, tags=["t"], memory_type="belief", ttl=99,
            pattern_refs=["p"],
        )  # fmt: skip
        second = mem.update("e", "k", lambda old: [*old, 2])
        assert second.value == [1, 2]
        for name in ("confidence", "tags", "memory_type", "expires_at", "evidence"):
            assert getattr(second, name) == getattr(first, name)
        assert second.provenance.pattern_refs == ("p",)

    def test_it_gets_none_where_nothing_is_live(self, mem: AgentMemory) -> None:
        assert mem.update("e", "k", lambda old: [old]).value == [None]
        mem.delete("e", "k")
        assert mem.update("e", "k", lambda old: [old]).value == [None]

    def test_it_runs_again_with_the_newer_value_when_another_came_first(
        self, mem: AgentMemory, other: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        mem.write("e", "k", 1)
        faulty.before(lambda: other.write("e", "k", 10))
        assert mem.update("e", "k", lambda old: old + 1).value == 11
        assert values(faulty) == [1, 10, 11]

    def test_an_exception_of_the_function_is_raised_and_nothing_is_written(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        mem.write("e", "k", 1)
        with pytest.raises(ZeroDivisionError):
            mem.update("e", "k", lambda old: old / 0)
        assert values(faulty) == [1]

    def test_an_update_function_that_mutates_the_old_value_changes_no_version(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        mem.write("e", "k", {"list": [1]})

        def grow(old: dict[str, list[int]]) -> dict[str, list[int]]:
            old["list"].append(2)
            return old

        mem.update("e", "k", grow)
        assert values(faulty) == [{"list": [1]}, {"list": [1, 2]}]
        assert (mem.read("e", "k", version=1) or pytest.fail()).value == {"list": [1]}

    def test_it_counts_right_from_many_threads_and_memories(self, faulty: FaultyAdapter) -> None:
        def count(memory: AgentMemory) -> bool:
            for _ in range(25):
                memory.update("e", "k", lambda old: (old or 0) + 1)
            return True

        memories = [AgentMemory(f"m{number}", adapter=faulty) for number in range(4)] * 2
        together([lambda memory=memory: count(memory) for memory in memories])  # type: ignore[misc]
        assert values(faulty) == list(range(1, 201))


class TestResultsAreValues:
    VALUE = {"a": [1, {"b": "c"}], "z": 1.5}  # noqa: RUF012  # never changed; that is the point

    def test_every_read_returns_what_write_returned(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        written = mem.write(
            "e", "k", self.VALUE, confidence=1, tags=["x", "y"], ttl=60, pattern_refs=["p"]
        )
        for reader in (mem, fresh(faulty)):
            assert reader.read("e", "k") == written
            assert reader.read("e", "k", version=1) == written
            assert reader.history("e", "k") == [written]
            assert reader.list() == [written]
            assert repr(reader.read("e", "k")) == repr(written)

    def test_later_changes_to_the_callers_object_change_nothing(self, mem: AgentMemory) -> None:
        value: dict[str, Any] = {"a": [1, {"b": "c"}]}
        tags = ["x"]
        written = mem.write("e", "k", value, tags=tags)
        value["a"][1]["b"] = "changed"
        value["new"] = 1
        tags.append("y")
        assert written.value == {"a": [1, {"b": "c"}]}
        assert written.tags == ("x",)
        assert mem.read("e", "k") == written

    def test_changes_to_a_returned_value_change_nothing_else(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        written = mem.write("e", "k", {"a": [1]})
        written.value["a"].append(2)
        for _ in range(2):
            read = mem.read("e", "k")
            assert read is not None
            assert read.value == {"a": [1]}
            read.value["a"].clear()
        for _ in range(2):
            for entry in (*mem.history("e", "k"), *mem.list()):
                assert entry.value == {"a": [1]}
                entry.value.clear()
        assert mem.verify().ok
        mem.write("e", "k", 2)
        assert values(faulty) == [{"a": [1]}, 2]

    def test_an_entry_cannot_be_changed(self, mem: AgentMemory) -> None:
        entry = mem.write("e", "k", 1)
        with pytest.raises(AttributeError):
            entry.value = 2  # type: ignore[misc]
        with pytest.raises(AttributeError):
            entry.provenance.agent_id = "b"  # type: ignore[misc]

    def test_an_entry_survives_pickling(self, mem: AgentMemory) -> None:
        entry = mem.write("e", "k", self.VALUE, tags=["t"], ttl=5)
        assert pickle.loads(pickle.dumps(entry)) == entry

    def test_provenance_says_who_wrote_and_when(self, faulty: FaultyAdapter) -> None:
        before = datetime.now(UTC)
        memory = AgentMemory("me", adapter=faulty, session_id="s1")
        one, two = memory.write("e", "k", 1).provenance, memory.write("e", "k", 1).provenance
        assert (one.agent_id, one.session_id) == ("me", "s1")
        assert one.written_at.tzinfo is UTC
        assert before <= one.written_at < two.written_at <= datetime.now(UTC)
        assert one.write_id != two.write_id


class TestWriteMany:
    def item(self, key: str, value: Any, **more: Any) -> dict[str, Any]:
        return {"entity_path": "e", "key": key, "value": value, **more}

    def test_entries_are_in_the_items_order_with_rising_times(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        entries = mem.write_many(self.item(f"k{n % 50}", n, tags=[str(n)]) for n in range(200))
        assert [entry.value for entry in entries] == list(range(200))
        times = [entry.provenance.written_at for entry in entries]
        assert times == sorted(set(times))
        assert [entry.version for entry in entries] == [n // 50 + 1 for n in range(200)]
        assert values(faulty, key="k7") == [7, 57, 107, 157]
        assert fresh(faulty).verify().ok
        assert {entry.tags for entry in entries} == {(str(n),) for n in range(200)}

    def test_nothing_gives_nothing(self, mem: AgentMemory) -> None:
        assert mem.write_many([]) == []

    @pytest.mark.parametrize("wrong", [None, 5, "ab", {"entity_path": "e", "key": "k", "value": 1}])
    def test_an_argument_that_is_not_a_list_of_items_is_refused(
        self, mem: AgentMemory, faulty: FaultyAdapter, wrong: Any
    ) -> None:
        with pytest.raises(InvalidValueError, match=f"items .* not {type(wrong).__name__}"):
            mem.write_many(wrong)
        assert faulty.calls == []

    def test_an_argument_that_is_not_callable_is_refused_by_name(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        nothing: Any = None
        number: Any = 5
        with pytest.raises(InvalidValueError, match="fn must be a function, not NoneType"):
            mem.update("e", "k", nothing)
        for ask in (mem.list, mem.verify):
            with pytest.raises(InvalidValueError, match="progress must be a function, not int"):
                ask(progress=number)
        assert faulty.calls == []

    @pytest.mark.parametrize(
        ("wrong", "error", "message"),
        [
            ({"entity_path": "e", "key": "x"}, InvalidValueError, "item 1 has no 'value'"),
            ({"key": "x", "value": 1}, InvalidValueError, "item 1 has no 'entity_path'"),
            (
                {"entity_path": "e", "key": "x", "value": 1, "tag": []},
                InvalidValueError,
                "unknown field 'tag'; did you mean 'tags'",
            ),
            ([("entity_path", "e")], InvalidValueError, "item 1 must be a dict"),
            ({"entity_path": "e", "key": "", "value": 1}, InvalidKeyError, "empty"),
            ({"entity_path": "e", "key": "x", "value": {1}}, InvalidValueError, "set"),
            (
                {"entity_path": "e", "key": "x", "value": 1, "confidence": 2},
                InvalidValueError,
                "confidence",
            ),
        ],
    )
    def test_one_wrong_item_is_named_and_nothing_is_written(
        self,
        mem: AgentMemory,
        faulty: FaultyAdapter,
        wrong: Any,
        error: type[AMFSError],
        message: str,
    ) -> None:
        with pytest.raises(error, match=message) as caught:
            mem.write_many([self.item("a", 1), wrong, self.item("b", 2)])
        said = str(caught.value) + "".join(getattr(caught.value, "__notes__", ()))
        assert "item 1" in said
        assert faulty.calls == []

    def test_a_partial_failure_says_what_was_written_and_what_was_not(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        mem.write("e", "b", "there")
        with pytest.raises(WriteManyError, match=r"2 of 4 items .* first is item 1 \(e/b\)") as got:
            mem.write_many(
                [
                    self.item("a", 1),
                    self.item("b", 2, expected_version=0),
                    self.item("c", 3),
                    self.item("b", 4),
                ]
            )
        error = got.value
        assert sorted(error.errors) == [1, 3]
        assert isinstance(error.errors[1], VersionConflictError)
        assert error.__cause__ is error.errors[1]
        written = [
            entry.value if isinstance(entry, MemoryEntry) else None for entry in error.entries
        ]
        assert written == [1, None, 3, None]
        assert values(faulty, key="b") == ["there"]
        assert (values(faulty, key="a"), values(faulty, key="c")) == ([1], [3])

    def test_faults_of_single_creates_are_got_through(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        for fault in (Fault.LOST_ANSWER, Fault.LOST_REQUEST, Fault.CONFLICT, Fault.LATE):
            faulty.inject(fault, skip=3)
        entries = mem.write_many([self.item(f"k{n}", n) for n in range(20)])
        assert [entry.version for entry in entries] == [1] * 20
        faulty.deliver()
        assert fresh(faulty).stats().versions == 20


class TestRequestBudget:
    def test_a_write_to_a_known_key_is_1(self, mem: AgentMemory, faulty: FaultyAdapter) -> None:
        mem.write("e", "k", 1)
        with Requests(mem, faulty) as requests:
            mem.write("e", "k", 2)
        assert requests.made == {"create": 1}

    def test_a_write_to_a_new_key_is_1(self, mem: AgentMemory, faulty: FaultyAdapter) -> None:
        with Requests(mem, faulty) as requests:
            mem.write("e", "k", 1)
        assert requests.made == {"create": 1}

    def test_a_write_to_a_key_that_exists_and_was_never_seen(
        self, mem: AgentMemory, other: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        for number in range(5):
            other.write("e", "k", number)
        with Requests(mem, faulty) as requests:
            assert mem.write("e", "k", 5).version == 6
        # the refused create and its read-back, then as a read, then the create
        assert requests.made == {"create": 2, "get": 3, "list": 1}

    def test_a_read_of_a_known_key_is_1(self, mem: AgentMemory, faulty: FaultyAdapter) -> None:
        mem.write("e", "k", 1)
        with Requests(mem, faulty) as requests:
            mem.read("e", "k")
        assert requests.made == {"get": 1}
        with Requests(mem, faulty) as requests:
            assert mem.read("e", "absent") is None
        assert requests.made == {"get": 1, "list": 1}
        with Requests(mem, faulty) as requests:
            assert mem.read("e", "absent") is None
        assert requests.made == {"get": 1}

    def test_a_read_within_max_age_is_0(self, mem: AgentMemory, faulty: FaultyAdapter) -> None:
        written = mem.write("e", "k", 1)
        with Requests(mem, faulty) as requests:
            assert mem.read("e", "k", max_age=3600) == written
            assert mem.read("e", "k", max_age=timedelta(hours=1)) == written
        assert requests.made == {}
        with Requests(mem, faulty) as requests:
            assert mem.read("e", "k", max_age=0) == written
        assert requests.made == {"get": 1}
        mem.read("e", "absent")
        with Requests(mem, faulty) as requests:
            assert mem.read("e", "absent", max_age=3600) is None
        assert requests.made == {}

    @pytest.mark.parametrize("depth", [1, 2, 9, 10, 99, 999, 1000])
    def test_a_read_of_a_key_never_seen_is_3(self, depth: int) -> None:
        faulty = FaultyAdapter(DeepAdapter(depth))
        memory = known(AgentMemory("a", adapter=faulty))
        with Requests(memory, faulty) as requests:
            assert (memory.read("e", "k") or pytest.fail()).version == depth
        assert requests.made == {"list": 1, "get": 2}

    def test_a_read_of_a_given_version_is_1_and_then_0(
        self, mem: AgentMemory, other: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        other.write("e", "k", 1)
        with Requests(mem, faulty) as requests:
            mem.read("e", "k", version=1)
        assert requests.made == {"get": 1}
        with Requests(mem, faulty) as requests:
            mem.read("e", "k", version=1)
        assert requests.made == {}
        assert mem.metrics.cache_hits >= 1

    @pytest.mark.parametrize(("depth", "lists"), [(1, 1), (999, 1), (1001, 2), (2500, 3)])
    def test_a_history_is_a_list_per_1000_and_a_get_per_version_not_seen(
        self, depth: int, lists: int
    ) -> None:
        faulty = FaultyAdapter(DeepAdapter(depth))
        memory = known(AgentMemory("a", adapter=faulty))
        with Requests(memory, faulty) as requests:
            assert len(memory.history("e", "k")) == depth
        assert requests.made == {"list": lists, "get": depth}
        with Requests(memory, faulty) as requests:
            assert len(memory.history("e", "k")) == depth
        assert requests.made == {"list": lists}

    def test_a_listing_is_a_list_per_1000_objects_and_a_get_per_memory_not_seen(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        writer = fresh(faulty)
        for number in range(150):
            for version in range(10):
                writer.write("e", f"k{number}", version)
        with Requests(mem, faulty) as requests:
            assert len(mem.list()) == 150
        assert requests.made == {"list": 2, "get": 150}
        writer.write("e", "k3", "new")
        with Requests(mem, faulty) as requests:
            assert len(mem.list("e")) == 150
        assert requests.made == {"list": 2, "get": 1}
        with Requests(mem, faulty) as requests:
            mem.stats()
        assert requests.made == {"list": 2}

    def test_an_update_of_a_known_key_is_1_and_a_delete_is_a_read_and_1(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        mem.write("e", "k", 1)
        with Requests(mem, faulty) as requests:
            mem.update("e", "k", lambda old: old + 1)
        assert requests.made == {"create": 1}
        with Requests(mem, faulty) as requests:
            mem.delete("e", "k")
        assert requests.made == {"get": 1, "create": 1}

    def test_health_is_1(self, mem: AgentMemory, faulty: FaultyAdapter) -> None:
        with Requests(mem, faulty) as requests:
            assert mem.health().ok
        assert requests.made == {"list": 1}

    def test_a_write_refused_for_its_arguments_makes_no_request(
        self, mem: AgentMemory, faulty: FaultyAdapter
    ) -> None:
        with Requests(mem, faulty) as requests:
            with pytest.raises(InvalidKeyError):
                mem.write("e", "", 1)
            with pytest.raises(InvalidValueError):
                mem.write("e", "k", {1})
        assert requests.made == {}

    @pytest.mark.slow
    @pytest.mark.parametrize("depth", [1001, 99_999, 100_000])
    def test_deep_keys_are_found_by_galloping(self, depth: int) -> None:
        faulty = FaultyAdapter(DeepAdapter(depth))
        memory = known(AgentMemory("a", adapter=faulty))
        with Requests(memory, faulty) as requests:
            assert (memory.read("e", "k") or pytest.fail()).version == depth
        assert sum(requests.made.values()) <= 40
        assert requests.made["list"] == 1
        with Requests(memory, faulty) as requests:
            assert memory.write("e", "k", "next").version == depth + 1
        assert requests.made == {"create": 1}
        writer = known(AgentMemory("b", adapter=faulty))
        with Requests(writer, faulty) as requests:
            assert writer.write("e", "k", "after").version == depth + 2
        assert sum(requests.made.values()) <= 43

    def test_a_process_far_behind_catches_up_in_logarithmic_steps(self) -> None:
        deep = DeepAdapter(10)
        faulty = FaultyAdapter(deep)
        memory = AgentMemory("a", adapter=faulty)
        memory.read("e", "k")
        deep.depth = 50_000
        with Requests(memory, faulty) as requests:
            assert (memory.read("e", "k") or pytest.fail()).version == 50_000
        assert set(requests.made) == {"get"}
        assert requests.made["get"] <= 34
        deep.depth = 90_000
        with Requests(memory, faulty) as requests:
            assert memory.write("e", "k", "next").version == 90_001
        assert sum(requests.made.values()) <= 45


class DeepAdapter(ModelAdapter):
    """As if `depth` versions of e/k had been written; bodies are made when they are asked for."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.depth = depth

    def _holds(self, key: str) -> int:
        if not key.startswith("default/entries/"):
            return 0
        version = int(key.rpartition("/v")[2].removesuffix(".json"))
        return version if version <= self.depth else 0

    def create(self, key: str, data: bytes) -> bool:
        return not self._holds(key) and super().create(key, data)

    def get(self, key: str) -> bytes | None:
        version = self._holds(key)
        if not version:
            return super().get(key)
        written_at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=version)
        provenance = Provenance("deep", "s", written_at, f"w{version}")
        entry = MemoryEntry(
            namespace="default", entity_path="e", key="k", version=version, value=version,
            confidence=1.0, tags=(), memory_type="fact", expires_at=None, deleted=False,
            provenance=provenance, evidence=Evidence(), previous="0" * 64, sha256="",
        )  # fmt: skip
        return seal_entry(entry)

    def list(self, prefix: str, start_after: str = "") -> Iterator[Any]:
        names = ModelAdapter()
        for version in range(1, self.depth + 1):
            names.create(object_key(version), b"")
        for info in super().list(prefix):
            names.create(info.key, b"")
        return names.list(prefix, start_after)


class TestDiff:
    def test_it_says_what_changed(self, mem: AgentMemory) -> None:
        mem.write("e", "k", {"same": 1, "gone": 2, "list": [1, 2], "a/b": 1, "type": 1})
        mem.write("e", "k", {"same": 1, "list": [1, 3, 4], "a/b": 2, "new": None, "type": 1.0})
        changes = {
            (change.kind, change.path, change.old, change.new)
            for change in mem.diff("e", "k").changes
        }
        assert changes == {
            ("removed", "/value/gone", 2, None),
            ("changed", "/value/list/1", 2, 3),
            ("added", "/value/list/2", None, 4),
            ("changed", "/value/a~1b", 1, 2),
            ("added", "/value/new", None, None),
            ("changed", "/value/type", 1, 1.0),
        }

    def test_it_compares_any_two_versions(self, mem: AgentMemory) -> None:
        for number in range(1, 4):
            mem.write("e", "k", number, confidence=number / 10)
        diff = mem.diff("e", "k", 1, 3)
        assert [(change.path, change.old, change.new) for change in diff.changes] == [
            ("/value", 1, 3),
            ("/confidence", 0.1, 0.3),
        ]
        assert not mem.diff("e", "k", 2, 2)
        assert mem.diff("e", "k", 0, 1).old is None
        assert [change.kind for change in mem.diff("e", "k", 3, 2).changes] == [
            "changed",
            "changed",
        ]

    def test_a_tombstone_is_a_change(self, mem: AgentMemory) -> None:
        mem.write("e", "k", 1)
        mem.delete("e", "k")
        assert ("/deleted", False, True) in [
            (change.path, change.old, change.new) for change in mem.diff("e", "k").changes
        ]

    def test_a_version_that_is_not_there_is_named(self, mem: AgentMemory) -> None:
        with pytest.raises(InvalidValueError, match="no versions"):
            mem.diff("e", "k")
        mem.write("e", "k", 1)
        with pytest.raises(InvalidValueError, match="no version 7"):
            mem.diff("e", "k", 1, 7)
        with pytest.raises(InvalidValueError, match="no version 7"):
            mem.diff("e", "k", 7, 1)


class TestErrors:
    def test_every_error_survives_pickling(self) -> None:
        assert len(EVERY_ERROR) > 10
        for kind in EVERY_ERROR:
            error = kind("what is wrong")
            vars(error).update(entity_path="e", key="k")
            back = pickle.loads(pickle.dumps(error))
            assert type(back) is kind
            assert str(back) == "what is wrong"
            assert vars(back) == vars(error)

    def test_errors_that_say_more_keep_it_through_pickling(self, faulty: FaultyAdapter) -> None:
        memory = AgentMemory("a", adapter=faulty, patience=HASTY)
        memory.write("e", "k", 1)
        with pytest.raises(VersionConflictError) as conflict:
            memory.write("e", "k", 2, expected_version=5)
        faulty.inject(Fault.LOST_REQUEST)
        with pytest.raises(WriteOutcomeUnknownError) as unknown:
            memory.write("e", "k", 2)
        item = {"entity_path": "e", "key": "k", "value": 1, "expected_version": 0}
        with pytest.raises(WriteManyError) as many:
            memory.write_many([{**item, "key": "k2"}, item])
        for error in (conflict.value, unknown.value):
            assert vars(pickle.loads(pickle.dumps(error))) == vars(error)
        back = pickle.loads(pickle.dumps(many.value))
        assert back.entries == many.value.entries
        assert [str(failure) for failure in back.errors.values()] == [
            str(failure) for failure in many.value.errors.values()
        ]


class TestTheMemoryItself:
    def test_it_closes_only_an_adapter_that_it_owns_and_twice_is_fine(self) -> None:
        class Closing(ModelAdapter):
            closed = 0

            def close(self) -> None:
                self.closed += 1

        borrowed, owned = Closing(), Closing()
        with AgentMemory("a", adapter=borrowed) as memory:
            memory.write_many([{"entity_path": "e", "key": "k", "value": 1}])
        memory.close()
        with AgentMemory("a", adapter=owned, owns_adapter=True):
            pass
        assert (borrowed.closed, owned.closed) == (0, 1)

    def test_it_ends_its_threads(self, faulty: FaultyAdapter) -> None:
        with AgentMemory("a", adapter=faulty) as memory:
            memory.write_many([{"entity_path": "e", "key": f"k{n}", "value": 1} for n in range(9)])
        assert not [
            thread for thread in threading.enumerate() if thread.name.startswith("amfs-write")
        ]

    def test_it_is_usable_in_a_forked_child(self, mem: AgentMemory) -> None:
        mem.write("e", "k", 1)
        mem.write_many([{"entity_path": "e", "key": "k2", "value": 1}])

        def use() -> None:
            assert (mem.read("e", "k") or pytest.fail()).value == 1
            assert mem.write("e", "k", 2).version == 2
            assert len(mem.write_many([{"entity_path": "e", "key": "k3", "value": 1}])) == 1
            mem.close()

        in_forked_child(use)
        assert mem.write("e", "k", "parent").version == 2

    @pytest.mark.parametrize("agent_id", ["", None, 1, "\ud800"])
    def test_an_invalid_agent_id_is_refused(self, agent_id: Any) -> None:
        with pytest.raises(InvalidValueError, match="agent_id"):
            AgentMemory(agent_id, adapter=ModelAdapter())


class Creating(FaultyAdapter):
    """Lists v2 of a memory so many times before it has it, or takes it back."""

    def __init__(self, inner: ModelAdapter, listings: int, *, then: bytes | None) -> None:
        super().__init__(inner)
        self.listings, self._then = listings, then

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        yield from super().list(prefix, start_after)
        if self.listings:
            self.listings -= 1
            yield ObjectInfo("default/entries/e/k/v2.json", 100, datetime.now(UTC))
            if not self.listings and self._then is not None:
                self.inner.create("default/entries/e/k/v2.json", self._then)


@pytest.mark.parametrize("ask", ["read", "history"])
@pytest.mark.parametrize("lands", [True, False])
def test_a_version_that_a_store_lists_before_it_has_it_is_looked_at_again(
    ask: str, lands: bool
) -> None:
    """As MinIO does while it creates one, and when its client is killed meanwhile."""
    model = ModelAdapter()
    with AgentMemory("w", adapter=model) as writer:
        writer.write("e", "k", 1)
        writer.write("e", "k", 2)
    second = model.get("default/entries/e/k/v2.json")
    model.delete("default/entries/e/k/v2.json")
    store = Creating(model, 2, then=second if lands else None)
    with AgentMemory("r", adapter=store) as reader:
        if ask == "read":
            entry = reader.read("e", "k")
            assert entry is not None
            assert entry.version == (2 if lands else 1)
        else:
            assert len(reader.history("e", "k")) == (2 if lands else 1)
    assert store.listings == 0


@pytest.mark.parametrize("ask", ["read", "history"])
def test_a_version_that_stays_listed_and_absent_is_an_error(ask: str) -> None:
    model = ModelAdapter()
    AgentMemory("w", adapter=model).write("e", "k", 1)
    with (
        AgentMemory("r", adapter=Creating(model, 1_000, then=None)) as reader,
        pytest.raises(CorruptEntryError, match="missing although"),
    ):
        getattr(reader, ask)("e", "k")
