"""Flushing several files or directories at a time.

Disks and journals take what waits for them in one go: flushes that eight threads ask for, and
do nothing else, take a third of the time of as many in turn (`docs/design/local-durability.md`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

_THREADS = 8


class Flushing:
    """Threads that flush, for as long as a `with` block lasts; none where nothing is durable."""

    def __init__(self, *, durable: bool) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "amfs-flush") if durable else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._threads:
            self._threads.shutdown()

    def each(self, fds: Sequence[int]) -> set[int]:
        """Flush each of these descriptors, and return those that could be."""
        if self._threads is None:
            return set(fds)
        flushed: set[int] = set()

        def some(first: int) -> None:
            for fd in fds[first::_THREADS]:
                try:
                    os.fsync(fd)
                except OSError:
                    continue
                flushed.add(fd)  # one step, for all threads

        list(self._threads.map(some, range(min(_THREADS, len(fds)))))
        return flushed
