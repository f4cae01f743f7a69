"""The results of a search."""

from __future__ import annotations

from dataclasses import dataclass

from amfs_core.format import MemoryEntry


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A found memory and its score: higher is better, comparable within one answer."""

    entry: MemoryEntry
    score: float
