"""What typical uses cost in a month, from the requests that were counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from benchmarks.figure import Result
from benchmarks.requests import ENTRIES, SECTION

PUT = LIST = 0.005 / 1_000
"""Dollars for one request: S3 Standard, us-east-1, as in docs/cost.md."""
GET = 0.0004 / 1_000
STORED = 0.023 / 1e9
"""Dollars for a byte that is stored for a month."""
PRICES = {"PUT": PUT, "LIST": LIST, "GET": GET, "DELETE": 0.0}
BYTES = 1_000
"""Of a version."""
PAGE = 1_000
"""Names that one LIST answers."""


@dataclass(frozen=True, slots=True)
class Use:
    """A month of a use: how often each operation, and how often all memories are looked at."""

    name: str
    what: str
    operations: Mapping[str, float]
    memories: int
    looks: float = 0
    """Lists, searches and polls, each over all memories, by processes that did so before."""
    news: float = 0
    """Versions that others wrote between the looks, over all who look."""
    versions: float = 0
    """That are stored at the end of the month."""


DAYS = 30
USES = (
    Use(
        "10 agents chatting",
        "each day each agent writes 500 new memories, updates 50, reads 500 that it knows, "
        "and searches 200 times among 10,000",
        {
            "write, new key": 10 * 500 * DAYS,
            "write, known key": 10 * 50 * DAYS,
            "read, known key": 10 * 500 * DAYS,
        },
        memories=10_000,
        looks=10 * 200 * DAYS,
        news=9 * 10 * 550 * DAYS,
        versions=10_000 + 10 * 550 * DAYS,
    ),
    Use(
        "1,000 agents polling",
        "each looks every minute for news among 1,000 memories, of which one changes each minute",
        {"write, known key": 60 * 24 * DAYS},
        memories=1_000,
        looks=1_000 * 60 * 24 * DAYS,
        news=1_000 * 60 * 24 * DAYS,
        versions=1_000 + 60 * 24 * DAYS,
    ),
    Use(
        "a function for each event",
        "a million events; for each a new process reads one memory and writes it again",
        {"read, cold": 1_000_000, "write, known key": 1_000_000},
        memories=1_000,
        versions=1_000_000,
    ),
)


def dollars(result: Result, peer: str, use: Use) -> float | None:
    """Return the dollars of a month; None if the requests were not counted."""
    total = use.versions * BYTES * STORED
    for operation, times in use.operations.items():
        for unit, price in PRICES.items():
            count = result.of(SECTION, unit).value(operation, peer)
            if count is None:
                return None
            total += times * count * price
    if use.looks:
        gets = result.of(SECTION, "GET").value(f"list {ENTRIES}, again", peer)
        if gets is None:
            return None
        total += use.looks * ceil(use.memories / PAGE) * LIST
        total += use.looks * gets / ENTRIES * use.memories * GET
        if gets == 0:  # it gets what is new; one that gets everything has that already
            total += use.news * GET
    return total
