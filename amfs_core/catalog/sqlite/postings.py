"""The index of terms: who holds each term, how often, and how long that memory is.

A term has its postings in blocks of 4,096 memories. They are plain rows, so that with
`PRAGMA secure_delete` what is removed is gone; FTS5 keeps removed words in its segments until they
happen to be merged (`docs/design/search.md`).
"""

from __future__ import annotations

import sqlite3
import sys
from array import array
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Sequence
from itertools import compress
from typing import Any

from amfs_core.ranking import bm25, terms

SCHEMA = """CREATE TABLE fulltext_memory (
  id INTEGER PRIMARY KEY, length INTEGER NOT NULL, terms TEXT NOT NULL
);
CREATE TABLE fulltext_posting (
  term TEXT NOT NULL, block INTEGER NOT NULL, postings BLOB NOT NULL,
  PRIMARY KEY (term, block)
) WITHOUT ROWID;
CREATE TABLE fulltext_total (memories INTEGER NOT NULL, length INTEGER NOT NULL);
INSERT INTO fulltext_total VALUES (0, 0)"""

Row = tuple[int, str, str, Sequence[str], Any]
"""Id, entity path, key, tags and value of a memory."""

BLOCK_BITS = 12
"""What is left of an id without these is the block of its postings."""


class Postings:
    """Who holds a term (`ids`), and the codes of its frequency there (`codes`)."""

    def __init__(self, blocks: Iterable[tuple[bytes]]) -> None:
        halves = array("I", b"".join(postings for (postings,) in blocks))
        high, low = (1, 0) if sys.byteorder == "little" else (0, 1)
        self.ids, self.codes = halves[high::2], halves[low::2]

    def among(self, wanted: Container[int]) -> dict[int, int]:
        """Return the codes of those that are wanted."""
        pairs = zip(self.ids, self.codes, strict=True)
        return dict(compress(pairs, map(wanted.__contains__, self.ids)))


def add(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Index memories, in the caller's transaction. One that is indexed must be removed first.

    About 60 µs for a memory of 0.5 KB, when many are given at once.
    """
    blocks: dict[int, defaultdict[str, list[int]]] = {}
    memories: list[tuple[int, int, str]] = []
    codes = bm25.FREQUENCY_CODES
    for id, entity_path, key, tags, value in rows:
        length, frequencies = _weighed(entity_path, key, tags, value)
        postings = blocks.setdefault(id >> BLOCK_BITS, defaultdict(list))
        once = id << 32 | bm25.length_code(length)
        for term, frequency in frequencies.items():
            postings[term].append(once | codes[frequency])
        memories.append((id, length, " ".join(frequencies)))
    connection.executemany("INSERT INTO fulltext_memory VALUES (?, ?, ?)", memories)
    connection.executemany(
        "INSERT INTO fulltext_posting VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET postings = CAST(postings || excluded.postings AS BLOB)",
        (
            (term, block, array("Q", postings[term]))
            for block, postings in blocks.items()
            for term in sorted(postings)
        ),
    )
    _count(connection, len(memories), sum(length for _, length, _ in memories))


def _weighed(
    entity_path: str, key: str, tags: Sequence[str], value: Any
) -> tuple[int, dict[str, float]]:
    """Return how many terms the value has, and the weighted frequency of every term (BM25F)."""
    content, names = terms.texts(value)
    found = terms.terms(content)
    frequencies: dict[str, float] = dict(Counter(found))
    for weight, field in (
        (bm25.FIELD_NAMES, names),
        (bm25.KEY, key),
        (bm25.ENTITY_PATH, entity_path),
        (bm25.TAGS, " ".join(tags)),
    ):
        if field:
            for term in terms.terms(field):
                frequencies[term] = frequencies.get(term, 0.0) + weight
    return len(found), frequencies


def remove(connection: sqlite3.Connection, ids: Sequence[int]) -> None:
    """Remove memories from the index, in the caller's transaction; ids not in it are passed over.

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
                places[term, id >> BLOCK_BITS].add(id)
    for place, gone in places.items():
        _take_out(connection, place, gone)
    _count(connection, -memories, -length)


def _take_out(connection: sqlite3.Connection, place: tuple[str, int], gone: set[int]) -> None:
    """Take memories out of one block of a term's postings."""
    ((postings,),) = connection.execute(
        "SELECT postings FROM fulltext_posting WHERE term = ? AND block = ?", place
    )
    kept, ids = array("Q", postings), Postings([(postings,)]).ids
    for id in gone:
        at = ids.index(id)
        del ids[at], kept[at]
    if kept:
        connection.execute(
            "UPDATE fulltext_posting SET postings = ? WHERE term = ? AND block = ?", (kept, *place)
        )
    else:
        connection.execute("DELETE FROM fulltext_posting WHERE term = ? AND block = ?", place)


def _count(connection: sqlite3.Connection, memories: int, length: int) -> None:
    connection.execute(
        "UPDATE fulltext_total SET memories = memories + ?, length = length + ?", (memories, length)
    )
