"""Imports in the background, for which a fork waits.

Without that, a child would inherit half-imported modules but not the thread that finishes them, and
every later import from them would fail for as long as the child lives.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

_LONGEST_SECONDS = 10.0
_PAUSE_SECONDS = 0.005

_threads: deque[int] = deque()  # those that import; no lock: a signal handler may fork


@contextmanager
def under_way() -> Iterator[None]:
    """Make forks of other threads wait until the block ends."""
    own = threading.get_ident()
    _threads.append(own)
    try:
        yield
    finally:
        _threads.remove(own)


def _wait() -> None:
    own = threading.get_ident()
    until = time.monotonic() + _LONGEST_SECONDS
    while any(thread != own for thread in list(_threads)) and time.monotonic() < until:
        time.sleep(_PAUSE_SECONDS)


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(before=_wait, after_in_child=_threads.clear)
