"""Work done while a thread does something else that has to be done before the answer counts."""

from __future__ import annotations

import threading
import time

import pytest

from amfs_core import parallel
from amfs_core.parallel import beside


def test_both_are_under_way_at_the_same_time() -> None:
    both = threading.Barrier(2)
    assert beside(lambda: both.wait(30), lambda: both.wait(30) is not None)


def test_the_answer_waits_for_what_is_beside_it() -> None:
    done: list[str] = []

    def aside() -> None:
        time.sleep(0.05)
        done.append("aside")

    assert beside(aside, lambda: "answer") == "answer"
    assert done == ["aside"]


@pytest.mark.parametrize("work_fails", [False, True])
def test_an_error_of_the_parallel_call_comes_first(work_fails: bool) -> None:
    def aside() -> None:
        raise LookupError("aside")

    def work() -> int:
        if work_fails:
            raise ValueError("work")
        return 1

    with pytest.raises(LookupError, match="aside"):
        beside(aside, work)


def test_a_failure_of_the_work_is_raised_once_the_other_is_done() -> None:
    done: list[str] = []

    def work() -> int:
        raise ValueError("work")

    with pytest.raises(ValueError, match="work"):
        beside(lambda: done.append("aside"), work)
    assert done == ["aside"]


def test_an_interrupt_waits_for_nothing() -> None:
    go_on = threading.Event()

    def work() -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        beside(go_on.wait, work)  # which would never end
    go_on.set()


def test_where_no_thread_can_be_started_one_comes_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parallel, "_can_start", lambda serve: False)
    order: list[str] = []
    beside(lambda: order.append("aside"), lambda: order.append("work"))
    assert order == ["aside", "work"]
