"""Writes while the primary is down: kept, shown, and landed once each, in order."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import tenacity

from amfs_core.degraded import keeper as keepers
from amfs_core.degraded import replay
from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    DegradedError,
    VersionConflictError,
)
from amfs_core.layers import Decision, Fallback, Layered, Merge, Mirror, Routed
from amfs_core.memory import AgentMemory
from amfs_core.storage import StorageAdapter, WrappedAdapter, breaker, retry
from amfs_core.testing import ModelAdapter
from amfs_core.upkeep.copy import copy
from amfs_local import LocalAdapter
from tests.layers.stores import Outage, all_of, keys_of
from tests.support.moments import alarms
from tests.support.waiting import until

SECONDS = 60.0


@pytest.fixture(autouse=True)
def known_to_be_down_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "_LEAST_SECONDS", 0.2)
    monkeypatch.setattr(retry, "_backoff", tenacity.wait_random(0, 0.05))
    monkeypatch.setattr(breaker, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(breaker, "_LONGEST_PAUSE", 0.1)
    monkeypatch.setattr(keepers, "_PAUSE", 0.02)


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread replays, so that a test sees what waits."""
    monkeypatch.setattr(keepers.Keeper, "_begin", lambda _: None)


class Place:
    """A primary that goes and comes back, and what stands beside it."""

    def __init__(self, *, mirror: bool = True) -> None:
        self.truth = ModelAdapter()
        self.primary = Outage(self.truth)
        self.mirror = ModelAdapter()
        self.fallback = ModelAdapter()
        self.has_mirror = mirror

    def store(self, **more: Any) -> Layered:
        mirrors = [Mirror(self.mirror, wait=True)] if self.has_mirror else []
        return Layered(self.primary, mirrors=mirrors, fallback=Fallback(self.fallback, **more))

    def memory(self, agent: str = "a", **more: Any) -> AgentMemory:
        return AgentMemory(agent, adapter=self.store(**more))

    def down(self) -> None:
        self.primary.down = True

    def up(self) -> None:
        self.primary.down, self.primary.last = False, None

    def in_truth(self) -> AgentMemory:
        return AgentMemory("reader", adapter=self.truth)


@pytest.fixture
def place() -> Place:
    return Place()


def settled(memory: AgentMemory) -> None:
    """Replay until nothing waits."""
    until(lambda: memory.reconcile().waiting == 0)


# -- keeping and landing ----------------------------------------------------------------------


def test_a_write_in_an_outage_is_kept_shown_and_lands_with_the_same_bytes(place: Place) -> None:
    with place.memory() as memory:
        memory.write("e", "k", 1)
        memory.write("e", "other", "x")
        place.down()
        entry = memory.write("e", "k", 2, tags=["t"])
        assert entry.provisional
        assert (entry.version, entry.value) == (2, 2)
        assert memory.read("e", "k") == entry
        assert [version.value for version in memory.history("e", "k")] == [1, 2]
        assert [version.value for version in memory.list()] == [2, "x"]
        assert [hit.entry.provisional for hit in memory.search("k", tags=["t"])] == [True]
        state = memory.health().degraded
        assert state is not None
        assert (state.is_down, state.waiting, state.conflicts) == (True, 1, 0)
        assert state.since is not None and state.since <= datetime.now(UTC)
        assert memory.stats().waiting == 1
        place.up()
        until(lambda: not keys_of(place.fallback))
        after = memory.read("e", "k")
        assert after is not None and not after.provisional
        assert after.sha256 == entry.sha256
        assert memory.metrics.degraded is not None
        until(lambda: not _down(memory))
        assert not memory.health().degraded.is_degraded  # type: ignore[union-attr]
    with place.in_truth() as truth:
        assert truth.verify().ok
        assert [version.value for version in truth.history("e", "k")] == [1, 2]
    assert all_of(place.mirror) == all_of(place.truth)


def test_the_first_write_of_a_process_in_an_outage_does_not_use_up_its_patience(
    place: Place,
) -> None:
    """The first request is for the manifest, which no mirror may answer for."""
    place.down()
    memory = AgentMemory("a", adapter=place.store(), patience=3_600.0)
    with memory, ThreadPoolExecutor(1) as pool:
        try:
            entry = pool.submit(memory.write, "e", "k", 1).result(SECONDS)
        finally:
            place.up()
        assert entry.provisional
        until(lambda: not keys_of(place.fallback))
    with place.in_truth() as truth:
        assert [version.value for version in truth.history("e", "k")] == [1]


