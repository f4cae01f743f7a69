"""The writer's clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_TICK = timedelta(microseconds=1)

AHEAD = timedelta(minutes=10)
"""A version from so far in the future was written by a clock that was wrong, not just unequal."""


class Clock:
    """The time of day in UTC, never the same twice and never going back within this process."""

    def __init__(self) -> None:
        self._last = datetime.min.replace(tzinfo=UTC)

    def now(self) -> datetime:
        """Return the time now, at least a microsecond after any that was returned before."""
        # A lock costs more than all else here (`speed.md`). The interpreter changes threads at
        # calls and loops, and none is between reading `_last` and setting it. Without a GIL two
        # threads might get the same time, as two processes may.
        now, last = datetime.now(UTC), self._last
        if now <= last:
            now = last + _TICK
        self._last = now
        return now
