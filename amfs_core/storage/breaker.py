"""A circuit breaker: not every call asks a store that is known to be down."""

from __future__ import annotations

import logging
import random
import time

from amfs_core import fork
from amfs_core.errors import AMFSError, CircuitOpenError
from amfs_core.parallel import new_lock
from amfs_core.storage.metrics import Meter

_LEAST_FAILURES = 3
_LEAST_SECONDS = 1.0  # less is a hiccup, which patience is for
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_JITTER = (0.8, 1.2)  # a thousand agents do not come back at the same moment

_log = logging.getLogger("amfs")


class Breaker:
    """Refuses requests while a store is down, and lets one through now and then to find out.

    It opens when the store answered nothing for `patience` seconds (at least 1) in 3 requests or
    more, without a rest of that length between two of them. While it is open, it lets one request
    through after each pause. The first pause is 1 second, and each one is twice as long as the
    last, up to 30 seconds, and at least as long as the store asked for, within the same limit. Any
    answer closes it, even to a request sent before it opened. `what` names the store in the log.
    """

    def __init__(self, patience: float, meter: Meter, what: str = "the store") -> None:
        self._least_seconds = max(patience, _LEAST_SECONDS)
        self._meter = meter
        self._what = what
        self.failures = 0  # since the last answer; with none of them nothing needs to be asked here
        self._since = 0.0  # when the first of these failures was sent
        self._failed_at = 0.0
        self._last: AMFSError | None = None
        self._pause = 0.0
        self._probe_at: float | None = None  # None while it is closed
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        """Take a new lock in a forked child."""
        self._lock = new_lock()

    @property
    def is_open(self) -> bool:
        """Whether the store is known to be down."""
        return self._probe_at is not None

    @property
    def seconds(self) -> float:
        """For how long the store has not answered."""
        return time.monotonic() - self._since if self.failures else 0.0

    def admit(self) -> None:
        """Return when a request may be sent; raise `CircuitOpenError` when it may not."""
        if self._probe_at is None:
            return
        with self._lock:
            probe_at = self._probe_at  # a signal handler may close it meanwhile
            if probe_at is None:
                return
            now = time.monotonic()
            if now >= probe_at:  # this request finds out; if it never returns, the next does
                self._pause = min(2 * self._pause, _LONGEST_PAUSE)
                self._probe_at = now + self._pause * random.uniform(*_JITTER)
                return
            last, wait, down = self._last, probe_at - now, now - self._since
        self._meter.add("refused")
        raise CircuitOpenError(
            f"{last}. The store has been down for {down:.0f} s, so no request was sent this time",
            hint=f"the next one will be in {wait:.1f} s",
            object_key=None if last is None else last.object_key,
            retry_after=wait,
        ) from last

    def answered(self) -> None:
        """Note that the store answered, whatever the answer was."""
        if not self.failures:
            return
        with self._lock:
            was_open, self._probe_at = self._probe_at is not None, None
            down = time.monotonic() - self._since
            self.failures, self._last = 0, None
        if was_open:
            _log.warning("%s answers again, after %.0f s", self._what, down)

    def failed(self, error: AMFSError, sent: float) -> None:
        """Note that a request, sent at the time `sent`, got no answer, or that the store cannot
        serve it now. An error of this process, such as too many open files, is neither."""
        if error.origin == "process":
            return
        now = time.monotonic()
        with self._lock:
            # Failures before a long rest say nothing about now, unless it is known to be down.
            rested = sent - self._failed_at > self._least_seconds and self._probe_at is None
            if rested or not self.failures:
                self.failures, self._since = 0, sent
            self._failed_at = now
            self.failures += 1
            self._last = error
            asked = min(error.retry_after or 0.0, _LONGEST_PAUSE)
            probe_at = self._probe_at
            opens = (
                probe_at is None
                and self.failures >= _LEAST_FAILURES
                and now - self._since >= self._least_seconds
            )
            if opens:
                self._pause = _FIRST_PAUSE
                probe_at = now + self._pause * random.uniform(*_JITTER)
            if probe_at is not None:
                self._probe_at = max(probe_at, now + asked)
            failures, down = self.failures, now - self._since
        if opens:
            self._meter.add("outage")
            _log.warning(
                "%s has not answered for %.0f s (%d requests): a request now and then finds out "
                "when it does. The last failure: %s",
                self._what,
                down,
                failures,
                error,
            )
