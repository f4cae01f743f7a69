"""Timing the same amount of work by two means, in turns, and comparing the medians."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

Work = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: operations per second, and CPU of this process per operation in microseconds."""

    rate: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The medians of ours and theirs, and the spread of the ratio between repetitions."""

    name: str
    ours: Sample
    raw: Sample
    ratios: tuple[float, ...]
    goal: str

    @property
    def speed(self) -> float:
        """Our rate as a part of the raw one: the median of the repetitions' ratios."""
        return statistics.median(self.ratios)

    @property
    def cpu(self) -> float:
        """Our CPU per operation as a multiple of the raw one."""
        return self.ours.cpu / self.raw.cpu


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
    ours: Callable[[int], Work],
    raw: Callable[[int], Work],
    *,
    count: int,
    threads: int,
    repetitions: int,
    goal: str,
) -> Comparison:
    """Measure both in turns. `ours(r)` and `raw(r)` make the work of repetition r; repetition 0
    warms up and is not counted."""
    our_samples: list[Sample] = []
    raw_samples: list[Sample] = []
    for repetition in range(repetitions + 1):
        amount = count if repetition else max(100, count // 10)
        turns = [(our_samples, ours), (raw_samples, raw)]
        for samples, make in turns if repetition % 2 else reversed(turns):
            samples.append(run(make(repetition), amount, threads))
    pairs = list(zip(our_samples[1:], raw_samples[1:], strict=True))
    return Comparison(
        name,
        _median(our_samples[1:]),
        _median(raw_samples[1:]),
        tuple(ours.rate / raw.rate for ours, raw in pairs),
        goal,
    )


def _median(samples: list[Sample]) -> Sample:
    return Sample(
        statistics.median(sample.rate for sample in samples),
        statistics.median(sample.cpu for sample in samples),
    )
