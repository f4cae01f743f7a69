"""How long a call goes on while the store fails."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import tenacity

from amfs_core.errors import AMFSError, CircuitOpenError
from amfs_core.storage.breaker import Breaker
from amfs_core.storage.metrics import Meter

P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_PATIENCE = 10.0
"""Seconds for which a call goes on while the storage does not answer."""

_SHORTEST, _LONGEST = 0.05, 1.0  # seconds between the first two attempts, and later ones, at most

_STOPPED = 1.0  # seconds beyond what is possible: less may be a busy machine

_log = logging.getLogger("amfs")

_backoff = tenacity.wait_random_exponential(multiplier=_SHORTEST, max=_LONGEST)


class _Call(threading.local):
    """The call that a thread is in: `until` is when the patience that its requests share ends; None
    while they share none."""

    until: float | None = None


class Patience:
    """Repeats requests that fail, with exponential backoff and full jitter, until its time is over.

    The time begins with the call, if the call shares it among its requests (`share`, `one_call`);
    otherwise with each request. It ends early when the store is known to be down.
    `request_seconds` is how long one request can take before it fails: a request that took longer
    shows that the process was stopped.
    """

    def __init__(
        self,
        seconds: float,
        meter: Meter,
        breaker: Breaker,
        request_seconds: float | None = None,
    ) -> None:
        self.seconds = seconds
        self.request_seconds = request_seconds
        self._meter = meter
        self._breaker = breaker
        self._call = _Call()

    def share(self, since: float) -> bool:
        """Make all requests of this thread share one time, which began at `since`
        (`time.monotonic`), until `unshare`. False, with nothing changed, when they already do."""
        if self._call.until is not None:
            return False
        self._call.until = since + self.seconds
        return True

    def unshare(self) -> None:
        """End what `share` began."""
        self._call.until = None

    @contextmanager
    def callers_time(self) -> Iterator[None]:
        """Do not count the time that the caller's own function takes. Requests that the function
        makes have their own time."""
        until, self._call.until = self._call.until, None
        begun = time.monotonic()
        try:
            yield
        finally:
            if until is not None:
                until += time.monotonic() - begun
            self._call.until = until

    def again(
        self,
        attempt: Callable[[], T],
        error: AMFSError,
        transient: tuple[type[AMFSError], ...],
        started: float,
    ) -> T:
        """Continue after a first failure: wait, then repeat until it works or the time is over.

        `started` is when the first attempt began (`time.monotonic`). If the store asked for a pause
        (`retry_after`), the whole pause is waited, as far as the time lasts, before the next try.
        """
        until = self._call.until or started + self.seconds
        failures = [error]
        woken = False

        def look_for_freeze(begun: float, expected: float) -> None:
            """Give the call one more attempt, once, when something took so much longer than is
            possible that the process cannot have been running."""
            nonlocal until, woken
            now = time.monotonic()
            if not woken and now - begun > expected + _STOPPED:
                woken = True
                until = max(until, now + _LONGEST)

        def sleep(seconds: float) -> None:
            begun = time.monotonic()
            time.sleep(seconds)
            look_for_freeze(begun, seconds)

        def replay_first_failure() -> T:
            if failures:
                if self.request_seconds is not None:
                    look_for_freeze(started, self.request_seconds)
                raise failures.pop()
            self._meter.add("retry")
            begun = time.monotonic()
            try:
                return attempt()
            except transient:
                if self.request_seconds is not None:
                    look_for_freeze(begun, self.request_seconds)
                raise

        def pause(state: tenacity.RetryCallState) -> float:
            failure = state.outcome and state.outcome.exception()
            asked = getattr(failure, "retry_after", None) or 0.0
            wait = asked + _backoff(state)
            return min(wait, max(0.0, until - time.monotonic())) if asked else wait

        def is_over(state: tenacity.RetryCallState) -> bool:
            left = until - time.monotonic()
            return self._breaker.is_open or left <= 0 or state.upcoming_sleep > left

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(
                lambda failure: (
                    isinstance(failure, transient) and not isinstance(failure, CircuitOpenError)
                )
            ),
            wait=pause,
            stop=is_over,
            sleep=sleep,
            before_sleep=_say,
            reraise=True,
        )
        return retrying(replay_first_failure)


def _say(state: tenacity.RetryCallState) -> None:
    failure = state.outcome and state.outcome.exception()
    _log.info(
        "tries again in %.2f s (attempt %d failed: %s)",
        state.upcoming_sleep,
        state.attempt_number,
        failure,
    )


class _Patient(Protocol):
    @property
    def _patience(self) -> Patience: ...


S = TypeVar("S", bound=_Patient)


def one_call(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Make all requests of a method share one patience, and its errors name the memory that its
    first two arguments name. For methods that are about one memory.

    Methods that go through many objects are not decorated: there, each object has the whole
    patience, or a long listing would end at the first hiccup after 10 seconds.
    """

    @functools.wraps(method)
    def called(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        patience = self._patience
        if not patience.share(time.monotonic()):  # within another
            return method(self, *args, **kwargs)
        try:
            return method(self, *args, **kwargs)
        except AMFSError as error:
            arguments = {**dict(zip(("entity_path", "key"), args, strict=False)), **kwargs}
            named(error, arguments.get("entity_path"), arguments.get("key"))
            raise
        finally:
            patience.unshare()

    return called


def named(error: AMFSError, entity_path: object, key: object) -> None:
    """Give an error the names of the memory that a call was about, unless it already has names."""
    if error.entity_path is None and isinstance(entity_path, str) and isinstance(key, str):
        error.entity_path, error.key = entity_path, key
