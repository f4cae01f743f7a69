"""The ranked search over the catalog and its index of terms.

Where few memories satisfy the filter, all of them are scored, as if there were no others. Among
many, those that score best by themselves are found first; then they and the memories around them
are scored again with their neighbours.
"""

from __future__ import annotations

import heapq
import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from amfs_core.catalog.sqlite.postings import BLOCK_BITS, SCHEMA, Postings, Row, add, remove
from amfs_core.ranking import NOBODY, Frequencies, Neighbours, Worths, bm25, query_terms

__all__ = ["SCHEMA", "Row", "add", "remove", "search"]

_Place = tuple[int, str, str, str]
"""Id, entity path, time of writing and prefix: where a memory is in the sequence."""

_NARROW = 4096
"""Up to so many memories that satisfy a filter are ranked as if there were no others."""

_SEEDS = 64
"""Among more, so many that are best by themselves are looked at again, with those around them."""

_MOST_TERMS = 64
"""Of a longer query so many distinct terms count, the first: a pasted page stays quick."""


def search(
    connection: sqlite3.Connection,
    query: str,
    *,
    where: str = "1",
    parameters: Sequence[Any] = (),
    limit: int = 10,
) -> list[tuple[int, float]]:
    """Return the ids and scores of the memories that answer a query best, best first.

    Every one holds a term of the query and satisfies `where`, a condition on the table `memory`
    with its `parameters`. Any text is a query, and only words count in it. Equal scores come newest
    first, then by prefix.

    A score is above 0. It adds up, over the terms of the query, how rare a term is times what its
    frequency is worth, so it compares memories within one search, not between searches.
    """
    terms = query_terms(query)[:_MOST_TERMS]
    if not terms or limit <= 0:
        return []
    count = f"SELECT count(*) FROM (SELECT 1 FROM memory WHERE {where} LIMIT {_NARROW + 1})"
    ((satisfying,),) = connection.execute(count, parameters)
    if satisfying <= _NARROW:
        return _search_narrow(connection, terms, where, parameters, limit)
    return _search_wide(connection, terms, where, parameters, limit)


# -- few memories satisfy the filter ---------------------------------------------------------------


def _search_narrow(
    connection: sqlite3.Connection,
    terms: list[str],
    where: str,
    parameters: Sequence[Any],
    limit: int,
) -> list[tuple[int, float]]:
    """Rank all that satisfy the filter, with the statistics and the neighbours among them."""
    rows = connection.execute(
        "SELECT memory.id, entity_path, written_at, prefix, "
        "ifnull((SELECT length FROM fulltext_memory WHERE fulltext_memory.id = memory.id), 0) "
        f"FROM memory WHERE {where} ORDER BY entity_path, written_at, prefix",
        parameters,
    ).fetchall()
    if not rows:
        return []
    inside = {row[0] for row in rows}
    blocks = json.dumps(sorted({id >> BLOCK_BITS for id in inside}))
    found = []
    for term in terms:
        postings = connection.execute(
            "SELECT postings FROM json_each(?) "
            "JOIN fulltext_posting ON term = ? AND block = json_each.value",
            (blocks, term),
        )
        held = Postings(postings).among(inside)
        found.append((bm25.rarity(len(held), len(rows)), held))
    candidates = set[int]().union(*(held for _, held in found))
    frequencies = Frequencies(sum(row[4] for row in rows) / len(rows))
    scores = bm25.score(candidates, found, frequencies, _adjacent([row[:4] for row in rows]))
    return _best([row[:4] for row in rows if row[0] in scores], scores, limit)


# -- many do ---------------------------------------------------------------------------------------


def _search_wide(
    connection: sqlite3.Connection,
    terms: list[str],
    where: str,
    parameters: Sequence[Any],
    limit: int,
) -> list[tuple[int, float]]:
    """Rank the best candidates again, with their neighbours; statistics are of the whole index."""
    ((memories, length),) = connection.execute("SELECT memories, length FROM fulltext_total")
    frequencies = Frequencies(length / max(memories, 1))
    found = []
    for term in terms:
        postings = Postings(
            connection.execute("SELECT postings FROM fulltext_posting WHERE term = ?", (term,))
        )
        found.append((bm25.rarity(len(postings.ids), memories), postings))
    found.sort(key=lambda one: one[0], reverse=True)
    count = max(_SEEDS, 2 * limit)
    own, complete = _own_scores(found, frequencies, 2 * count)
    seeds = _seeds(connection, own, where, parameters, count)
    if len(seeds) < count and not complete:  # the filter took too many of them
        own, complete = _own_scores(found, frequencies, None)
        seeds = _seeds(connection, own, where, parameters, count)
    rows: dict[int, _Place] = {}
    neighbours: dict[int, Neighbours] = {}
    stretches = [_around(connection, seed) for seed in seeds]
    seen = {row[0] for stretch in stretches for row in stretch}
    passing = {row[0] for row in _satisfying(connection, seen, where, parameters)}
    for seed, stretch in zip(seeds, stretches, strict=True):
        line = [row for row in stretch if row[0] in passing]
        at = line.index(seed)
        line = line[max(at - 4, 0) : at + 5]
        at = min(at, 4)
        rows.update((row[0], row) for row in line)
        known = _adjacent(line)
        neighbours.update((row[0], known[row[0]]) for row in line[max(at - 2, 0) : at + 3])
    held = [(weight, postings.among(rows)) for weight, postings in found]
    candidates = set[int]().union(*(one for _, one in held)) & neighbours.keys()
    scores = bm25.score(candidates, held, frequencies, neighbours)
    return _best([rows[one] for one in candidates], scores, limit)


