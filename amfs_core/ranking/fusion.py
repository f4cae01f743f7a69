"""Joining two rankings of the same memories: by their words and by their meaning.

`docs/design/search.md` says what each part is worth, and the two together.
"""

from __future__ import annotations

from collections.abc import Mapping

Ranked = list[tuple[int, float]]
"""Ids and scores, best first."""

CANDIDATES = 200
"""How many of each ranking are looked at, at least."""

MEANING = 0.3
"""What the nearest by meaning counts for, beside 1 for the best by words."""


def fused(words: Ranked, nearness: Mapping[int, float], average: float) -> Ranked:
    """Return ids with the sum of both scores, best first.

    A score by words counts as a part of the best one. A nearness (a cosine) counts by how far it
    stands out: 0 where it is the `average` of all memories that were compared, 1 where it is the
    highest. `nearness` has every id that is to be ranked, in the order for equal scores.
    """
    best = words[0][1] if words else 1.0
    highest = max(nearness.values(), default=average)
    spread = highest - average or 1.0
    held = dict(words)
    scores = {
        id: held.get(id, 0.0) / best + MEANING * (near - average) / spread
        for id, near in nearness.items()
    }
    return sorted(scores.items(), key=lambda one: -one[1])
