"""The writer's clock."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

_log = logging.getLogger("amfs")
_TICK = timedelta(microseconds=1)

AHEAD = timedelta(minutes=10)
"""A version from so far in the future was written by a clock that was wrong, not just unequal."""


class Clock:
    """The time of day in UTC, never the same twice and not going back within this process.

    When the time of day falls by more than `AHEAD`, it was wrong before and has been set right:
    then this follows it, so that not everything which is written from here on is from the future.
    """

    def __init__(self) -> None:
        self._last = datetime.min.replace(tzinfo=UTC)

    def now(self) -> datetime:
        """Return the time now, at least a microsecond after any that was returned before."""
        # A lock costs more than all else here (`speed.md`). The interpreter changes threads at
        # calls and loops, and none is between reading `_last` and setting it. Without a GIL two
        # threads might get the same time, as two processes may.
        now, last = datetime.now(UTC), self._last
        if now <= last:
            now = last + _TICK if last - now <= AHEAD else self._set_back(last, now)
        self._last = now
        return now

    @staticmethod
    def _set_back(last: datetime, now: datetime) -> datetime:
        _log.warning(
            "the clock of this machine was set back from %s to %s: what was written before keeps "
            "the time that it was given, and `amfs verify` names memories from the future",
            last.isoformat(timespec="seconds"),
            now.isoformat(timespec="seconds"),
        )
        return now
