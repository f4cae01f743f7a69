"""The numbers of events, so that a returning client can continue after the last one it received.

A cursor of `watch` names every memory, so it grows with the store and does not fit into a header. A
number does; this log says which event it stands for. `docs/design/events.md` explains why no event
is lost or repeated.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

KEPT = 100_000
"""The number of events that are remembered; a client that missed more of them starts over."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS log (id TEXT NOT NULL, cursor TEXT);
CREATE TABLE IF NOT EXISTS event (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    entity_path TEXT NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    UNIQUE (entity_path, key, version)
);
"""


class Event(NamedTuple):
    """One version, and its number in the log."""

    number: int
    entity_path: str
    key: str
    version: int


class EventLog:
    """The log of one namespace and entity path, in a file or (None) in memory.

    Safe to share between threads. Several processes can share a file, also after a crash. Raises
    `sqlite3.Error` and `OSError`.
    """

    def __init__(self, path: Path | None) -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(
            ":memory:" if path is None else path,
            timeout=30,
            isolation_level=None,
            check_same_thread=False,
        )
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.executescript(_SCHEMA)
        self.id, self.cursor = self._identity()

    def append(self, versions: Iterable[tuple[str, str, int]], cursor: str | None = None) -> int:
        """Number the versions that have no number yet, and return the last number.

        `cursor`, if it should be saved, is the position of the watch after these versions. The next
        process sees later versions again, but they do not get a second number.
        """
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany(
                    "INSERT OR IGNORE INTO event (entity_path, key, version) VALUES (?, ?, ?)",
                    versions,
                )
                if cursor is not None:
                    self._connection.execute("UPDATE log SET cursor = ?", (cursor,))
                    self._connection.execute(
                        "DELETE FROM event WHERE number <= (SELECT max(number) FROM event) - ?",
                        (KEPT,),
                    )
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            return self.last()

    def reset(self) -> None:
        """Forget everything, and give the log a new identity."""
        with self._lock:
            self._connection.executescript("DELETE FROM log; DELETE FROM event")
            self.id, self.cursor = self._identity()

    def _identity(self) -> tuple[str, str | None]:
        self._connection.execute("BEGIN IMMEDIATE")
        if not self._connection.execute("SELECT 1 FROM log").fetchone():
            self._connection.execute("INSERT INTO log VALUES (?, NULL)", (secrets.token_hex(4),))
        self._connection.execute("COMMIT")
        ((identity, cursor),) = self._connection.execute("SELECT id, cursor FROM log")
        return identity, cursor

    def last(self) -> int:
        """Return the last number that was given; 0 when there is none."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT seq FROM sqlite_sequence WHERE name = 'event'"
            ).fetchall()
        return int(rows[0][0]) if rows else 0

    def first(self) -> int:
        """Return the number of the oldest remembered event, or else of the next event."""
        with self._lock:
            ((number,),) = self._connection.execute("SELECT min(number) FROM event")
        return int(number) if number is not None else self.last() + 1

    def after(self, number: int, most: int) -> list[Event]:
        """Return up to `most` events after a number."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT number, entity_path, key, version FROM event WHERE number > ? "
                "ORDER BY number LIMIT ?",
                (number, most),
            ).fetchall()
        return [Event(*row) for row in rows]

    def numbered_after(self, number: int, entity_path: str, key: str) -> set[int]:
        """Return the versions of a memory with a number greater than `number`."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT version FROM event WHERE entity_path = ? AND key = ? AND number > ?",
                (entity_path, key, number),
            ).fetchall()
        return {version for (version,) in rows}

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()