class Counted(Outage):
    """An outage that counts the requests that it does not answer."""

    refused = 0

    def _ask(self, key: str) -> None:
        self.refused += self.down
        super()._ask(key)


def test_a_write_that_cannot_be_kept_waits_for_the_primary() -> None:
    """Although the primary is known to be down by then: the request is for the manifest, which no
    mirror may answer for."""
    place = Place()
    place.primary = Counted(place.truth)
    place.down()
    store = Routed({"scratch": ModelAdapter()}, default=place.store(), patience=3_600.0)
    memory = AgentMemory("a", adapter=store, patience=3_600.0)
    with memory, ThreadPoolExecutor(1) as pool:
        call = pool.submit(memory.write, "scratch", "k", 1)
        try:
            until(lambda: place.primary.refused > 10 or call.done())  # type: ignore[attr-defined]
        finally:
            place.up()
        assert not call.result(SECONDS).provisional


def test_verify_waits_for_the_primary_and_judges_nothing_without_it() -> None:
    """A mirror may lack the newest versions, so what is missing there is not a finding."""
    place = Place()
    place.primary = Counted(place.truth)
    with place.memory() as memory:
        memory.write("e", "k", 1)
    place.down()
    with AgentMemory("a", adapter=place.store(), patience=0.1) as memory:
        assert memory.write("e", "k", 2).provisional
        with pytest.raises(BackendUnavailableError):
            memory.verify()
    memory = AgentMemory("a", adapter=place.store(), patience=3_600.0)
    with memory, ThreadPoolExecutor(1) as pool:
        call = pool.submit(memory.verify)
        refused = place.primary.refused  # type: ignore[attr-defined]
        try:
            until(lambda: place.primary.refused > refused + 10 or call.done())  # type: ignore[attr-defined]
        finally:
            place.up()
        report = call.result(SECONDS)
    assert report.ok
    assert report.versions in (1, 2)  # with or without the one that waited


def test_the_error_says_that_the_manifest_is_needed(place: Place) -> None:
    place.down()
    store = Routed({"scratch": ModelAdapter()}, default=place.store(), patience=0.1)
    with (
        AgentMemory("a", adapter=store, patience=0.1) as memory,
        pytest.raises(
            BackendUnavailableError,
            match=r"no connection.* "
            r"\(every process reads the manifest of the namespace 'default'\)",
        ),
    ):
        memory.write("scratch", "k", 1)


def test_a_copy_and_verify_leave_out_what_waits_in_a_store(place: Place, by_hand: None) -> None:
    """A store may have memories of its own, and be a fallback too."""
    with AgentMemory("own", adapter=place.fallback) as own:
        own.write("own", "k", 1)
    place.down()
    with place.memory() as memory:
        memory.write("e", "k", 1)
    target = ModelAdapter()
    assert copy(place.fallback, target).copied == 1
    assert list(all_of(target)) == ["default/entries/own/k/v1.json"]
    with AgentMemory("checker", adapter=place.fallback) as checker:
        report = checker.verify()
        assert (report.ok, report.memories) == (True, 1)


def test_provisional_is_in_no_body(place: Place) -> None:
    with place.memory() as memory:
        place.down()
        entry = memory.write("e", "k", 1)
        assert "provisional" not in entry.to_dict()
    assert b"provisional" not in b"".join(all_of(place.fallback).values())


def test_writes_by_others_meanwhile_come_first_and_the_number_changes(
    place: Place, by_hand: None
) -> None:
    with place.memory() as memory:
        memory.write("e", "k", 1)
        place.down()
        kept = [memory.write("e", "k", value) for value in (2, 3)]
        assert [entry.version for entry in kept] == [2, 3]
        with place.in_truth() as other:
            other.write("e", "k", "theirs")
        place.up()
        settled(memory)
        history = memory.history("e", "k")
        assert [entry.value for entry in history] == [1, "theirs", 2, 3]
        assert [entry.provenance.write_id for entry in history[2:]] == [
            entry.provenance.write_id for entry in kept
        ]
        assert memory.verify().ok


