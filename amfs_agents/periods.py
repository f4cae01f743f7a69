"""`Periods`: namespaces that follow each other in time, each removed whole once it is over.

Inside a namespace a version number stays taken forever, so erased memories leave stubs. Short-lived
memories are kept in short-lived namespaces instead (docs/design/erasure.md).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from amfs_core import fork
from amfs_core.errors import InvalidValueError
from amfs_core.format import Layout, escape, unescape
from amfs_core.memory import AgentMemory
from amfs_core.parallel import mapped

CLOCKS = timedelta(seconds=30)
"""The largest error of a clock with which two processes still agree on the period to write in."""
SHORTEST = timedelta(minutes=10)
"""Shortest period. It is far longer than clocks may differ."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STAMP = "%Y%m%dT%H%M%SZ"
_LAST = "\U0010ffff"
_THREADS = 32


class Periods:
    """The namespaces beside a memory's own that hold what is under `path`, a new one every
    `length`.

    Memories written in one period can be read until the next one ends, so they must not last longer
    than a period. Safe to share between threads, and usable after a fork.
    """

    def __init__(self, memory: AgentMemory, path: str, length: timedelta) -> None:
        if length < SHORTEST or length % timedelta(seconds=1):
            raise InvalidValueError(
                f"period must be whole seconds, at least {SHORTEST.total_seconds():.0f}"
            )
        self.length = length
        self._memory = memory
        self._path = path
        self._stem = f"{memory.namespace}+{path.replace('/', '+')}+"
        self._name = re.compile(re.escape(self._stem) + r"([1-9]\d{0,9})s\+(\d{8}T\d{6}Z)")
        self._open: dict[int, AgentMemory] = {}
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        """Take a new lock in a forked child."""
        self._lock = threading.RLock()

    def readable(self, now: datetime) -> list[AgentMemory]:
        """Return the periods in which something may be valid now, the newest first."""
        newest = self._number(now + CLOCKS)
        oldest = self._number(now) - 1
        with self._lock:
            for number in [open_number for open_number in self._open if open_number < oldest]:
                self._open.pop(number).close()
            return [self._period(number) for number in range(newest, oldest - 1, -1)]

    def writable(self, now: datetime) -> list[AgentMemory]:
        """Return the period to write in, or around the change from one to the next both, the older
        one first: a process whose clock differs then writes in one of them too."""
        numbers = sorted({self._number(now - CLOCKS), self._number(now + CLOCKS)})
        with self._lock:
            return [self._period(number) for number in numbers]

    def remove_over(self, now: datetime) -> tuple[int, int]:
        """Remove all objects of the periods that are over; return how many memories and objects.

        A period is over when the one after it and another one of this length have ended: nobody
        reads it any longer, and only a process that slept since then writes to it. The next call
        removes the objects that such a writer, or a crash, has
        left. 1 request, 1 for each period there is,
        1 more and 1 per 1,000 objects for each that is over, and 1 for each of its objects.
        """
        memories = objects = 0
        for name in self._over(now):
            prefix = Layout(name).entity_prefix(self._path)
            ours = re.compile(re.escape(prefix) + r"([0-9a-f]{64})/v[1-9]\d*\.json")
            store = self._memory.engine.versions.store
            after, seen = "", ""
            while page := next(iter(store.pages(prefix, after)), ()):
                after = page[-1].key
                matches = [match for info in page if (match := ours.fullmatch(info.key))]
                for match in matches:
                    memories += match[1] != seen
                    seen = match[1]
                mapped(store.delete, (match[0] for match in matches), _THREADS)
                objects += len(matches)
        return memories, objects

    def _over(self, now: datetime) -> Iterator[str]:
        """Yield the namespaces of periods that are over, whatever the length was then."""
        store = self._memory.engine.versions.store
        after = stem = escape(self._stem)
        while (info := next(store.list("", after), None)) is not None:
            segment = info.key.partition("/")[0]
            if not segment.startswith(stem):
                return
            after = f"{segment}/{_LAST}"
            name = unescape(segment) or ""
            if match := self._name.fullmatch(name):
                length, begin = timedelta(seconds=int(match[1])), _begin(match[2])
                if begin is not None and begin + 3 * max(length, SHORTEST) <= now:
                    yield name

    def _number(self, now: datetime) -> int:
        return (now - _EPOCH) // self.length

    def _period(self, number: int) -> AgentMemory:
        period = self._open.get(number)
        if period is None:
            begin = _EPOCH + number * self.length
            seconds = self.length // timedelta(seconds=1)
            engine = self._memory.engine
            period = self._open[number] = AgentMemory(
                self._memory.agent_id,
                adapter=engine.adapter,
                namespace=f"{self._stem}{seconds}s+{begin:{_STAMP}}",
                session_id=self._memory.session_id,
                patience=engine.patience.seconds,
                max_value_bytes=engine.versions.max_value_bytes,
            )
        return period


def _begin(stamp: str) -> datetime | None:
    try:
        return datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None
