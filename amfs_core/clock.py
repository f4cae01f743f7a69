"""The writer's clock."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from amfs_core import fork

_TICK = timedelta(microseconds=1)


class Clock:
    """The time of day in UTC, never the same twice and never going back within this process."""

    def __init__(self) -> None:
        self._last = datetime.min.replace(tzinfo=UTC)
        self._lock = threading.Lock()
        fork.register(self)

    def after_fork(self) -> None:
        """Take a new lock in a forked child."""
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """Return the time now, at least a microsecond after any that was returned before."""
        with self._lock:
            now = datetime.now(UTC)
            if now <= self._last:
                now = self._last + _TICK
            self._last = now
            return now
