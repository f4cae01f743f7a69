"""What the interpreter allows: a raw call, followed by so many microseconds of Python.

Only one thread of a process runs Python at a time, and where the server shares the processors, what
the client spends is taken from the server. So the time that an operation spends in Python, whatever
it does there, bounds its rate; here it does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns

from benchmarks.figure import Figure
from benchmarks.local import by_hand
from benchmarks.measure import Work, compare
from benchmarks.peer import places
from benchmarks.s3 import BODY, READ, THREADS, WRITE, Works, gets, puts, raw_store
from benchmarks.scale import Scale
from benchmarks.workplace import serving
from tests.support.servers import MINIO

SECTION = "interpreter"
SPENT = (20, 40, 60)
"""Microseconds."""
WRITERS = 8
DIRECTORY = f"directory: durable write, {WRITERS} threads"


@dataclass(frozen=True, slots=True)
class _Raw:
    """A raw call: by whom, from how many threads, and the same again in a place of its own."""

    name: str
    peer: str
    threads: int
    works: Callable[[str], Works]


def costs(scale: Scale) -> Iterator[Figure]:
    """Yield the rate and the CPU beside the raw call's, for each of `SPENT`."""
    with serving(MINIO) as server:
        raw = raw_store(server, server.new_bucket())
        put = _Raw(WRITE, "obstore put", THREADS, lambda place: puts(raw, place, BODY))
        get = _Raw(READ, "obstore get", THREADS, lambda _: gets(raw, _alone(SPENT[0])))
        yield from _compared(put, scale)
        yield from _compared(get, scale)
    with places() as made:
        root = made.root
        hand = _Raw(DIRECTORY, "files by hand", WRITERS, lambda place: _by_hand(root / place))
        yield from _compared(hand, scale)


def _alone(spent: int) -> str:
    """Return the place of the raw calls that those with so much Python are compared with."""
    return f"raw-{spent}"


def _by_hand(root: Path) -> Works:
    def of(repetition: int) -> Work:
        directory = root / f"{repetition}"
        directory.mkdir(parents=True)
        return lambda number: by_hand(directory, f"v{number}.json", BODY)

    return of


def _compared(raw: _Raw, scale: Scale) -> Iterator[Figure]:
    for spent in SPENT:
        alone, also = raw.works(_alone(spent)), raw.works(f"spent-{spent}")
        pairs = compare(
            raw.name,
            raw.peer,
            _spending(also, spent),
            alone,
            count=scale.raw_operations // 4,
            threads=raw.threads,
            repetitions=scale.repetitions * 4,
        ).pairs
        rates = tuple(sample.rate / other.rate for sample, other in pairs)
        yield Figure(SECTION, raw.name, raw.peer, "×", rates, at=spent)
        cpu = tuple(sample.cpu / other.cpu for sample, other in pairs)
        yield Figure(SECTION, raw.name, raw.peer, "times", cpu, at=spent)


def _spending(works: Works, microseconds: int) -> Works:
    """Return the work with so much Python after each call."""

    def of(repetition: int) -> Work:
        work = works(repetition)

        def spend(number: int) -> None:
            work(number)
            end = perf_counter_ns() + 1000 * microseconds
            while perf_counter_ns() < end:
                pass

        return spend

    return of
