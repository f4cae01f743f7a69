"""The id of a call that writes: 128 random bits, unique among all writers without asking any.

They come from the kernel each time. A generator of our own would be copied with the process, by a
fork or by the snapshot of a machine, and two writers with one id would each take the other's
version for its own (`docs/design/exactly-once.md`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress

_BYTES = 16


def new_write_id() -> str:
    """Return a new id, as 32 hexadecimal digits."""
    return _random(_BYTES).hex()


def _source() -> Callable[[int], bytes]:
    """Return `os.getrandom` where it works, else `os.urandom`.

    Both ask the same generator. `urandom` lets the GIL go meanwhile, and then has to wait for the
    thread that took it: that is a tenth of what a write adds to its request (`speed.md`).
    """
    if sys.platform == "linux":
        with suppress(OSError):  # the kernel is too old, or a sandbox forbids the call
            os.getrandom(_BYTES)
            return os.getrandom
    return os.urandom


_random = _source()
