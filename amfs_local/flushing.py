"""Flushing several files or directories at a time.

Disks and journals take what waits for them in one go: flushes that twelve threads ask for, and
do nothing else, take a third of the time of as many in turn (`docs/design/local-durability.md`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from amfs_core.crew import Crew

_THREADS = 12

FlushEach = Callable[[Sequence[int]], set[int]]
"""Flushes each of some descriptors, and returns those that could be."""


@contextmanager
def flushing(*, durable: bool) -> Iterator[FlushEach]:
    """Give what flushes, by several threads at a time; it does nothing where nothing
    has to be durable."""
    if not durable:
        yield set
        return
    crew = Crew(_THREADS, "amfs-flush")

    def flush_each(fds: Sequence[int]) -> set[int]:
        flushed: set[int] = set()

        def some(first: int) -> None:
            for fd in fds[first::_THREADS]:
                try:
                    os.fsync(fd)
                except OSError:  # left out: what is not durable was not made
                    continue
                flushed.add(fd)  # one step, for all threads

        crew.each(some, range(min(_THREADS, len(fds))))
        return flushed

    yield flush_each
