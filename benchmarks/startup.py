"""How long a command takes before it does anything."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time


def seconds(*arguments: str, repetitions: int) -> float:
    """Return the median time of a new interpreter that runs these arguments, warm disk cache."""
    times = []
    for _ in range(repetitions + 1):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])
