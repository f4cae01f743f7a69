"""The most memory that this process has had."""

from __future__ import annotations

import contextlib
import re
import resource
import sys
from pathlib import Path


def forget() -> None:
    """Begin again, where the system can: a child of Linux starts at the peak of its parent."""
    with contextlib.suppress(OSError):  # not Linux; 5 resets VmHWM: proc(5)
        Path("/proc/self/clear_refs").write_text("5")


def megabytes() -> float:
    """Return the peak since `forget`, or of the whole life of the process."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        if found is not None:
            return int(found[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
