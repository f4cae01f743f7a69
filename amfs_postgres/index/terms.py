"""The index of terms in the database, at one moment, for one filter."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from amfs_core.catalog import words
from amfs_core.ranking import Postings, postings
from amfs_postgres.connections import Link
from amfs_postgres.index.conditions import Condition
from amfs_postgres.index.statements import Statements

_PLACE = "m.id, m.path, m.written_at, m.prefix"


class StoredTerms:
    """A `TermIndex` in a transaction that sees one state throughout."""

    def __init__(self, link: Link, statements: Statements, store: int, where: Condition) -> None:
        self._link = link
        self._statements = statements
        self._store = store
        self._where = where
        self._held: dict[str, Postings] = {}  # of terms that were read completely

    def satisfying_up_to(self, most: int) -> int:
        """Return how many memories satisfy the filter, `most` where there are more."""
        ((count,),) = self._rows(
            f"SELECT count(*) FROM (SELECT FROM {{memory}} m WHERE {self._where.where} "
            "LIMIT %s) AS among",
            (*self._where.parameters, most),
        )
        return int(count)

    def sequence(self) -> list[tuple[words.Place, int]]:
        """Return all memories that satisfy the filter, with their lengths."""
        rows = self._rows(
            f"SELECT {_PLACE}, m.length FROM {{memory}} m WHERE {self._where.where} "
            "ORDER BY m.path, m.written_at, m.prefix",
            self._where.parameters,
        )
        return [(row[:4], row[4]) for row in rows]

    def totals(self) -> tuple[int, int]:
        """Return how many memories are indexed, and the sum of their lengths."""
        ((memories, length),) = self._rows(
            "SELECT memories, length FROM {total} WHERE store = %s", (self._store,)
        )
        return memories, length

    def holders(self, terms: Sequence[str]) -> dict[str, int]:
        """Return how many memories contain each term."""
        # The size of a value is known without reading the value.
        rows = self._rows(
            "SELECT term, sum(octet_length(postings))::bigint FROM {posting} "
            "WHERE store = %s AND term = ANY(%s) GROUP BY term",
            (self._store, list(terms)),
        )
        return {term: size // postings.BYTES for term, size in rows}

    def postings(self, terms: Sequence[str], ids: Collection[int] | None) -> dict[str, Postings]:
        """Return the postings of terms; with `ids`, at least those of these memories."""
        cached_postings = {term: self._held[term] for term in terms if term in self._held}
        missing = [term for term in terms if term not in cached_postings]
        if not missing:
            return cached_postings
        statement = "SELECT term, postings FROM {posting} WHERE store = %s AND term = ANY(%s)"
        parameters: tuple[Any, ...] = (self._store, missing)
        if ids is not None:
            statement += " AND block = ANY(%s::int[])"
            parameters += (sorted({id >> postings.BLOCK_BITS for id in ids}),)
        blocks: dict[str, list[bytes]] = {}
        for term, block in self._rows(statement, parameters):
            blocks.setdefault(term, []).append(block)
        read = {term: Postings(term_blocks) for term, term_blocks in blocks.items()}
        if ids is None:
            self._held.update(read)
        return cached_postings | read

    def satisfying(self, ids: Iterable[int]) -> list[words.Place]:
        """Return the memories that satisfy the filter."""
        return self._rows(
            f"SELECT {_PLACE} FROM {{memory}} m "
            f"WHERE m.id = ANY(%s::bigint[]) AND {self._where.where}",
            (list(ids), *self._where.parameters),
        )

    def around(self, seeds: Sequence[words.Place]) -> list[list[words.Place]]:
        """Return the stretch of the sequence around each memory."""
        sides = " UNION ALL ".join(
            f"(SELECT {after} AS after, {_PLACE} FROM {{memory}} m WHERE m.store = %s "
            f'AND m.path = seed.path COLLATE "C" AND (m.written_at, m.prefix) {side} '
            '(seed.written_at COLLATE "C", seed.prefix COLLATE "C") '
            f"ORDER BY m.written_at {order}, m.prefix {order} LIMIT {words.AROUND})"
            for after, side, order in (("false", "<", "DESC"), ("true", ">", "ASC"))
        )
        rows = self._rows(
            "SELECT seed.number, beside.* FROM unnest(%s::text[], %s::text[], %s::text[]) "
            "WITH ORDINALITY AS seed (path, written_at, prefix, number) "
            f"CROSS JOIN LATERAL ({sides}) AS beside",
            (
                *([seed[column] for seed in seeds] for column in (1, 2, 3)),
                self._store,
                self._store,
            ),
        )
        before: list[list[words.Place]] = [[] for _ in seeds]
        after: list[list[words.Place]] = [[] for _ in seeds]
        for number, is_after, *place in rows:
            (after if is_after else before)[number - 1].append(tuple(place))
        order = lambda place: place[2:]  # noqa: E731
        return [
            [*sorted(predecessors, key=order), seed, *sorted(other, key=order)]
            for predecessors, seed, other in zip(before, seeds, after, strict=True)
        ]

    def _rows(self, statement: str, parameters: tuple[Any, ...]) -> list[Any]:
        return self._statements.rows(self._link, statement, parameters)