def test_nothing_overtakes_what_waits(place: Place, by_hand: None) -> None:
    with place.memory() as memory:
        place.down()
        assert memory.write("e", "k", 1).provisional
        place.up()
        until(lambda: not memory.write("e", "k", 2).provisional)
        values = [entry.value for entry in memory.history("e", "k")]
        assert values == sorted(values)
        assert values[0] == 1


def test_a_process_that_starts_replays_what_another_left_before_it_writes(
    place: Place, by_hand: None
) -> None:
    with place.memory() as memory:
        place.down()
        memory.write("e", "k", 1)
    place.up()
    with place.memory("b") as memory:
        entry = memory.write("e", "k", 2)
        assert (entry.version, entry.provisional) == (2, False)
        assert [version.value for version in memory.history("e", "k")] == [1, 2]


@pytest.mark.slow
def test_write_many_is_kept_and_lands_in_order(place: Place, by_hand: None) -> None:
    with place.memory() as memory:
        place.down()
        items = [{"entity_path": "e", "key": f"k{n % 3}", "value": n} for n in range(9)]
        entries = memory.write_many(items)
        assert all(entry.provisional for entry in entries)
        place.up()
        settled(memory)
        for number in range(3):
            values = [entry.value for entry in memory.history("e", f"k{number}")]
            assert values == [number, number + 3, number + 6]


@pytest.mark.parametrize("landed", [True, False])
def test_a_lost_answer_before_the_outage_does_not_double_the_write(
    place: Place, by_hand: None, landed: bool
) -> None:
    with place.memory() as memory:
        memory.write("e", "k", 1)
        place.primary.last = "landed" if landed else "lost"
        entry = memory.write("e", "k", 2)
        assert entry.provisional
        with place.in_truth() as other:
            other.write("e", "k", "theirs")
        place.up()
        settled(memory)
        ids = [version.provenance.write_id for version in memory.history("e", "k")]
        assert ids.count(entry.provenance.write_id) == 1
        assert len(ids) == 3


# -- conditions -------------------------------------------------------------------------------


def test_a_chain_of_updates_lands_when_nobody_came_between(place: Place, by_hand: None) -> None:
    with place.memory() as memory:
        memory.write("e", "k", 0)
        place.down()
        for _ in range(3):
            memory.update("e", "k", lambda old: old + 1)
        assert memory.write("e", "k", 10, expected_version=4).version == 5
        with pytest.raises(VersionConflictError):
            memory.write("e", "k", 11, expected_version=1)
        assert memory.delete("e", "k") is not None
        assert memory.read("e", "k") is None
        place.up()
        settled(memory)
        assert [entry.value for entry in memory.history("e", "k")] == [0, 1, 2, 3, 10, None]
        assert memory.conflicts() == []


def test_a_condition_that_no_longer_holds_is_a_conflict_with_all_that_stands_on_it(
    place: Place, by_hand: None
) -> None:
    with place.memory() as memory:
        memory.write("e", "k", 0)
        place.down()
        memory.update("e", "k", lambda old: old + 1)
        memory.update("e", "k", lambda old: old + 1)
        memory.write("e", "free", 1)
        with place.in_truth() as other:
            other.write("e", "k", "theirs")
        place.up()
        settled(memory)
        conflicts = memory.conflicts()
        assert [conflict.entry.value for conflict in conflicts] == [1, 2]
        assert all(conflict.entry.entity_path == "e" and conflict.reason for conflict in conflicts)
        assert [entry.value for entry in memory.history("e", "k")] == [0, "theirs"]
        assert [entry.value for entry in memory.history("e", "free")] == [1]
        state = memory.health().degraded
        assert state is not None and (state.waiting, state.conflicts) == (0, 2)
        with pytest.raises(DegradedError, match="conflicts of e/k"):
            memory.purge("e", "k")

        decisions: dict[str, Decision | Merge] = {
            conflicts[0].id: Decision.DISCARD,
            conflicts[1].id: Merge("both"),
        }
        report = memory.reconcile(lambda conflict: decisions[conflict.id])
        assert [entry.value for entry in report.landed] == ["both"]
        assert [conflict.id for conflict in report.discarded] == [conflicts[0].id]
        assert [entry.value for entry in memory.history("e", "k")] == [0, "theirs", "both"]
        assert not keys_of(place.fallback)
        assert memory.purge("e", "k") == 3