def _own_scores(
    found: Sequence[tuple[float, Postings]], frequencies: Frequencies, contenders: int | None
) -> tuple[dict[int, float], bool]:
    """Return what memories score by themselves, and whether that is all of them.

    `found` has the rarest term first. With `contenders`, whoever cannot be among so many best is
    left out, as soon as the terms still to come cannot lift it there (MaxScore, Turtle and Flood,
    1995): the holders of frequent words alone, who would be most of the work.
    """
    own: dict[int, float] = {}
    complete = True
    for at, (weight, postings) in enumerate(found):
        if contenders is not None and complete and len(own) >= contenders:
            rest = sum(rarity for rarity, _ in found[at:]) * (bm25.K1 + 1)
            bar = heapq.nlargest(contenders, own.values())[-1]
            if rest < bar:
                own = {id: value for id, value in own.items() if value + rest >= bar}
                complete = False
        worths = Worths(weight, frequencies)
        if complete:
            values = map(worths.__getitem__, postings.codes)
            get = own.get
            for id, value in zip(postings.ids, values, strict=True):
                own[id] = get(id, 0.0) + value
        else:
            for id, code in postings.among(own).items():
                own[id] += worths[code]
    return own, complete


def _seeds(
    connection: sqlite3.Connection,
    scores: dict[int, float],
    where: str,
    parameters: Sequence[Any],
    count: int,
) -> list[_Place]:
    """Return the `count` best that satisfy the filter, or all if there are fewer.

    It is looked at in ever larger steps down the scores, ties together: the result is complete.
    """
    rows: list[_Place] = []
    falling = sorted(scores.values(), reverse=True)
    ceiling, taken = float("inf"), 0
    while len(rows) < count and taken < len(falling):
        floor = falling[min(max(2 * taken, count), len(falling)) - 1]
        ids = [id for id, score in scores.items() if floor <= score < ceiling]
        rows += _satisfying(connection, ids, where, parameters)
        ceiling = floor
        taken += len(ids)
    return _ordered(rows, scores)[:count]


def _satisfying(
    connection: sqlite3.Connection, ids: Iterable[int], where: str, parameters: Sequence[Any]
) -> list[_Place]:
    """Return those of the memories that satisfy the filter."""
    return connection.execute(
        "SELECT memory.id, entity_path, written_at, prefix FROM json_each(?) "
        f"CROSS JOIN memory ON memory.id = json_each.value WHERE {where}",
        (json.dumps(list(ids)), *parameters),
    ).fetchall()


def _around(connection: sqlite3.Connection, seed: _Place) -> list[_Place]:
    """Return the stretch of the sequence around a memory, whatever the filter says of it.

    It reaches further than is needed, for when the filter takes some of it away. The filter is
    not asked here: one with a subquery would cost all of that each time.
    """
    sides = [
        connection.execute(
            "SELECT id, entity_path, written_at, prefix FROM memory INDEXED BY memory_sequence "
            f"WHERE entity_path = ? AND (written_at, prefix) {side} (?, ?) "
            f"ORDER BY written_at {order}, prefix {order} LIMIT 8",
            seed[1:],
        ).fetchall()
        for side, order in (("<", "DESC"), (">", "ASC"))
    ]
    return [*reversed(sides[0]), seed, *sides[1]]


# -- both ------------------------------------------------------------------------------------------


def _adjacent(line: Sequence[_Place]) -> dict[int, Neighbours]:
    """Return the neighbours of memories in sequence, each only under its own entity path."""
    nobody = (NOBODY, "")
    ids = [nobody, nobody, *((row[0], row[1]) for row in line), nobody, nobody]
    neighbours: dict[int, Neighbours] = {}
    for at, (one, path) in enumerate(ids[2:-2], start=2):
        near = (ids[at - 1], ids[at + 1], ids[at - 2], ids[at + 2])
        before, after, before2, after2 = (id if other == path else NOBODY for id, other in near)
        neighbours[one] = (before, after, before2, after2)
    return neighbours


def _best(rows: list[_Place], scores: dict[int, float], limit: int) -> list[tuple[int, float]]:
    return [(row[0], scores[row[0]]) for row in _ordered(rows, scores)[:limit]]


def _ordered(rows: list[_Place], scores: dict[int, float]) -> list[_Place]:
    """Return memories best first; equal ones newest first, then by prefix."""
    rows = sorted(rows, key=lambda row: row[3])
    rows.sort(key=lambda row: row[2], reverse=True)
    rows.sort(key=lambda row: scores[row[0]], reverse=True)
    return rows
