"""The index of terms: rows of postings, and for each memory its length and its terms.

They are plain rows, so with `PRAGMA secure_delete` removed words are gone. FTS5 keeps removed words
in its segments until these happen to be merged (`docs/design/search.md`).
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence

from amfs_core.ranking import postings

SCHEMA = """CREATE TABLE fulltext_memory (
  id INTEGER PRIMARY KEY, length INTEGER NOT NULL, terms TEXT NOT NULL
);
CREATE TABLE fulltext_posting (
  term TEXT NOT NULL, block INTEGER NOT NULL, postings BLOB NOT NULL,
  PRIMARY KEY (term, block)
) WITHOUT ROWID;
CREATE TABLE fulltext_total (memories INTEGER NOT NULL, length INTEGER NOT NULL);
INSERT INTO fulltext_total VALUES (0, 0)"""


def add(connection: sqlite3.Connection, rows: Iterable[postings.Row]) -> None:
    """Index memories, in the caller's transaction. An indexed memory must be removed first.

    About 60 µs for a memory of 0.5 KB, when many are given at once.
    """
    index = postings.indexed(rows)
    connection.executemany("INSERT INTO fulltext_memory VALUES (?, ?, ?)", index.memories)
    connection.executemany(
        "INSERT INTO fulltext_posting VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET postings = CAST(postings || excluded.postings AS BLOB)",
        (
            (term, block, postings_by_term[term])
            for block, postings_by_term in index.blocks.items()
            for term in sorted(postings_by_term)
        ),
    )
    _count(connection, len(index.memories), sum(length for _, length, _ in index.memories))


def remove(connection: sqlite3.Connection, ids: Sequence[int]) -> None:
    """Remove memories from the index, in the caller's transaction; ids not in it are skipped.

    With `PRAGMA secure_delete` on, their words are then nowhere in the database.
    """
    places: defaultdict[tuple[str, int], set[int]] = defaultdict(set)
    length = memories = 0
    for id in dict.fromkeys(ids):
        row = connection.execute(
            "DELETE FROM fulltext_memory WHERE id = ? RETURNING length, terms", (id,)
        ).fetchone()
        if row is not None:
            memories += 1
            length += row[0]
            for term in row[1].split():
                places[term, id >> postings.BLOCK_BITS].add(id)
    for place, gone in places.items():
        _take_out(connection, place, gone)
    _count(connection, -memories, -length)


def _take_out(connection: sqlite3.Connection, place: tuple[str, int], gone: set[int]) -> None:
    """Remove memories from one block of a term's postings."""
    ((before,),) = connection.execute(
        "SELECT postings FROM fulltext_posting WHERE term = ? AND block = ?", place
    )
    if kept := postings.without(before, gone):
        connection.execute(
            "UPDATE fulltext_posting SET postings = ? WHERE term = ? AND block = ?", (kept, *place)
        )
    else:
        connection.execute("DELETE FROM fulltext_posting WHERE term = ? AND block = ?", place)


def _count(connection: sqlite3.Connection, memories: int, length: int) -> None:
    connection.execute(
        "UPDATE fulltext_total SET memories = memories + ?, length = length + ?", (memories, length)
    )
