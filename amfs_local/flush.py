"""Flushing several files or directories at a time.

Disks and journals take waiting flushes together: flushes from twelve threads that do nothing else
take a third of the time of as many flushes in turn (`docs/design/local-durability.md`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from amfs_core.parallel import mapped

FlushEach = Callable[[Sequence[int]], set[int]]
"""Flushes each of some descriptors, and returns those that could be."""

_THREADS = 12


def flush_each(fds: Sequence[int]) -> set[int]:
    """Flush descriptors, several at a time, and return those that could be flushed."""

    def flush(first: int) -> set[int]:
        flushed: set[int] = set()
        for fd in fds[first::_THREADS]:
            try:
                os.fsync(fd)
            except OSError:  # left out: what is not durable was not made
                continue
            flushed.add(fd)
        return flushed

    return set().union(*mapped(flush, range(min(_THREADS, len(fds))), _THREADS))