def test_a_function_decides_at_once(place: Place) -> None:
    with place.memory(decide=lambda conflict: Decision.APPEND) as memory:
        memory.write("e", "k", 0)
        place.down()
        memory.update("e", "k", lambda old: old + 1)
        with place.in_truth() as other:
            other.write("e", "k", "theirs")
        place.up()
        until(lambda: not keys_of(place.fallback))
        assert [entry.value for entry in memory.history("e", "k")] == [0, "theirs", 1]


def test_a_write_decided_on_a_merged_value_is_a_conflict_too(place: Place) -> None:
    with place.memory(decide=lambda conflict: Merge([conflict.entry.value, "merged"])) as memory:
        memory.write("e", "k", 1)
        place.down()
        memory.update("e", "k", lambda old: old + 10)
        memory.update("e", "k", lambda old: old + 100)
        with place.in_truth() as other:
            other.write("e", "k", "theirs")
        place.up()
        until(lambda: not keys_of(place.fallback))
        values = [entry.value for entry in memory.history("e", "k")]
        assert values == [1, "theirs", [11, "merged"], [111, "merged"]]


def test_a_plain_write_is_kept_without_knowing_the_memory_and_a_condition_is_not() -> None:
    place = Place(mirror=False)
    with place.in_truth() as other:
        other.write("e", "k", "there")
    with place.memory() as memory:
        place.down()
        assert memory.write("e", "k", "more").provisional
        with pytest.raises(BackendUnavailableError):
            memory.update("e", "unknown", lambda old: 1)
        with pytest.raises(BackendUnavailableError):
            memory.read("e", "unknown")
        place.up()
        until(lambda: not keys_of(place.fallback))
        assert [entry.value for entry in memory.history("e", "k")] == ["there", "more"]


def test_without_a_mirror_a_read_answers_what_the_process_knows() -> None:
    place = Place(mirror=False)
    with place.memory() as memory:
        memory.write("e", "k", 1)
        place.down()
        until(lambda: _down(memory))
        entry = memory.read("e", "k")
        assert entry is not None and entry.value == 1


def _down(memory: AgentMemory) -> bool:
    state = memory.health().degraded
    return state is not None and state.is_down


# -- what is refused --------------------------------------------------------------------------


def test_purges_and_outcomes_are_refused_while_degraded(place: Place, by_hand: None) -> None:
    with place.memory() as memory:
        memory.write("e", "k", 1)
        place.down()
        kept = memory.write("e", "k", 2)
        with pytest.raises(DegradedError):
            memory.purge("e", "k")
        with pytest.raises(AMFSError):
            memory.commit_outcome("ref", "success", entries=[kept])
        before = all_of(place.truth)
        place.up()
        assert all_of(place.truth) == before


def test_an_outcome_about_a_provisional_version_names_what_it_has_become(
    place: Place, by_hand: None
) -> None:
    with place.memory() as memory:
        memory.write("e", "k", 1)
        place.down()
        kept = memory.write("e", "k", 2)
        assert memory.read("e", "k") == kept
        with place.in_truth() as other:
            other.write("e", "k", "theirs")
        place.up()
        settled(memory)
        outcome = memory.commit_outcome("read", "success")
        assert [cause.version for cause in outcome.causes] == [3]
        outcome = memory.commit_outcome("named", "failure", entries=[kept])
        assert [cause.version for cause in outcome.causes] == [3]


def test_a_full_fallback_says_so_and_a_refusal_is_an_answer(place: Place) -> None:
    fallback = Outage(ModelAdapter())
    place.fallback = fallback  # type: ignore[assignment]
    with place.memory() as memory:
        memory.write("e", "k", 1)
        place.down()
        fallback.down = True
        with pytest.raises(BackendUnavailableError, match="the fallback cannot keep the write"):
            memory.write("e", "k", 2)


# -- several that replay ----------------------------------------------------------------------


