"""Watching: each version once, in order for each memory, none missed, come what may."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import math
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from amfs_core.errors import (
    BackendUnavailableError,
    BucketNotFoundError,
    InvalidKeyError,
    InvalidValueError,
    PermissionDeniedError,
)
from amfs_core.format import MemoryEntry
from amfs_core.memory import AgentMemory
from amfs_core.storage import Doorbell, ObjectInfo, SilentDoorbell
from amfs_core.testing import Fault, FaultyAdapter, ModelAdapter
from amfs_core.testing.cases import in_forked_child
from amfs_core.watch import Watch
from amfs_local import LocalAdapter
from tests.support import waiting
from tests.support.known import known
from tests.support.s3_store import chain, sealed

SECONDS = 30.0
QUICK = 0.01

Place = tuple[str, str, int]


def place(entry: MemoryEntry) -> Place:
    return entry.entity_path, entry.key, entry.version


def taken(watch: Watch, count: int) -> list[Place]:
    return [place(next(watch)) for _ in range(count)]


def nothing_left(watch: Watch) -> bool:
    """Whether polls find nothing: what a watch from its cursor would deliver first is a mark."""
    return not watch._feed.fetch() and watch._feed.first() is None


until = partial(waiting.until, seconds=SECONDS)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("amfs-")]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    until(lambda: not threads())


@pytest.fixture(params=["model", "local"])
def memory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AgentMemory]:
    adapter: Any = (
        ModelAdapter() if request.param == "model" else LocalAdapter(tmp_path, durability="none")
    )
    with AgentMemory("writer", adapter=adapter) as made:
        yield made


# --- what is delivered ---------------------------------------------------------------------------


def test_a_watch_begins_where_it_was_made(memory: AgentMemory) -> None:
    memory.write("e", "k", "before")
    with memory.watch(interval=QUICK) as watch:
        memory.write("e", "k", "after")
        memory.write("e/deeper", "k", "after")
        assert taken(watch, 2) == [("e", "k", 2), ("e/deeper", "k", 1)]
        assert nothing_left(watch)


def test_every_version_comes_and_not_only_the_newest(memory: AgentMemory) -> None:
    with memory.watch(interval=QUICK) as watch:
        for number in range(12):
            memory.write("e", "k", number)
        assert [next(watch).value for _ in range(12)] == list(range(12))


def test_from_the_beginning_all_versions_come_in_the_order_of_their_times(
    memory: AgentMemory,
) -> None:
    written = [place(memory.write("e", key, None)) for key in "bcabca"]
    with memory.watch(since="beginning", interval=QUICK) as watch:
        assert taken(watch, 6) == written
        written = [place(memory.write("e", "z", None))]
        assert taken(watch, 1) == written


def test_a_wrong_clock_does_not_change_the_order_within_a_memory() -> None:
    adapter = ModelAdapter()
    (_, first), (later, second) = chain("deep", 2)
    times = b"2026-01-01T00:00:01", b"2026-01-01T00:00:02"
    assert times[0] in first and times[1] in second
    for object_key, body in (*chain("other", 1), *chain("deep", 1)):
        adapter.create(object_key, body)
    fields = json.loads(second)
    fields["provenance"]["written_at"] = "2025-01-01T00:00:00.000000Z"
    del fields["sha256"]
    adapter.create(later, sealed(fields))
    with AgentMemory("a", adapter=adapter).watch(since="beginning", interval=QUICK) as watch:
        assert taken(watch, 3) == [("deep", "deep", 1), ("deep", "deep", 2), ("deep", "other", 1)]


def test_tombstones_and_erased_versions_come_too(memory: AgentMemory) -> None:
    memory.write("e", "k", "secret")
    memory.delete("e", "k")
    memory.write("e", "k", "secret")
    memory.purge("e", "k")
    with memory.watch(since="beginning", interval=QUICK) as watch:
        seen = [next(watch) for _ in range(4)]
    assert [entry.version for entry in seen] == [1, 2, 3, 4]
    assert [entry.deleted for entry in seen] == [True] * 4
    assert {entry.value for entry in seen} == {None}


def test_a_delivered_version_does_not_come_again_when_it_is_erased(memory: AgentMemory) -> None:
    memory.write("e", "k", "secret")
    with memory.watch(since="beginning", interval=QUICK) as watch:
        assert next(watch).value == "secret"
        memory.purge("e", "k")
        assert [place(next(watch))] == [("e", "k", 2)]
        assert nothing_left(watch)


def test_only_what_is_under_the_path_comes(memory: AgentMemory) -> None:
    """The memory e/k has its versions below e/k/ and is not under the path e/k."""
    for path, key in (("e", "k"), ("e/k", "deep"), ("e/k/deeper", "x"), ("e/kk", "x"), ("f", "x")):
        memory.write(path, key, None)
    with memory.watch("e/k", since="beginning", interval=QUICK) as watch:
        assert set(taken(watch, 2)) == {("e/k", "deep", 1), ("e/k/deeper", "x", 1)}
        assert nothing_left(watch)


def test_objects_of_others_are_passed_over() -> None:
    adapter = ModelAdapter()
    memory = AgentMemory("a", adapter=adapter)
    memory.write("e", "k", None)
    for key in (
        "default/entries/v1.json",
        "default/entries/e/v1.json",
        "default/entries/e/x%/v1.json",
    ):
        adapter.create(key, b"not ours")
    adapter.create("default/entries/e/k/v01.json", b"not ours")
    with memory.watch(since="beginning", interval=QUICK) as watch:
        assert taken(watch, 1) == [("e", "k", 1)]
        assert nothing_left(watch)


def test_many_more_versions_than_one_batch_come_once_and_in_order() -> None:
    memory = AgentMemory("a", adapter=ModelAdapter())
    deep = [("e", "deep", number) for number in range(1, 1501)]
    for _ in deep:
        memory.write("e", "deep", None)
    wide = [place(memory.write("f", f"k{number}", None)) for number in range(900)]
    with memory.watch(since="beginning", interval=QUICK) as watch:
        seen = taken(watch, len(deep) + len(wide))
        assert [version for version in seen if version[1] == "deep"] == deep
        assert sorted(seen) == sorted(deep + wide)
        assert nothing_left(watch)


def test_a_poll_costs_a_listing_and_what_is_new() -> None:
    adapter = FaultyAdapter(ModelAdapter())
    writer = AgentMemory("writer", adapter=adapter)
    for number in range(50):
        writer.write("e", f"k{number}", None)
    reader = known(AgentMemory("reader", adapter=adapter))
    adapter.calls.clear()
    watch = reader.watch(interval=QUICK)
    assert adapter.requests() == {"list": 1}
    writer.write("e", "k7", None)
    adapter.calls.clear()
    assert watch._feed.fetch()
    assert adapter.requests() == {"list": 1, "get": 1}
    assert place(next(watch)) == ("e", "k7", 2)
    adapter.calls.clear()
    assert nothing_left(watch)
    assert adapter.requests() == {"list": 1}
    watch.cancel()


def test_a_listing_that_lags_only_delays() -> None:
    adapter = FaultyAdapter(ModelAdapter())
    memory = AgentMemory("a", adapter=adapter)
    watch = memory.watch(interval=QUICK)
    for number in range(4):
        memory.write("e", "k", number)
    adapter.hide_newest(3)
    assert taken(watch, 1) == [("e", "k", 1)]
    assert nothing_left(watch)
    adapter.hide_newest(0)
    assert taken(watch, 3) == [("e", "k", 2), ("e", "k", 3), ("e", "k", 4)]
    watch.cancel()


# --- damage --------------------------------------------------------------------------------------


def test_a_damaged_version_stops_its_memory_and_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    adapter = ModelAdapter()
    memory = AgentMemory("a", adapter=adapter)
    for key in ("bad", "bad", "bad", "good"):
        memory.write("e", key, key)
    damaged = "default/entries/e/bad/v2.json"
    whole = adapter.get(damaged)
    assert whole is not None
    adapter.replace(damaged, whole.replace(b'"bad"', b'"BAD"'))
    reader = AgentMemory("reader", adapter=adapter)
    with reader.watch(since="beginning", interval=QUICK) as watch:
        assert taken(watch, 2) == [("e", "bad", 1), ("e", "good", 1)]
        memory.write("e", "good", None)
        assert taken(watch, 1) == [("e", "good", 2)]
        assert nothing_left(watch)
        (report,) = caplog.records
        assert report.levelno == logging.WARNING and report.name == "amfs"
        assert damaged in report.getMessage()

        with reader.watch(since=watch.cursor, interval=QUICK) as later:
            adapter.replace(damaged, whole)
            assert taken(watch, 2) == [("e", "bad", 2), ("e", "bad", 3)]
            assert taken(later, 2) == [("e", "bad", 2), ("e", "bad", 3)]


def test_a_missing_version_stops_its_memory_until_it_is_restored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    adapter = ModelAdapter()
    memory = AgentMemory("a", adapter=adapter)
    for _ in range(3):
        memory.write("e", "k", None)
    missing = "default/entries/e/k/v2.json"
    body = adapter.get(missing)
    assert body is not None
    adapter.delete(missing)
    with AgentMemory("b", adapter=adapter).watch(since="beginning", interval=QUICK) as watch:
        assert taken(watch, 1) == [("e", "k", 1)]
        assert nothing_left(watch) and nothing_left(watch)
        assert [missing in record.getMessage() for record in caplog.records] == [True]
        adapter.create(missing, body)
        assert taken(watch, 2) == [("e", "k", 2), ("e", "k", 3)]


# --- failures ------------------------------------------------------------------------------------


def test_an_outage_is_outwaited_and_nothing_is_missed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "amfs")
    adapter = FaultyAdapter(ModelAdapter())
    memory = AgentMemory("a", adapter=adapter, patience=0)
    with memory.watch(interval=QUICK) as watch:
        adapter.inject(Fault.UNAVAILABLE, on="list", times=3)
        adapter.inject(Fault.UNAVAILABLE, on="get", times=2)
        for number in range(3):
            AgentMemory("b", adapter=adapter.inner).write("e", "k", number)
        assert taken(watch, 3) == [("e", "k", 1), ("e", "k", 2), ("e", "k", 3)]
        assert watch.error is None
        assert len(caplog.records) == 1, "one report for one streak"


class Dropping(ModelAdapter):
    """Answers so many requests for objects after each listing, and no more."""

    allowed = 20

    def __init__(self) -> None:
        super().__init__()
        self.left = self.allowed

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        self.left = self.allowed
        return super().list(prefix, start_after)

    def get(self, key: str) -> bytes | None:
        if self.left == 0:
            raise BackendUnavailableError(f"no connection for {key}")
        self.left -= 1
        return super().get(key)

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        for key in keys:
            yield key, self.get(key)


def test_versions_from_before_an_outage_are_delivered_at_once() -> None:
    adapter = Dropping()
    with AgentMemory("writer", adapter=adapter) as writer:
        for number in range(100):
            writer.write("e", f"k{number % 7}", number)
    with AgentMemory("reader", adapter=adapter, patience=0.01) as memory:
        feed = memory.watch(since="beginning", interval=60)._feed
        fetched: list[Place] = []
        for _ in range(10):
            assert feed.fetch()
            came = []
            while (entry := feed.deliver()) is not None:
                came.append(place(entry))
            assert came, "a fetch in which something came and nothing was delivered"
            fetched += came
            if len(fetched) == 100:
                break
    versions: dict[str, list[int]] = defaultdict(list)
    for _, key, version in fetched:
        versions[key].append(version)
    assert sum(map(len, versions.values())) == 100
    assert all(seen == list(range(1, len(seen) + 1)) for seen in versions.values())


class Refusing(ModelAdapter):
    error: Exception | None = None

    def list(self, prefix: str, start_after: str = "") -> Any:
        if self.error is not None:
            raise self.error
        return super().list(prefix, start_after)


@pytest.mark.parametrize("kind", [PermissionDeniedError, BucketNotFoundError])
def test_a_permanent_error_is_raised_to_the_iterator(kind: type[Exception]) -> None:
    adapter = Refusing()
    memory = AgentMemory("a", adapter=adapter)
    with memory.watch(interval=QUICK) as watch:
        adapter.error = kind("not now")
        with pytest.raises(kind, match="not now"):
            next(watch)
        assert watch.error is adapter.error
        adapter.error = None
        memory.write("e", "k", None)
        assert taken(watch, 1) == [("e", "k", 1)]
        assert watch.error is None


def test_with_a_callback_it_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    adapter = Refusing()
    memory = AgentMemory("a", adapter=adapter)
    seen: list[MemoryEntry] = []
    with memory.watch(callback=seen.append, interval=QUICK) as watch:
        adapter.error = PermissionDeniedError("not now")
        until(lambda: watch.error is adapter.error)
        adapter.error = None
        memory.write("e", "k", None)
        until(lambda: seen)
        assert watch.error is None
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert ["not now" in record.getMessage() for record in errors] == [True]


def test_the_first_listing_fails_in_the_call() -> None:
    adapter = Refusing()
    adapter.error = BucketNotFoundError("none such")
    memory = AgentMemory("a", adapter=adapter)
    with pytest.raises(BucketNotFoundError):
        memory.watch()


def test_waits_grow_with_failures_and_differ_between_watches() -> None:
    memory = AgentMemory("a", adapter=ModelAdapter())
    watch = memory.watch(interval=5)
    poller = watch._poller
    regular = [poller._wait_seconds() for _ in range(200)]
    assert 4 <= min(regular) < 4.5 and 5.5 < max(regular) <= 6
    poller._failures = 2
    assert 16 <= poller._wait_seconds() <= 24
    poller._failures = 10_000
    assert 48 <= poller._wait_seconds() <= 72
    watch.cancel()


# --- the cursor ----------------------------------------------------------------------------------


def test_in_the_loop_the_cursor_includes_the_loops_entry(memory: AgentMemory) -> None:
    for number in range(3):
        memory.write("e", "k", number)
    with memory.watch(since="beginning", interval=QUICK) as watch:
        next(watch)
        cursor = watch.cursor
    with memory.watch(since=cursor, interval=QUICK) as later:
        assert taken(later, 2) == [("e", "k", 2), ("e", "k", 3)]


def test_in_the_callback_the_cursor_is_still_before_its_entry(memory: AgentMemory) -> None:
    memory.write("e", "k", "first")
    before: list[str] = []
    made, done = threading.Event(), threading.Event()

    def note(_: MemoryEntry) -> None:
        assert made.wait(SECONDS)
        before.append(watch.cursor)
        done.set()

    watch = memory.watch(callback=note, since="beginning", interval=QUICK)
    made.set()
    assert done.wait(SECONDS)
    watch.cancel()
    with memory.watch(since=before[0], interval=QUICK) as again:
        assert taken(again, 1) == [("e", "k", 1)]
    with memory.watch(since=watch.cursor, interval=QUICK) as later:
        memory.write("e", "k", "second")
        assert taken(later, 1) == [("e", "k", 2)]


def test_a_cursor_of_another_path_is_refused(memory: AgentMemory) -> None:
    cursor = memory.watch("e").cursor
    with pytest.raises(InvalidValueError, match="'e'"):
        memory.watch("e/f", since=cursor)
    with pytest.raises(InvalidValueError):
        memory.watch("e", since=cursor[:-3])


def test_a_cursor_holds_on_a_copy_of_the_store(tmp_path: Path) -> None:
    first = LocalAdapter(tmp_path / "one", durability="none")
    memory = AgentMemory("a", adapter=first)
    memory.write("e", "k", 1)
    cursor = memory.watch(since="beginning").cursor
    other = ModelAdapter()
    for info in first.list(""):
        body = first.get(info.key)
        assert body is not None
        other.create(info.key, body)
    with AgentMemory("b", adapter=other).watch(since=cursor, interval=QUICK) as watch:
        assert taken(watch, 1) == [("e", "k", 1)]


def test_an_interval_may_be_longer_than_a_system_can_wait() -> None:
    memory = AgentMemory("a", adapter=ModelAdapter())
    watch = memory.watch(callback=print, interval=1e18)
    until(lambda: watch._poller._bell is not None)
    watch.cancel()
    assert watch.error is None


@pytest.mark.parametrize("interval", [0, -1, math.inf, math.nan, "5", True])
def test_a_wrong_interval_is_refused(interval: Any) -> None:
    with pytest.raises(InvalidValueError, match="interval"):
        AgentMemory("a", adapter=ModelAdapter()).watch(interval=interval)


def test_wrong_arguments_are_refused() -> None:
    memory = AgentMemory("a", adapter=ModelAdapter())
    wrong: Any = 7
    with pytest.raises(InvalidValueError, match="since"):
        memory.watch(since=wrong)
    with pytest.raises(InvalidValueError, match="callback"):
        memory.watch(callback=wrong)
    with pytest.raises(InvalidKeyError):
        memory.watch("")


# --- ending --------------------------------------------------------------------------------------


def test_cancel_ends_a_loop_in_another_thread(memory: AgentMemory) -> None:
    watch = memory.watch(interval=SECONDS)
    ended = threading.Event()

    def loop() -> None:
        for _ in watch:
            pass
        ended.set()

    thread = threading.Thread(target=loop)
    thread.start()
    until(lambda: watch._poller._bell is not None)
    watch.cancel()
    assert ended.wait(SECONDS)
    thread.join()
    assert list(watch) == []
    watch.cancel()


def test_cancel_leaves_what_was_not_taken_for_the_cursor(memory: AgentMemory) -> None:
    for number in range(5):
        memory.write("e", "k", number)
    watch = memory.watch(since="beginning", interval=QUICK)
    assert taken(watch, 2) == [("e", "k", 1), ("e", "k", 2)]
    watch.cancel()
    assert list(watch) == []
    with memory.watch(since=watch.cursor, interval=QUICK) as later:
        assert taken(later, 3) == [("e", "k", 3), ("e", "k", 4), ("e", "k", 5)]


def test_a_callback_may_cancel_its_watch(memory: AgentMemory) -> None:
    for number in range(5):
        memory.write("e", "k", number)
    seen: list[int] = []
    made = threading.Event()
    watches: list[Watch] = []

    def stop_at_two(entry: MemoryEntry) -> None:
        made.wait(SECONDS)
        seen.append(entry.version)
        if entry.version == 2:
            watches[0].cancel()

    watches.append(memory.watch(callback=stop_at_two, since="beginning", interval=QUICK))
    made.set()
    until(lambda: not threads())
    assert seen == [1, 2]
    with memory.watch(since=watches[0].cursor, interval=QUICK) as later:
        assert taken(later, 3) == [("e", "k", 3), ("e", "k", 4), ("e", "k", 5)]


def test_cancel_returns_while_a_request_hangs() -> None:
    inner, hangs, arrived = ModelAdapter(), threading.Event(), threading.Event()
    adapter = FaultyAdapter(inner)
    memory = AgentMemory("a", adapter=adapter)

    def hang() -> None:
        arrived.set()
        hangs.wait(SECONDS)

    adapter.before(hang)
    watch = memory.watch(callback=print, since="beginning", interval=QUICK)
    assert arrived.wait(SECONDS)
    started = time.monotonic()
    watch.cancel()
    assert time.monotonic() - started < SECONDS / 2, "it did not wait for the request"
    assert threads(), "which is still under way"
    hangs.set()


def test_closing_a_memory_ends_its_watches(memory: AgentMemory) -> None:
    loops = memory.watch(interval=SECONDS)
    calls = memory.watch(callback=print, interval=SECONDS)
    memory.close()
    assert list(loops) == []
    assert not threads()
    calls.cancel()


def test_a_watch_that_is_dropped_listens_no_longer(memory: AgentMemory) -> None:
    memory.write("e", "k", None)
    assert place(next(memory.watch(since="beginning"))) == ("e", "k", 1)
    gc.collect()
    until(lambda: not threads())


def test_a_watch_with_a_callback_is_not_iterated(memory: AgentMemory) -> None:
    with memory.watch(callback=print) as watch, pytest.raises(InvalidValueError, match="callback"):
        next(watch)


def test_a_watch_that_is_not_asked_starts_no_thread(memory: AgentMemory) -> None:
    with memory.watch():
        assert not threads()


# --- callbacks -----------------------------------------------------------------------------------


def test_a_callback_that_raises_is_reported_and_the_next_entries_follow(
    memory: AgentMemory, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[int] = []

    def fail_at_two(entry: MemoryEntry) -> None:
        seen.append(entry.version)
        if entry.version == 2:
            raise RuntimeError("of the user's")

    with memory.watch(callback=fail_at_two, interval=QUICK):
        for number in range(4):
            memory.write("e", "k", number)
        until(lambda: len(seen) == 4)
    assert seen == [1, 2, 3, 4]
    (report,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert "version 2 of e/k" in report.getMessage()
    assert report.exc_info and "of the user's" in str(report.exc_info[1])


def test_versions_written_during_a_slow_callback_are_not_missed(memory: AgentMemory) -> None:
    seen: list[Place] = []
    go_on, waits = threading.Event(), threading.Event()

    def slow(entry: MemoryEntry) -> None:
        waits.set()
        assert go_on.wait(SECONDS)
        seen.append(place(entry))

    with memory.watch(callback=slow, interval=QUICK):
        memory.write("e", "k", None)
        assert waits.wait(SECONDS)
        for _ in range(20):
            memory.write("e", "k", None)
        go_on.set()
        until(lambda: len(seen) == 21)
    assert seen == [("e", "k", number) for number in range(1, 22)]


def test_callbacks_come_one_at_a_time_from_one_thread(memory: AgentMemory) -> None:
    names: set[int] = set()
    count = 0

    def note(_: MemoryEntry) -> None:
        nonlocal count
        names.add(threading.get_ident())
        count += 1

    with memory.watch(callback=note, interval=QUICK):
        for number in range(30):
            memory.write("e", f"k{number % 7}", None)
        until(lambda: count == 30)
    assert len(names) == 1 and threading.get_ident() not in names


# --- on an event loop ----------------------------------------------------------------------------


def test_async_for_does_not_block_the_loop(memory: AgentMemory) -> None:
    async def follow() -> list[Place]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        async def write() -> None:
            await asyncio.sleep(0.05)
            for number in range(3):
                await asyncio.to_thread(memory.write, "e", "k", number)

        others = [asyncio.create_task(tick()), asyncio.create_task(write())]
        seen: list[Place] = []
        async with memory.watch(interval=0.1) as watch:
            async for entry in watch:
                seen.append(place(entry))
                if len(seen) == 3:
                    break
        assert ticks > 3
        for task in others:
            task.cancel()
        return seen

    assert asyncio.run(follow()) == [("e", "k", 1), ("e", "k", 2), ("e", "k", 3)]


def test_a_cancelled_wait_loses_nothing(memory: AgentMemory) -> None:
    async def follow() -> list[Place]:
        seen: list[Place] = []
        async with memory.watch(interval=QUICK) as watch:
            for number in range(40):
                if number % 2:
                    await asyncio.to_thread(memory.write, "e", "k", number)
                try:
                    seen.append(place(await asyncio.wait_for(anext(watch), 0.0005 * (number % 7))))
                except TimeoutError:
                    continue
            while len(seen) < 20:
                seen.append(place(await anext(watch)))
        return seen

    assert asyncio.run(follow()) == [("e", "k", number) for number in range(1, 21)]


def test_a_cancelled_wait_leaves_no_thread_waiting(memory: AgentMemory) -> None:
    async def follow() -> None:
        watch = memory.watch(interval=SECONDS)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(watch), 0.05)

    asyncio.run(follow())
    until(lambda: not threads())


def test_many_waits_leave_the_loops_own_threads_free() -> None:
    memory = AgentMemory("agent", adapter=ModelAdapter())  # which has no doorbells to begin

    async def follow() -> str:
        watches = [memory.watch(interval=SECONDS) for _ in range(40)]
        waits = [asyncio.create_task(anext(watch)) for watch in watches]
        await asyncio.sleep(0)
        answer = await asyncio.wait_for(asyncio.to_thread(lambda: "free"), SECONDS)
        for watch in watches:
            await asyncio.to_thread(watch.cancel)
        ended = await asyncio.gather(*waits, return_exceptions=True)
        assert all(isinstance(result, StopAsyncIteration) for result in ended)
        return answer

    assert asyncio.run(follow()) == "free"
    memory.close()


def test_an_async_loop_is_told_what_waiting_does_not_cure() -> None:
    adapter = Refusing()
    memory = AgentMemory("a", adapter=adapter)

    async def follow() -> None:
        async with memory.watch(interval=QUICK) as watch:
            adapter.error = PermissionDeniedError("not now")
            with pytest.raises(PermissionDeniedError):
                await anext(watch)

    asyncio.run(follow())


# --- forks ---------------------------------------------------------------------------------------


def test_a_forked_child_has_no_watch_threads_and_may_iterate_on(tmp_path: Path) -> None:
    memory = AgentMemory("a", adapter=LocalAdapter(tmp_path, durability="none"))
    seen: list[MemoryEntry] = []
    calls = memory.watch(callback=seen.append, interval=0.1)
    loops = memory.watch(interval=0.1)
    memory.write("e", "k", 1)
    assert taken(loops, 1) == [("e", "k", 1)]
    memory.write("e", "k", 2)
    until(lambda: len(seen) == 2)

    def in_child() -> None:
        assert threading.active_count() == 1
        assert taken(loops, 1) == [("e", "k", 2)]
        loops.cancel()
        calls.cancel()
        assert list(loops) == []

    in_forked_child(in_child)
    memory.write("e", "k", 3)
    assert taken(loops, 2) == [("e", "k", 2), ("e", "k", 3)]
    until(lambda: len(seen) == 3)
    memory.close()


# --- doorbells -----------------------------------------------------------------------------------


class Bell(SilentDoorbell):
    """Rings when it is told to; counts how often it was waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.ring = threading.Event()
        self.waits = 0

    def wait(self, timeout: float) -> bool:
        self.waits += 1
        rung = self.ring.wait(timeout) and not self._closed.is_set()
        self.ring.clear()
        return rung

    def close(self) -> None:
        super().close()
        self.ring.set()


