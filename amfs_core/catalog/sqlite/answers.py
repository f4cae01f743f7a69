"""Queries of the catalog: rows, and ranked rows, of the memories that filters let through."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import TypeVar

import msgspec

from amfs_core.catalog.filters import Filters
from amfs_core.catalog.sqlite import fulltext
from amfs_core.catalog.sqlite.conditions import condition
from amfs_core.catalog.sqlite.database import Database
from amfs_core.catalog.sqlite.vectors import Vectors
from amfs_core.ranking import Ranked, fusion, terms

T = TypeVar("T")

Memory = tuple[str, str, int, bytes]
"""A memory's entity path and key, the number of its newest version, and that version's body."""

_INDEXED_AT_ONCE = 5000
_BYTES_AT_ONCE = 1_000_000  # about a second, for which other processes cannot store anything
_MEMORIES = (
    "SELECT entity_path, key, version, data FROM memory JOIN body ON body.memory = memory.id"
)


def find(connection: sqlite3.Connection, filters: Filters) -> list[Memory]:
    """Return what the filters let through, in any order."""
    where, parameters = condition(filters)
    return connection.execute(f"{_MEMORIES} WHERE {where}", parameters).fetchall()


def entity_paths(connection: sqlite3.Connection, filters: Filters) -> list[str]:
    """Return the entity paths of what the filters let through, in any order."""
    where, parameters = condition(filters)
    rows = connection.execute(f"SELECT DISTINCT entity_path FROM memory WHERE {where}", parameters)
    return [path for (path,) in rows]


def newest(connection: sqlite3.Connection, filters: Filters, limit: int) -> list[Memory]:
    """Return what the filters let through, newest first."""
    where, parameters = condition(filters)
    return connection.execute(
        f"{_MEMORIES} WHERE {where} ORDER BY written_at DESC, prefix LIMIT ?", (*parameters, limit)
    ).fetchall()


def ranked(
    database: Database, query: str, filters: Filters, limit: int, vectors: Vectors | None
) -> list[tuple[Memory, float]]:
    """Return the memories that answer a query best, with their scores: by words and, with vectors,
    by meaning."""
    where, parameters = condition(filters)

    def by_words(connection: sqlite3.Connection, limit: int) -> Ranked:
        return fulltext.search(connection, query, where=where, parameters=parameters, limit=limit)

    if vectors is None:
        return indexed(
            database, lambda connection: _memories(connection, by_words(connection, limit))
        )
    compared = vectors.compare(database, query, where, parameters)

    def fuse(connection: sqlite3.Connection) -> list[tuple[Memory, float]]:
        wide = max(fusion.CANDIDATES, limit)
        words = by_words(connection, wide)
        candidates = {id for id, _ in (*words, *compared.nearest(wide))}
        best = fusion.fused(words, compared.of(candidates), compared.average)
        return _memories(connection, best[:limit])

    return indexed(database, fuse)


def by_meaning(
    database: Database, text: str, filters: Filters, limit: int, vectors: Vectors
) -> list[tuple[Memory, float]]:
    """Return the memories whose vectors are nearest to the text's, with their cosines."""
    nearest = vectors.compare(database, text, *condition(filters)).nearest(limit)
    return database.run(lambda connection: _memories(connection, nearest))


def _memories(connection: sqlite3.Connection, ranked: Ranked) -> list[tuple[Memory, float]]:
    """Return the memories with these ids; one that changed in between may be gone."""
    memories = []
    for id, score in ranked:
        row = connection.execute(f"{_MEMORIES} WHERE id = ? AND deleted = 0", (id,)).fetchone()
        if row is not None:
            memories.append((row, score))
    return memories


def indexed(database: Database, work: Callable[[sqlite3.Connection], T]) -> T:
    """Return `work(connection)` on a state of the catalog in which every memory is indexed.

    Memories that came since the last search are indexed first; a program that only lists never pays
    for that. Others may share the file, and the memories that they store are not indexed yet. So
    the work is done in a snapshot without such memories or, after indexing, before anybody else may
    write.
    """
    unindexed = (
        "SELECT id, entity_path, key, tags, data FROM memory JOIN body ON body.memory = memory.id "
        f"WHERE indexed = 0 LIMIT {_INDEXED_AT_ONCE}"
    )

    def some(connection: sqlite3.Connection) -> list[tuple[int, str, str, str, bytes]]:
        rows, size = [], 0
        for row in connection.execute(unindexed):
            rows.append(row)
            size += min(len(row[-1]), terms.MOST_CHARACTERS)
            if size >= _BYTES_AT_ONCE:
                break
        return rows

    def run(connection: sqlite3.Connection) -> T:
        with database.snapshot(connection):
            if connection.execute(unindexed).fetchone() is None:
                return work(connection)
        while True:
            with database.transaction(connection):
                rows = some(connection)
                fulltext.add(connection, (_indexable(*row) for row in rows))
                connection.executemany(
                    "UPDATE memory SET indexed = 1 WHERE id = ?", [(row[0],) for row in rows]
                )
                if connection.execute(unindexed).fetchone() is None:
                    return work(connection)

    return database.run(run)


def _indexable(id: int, entity_path: str, key: str, tags: str, body: bytes) -> fulltext.Row:
    return id, entity_path, key, json.loads(tags), msgspec.json.decode(body)["value"]
