"""SQLite as a careful programmer would use it: WAL, synchronous=FULL, FTS5."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from thin import Item, Thin, Value

_SCHEMA = """
CREATE TABLE IF NOT EXISTS version (
  id INTEGER PRIMARY KEY, path TEXT, key TEXT, version INTEGER, value TEXT,
  UNIQUE (path, key, version)
);
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(value, content='version', content_rowid='id');
"""
_APPEND = """
INSERT INTO version (path, key, version, value) SELECT :path, :key,
  1 + coalesce((SELECT max(version) FROM version WHERE path = :path AND key = :key), 0), :value
"""
_NEWEST = "SELECT value FROM version WHERE path = ? AND key = ? ORDER BY version DESC LIMIT 1"

_BEST = """
SELECT version.value FROM words JOIN version ON version.id = words.rowid
WHERE words MATCH ? AND version.version = (
  SELECT max(version) FROM version AS other
  WHERE other.path = version.path AND other.key = version.key)
ORDER BY bm25(words) LIMIT 10
"""


class Peer(Thin):
    """Every version is a row. Words are indexed by the first search, as AMFS does it."""

    durability = "fsync"  # of the write-ahead log, at every commit

    def __init__(self, place: dict[str, str]) -> None:
        self._path = str(Path(place["directory"]) / "memories.db")
        self._own = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._db.execute("PRAGMA journal_mode = WAL")  # stays in the file
        self._db.executescript(_SCHEMA)

    @property
    def _db(self) -> sqlite3.Connection:
        """A connection for each thread."""
        if not hasattr(self._own, "db"):
            db = sqlite3.connect(
                self._path, timeout=60, isolation_level=None, check_same_thread=False
            )
            db.execute("PRAGMA synchronous = FULL")
            self._opened.append(db)
            self._own.db = db
        found: sqlite3.Connection = self._own.db
        return found

    def write(self, path: str, key: str, value: Value) -> None:
        self._db.execute(_APPEND, {"path": path, "key": key, "value": json.dumps(value)})

    def fill(self, items: Sequence[Item]) -> None:
        self._together(items)

    def _together(self, items: Iterable[Item]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(
            _APPEND,
            ({"path": one.path, "key": one.key, "value": json.dumps(one.value)} for one in items),
        )
        self._db.execute("COMMIT")

    def read(self, path: str, key: str) -> Value | None:
        row = self._db.execute(_NEWEST, (path, key)).fetchone()
        return json.loads(row[0]) if row else None

    def read_version(self, path: str, key: str, version: int) -> Value:
        query = "SELECT value FROM version WHERE path = ? AND key = ? AND version = ?"
        value: Value = json.loads(self._db.execute(query, (path, key, version)).fetchone()[0])
        return value

    def versions(self, path: str, key: str) -> list[Value]:
        query = "SELECT value FROM version WHERE path = ? AND key = ? ORDER BY version"
        return [json.loads(value) for (value,) in self._db.execute(query, (path, key))]

    def add_one(self, path: str, key: str) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        found = self.read(path, key)
        self.write(path, key, {"count": found["count"] + 1 if found else 1})
        self._db.execute("COMMIT")

    def list(self) -> int:
        query = "SELECT value, max(version) FROM version GROUP BY path, key"
        return len([json.loads(value) for value, _ in self._db.execute(query)])

    def search(self, words: str) -> int:
        (last,) = self._db.execute("SELECT coalesce(max(id), 0) FROM words_docsize").fetchone()
        self._db.execute(
            "INSERT INTO words (rowid, value) SELECT id, value FROM version WHERE id > ?", (last,)
        )
        found = self._db.execute(_BEST, (" OR ".join(words.split()),))
        return len([json.loads(value) for (value,) in found])

    def close(self) -> None:
        for db in self._opened:
            db.close()
