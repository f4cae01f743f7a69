"""Slow work done once, in a thread of its own, while every caller that needs it waits.

Finding credentials may take minutes (a process that asks for a code, a service that does not
answer), and imports libraries. Callers wait with a limit, and may be interrupted: by Ctrl-C, and by
a signal handler that itself needs the work. So nobody holds a lock while waiting, and waiting
callers share no lock: a handler could never get a lock that the frame below it holds.
"""

from __future__ import annotations

import _thread
import copy
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class StillAtWork(Exception):
    """The time to wait is over; the work continues in the background."""


class Background(Generic[T]):
    """Does `work` once for all callers that ask while it is under way. Failures are not
    remembered."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._under_way: dict[str, _Attempt[T]] = {}  # at most one: `setdefault` is atomic

    @property
    def is_late(self) -> bool:
        """True while work is under way and a caller has given up waiting for it."""
        attempt = self._under_way.get("now")
        return attempt is not None and attempt.is_late and not attempt.is_done

    def result(self, seconds: float) -> T:
        """Return what the work returns, or raise what it raises; `StillAtWork` after the limit."""
        until = time.monotonic() + seconds
        attempt = self._under_way.setdefault("now", _Attempt(self._work))
        if attempt.is_done:  # finished before anybody asked: its result may be old by now
            self._forget(attempt)
            attempt = self._under_way.setdefault("now", _Attempt(self._work))
        try:
            if not attempt.is_begun:
                # Not `threading.Thread`: a signal handler could need a lock of it that this frame
                # holds. If a handler runs in between, two threads start, and the second finds
                # nothing to do.
                _thread.start_new_thread(attempt.run, ())
        except RuntimeError:  # no thread can be started: the interpreter may be exiting
            attempt.run()
        attempt.wait(until)
        if not attempt.is_done:
            attempt.is_late = True
            raise StillAtWork
        self._forget(attempt)
        if attempt.error is not None:
            raise _fresh(attempt.error)
        return attempt.value

    def _forget(self, attempt: _Attempt[T]) -> None:
        if self._under_way.get("now") is attempt:
            self._under_way.pop("now", None)


class _Attempt(Generic[T]):
    value: T

    def __init__(self, work: Callable[[], T]) -> None:
        self._work: deque[Callable[[], T]] = deque([work])  # whoever pops the work does it
        self._waiting: deque[_thread.LockType] = deque()
        self.error: BaseException | None = None
        self.is_done = False
        self.is_late = False

    @property
    def is_begun(self) -> bool:
        return not self._work

    def run(self) -> None:
        try:
            work = self._work.pop()
        except IndexError:
            return
        try:
            self.value = work()
        except BaseException as error:
            self.error = error
        self.is_done = True
        while self._waiting:
            self._waiting.pop().release()

    def wait(self, until: float) -> None:
        own = _thread.allocate_lock()
        own.acquire()
        self._waiting.append(own)
        if not self.is_done:  # otherwise the thread that finished it may not have seen this lock
            own.acquire(True, max(0.0, until - time.monotonic()))


def _fresh(error: BaseException) -> BaseException:
    """Return a copy of the error for one of several callers: each raise adds to its traceback."""
    again = copy.copy(error)
    again.__cause__ = error.__cause__
    return again