class Ringing(FaultyAdapter):
    def __init__(self) -> None:
        super().__init__(ModelAdapter())
        self.bells: list[Doorbell] = []
        self.asked: list[str] = []
        self.fails: Exception | None = None

    def doorbell(self, prefix: str) -> Doorbell | None:
        self.asked.append(prefix)
        if self.fails:
            raise self.fails
        self.bells.append(Bell())
        return self.bells[-1]


def test_a_ring_is_answered_at_once() -> None:
    adapter = Ringing()
    memory = AgentMemory("a", adapter=adapter)
    seen: list[MemoryEntry] = []
    with memory.watch("e", callback=seen.append, interval=3600):
        until(lambda: adapter.bells and adapter.bells[0].waits)  # type: ignore[attr-defined]
        memory.write("e", "k", None)
        adapter.bells[0].ring.set()  # type: ignore[attr-defined]
        until(lambda: seen)
    assert adapter.asked == ["default/entries/e/"]


def test_it_listens_before_it_lists() -> None:
    adapter = Ringing()
    memory = AgentMemory("a", adapter=adapter)
    listening: list[int] = []
    adapter.before(lambda: listening.append(len(adapter.bells)))
    memory.write("e", "k", None)
    adapter.before(lambda: listening.append(len(adapter.bells)))
    with memory.watch(since="beginning", interval=QUICK) as watch:
        next(watch)
    assert listening == [0, 1]


