"""Timing the same amount of work by two means, in turns, and comparing the medians."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.figure import Figure

SECTION = "limits"
SPEED, COST = "rate", "CPU"
"""What a comparison's ratios are of."""

Work = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: operations per second, and CPU of this process per operation in microseconds."""

    rate: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ours and the raw client's samples, in pairs that were measured right after each other."""

    name: str
    raw_name: str
    pairs: tuple[tuple[Sample, Sample], ...]
    least_speed: float | None = None
    most_cpu: float | None = None

    def figures(self) -> Iterator[Figure]:
        """Yield both rates and both costs, and their ratios with the goals."""
        for place, peer in enumerate(("AMFS", self.raw_name)):
            samples = [pair[place] for pair in self.pairs]
            rates = tuple(sample.rate for sample in samples)
            yield Figure(SECTION, self.name, peer, "/s", rates)
            costs = tuple(sample.cpu for sample in samples)
            yield Figure(SECTION, self.name, peer, "µs CPU", costs)
        speed = tuple(ours.rate / raw.rate for ours, raw in self.pairs)
        yield Figure(SECTION, f"{self.name}: {SPEED}", "AMFS", "×", speed, goal=self.least_speed)
        cpu = tuple(ours.cpu / raw.cpu for ours, raw in self.pairs)
        yield Figure(SECTION, f"{self.name}: {COST}", "AMFS", "times", cpu, goal=self.most_cpu)


def run(work: Work, count: int, threads: int) -> Sample:
    """Do `work(0) … work(count - 1)` with this many threads."""
    numbers = iter(range(count))  # `next` on a range iterator is one step under the GIL

    def worker() -> None:
        for number in numbers:
            work(number)

    pool = [threading.Thread(target=worker) for _ in range(threads)]
    cpu, started = time.process_time(), time.perf_counter()
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    elapsed = time.perf_counter() - started
    return Sample(count / elapsed, (time.process_time() - cpu) / count * 1e6)


def compare(
    name: str,
    raw_name: str,
    ours: Callable[[int], Work],
    raw: Callable[[int], Work],
    *,
    count: int,
    threads: int,
    repetitions: int,
    least_speed: float | None = None,
    most_cpu: float | None = None,
) -> Comparison:
    """Measure both in turns. `ours(r)` and `raw(r)` make the work of repetition r; repetition 0
    warms up and is not counted."""
    pairs: list[tuple[Sample, Sample]] = []
    for repetition in range(repetitions + 1):
        amount = count if repetition else -(-count // 10)
        works = [ours(repetition), raw(repetition)]
        order = (0, 1) if repetition % 2 else (1, 0)
        samples = {place: run(works[place], amount, threads) for place in order}
        if repetition:
            pairs.append((samples[0], samples[1]))
    return Comparison(name, raw_name, tuple(pairs), least_speed, most_cpu)
