"""Counting what a store is asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from amfs import AgentMemory
from tests.support.known import known


@contextlib.contextmanager
def counted(memory: AgentMemory) -> Iterator[dict[str, int]]:
    """The requests by kind that are made inside, once it has ended; kinds without any left out. The
    first look at the manifest comes before."""
    known(memory)
    before = memory.metrics.requests
    counts: dict[str, int] = {}
    yield counts
    after = memory.metrics.requests
    counts.update(
        {kind: after[kind] - before[kind] for kind in after if after[kind] > before[kind]}
    )