def test_a_bell_that_never_stops_makes_no_busy_loop() -> None:
    adapter = Ringing()
    memory = AgentMemory("a", adapter=adapter)
    with memory.watch(callback=print, interval=3600):
        until(lambda: adapter.bells)
        adapter.calls.clear()
        started = time.monotonic()
        while time.monotonic() - started < 0.3:
            adapter.bells[0].ring.set()  # type: ignore[attr-defined]
            time.sleep(0.0005)
        spent = time.monotonic() - started
        assert 1 <= adapter.requests()["list"] <= spent / 0.02 + 1


@pytest.mark.parametrize("failure", [BackendUnavailableError("not now"), RuntimeError("a bug")])
def test_without_its_doorbell_a_watch_polls(failure: Exception) -> None:
    adapter = Ringing()
    adapter.fails = failure
    memory = AgentMemory("a", adapter=adapter)
    with memory.watch(interval=QUICK) as watch:
        memory.write("e", "k", None)
        assert taken(watch, 1) == [("e", "k", 1)]
    assert len(adapter.asked) == 1


# --- in any order --------------------------------------------------------------------------------


KEYS = [(path, key) for path in ("e", "e/f", "g") for key in ("k", "l")]


class WatchMachine(RuleBasedStateMachine):
    """Writers, erasures, faults and lagging listings, between polls, ends and new beginnings."""

    def __init__(self) -> None:
        super().__init__()
        self.adapter = FaultyAdapter(ModelAdapter(), page=3)
        self.writers = [AgentMemory(f"w{n}", adapter=self.adapter.inner) for n in range(3)]
        self.reader = AgentMemory("reader", adapter=self.adapter, patience=0)
        self.watches: list[tuple[str | None, Watch, list[Place]]] = []
        self.begin("e", "beginning")

    def begin(self, path: str | None, since: str | None) -> None:
        watch = self.reader.watch(path, since=since, interval=QUICK)
        self.watches.append((path, watch, []))

    @rule(path=st.sampled_from([None, "e", "e/f", "g"]))
    def begin_from_the_beginning(self, path: str | None) -> None:
        self.begin(path, "beginning")

    @rule(writer=st.integers(0, 2), name=st.sampled_from(KEYS), count=st.integers(1, 3))
    def write(self, writer: int, name: tuple[str, str], count: int) -> None:
        for number in range(count):
            self.writers[writer].write(*name, number)

    @rule(writer=st.integers(0, 2), name=st.sampled_from(KEYS))
    def delete(self, writer: int, name: tuple[str, str]) -> None:
        self.writers[writer].delete(*name)

    @rule(writer=st.integers(0, 2), name=st.sampled_from(KEYS))
    def purge(self, writer: int, name: tuple[str, str]) -> None:
        self.writers[writer].purge(*name)

    @rule(count=st.integers(0, 5))
    def lag(self, count: int) -> None:
        self.adapter.hide_newest(count)

    @rule(verb=st.sampled_from(["list", "get"]), skip=st.integers(0, 4))
    def fail(self, verb: str, skip: int) -> None:
        self.adapter.inject(Fault.UNAVAILABLE, on=verb, skip=skip)

    @rule(index=st.integers(0, 9), count=st.integers(1, 6))
    def take(self, index: int, count: int) -> None:
        _, watch, seen = self.watches[index % len(self.watches)]
        for _ in range(count):
            if watch._feed.first() is None:
                try:
                    watch._feed.fetch()
                except BackendUnavailableError:
                    continue
            if watch._feed.first() is not None:
                seen.append(place(next(watch)))

    @rule(index=st.integers(0, 9))
    def resume(self, index: int) -> None:
        """Go on from the cursor: in another process, so with an empty cache."""
        path, watch, seen = self.watches.pop(index % len(self.watches))
        watch.cancel()
        reader = AgentMemory("reader", adapter=self.adapter, patience=0)
        self.watches.append((path, reader.watch(path, since=watch.cursor, interval=QUICK), seen))

    def teardown(self) -> None:
        self.adapter.clear()
        for path, watch, seen in self.watches:
            while watch._feed.fetch():
                while watch._feed.first() is not None:
                    seen.append(place(next(watch)))
            watch.cancel()
            versions: dict[tuple[str, str], list[int]] = defaultdict(list)
            for entity_path, key, version in seen:
                versions[entity_path, key].append(version)
            for name in KEYS:
                under = path is None or f"{name[0]}/".startswith(f"{path}/")
                there = len(self.writers[0].history(*name)) if under else 0
                assert versions[name] == list(range(1, there + 1)), (path, name)


TestWatchMachine = WatchMachine.TestCase
TestWatchMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_writers_in_other_threads_miss_nothing(memory: AgentMemory) -> None:
    """Three writers at once; the reader leaves now and then, and goes on from its cursor."""
    adapter = memory.adapter
    seen: list[Place] = []

    def write(name: str) -> None:
        writer = AgentMemory(name, adapter=adapter)
        for number in range(30):
            writer.write("own", name, number)
            writer.write("shared", f"k{number % 2}", name)

    writers = [threading.Thread(target=write, args=(f"w{number}",)) for number in range(3)]
    cursor = memory.watch().cursor
    for writer in writers:
        writer.start()
    while len(seen) < 180:
        with AgentMemory("reader", adapter=adapter).watch(since=cursor, interval=QUICK) as watch:
            seen += taken(watch, min(25, 180 - len(seen)))
            cursor = watch.cursor
    for writer in writers:
        writer.join()
    versions: dict[tuple[str, str], list[int]] = defaultdict(list)
    for path, key, version in seen:
        versions[path, key].append(version)
    assert versions == {
        **{("own", f"w{number}"): list(range(1, 31)) for number in range(3)},
        **{("shared", f"k{number}"): list(range(1, 46)) for number in range(2)},
    }
