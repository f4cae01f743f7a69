"""A `ResponseCache` with a period: what is over is removed whole, and nothing else ever is."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from amfs import AgentMemory, InvalidValueError
from amfs_agents.cache import CacheStats, ResponseCache, Swept, _key
from amfs_core.storage import StorageAdapter
from amfs_core.testing import Crash
from amfs_local import LocalAdapter
from amfs_sqlite import SqliteAdapter
from tests.agents.conftest import Opens
from tests.torture.mortal import Life, MortalAdapter

PERIOD = 3600.0
BOUNDARY = datetime(2026, 12, 1, 12, tzinfo=UTC)
"""When a period ends and the next begins."""
REQUEST = {"model": "m", "prompt": "Why?"}


def cache_at(adapter: StorageAdapter, now: datetime, **how: Any) -> ResponseCache:
    """A cache as another process has it, whose clock stands still."""
    cache = ResponseCache(AgentMemory("tests", adapter=adapter), period=PERIOD, **how)
    cache._clock = lambda: now
    return cache


def after(**length: float) -> datetime:
    return BOUNDARY + timedelta(**length)


@pytest.fixture(params=["local", "sqlite"])
def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StorageAdapter]:
    made: StorageAdapter
    if request.param == "local":
        made = LocalAdapter(tmp_path / "store", durability="none")
    else:
        made = SqliteAdapter(tmp_path / "store.db", durability="none")
    with contextlib.closing(made):
        yield made


def objects(adapter: StorageAdapter) -> list[str]:
    return [info.key for info in adapter.list("")]


def never() -> Any:
    raise AssertionError("the answer is there")


class TestAnswers:
    def test_an_answer_is_there_until_its_time_ends_in_the_next_period_too(
        self, adapter: StorageAdapter
    ) -> None:
        cache_at(adapter, after(minutes=-5)).get_or_compute(REQUEST, lambda: 1)
        assert cache_at(adapter, after(minutes=54)).get_or_compute(REQUEST, never) == 1
        late = cache_at(adapter, after(minutes=55))
        assert late.get(REQUEST) is None
        assert late.get_or_compute(REQUEST, lambda: 2) == 2
        assert late.stats == CacheStats(hits=0, waits=0, misses=1)
        assert cache_at(adapter, after(minutes=56)).get(REQUEST) == 2

    def test_answers_are_no_memories_of_the_namespace(self, adapter: StorageAdapter) -> None:
        memory = AgentMemory("tests", adapter=adapter)
        memory.write("e", "k", 1)
        cache_at(adapter, BOUNDARY).put(REQUEST, "x")
        assert [entry.key for entry in memory.list()] == ["k"]
        assert memory.stats().versions == 1

    def test_a_put_replaces_and_an_invalidation_ends_the_answer_of_the_period_before(
        self, adapter: StorageAdapter
    ) -> None:
        cache_at(adapter, after(minutes=-5)).put(REQUEST, "old")
        cache = cache_at(adapter, after(minutes=5))
        cache.put(REQUEST, "new", ttl=60)
        assert cache_at(adapter, after(minutes=5)).get(REQUEST) == "new"
        # The old one, which it replaced, would be valid still.
        assert cache_at(adapter, after(minutes=7)).get(REQUEST) is None
        assert cache_at(adapter, after(minutes=7)).get_or_compute(REQUEST, lambda: 3) == 3
        other = {"model": "n"}
        cache_at(adapter, after(minutes=-5)).put(other, "old")
        assert cache.invalidate(other)
        assert not cache.invalidate(other)
        assert cache_at(adapter, after(minutes=6)).get(other) is None

    def test_a_claim_of_the_period_before_holds_until_its_lease_ends(
        self, adapter: StorageAdapter
    ) -> None:
        claim = cache_at(adapter, after(minutes=-2), lease=600)._claim(_key(REQUEST))
        assert claim is not None
        assert cache_at(adapter, after(minutes=7))._claim(_key(REQUEST)) is None
        assert cache_at(adapter, after(minutes=9))._claim(_key(REQUEST)) is not None

    @pytest.mark.parametrize("late", [-45, -29, -1, 0, 1, 29, 45])
    @pytest.mark.parametrize("ahead", [0, 15, 29, 58])
    def test_of_two_whose_clocks_differ_one_computes(
        self, late: int, ahead: int, adapter: StorageAdapter
    ) -> None:
        clocks = after(seconds=late - ahead / 2), after(seconds=late + ahead / 2)
        for turn, (first, second) in enumerate((clocks, clocks[::-1])):
            request = _key(turn)
            assert cache_at(adapter, first)._claim(request) is not None
            assert cache_at(adapter, second)._claim(request) is None

    def test_at_the_change_of_periods_many_compute_once(self, adapter: StorageAdapter) -> None:
        calls: Counter[int] = Counter()
        lock, ready = threading.Lock(), threading.Barrier(6)

        def work(number: int) -> None:
            cache = cache_at(adapter, after(seconds=10 * number - 25))
            ready.wait(60)
            for request in range(5):

                def compute(request: int = request) -> int:
                    with lock:
                        calls[request] += 1
                    return request

                assert cache.get_or_compute(request, compute) == request

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert calls == Counter(range(5))

    def test_a_failure_at_the_change_of_periods_releases_all(self, adapter: StorageAdapter) -> None:
        with pytest.raises(ZeroDivisionError):
            cache_at(adapter, BOUNDARY).get_or_compute(REQUEST, lambda: 1 / 0)
        assert cache_at(adapter, after(seconds=1)).get_or_compute(REQUEST, lambda: 1) == 1

    def test_on_an_event_loop_too(self, adapter: StorageAdapter) -> None:
        async def ask() -> int:
            return 1

        cache = cache_at(adapter, BOUNDARY)
        assert asyncio.run(cache.get_or_compute_async(REQUEST, ask)) == 1
        assert cache_at(adapter, after(minutes=5)).get(REQUEST) == 1

    @pytest.mark.parametrize(
        ("how", "named"),
        [
            ({"ttl": 3601}, "ttl"),
            ({"lease": 3601}, "lease"),
            ({"period": 599}, "period"),
            ({"period": 3600.5}, "period"),
        ],
    )
    def test_an_invalid_period_is_refused(
        self, how: dict[str, float], named: str, adapter: StorageAdapter
    ) -> None:
        with pytest.raises(InvalidValueError, match=named):
            ResponseCache(AgentMemory("tests", adapter=adapter), **{"period": PERIOD, **how})  # type: ignore[arg-type]
        with pytest.raises(InvalidValueError, match="ttl"):
            cache_at(adapter, BOUNDARY).put(REQUEST, 1, ttl=3601)
        assert objects(adapter) == []


class TestRemoval:
    def test_nothing_of_what_is_over_is_left_and_all_else_is(self, adapter: StorageAdapter) -> None:
        memory = AgentMemory("tests", adapter=adapter)
        memory.write("responses", "0" * 64, "a memory of the user's")
        AgentMemory("tests", adapter=adapter, namespace="default+responses").write("e", "k", 1)
        foreign = "default+responses+3600s+20261201T110000Z/entries/notes/k/v1.json"
        adapter.create(foreign, b"not of the cache")
        longer = ResponseCache(memory, period=7200, ttl=60)
        longer._clock = lambda: after(minutes=-90)
        longer.put("longer", 1)
        untouched = objects(adapter)
        cache = cache_at(adapter, after(minutes=-30))
        for number in range(20):
            cache.get_or_compute(number, lambda: "x" * 1000)
        cache.get_or_compute(0, never)
        cache.invalidate(1)
        cache_at(adapter, after(minutes=30)).get_or_compute(REQUEST, lambda: "stays")
        # 12:00 is the end of their period, 13:00 of their lives; 14:00 a period later.
        assert cache_at(adapter, after(minutes=119)).sweep() == Swept(0, 0)
        swept = cache_at(adapter, after(minutes=120)).sweep()
        assert swept == Swept(answers=20, versions=41)
        assert [key for key in objects(adapter) if key not in untouched] == [
            key for key in objects(adapter) if "20261201T120000Z" in key
        ]
        assert set(untouched) <= set(objects(adapter))
        assert cache_at(adapter, after(minutes=89)).get(REQUEST) == "stays"
        assert cache_at(adapter, after(minutes=120)).sweep() == Swept(0, 0)
        assert memory.verify().ok
        assert cache_at(adapter, after(hours=48)).sweep().answers == 2  # `longer`, too
        assert sorted(objects(adapter)) == sorted(key for key in untouched if "7200s" not in key)

    def test_a_late_writer_gives_back_its_answer_and_its_object_goes_with_the_next_sweep(
        self, adapter: StorageAdapter
    ) -> None:
        cache = cache_at(adapter, after(minutes=-30))

        def slept() -> str:
            cache_at(adapter, after(hours=3)).sweep()
            assert objects(adapter) == []
            return "answer"

        assert cache.get_or_compute(REQUEST, slept) == "answer"
        assert [key[-8:] for key in objects(adapter)] == ["/v2.json"]
        now = cache_at(adapter, after(hours=3))
        assert now.get(REQUEST) is None
        assert now.get_or_compute(REQUEST, lambda: "again") == "again"
        assert now.sweep() == Swept(answers=1, versions=1)
        assert cache_at(adapter, after(hours=3)).get(REQUEST) == "again"

    def test_a_sweep_that_is_killed_anywhere_goes_on_the_next_time(self, tmp_path: Path) -> None:
        for requests in range(1, 14):
            store = LocalAdapter(tmp_path / str(requests), durability="none")
            kept = cache_at(store, after(minutes=100))
            kept.put("stays", 1)
            stays = objects(store)
            old = cache_at(store, after(minutes=-30))
            for number in range(4):
                old.get_or_compute(number, lambda: "x")
            mortal = MortalAdapter(store, Life(requests, after=True))
            with contextlib.suppress(Crash):
                cache_at(mortal, after(minutes=120)).sweep()
            assert cache_at(store, after(minutes=119)).get("stays") == 1
            cache_at(store, after(minutes=120)).sweep()
            assert objects(store) == stays

    def test_two_sweeps_at_once_do_no_harm(self, adapter: StorageAdapter) -> None:
        old = cache_at(adapter, after(minutes=-30))
        for number in range(30):
            old.put(number, "x")
        done: list[Swept] = []
        threads = [
            threading.Thread(target=lambda: done.append(cache_at(adapter, after(hours=3)).sweep()))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(done) == 3
        assert objects(adapter) == []


def test_requests_with_a_period_are_as_documented(on_bucket: Opens) -> None:
    adapter = on_bucket().engine.adapter

    def requests(cache: ResponseCache, ask: Callable[[], object]) -> dict[str, int]:
        """The requests that are made, on all periods and the namespace itself."""
        assert cache._periods is not None

        def made() -> Counter[str]:
            memories = [cache._memory, *cache._periods._open.values()]  # type: ignore[union-attr]
            return sum((Counter(memory.metrics.requests) for memory in memories), Counter())

        before = made()
        ask()
        return dict(made() - before)

    cache = cache_at(adapter, after(minutes=5))
    computed = requests(cache, lambda: cache.get_or_compute(REQUEST, lambda: 1))
    # Of each of the two periods its manifest, too.
    assert computed == {"list": 2, "get": 6, "create": 2}
    assert requests(cache, lambda: cache.get(REQUEST)) == {"get": 1}
    assert requests(cache, lambda: cache.put(REQUEST, 2)) == {"create": 1}
    for number in range(5):
        cache.put(number, 1)
    late = cache_at(adapter, after(minutes=185))
    assert requests(late, late.sweep) == {"get": 1, "list": 4, "delete": 8}
    assert requests(late, late.sweep) == {"list": 1}
