"""`ResponseCache`: an answer is computed once, kept for a time, and gives its space back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from amfs import AgentMemory, BackendUnavailableError, InvalidValueError
from amfs_agents.cache import CacheStats, ResponseCache, Swept
from tests.agents.counting import counted
from tests.agents.processes import at_once

Opens = Callable[[], AgentMemory]
REQUEST = {"model": "m", "messages": [{"role": "user", "content": "Why?"}]}


class Model:
    """Answers with a number that counts the calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        return self.calls


@pytest.fixture
def cache(memory: AgentMemory) -> ResponseCache:
    return ResponseCache(memory)


def ended(cache: ResponseCache, seconds: float) -> None:
    """Wait until what was kept for so long is over."""
    deadline = time.monotonic() + 30
    while cache.get(REQUEST) is not None:
        assert time.monotonic() < deadline
        time.sleep(seconds / 4)


class TestAnswers:
    def test_an_answer_is_computed_once_for_everybody(
        self, opens: Opens, cache: ResponseCache
    ) -> None:
        model = Model()
        assert cache.get(REQUEST) is None
        assert [cache.get_or_compute(REQUEST, model) for _ in range(3)] == [1, 1, 1]
        other = ResponseCache(opens())
        assert other.get_or_compute(REQUEST, model) == 1
        assert other.get(REQUEST) == 1
        assert cache.stats == CacheStats(hits=2, waits=0, misses=1)
        assert cache.stats.hit_rate == pytest.approx(2 / 3)
        assert other.stats.hit_rate == 1.0

    def test_the_order_of_members_makes_no_difference_and_all_else_does(
        self, cache: ResponseCache
    ) -> None:
        model = Model()
        requests: list[Any] = [{"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1}, [1], 1, "1", None, 1.5]
        answers = [cache.get_or_compute(request, model) for request in requests]
        assert answers == [1, 1, 2, 3, 4, 5, 6, 7]

    @pytest.mark.parametrize("answer", [None, False, "", {"text": "Because.", "tokens": 2}])
    def test_any_json_is_an_answer(self, cache: ResponseCache, answer: Any) -> None:
        assert cache.get_or_compute(REQUEST, lambda: answer) == answer
        assert cache.get_or_compute(REQUEST, Model()) == answer
        assert cache.get(REQUEST, "default") == answer

    def test_a_put_replaces_an_answer_and_an_invalid_one_is_computed_again(
        self, cache: ResponseCache
    ) -> None:
        cache.put(REQUEST, "put")
        assert cache.get_or_compute(REQUEST, Model()) == "put"
        assert cache.invalidate(REQUEST)
        assert not cache.invalidate(REQUEST)
        assert cache.get_or_compute(REQUEST, Model()) == 1

    def test_an_answer_ends_with_its_time(self, cache: ResponseCache) -> None:
        model = Model()
        cache.get_or_compute(REQUEST, model, ttl=0.2)
        ended(cache, 0.2)
        assert cache.get_or_compute(REQUEST, model) == 2

    @pytest.mark.parametrize("ttl", [0, -1, float("nan")])
    def test_an_invalid_time_is_refused(self, memory: AgentMemory, ttl: float) -> None:
        with pytest.raises(InvalidValueError):
            ResponseCache(memory, ttl=ttl)
        with pytest.raises(InvalidValueError):
            ResponseCache(memory).get_or_compute(REQUEST, Model(), ttl=ttl)

    def test_an_object_that_is_not_json_is_refused_and_does_not_block_others(
        self, cache: ResponseCache
    ) -> None:
        with pytest.raises(InvalidValueError):
            cache.get_or_compute({"a": b"bytes"}, Model())
        with pytest.raises(InvalidValueError):
            cache.get_or_compute(REQUEST, lambda: b"bytes")
        assert cache.get_or_compute(REQUEST, Model()) == 1

    def test_searches_do_not_find_answers(self, memory: AgentMemory, cache: ResponseCache) -> None:
        cache.get_or_compute(REQUEST, lambda: "the capital is Lisbon")
        assert memory.search("Lisbon") == []

    def test_an_answer_that_cannot_be_kept_is_returned(
        self, memory: AgentMemory, monkeypatch: pytest.MonkeyPatch, caplog: Any
    ) -> None:
        def fails(*_: object, **__: object) -> None:
            raise BackendUnavailableError("it is down")

        cache = ResponseCache(memory)
        monkeypatch.setattr(memory, "write", fails)
        assert cache.get_or_compute(REQUEST, Model()) == 1
        assert "could not be stored" in caplog.text

    def test_a_foreign_value_is_not_an_answer(
        self, memory: AgentMemory, cache: ResponseCache
    ) -> None:
        cache.put(REQUEST, "x")
        [entry] = memory.list("responses")
        for value in ("text", {"answer": 1}, {"answer": 1, "expires_at": "soon"}, [1]):
            memory.write("responses", entry.key, value)
            assert cache.get(REQUEST) is None
        assert cache.get_or_compute(REQUEST, Model()) == 1


class TestSingleFlight:
    def test_threads_wait_for_the_one_that_computes(self, cache: ResponseCache) -> None:
        begun, finish = threading.Event(), threading.Event()
        calls = []

        def compute() -> str:
            calls.append(1)
            begun.set()
            assert finish.wait(30)
            return "answer"

        with ThreadPoolExecutor(8) as pool:
            running = [pool.submit(cache.get_or_compute, REQUEST, compute) for _ in range(8)]
            assert begun.wait(30)
            finish.set()
            assert [future.result(30) for future in running] == ["answer"] * 8
        assert len(calls) == 1
        assert cache.stats.misses == 1
        assert cache.stats.hits + cache.stats.waits == 7

    def test_an_error_is_its_callers_own_and_the_next_one_computes(
        self, opens: Opens, cache: ResponseCache
    ) -> None:
        def fail() -> None:
            raise ValueError("overloaded")

        with pytest.raises(ValueError, match="overloaded"):
            cache.get_or_compute(REQUEST, fail)
        assert ResponseCache(opens()).get_or_compute(REQUEST, Model()) == 1

    def test_a_process_that_died_while_computing_is_waited_for_until_its_lease_ends(
        self, opens: Opens
    ) -> None:
        dead = ResponseCache(opens(), lease=0.5)
        assert dead._claim(_key_of(dead)) is not None
        cache = ResponseCache(opens())
        begun = time.monotonic()
        assert cache.get_or_compute(REQUEST, Model()) == 1
        assert time.monotonic() - begun > 0.2

    def test_an_answer_that_comes_after_the_lease_harms_nobody(self, opens: Opens) -> None:
        slow, quick = ResponseCache(opens(), lease=0.2), ResponseCache(opens())

        def compute() -> str:
            assert quick.get_or_compute(REQUEST, lambda: "quick") == "quick"
            return "slow"

        assert slow.get_or_compute(REQUEST, compute) == "slow"
        assert slow.get(REQUEST) == "quick"

    def test_coroutines_wait_for_the_one_that_computes(self, opens: Opens) -> None:
        caches = [ResponseCache(opens()) for _ in range(2)]
        calls = []

        async def compute() -> str:
            calls.append(1)
            await asyncio.sleep(0.2)
            return "answer"

        async def run() -> list[str]:
            return await asyncio.gather(
                *(
                    cache.get_or_compute_async(REQUEST, compute)
                    for cache in caches
                    for _ in range(4)
                )
            )

        assert asyncio.run(run()) == ["answer"] * 8
        assert len(calls) == 1

    def test_a_coroutine_that_is_cancelled_lets_the_next_one_compute(self, opens: Opens) -> None:
        cache, other = ResponseCache(opens()), ResponseCache(opens())

        async def run() -> None:
            begun = asyncio.Event()

            async def compute() -> None:
                begun.set()
                await asyncio.Event().wait()

            task = asyncio.create_task(cache.get_or_compute_async(REQUEST, compute))
            await asyncio.wait_for(begun.wait(), 30)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

            async def answer() -> str:
                return "answer"

            computing = other.get_or_compute_async(REQUEST, answer)
            assert await asyncio.wait_for(computing, 30) == "answer"

        asyncio.run(run())


def _key_of(cache: ResponseCache) -> str:
    from amfs_agents import cache as module

    return module._key(REQUEST)


def _ask(memory: AgentMemory, number: int, log: str) -> list[Any]:
    cache = ResponseCache(memory)

    def compute(question: int) -> str:
        with open(log, "a") as file:
            file.write(f"{question}\n")
        time.sleep(0.1)  # what a model takes, so that all others come meanwhile
        return f"answer {question} of {number}"

    return [cache.get_or_compute({"q": q}, lambda q=q: compute(q)) for q in range(5)]


def test_processes_compute_each_answer_once(store: Path, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    answers = at_once(_ask, store, 4, str(log))
    assert answers == [answers[0]] * 4
    assert sorted(log.read_text().split()) == ["0", "1", "2", "3", "4"]


class TestSweep:
    def test_a_sweep_gives_back_the_space_of_what_is_over_and_of_nothing_else(
        self, memory: AgentMemory, cache: ResponseCache
    ) -> None:
        cache.put("stays", "x" * 10_000)
        for number in range(10):
            cache.put(number, "x" * 100_000, ttl=0.2)
        cache.put(REQUEST, "last", ttl=0.2)
        before = memory.stats().bytes
        ended(cache, 0.2)
        swept = cache.sweep()
        assert swept == Swept(answers=11, versions=swept.versions)
        assert swept.versions == 11
        assert before > 1_000_000
        assert memory.stats().bytes < 50_000
        assert cache.get("stays") == "x" * 10_000
        assert cache.sweep() == Swept(0, 0)
        assert cache.get_or_compute(REQUEST, Model()) == 1
        assert memory.verify().ok

    def test_a_sweep_leaves_alone_what_is_being_computed(
        self, opens: Opens, cache: ResponseCache
    ) -> None:
        def compute() -> str:
            assert ResponseCache(opens()).sweep() == Swept(0, 0)
            return "answer"

        assert cache.get_or_compute(REQUEST, compute) == "answer"
        assert cache.get(REQUEST) == "answer"


def test_requests_of_the_cache_are_as_documented(on_bucket: Opens) -> None:
    memory = on_bucket()
    cache = ResponseCache(memory)
    cache.get_or_compute(REQUEST, Model())
    with counted(memory) as hit:
        cache.get_or_compute(REQUEST, Model())
    assert hit == {"get": 1}
    with counted(memory) as put:
        cache.put(REQUEST, "x")
    assert put == {"create": 1}
