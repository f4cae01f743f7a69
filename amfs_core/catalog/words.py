"""The search by words, over whatever keeps the index of terms.

Where few memories satisfy the filter, all of them are scored, as if there were no others. Among
many, those that score best by themselves are found first; then they and the memories around them
are scored again with their neighbours.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, Protocol

from amfs_core.ranking import (
    NOBODY,
    Frequencies,
    Neighbours,
    Postings,
    Ranked,
    Worths,
    bm25,
    query_terms,
)

Place = tuple[int, str, str, str]
"""Id, a name of the entity path, time of writing and prefix: where a memory is in the sequence."""

_NARROW = 4096
"""Up to so many memories that satisfy a filter are ranked as if there were no others."""

_SEEDS = 64
"""Among more, so many that are best by themselves are looked at again, with those around them."""

AROUND = 8
"""How far on each side a stretch reaches: further than is needed, for when the filter takes some
of it away."""

_MOST_TERMS = 64
"""Of a longer query so many distinct terms count, the first: a pasted page stays quick."""


class TermIndex(Protocol):
    """An index of terms, and the memories that satisfy one filter, at one moment."""

    def satisfying_up_to(self, most: int) -> int:
        """Return how many memories satisfy the filter, or `most` where there are more."""

    def sequence(self) -> list[tuple[Place, int]]:
        """Return all memories that satisfy the filter and the lengths of their values in terms,
        those of one entity path together, in the order of time and prefix."""

    def totals(self) -> tuple[int, int]:
        """Return how many memories are indexed, and the sum of the lengths of their values."""

    def holders(self, terms: Sequence[str]) -> dict[str, int]:
        """Return how many memories hold each of these terms; one that nobody holds may lack."""

    def postings(self, terms: Sequence[str], ids: Collection[int] | None) -> dict[str, Postings]:
        """Return the postings of these terms; with `ids` at least those of these memories. A term
        that none of them holds may lack."""

    def satisfying(self, ids: Iterable[int]) -> list[Place]:
        """Return those of the memories that satisfy the filter."""

    def around(self, seeds: Sequence[Place]) -> list[list[Place]]:
        """Return the stretch of the sequence around each memory, `AROUND` on each side of it,
        whatever the filter says of them."""


_NONE = Postings(())


def search(index: TermIndex, query: str, limit: int) -> Ranked:
    """Return the ids and scores of the memories that answer a query best, best first.

    Every one holds a term of the query and satisfies the filter. Any text is a query, and only
    words count in it. Equal scores come newest first, then by prefix.

    A score is above 0. It adds up, over the terms of the query, how rare a term is times what its
    frequency is worth, so it compares memories within one search, not between searches.
    """
    terms = query_terms(query)[:_MOST_TERMS]
    if not terms or limit <= 0:
        return []
    if index.satisfying_up_to(_NARROW + 1) <= _NARROW:
        return _search_narrow(index, terms, limit)
    return _search_wide(index, terms, limit)


# -- few memories satisfy the filter ---------------------------------------------------------------


def _search_narrow(index: TermIndex, terms: list[str], limit: int) -> Ranked:
    """Rank all that satisfy the filter, with the statistics and the neighbours among them."""
    sequence = index.sequence()
    if not sequence:
        return []
    rows = [place for place, _ in sequence]
    inside = {row[0] for row in rows}
    postings = index.postings(terms, inside)
    weighted_codes = []
    for term in terms:
        codes = postings.get(term, _NONE).among(inside)
        weighted_codes.append((bm25.rarity(len(codes), len(rows)), codes))
    candidates = set[int]().union(*(codes for _, codes in weighted_codes))
    frequencies = Frequencies(sum(length for _, length in sequence) / len(rows))
    scores = bm25.score(candidates, weighted_codes, frequencies, _adjacent(rows))
    return _best([row for row in rows if row[0] in scores], scores, limit)


# -- many do ---------------------------------------------------------------------------------------


class _Term(NamedTuple):
    rarity: float
    text: str


def _search_wide(index: TermIndex, terms: list[str], limit: int) -> Ranked:
    """Rank the best candidates again, with their neighbours; statistics are of the whole index."""
    memories, length = index.totals()
    frequencies = Frequencies(length / max(memories, 1))
    holders = index.holders(terms)
    weighted_terms = [_Term(bm25.rarity(holders.get(term, 0), memories), term) for term in terms]
    weighted_terms.sort(key=lambda term: term.rarity, reverse=True)
    count = max(_SEEDS, 2 * limit)
    own, complete = _own_scores(index, weighted_terms, frequencies, 2 * count)
    seeds = _seeds(index, own, count)
    if len(seeds) < count and not complete:  # the filter took too many of them
        own, complete = _own_scores(index, weighted_terms, frequencies, None)
        seeds = _seeds(index, own, count)
    rows: dict[int, Place] = {}
    neighbours: dict[int, Neighbours] = {}
    stretches = index.around(seeds)
    passing = {
        row[0] for row in index.satisfying({row[0] for stretch in stretches for row in stretch})
    }
    for seed, stretch in zip(seeds, stretches, strict=True):
        line = [row for row in stretch if row[0] in passing]
        at = line.index(seed)
        line = line[max(at - 4, 0) : at + 5]
        at = min(at, 4)
        rows.update((row[0], row) for row in line)
        known = _adjacent(line)
        neighbours.update((row[0], known[row[0]]) for row in line[max(at - 2, 0) : at + 3])
    near = index.postings(terms, rows)
    weighted_codes = [
        (rarity, near.get(term, _NONE).among(rows)) for rarity, term in weighted_terms
    ]
    candidates = set[int]().union(*(codes for _, codes in weighted_codes)) & neighbours.keys()
    scores = bm25.score(candidates, weighted_codes, frequencies, neighbours)
    return _best([rows[id] for id in candidates], scores, limit)


def _own_scores(
    index: TermIndex,
    weighted_terms: Sequence[_Term],
    frequencies: Frequencies,
    contenders: int | None,
) -> tuple[dict[int, float], bool]:
    """Return what memories score by themselves, and whether that is all of them.

    `weighted_terms` has the rarest term first. With `contenders`, a memory that cannot be among so
    many best is left out, as soon as the terms still to come cannot lift it there (MaxScore, Turtle
    and Flood, 1995): the holders of frequent words alone, who would be most of the work.
    """
    own: dict[int, float] = {}
    complete = True
    for at, (weight, term) in enumerate(weighted_terms):
        if contenders is not None and complete and len(own) >= contenders:
            rest = sum(rarity for rarity, _ in weighted_terms[at:]) * (bm25.K1 + 1)
            bar = heapq.nlargest(contenders, own.values())[-1]
            if rest < bar:
                own = {id: value for id, value in own.items() if value + rest >= bar}
                complete = False
        worths = Worths(weight, frequencies)
        if complete:
            postings = index.postings([term], None).get(term, _NONE)
            values = map(worths.__getitem__, postings.codes)
            get = own.get
            for id, value in zip(postings.ids, values, strict=True):
                own[id] = get(id, 0.0) + value
        else:
            postings = index.postings([term], own).get(term, _NONE)
            for id, code in postings.among(own).items():
                own[id] += worths[code]
    return own, complete


def _seeds(index: TermIndex, scores: dict[int, float], count: int) -> list[Place]:
    """Return the `count` best that satisfy the filter, or all if there are fewer.

    It is looked at in ever larger steps down the scores, ties together: the result is complete.
    """
    rows: list[Place] = []
    falling = sorted(scores.values(), reverse=True)
    ceiling, taken = float("inf"), 0
    while len(rows) < count and taken < len(falling):
        floor = falling[min(max(2 * taken, count), len(falling)) - 1]
        ids = [id for id, score in scores.items() if floor <= score < ceiling]
        rows += index.satisfying(ids)
        ceiling = floor
        taken += len(ids)
    return _ordered(rows, scores)[:count]


# -- both ------------------------------------------------------------------------------------------


def _adjacent(line: Sequence[Place]) -> dict[int, Neighbours]:
    """Return the neighbours of memories in sequence, each only under its own entity path."""
    nobody = (NOBODY, "")
    ids = [nobody, nobody, *((row[0], row[1]) for row in line), nobody, nobody]
    neighbours: dict[int, Neighbours] = {}
    for at, (memory_id, path) in enumerate(ids[2:-2], start=2):
        near = (ids[at - 1], ids[at + 1], ids[at - 2], ids[at + 2])
        before, after, before2, after2 = (id if other == path else NOBODY for id, other in near)
        neighbours[memory_id] = (before, after, before2, after2)
    return neighbours


def _best(rows: list[Place], scores: dict[int, float], limit: int) -> Ranked:
    return [(row[0], scores[row[0]]) for row in _ordered(rows, scores)[:limit]]


def _ordered(rows: list[Place], scores: dict[int, float]) -> list[Place]:
    """Return memories best first; equal ones newest first, then by prefix."""
    rows = sorted(rows, key=lambda row: row[3])
    rows.sort(key=lambda row: row[2], reverse=True)
    rows.sort(key=lambda row: scores[row[0]], reverse=True)
    return rows
