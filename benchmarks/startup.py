"""How long a command takes before it does anything."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.figure import Figure
from benchmarks.measure import SECTION
from benchmarks.scale import Scale

_STARTS = (
    ("import amfs", ("-c", "import amfs"), 0.2),
    ("amfs --help", ("-m", "amfs", "--help"), 0.4),
)


def starts(scale: Scale) -> Iterator[Figure]:
    """Yield the seconds of a new interpreter, with its files in the kernel's memory."""
    for name, arguments, goal in _STARTS:
        times = [_seconds(arguments) for _ in range(scale.repetitions + 2)]
        yield Figure(SECTION, name, "AMFS", "s", tuple(times[1:]), goal=goal)


def _seconds(arguments: tuple[str, ...]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started