class Stopping(WrappedAdapter):
    """A store before each of whose requests somebody else gets a turn."""

    def __init__(self, inner: StorageAdapter) -> None:
        super().__init__(inner)
        self.turn: Callable[[], None] = lambda: None
        self.left = -1

    def _stop(self) -> None:
        if self.left == 0:
            self.left = -1
            self.turn()
        elif self.left > 0:
            self.left -= 1

    def create(self, key: str, data: bytes) -> bool:
        self._stop()
        return super().create(key, data)

    def get(self, key: str) -> bytes | None:
        self._stop()
        return super().get(key)

    def delete(self, key: str) -> None:
        self._stop()
        super().delete(key)


@pytest.mark.slow
@pytest.mark.parametrize("conditional", [True, False])
def test_two_replayers_that_stop_each_other_anywhere_land_everything_once(
    by_hand: None, conditional: bool
) -> None:
    for step in range(40):
        place = Place(mirror=False)
        primary, fallback = Stopping(place.primary), Stopping(place.fallback)
        with (
            AgentMemory("a", adapter=Layered(primary, fallback=fallback)) as one,
            place.memory("b") as two,
        ):
            one.write("e", "k", 0)
            place.down()
            for number in (1, 2, 3):
                if conditional:
                    one.update("e", "k", lambda old: old + 1)
                else:
                    one.write("e", "k", number)
            with place.in_truth() as other:
                if not conditional:
                    other.write("e", "k", "theirs")
            place.up()

            def replay_all(two: AgentMemory = two) -> None:
                settled(two)
                two.write("e", "k", "after")

            primary.turn = fallback.turn = replay_all
            stopped = primary if step % 2 else fallback
            stopped.left = step // 2
            settled(one)
            assert one.conflicts() == []
            with place.in_truth() as reader:
                history = reader.history("e", "k")
                assert reader.verify().ok
            assert [v.value for v in history if isinstance(v.value, int)] == [0, 1, 2, 3]
            ids = [entry.provenance.write_id for entry in history]
            assert len(ids) == len(set(ids))
            assert not keys_of(place.fallback)


class Dying(Exception):
    pass


@pytest.mark.slow
def test_a_replayer_that_dies_anywhere_leaves_nothing_undone_and_nothing_doubled(
    by_hand: None,
) -> None:
    for step in range(24):
        place = Place(mirror=False)
        primary, fallback = Stopping(place.primary), Stopping(place.fallback)

        def die() -> None:
            raise Dying

        with AgentMemory("a", adapter=Layered(primary, fallback=fallback)) as one:
            one.write("e", "k", 0)
            place.down()
            one.write("e", "k", 1)
            one.write("e", "k", 2)
            place.up()
            primary.turn = fallback.turn = die
            (primary if step % 2 else fallback).left = step // 2
            with contextlib.suppress(Dying):
                one.reconcile()
        with place.memory("b") as two:
            settled(two)
            assert [entry.value for entry in two.history("e", "k")] == [0, 1, 2]
        assert not keys_of(place.fallback)


def test_an_operation_is_not_replayed_before_one_that_a_listing_missed(by_hand: None) -> None:
    place = Place(mirror=False)
    with place.memory() as memory:
        place.down()
        for number in range(4):
            memory.write("e", f"k{number}", number)
        waiting = memory.engine.versions._keepers  # type: ignore[attr-defined]
        (keeper,) = waiting.values()
        names = keeper.waiting.keys()
        operations = keeper.waiting.load(names)
        keys = {
            operation.name: next(k for k in names if k.endswith(operation.name))
            for operation in operations
        }
        # The first listing has only the third of one writer: the two before come with it.
        first = {keys[operations[2].name]}
        order = replay.in_order(
            first, operations, [keys[operation.name] for operation in operations]
        )
        assert [operation.entry.value for operation in order] == [0, 1, 2]


# -- damage, forks, routes --------------------------------------------------------------------


def test_a_damaged_operation_stays_and_does_not_block_others(
    place: Place, by_hand: None, caplog: pytest.LogCaptureFixture
) -> None:
    with place.memory() as memory:
        place.down()
        memory.write("e", "k", 1)
        memory.write("e", "good", 1)
        (key, *_) = [k for k, v in all_of(place.fallback).items() if b'"key":"k"' in v]
        place.fallback.replace(key, all_of(place.fallback)[key][:-40])
    place.up()
    with place.memory("b") as memory:
        assert not memory.write("e", "new", 1).provisional
        assert memory.read("e", "good") is not None
        assert list(all_of(place.fallback)) == [key]
        assert "stays in the fallback store" in caplog.text


