"""Work in threads that live as long as the call: in order, bounded, and without threads too."""

from __future__ import annotations

import _thread
import itertools
import signal
import threading
from collections.abc import Iterator

import pytest

from amfs_core.parallel import ahead, each, mapped


@pytest.fixture(params=["threads", "no threads"])
def maybe_threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With threads, and where the system or the end of the interpreter allows none."""

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    if request.param == "no threads":
        monkeypatch.setattr(_thread, "start_new_thread", refuse)
    return str(request.param)


@pytest.mark.usefixtures("maybe_threads")
@pytest.mark.parametrize("threads", [1, 3, 50])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 200])
def test_results_come_in_the_order_of_the_items(threads: int, count: int) -> None:
    assert mapped(lambda n: n * n, range(count), threads) == [n * n for n in range(count)]
    assert [done.item for done in each(str, iter(range(count)), threads)] == list(range(count))


@pytest.mark.usefixtures("maybe_threads")
def test_the_first_error_by_order_is_raised_once_all_have_ended() -> None:
    ended: list[int] = []

    def work(number: int) -> int:
        ended.append(number)
        if number in (3, 5):
            raise ValueError(number)
        return number

    with pytest.raises(ValueError, match="3"):
        mapped(work, range(10), 4)
    assert sorted(ended) == list(range(10))


def test_so_many_run_at_a_time_and_no_more() -> None:
    running = threading.Semaphore(0)
    most, now, lock = [0], [0], threading.Lock()
    everybody = threading.Barrier(4)

    def work(_: int) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        everybody.wait(30)  # all four threads are at work, or this never ends
        with lock:
            now[0] -= 1
        running.release()

    mapped(work, range(40), 4)
    assert most == [4]


@pytest.mark.usefixtures("maybe_threads")
def test_items_are_taken_as_they_are_needed() -> None:
    taken = itertools.count()
    endless = ((number, next(taken))[0] for number in itertools.count())
    first = list(itertools.islice((done.result() for done in each(str, endless, 3)), 5))
    assert first == ["0", "1", "2", "3", "4"]
    assert next(taken) <= 5 + 6


def test_nothing_is_begun_after_the_caller_has_stopped() -> None:
    begun: list[int] = []
    go = threading.Event()

    def work(number: int) -> int:
        begun.append(number)
        if number:
            go.wait(30)
        return number

    results = each(work, range(100), 2)
    assert next(results).result() == 0
    results.close()
    go.set()
    assert len(begun) <= 4


@pytest.mark.usefixtures("maybe_threads")
def test_an_iterator_read_ahead_gives_the_same_and_its_errors() -> None:
    def broken() -> Iterator[int]:
        yield from range(5)
        raise ValueError("broken")

    assert list(ahead(iter(range(100)))) == list(range(100))
    assert list(ahead(iter([]))) == []
    seen: list[int] = []
    with pytest.raises(ValueError, match="broken"):
        for number in ahead(broken()):
            seen.append(number)
    assert seen == [0, 1, 2, 3, 4]


def test_a_signal_handler_may_hand_out_work_while_its_thread_does() -> None:
    done: list[list[int]] = []

    def handler(*_: object) -> None:
        done.append(mapped(lambda n: n + 1, range(10), 4))

    before = signal.signal(signal.SIGUSR1, handler)
    timers: list[threading.Timer] = []
    try:
        for _ in range(50):
            signals = (threading.get_ident(), signal.SIGUSR1)
            timers.append(threading.Timer(0.0005, signal.pthread_kill, signals))
            timers[-1].start()
            assert mapped(lambda n: n, range(100), 8) == list(range(100))
        while not done:
            assert mapped(lambda n: n, range(10), 2) == list(range(10))
    finally:
        for timer in timers:  # a signal without a handler ends the process
            timer.join()
        signal.signal(signal.SIGUSR1, before)
    assert done == [list(range(1, 11))] * len(done)
