"""`amfs tend` with a clock that whoever started it moves: a line on standard input is the time now.

Whenever the program would sleep it says so on standard output, for how long, and goes on with the
next line; at the end of its input it ends. What it writes gets the time of that clock.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime, tzinfo
from typing import Any

import amfs.cli.figures
import amfs.cli.tend
import amfs_core.upkeep.tend
from amfs.__main__ import main
from amfs_core.upkeep.backup import backups, create, prune
from amfs_local import LocalAdapter


class Clock:
    """Stands still until it is moved."""

    now = float(sys.stdin.readline())

    def time(self) -> float:
        return self.now

    monotonic = time

    def sleep(self, seconds: float) -> None:
        print(f"sleep {seconds}", flush=True)
        line = sys.stdin.readline()
        if not line:
            sys.exit(0)
        self.now = float(line)


class Moved(datetime):
    """A `datetime` whose present is that of the clock."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.fromtimestamp(clock.now, tz)


def dated(self: LocalAdapter, key: str, data: bytes) -> bool:
    made = _create(self, key, data)
    if made:
        os.utime(self._path(key), (clock.now, clock.now))
    return made


_create = LocalAdapter.create
LocalAdapter.create = dated  # type: ignore[method-assign]
clock: Any = Clock()
amfs.cli.tend.time = clock
amfs.cli.figures.time = clock
for module in (amfs_core.upkeep.tend, backups, create, prune):
    module.datetime = Moved  # type: ignore[attr-defined]
main()
