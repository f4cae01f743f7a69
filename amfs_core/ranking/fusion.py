"""Joining two rankings of the same memories: by their words and by their meaning.

`docs/design/search.md` gives the recall of each ranking and of both together.
"""

from __future__ import annotations

from collections.abc import Mapping

Ranked = list[tuple[int, float]]
"""Ids and scores, best first."""

CANDIDATES = 200
"""The least number of memories that are taken from each ranking."""

MEANING = 0.3
"""The weight of the nearest by meaning; the best by words counts 1."""


def fused(words: Ranked, nearness: Mapping[int, float], average: float) -> Ranked:
    """Return ids with the sum of both scores, best first.

    A score by words counts as a fraction of the best one. A nearness (a cosine) counts by how far
    it is above the others: 0 for the `average` of all compared memories, 1 for the highest.
    `nearness` has every id to rank, in the order for equal scores.
    """
    best = words[0][1] if words else 1.0
    highest = max(nearness.values(), default=average)
    spread = highest - average or 1.0
    word_scores = dict(words)
    scores = {
        id: word_scores.get(id, 0.0) / best + MEANING * (near - average) / spread
        for id, near in nearness.items()
    }
    return sorted(scores.items(), key=lambda pair: -pair[1])
