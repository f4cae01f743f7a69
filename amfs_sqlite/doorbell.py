"""The doorbell of a file: every commit changes its write-ahead log, which this watches.

Not `PRAGMA data_version`: a connection would have to stay open for that, across forks too. A look
is two calls of the system, 3 µs, fifty times a second.
"""

from __future__ import annotations

import os
import time

from amfs_core.flag import Flag

_STEP_SECONDS = 0.02

_COARSE_SECONDS = 0.05
"""The times of files have the resolution of the clock's ticks. A change in the present tick may not
be the last one with its time, so the doorbell rings once more after it."""

_State = tuple[tuple[int, int, int] | None, ...]


class FileDoorbell:
    """Rings for every change of the file or its log. The first wait returns at once, because
    something may have changed before."""

    def __init__(self, path: str) -> None:
        self._names = (path, f"{path}-wal")
        self._seen: _State | None = None
        self._may_hide_more = False
        self._closed = Flag()

    def wait(self, timeout: float) -> bool:
        """Block for up to `timeout` seconds; True when something changed since the last wait."""
        until = time.monotonic() + timeout
        while not self._closed.is_set():
            if self._has_changed():
                return True
            left = until - time.monotonic()
            if left <= 0:
                return False
            self._closed.wait(min(left, _STEP_SECONDS))
        return False

    def close(self) -> None:
        """Make a `wait` under way return."""
        self._closed.set()

    def _has_changed(self) -> bool:
        state = tuple(_state(name) for name in self._names)
        newest = max((status[2] for status in state if status is not None), default=0) / 1e9
        is_fresh = abs(time.time() - newest) < _COARSE_SECONDS
        if state == self._seen and (is_fresh or not self._may_hide_more):
            return False
        self._seen, self._may_hide_more = state, is_fresh
        return True


def _state(name: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(name)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
