"""The index of terms in the catalog's database, and the search by words over it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from amfs_core.catalog import words
from amfs_core.catalog.sqlite.postings import SCHEMA, add, remove
from amfs_core.catalog.words import AROUND, Place
from amfs_core.ranking import Postings, postings

__all__ = ["SCHEMA", "Row", "add", "remove", "search"]

Row = postings.Row


def search(
    connection: sqlite3.Connection,
    query: str,
    *,
    where: str = "1",
    parameters: Sequence[Any] = (),
    limit: int = 10,
) -> list[tuple[int, float]]:
    """Return the ids and scores of the memories that answer a query best, best first.

    `where` is a condition on the table `memory`, with its `parameters`.
    """
    return words.search(_Index(connection, where, parameters), query, limit)


class _Index:
    """A `TermIndex` of the memories that satisfy a condition."""

    def __init__(
        self, connection: sqlite3.Connection, where: str, parameters: Sequence[Any]
    ) -> None:
        self._connection = connection
        self._where = where
        self._parameters = parameters

    def satisfying_up_to(self, most: int) -> int:
        count = f"SELECT count(*) FROM (SELECT 1 FROM memory WHERE {self._where} LIMIT {most})"
        ((satisfying,),) = self._connection.execute(count, self._parameters)
        return int(satisfying)

    def sequence(self) -> list[tuple[Place, int]]:
        rows = self._connection.execute(
            "SELECT memory.id, entity_path, written_at, prefix, "
            "ifnull((SELECT length FROM fulltext_memory WHERE fulltext_memory.id = memory.id), 0) "
            f"FROM memory WHERE {self._where} ORDER BY entity_path, written_at, prefix",
            self._parameters,
        )
        return [(row[:4], row[4]) for row in rows]

    def totals(self) -> tuple[int, int]:
        ((memories, length),) = self._connection.execute(
            "SELECT memories, length FROM fulltext_total"
        )
        return memories, length

    def holders(self, terms: Sequence[str]) -> dict[str, int]:
        count = "SELECT sum(length(postings)) FROM fulltext_posting WHERE term = ?"
        sizes = {term: self._connection.execute(count, (term,)).fetchone()[0] for term in terms}
        return {term: size // postings.BYTES for term, size in sizes.items() if size}

    def postings(self, terms: Sequence[str], ids: Collection[int] | None) -> dict[str, Postings]:
        if ids is None:
            statement = "SELECT postings FROM fulltext_posting WHERE term = ?"
            parameters: tuple[str, ...] = ()
        else:
            statement = (
                "SELECT postings FROM json_each(?) "
                "JOIN fulltext_posting ON term = ? AND block = json_each.value"
            )
            parameters = (json.dumps(sorted({id >> postings.BLOCK_BITS for id in ids})),)
        return {
            term: Postings(
                block for (block,) in self._connection.execute(statement, (*parameters, term))
            )
            for term in terms
        }

    def satisfying(self, ids: Iterable[int]) -> list[Place]:
        return self._connection.execute(
            "SELECT memory.id, entity_path, written_at, prefix FROM json_each(?) "
            f"CROSS JOIN memory ON memory.id = json_each.value WHERE {self._where}",
            (json.dumps(list(ids)), *self._parameters),
        ).fetchall()

    def around(self, seeds: Sequence[Place]) -> list[list[Place]]:
        return [self._around(seed) for seed in seeds]

    def _around(self, seed: Place) -> list[Place]:
        # The filter is not asked here: one with a subquery would cost all of that each time.
        before, after = (
            self._connection.execute(
                "SELECT id, entity_path, written_at, prefix FROM memory INDEXED BY memory_sequence "
                f"WHERE entity_path = ? AND (written_at, prefix) {side} (?, ?) "
                f"ORDER BY written_at {order}, prefix {order} LIMIT {AROUND}",
                seed[1:],
            ).fetchall()
            for side, order in (("<", "DESC"), (">", "ASC"))
        )
        return [*reversed(before), seed, *after]
