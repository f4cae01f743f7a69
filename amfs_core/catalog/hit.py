"""What a search finds."""

from __future__ import annotations

from dataclasses import dataclass

from amfs_core.format import MemoryEntry


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A memory that was found, and its score: higher is better, comparable within one answer."""

    entry: MemoryEntry
    score: float