def test_an_operation_under_the_wrong_name_stays_and_does_not_block_others(
    place: Place, by_hand: None, caplog: pytest.LogCaptureFixture
) -> None:
    with place.memory() as memory:
        place.down()
        memory.write("e", "moved", 1)
        memory.write("e", "k", 2)
        place.up()
        [moved] = [key for key, body in all_of(place.fallback).items() if b"moved" in body]
        body = place.fallback.get(moved)
        assert body is not None
        place.fallback.delete(moved)
        place.fallback.create(moved.replace("waiting/", "waiting/0"), body)
    with place.memory("b") as other:
        report = other.reconcile()
        assert report.waiting == 1
        assert [entry.value for entry in other.history("e", "k")] == [2]
        assert other.read("e", "moved") is None
    assert "is not replayed" in caplog.text


def test_a_forked_child_keeps_operations_of_its_own(tmp_path: Path) -> None:
    primary = Outage(LocalAdapter(tmp_path / "p", durability="none"))
    store = Layered(primary, fallback=LocalAdapter(tmp_path / "f", durability="none"))
    with AgentMemory("a", adapter=store) as memory:
        memory.write("e", "k", 0)
        primary.down = True
        assert memory.write("e", "k", 1).provisional
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if memory.write("e", "child", 2).provisional else 1
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        primary.down = False
        settled(memory)
        assert [entry.value for entry in memory.list()] == [2, 1]


def test_a_fallback_behind_a_route_keeps_what_belongs_there(by_hand: None) -> None:
    place, scratch = Place(), ModelAdapter()
    with AgentMemory("a", adapter=Routed({"scratch": scratch}, default=place.store())) as memory:
        memory.write("scratch", "first", 1)  # the manifest, in the default store, is known now
        place.down()
        assert memory.write("e", "k", 1).provisional
        assert not memory.write("scratch", "k", 1).provisional
        place.up()
        settled(memory)
        assert [entry.entity_path for entry in memory.list()] == ["e", "scratch", "scratch"]


def test_a_signal_handler_may_write_while_a_write_is_kept(place: Place) -> None:
    with place.memory() as memory:
        place.down()
        memory.write("e", "k", 0)
        with alarms(lambda: memory.write("e", "signal", 1), 0.01, 0.003):
            for number in range(30):
                memory.write("e", "k", number)
        place.up()
        until(lambda: not keys_of(place.fallback))
        assert [entry.value for entry in memory.history("e", "k")] == [0, *range(30)]


def test_threads_of_one_process_do_not_overtake_each_other(place: Place) -> None:
    with place.memory() as memory:
        memory.write("e", "count", 0)
        place.down()

        def work() -> None:
            for _ in range(10):
                memory.update("e", "count", lambda old: old + 1)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        place.up()
        until(lambda: not keys_of(place.fallback))
        entry = memory.read("e", "count")
        assert entry is not None and entry.value == 40
        assert len(memory.history("e", "count")) == 41


def test_a_writer_goes_on_from_what_another_process_has_replayed_for_it(by_hand: None) -> None:
    place = Place(mirror=False)
    cut_off = Outage(place.truth)
    store = Layered(cut_off, fallback=place.fallback)
    with AgentMemory("a", adapter=store) as memory, place.memory("b") as other:
        memory.write("e", "k", 0)
        cut_off.down = True
        memory.update("e", "k", lambda old: old + 1)
        settled(other)
        entry = memory.update("e", "k", lambda old: old + 1)
        assert (entry.value, entry.provisional) == (2, True)
        cut_off.down = False
        settled(memory)
        # What others have landed for it is known to it in the next outage, at once.
        cut_off.down = True
        assert memory.update("e", "k", lambda old: old + 1).value == 3
        cut_off.down = False
        settled(memory)
        assert memory.conflicts() == []
        assert [version.value for version in other.history("e", "k")] == [0, 1, 2, 3]
