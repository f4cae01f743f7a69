"""`python -m benchmarks.sqlite_by_hand [DIRECTORY]`: the SQLite store beside SQLite by hand.

By hand means the same table, the same pragmas that a program would set (a write-ahead log, full
flushes), one connection, and nothing else. Rounds of both alternate; the medians are compared.
"""

from __future__ import annotations

import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import closing

from amfs_sqlite import SqliteAdapter

ROUNDS = 7
BODY = os.urandom(250).hex().encode()
INSERT = "INSERT INTO objects (key, modified, body) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING"
SCHEMA = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "CREATE TABLE objects (seq INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL UNIQUE, "
    "modified INTEGER NOT NULL, body BLOB NOT NULL)",
)


def key() -> str:
    """A new one, such as memories have."""
    return f"default/entries/topic-{random.randrange(200)}/key-{uuid.uuid4().hex[:8]}/v1.json"


def row() -> tuple[bytes, int, bytes]:
    return key().encode(), time.time_ns() // 1000, BODY


def seconds(work: Callable[[], object], times: int) -> float:
    """How long one of so many calls takes."""
    started = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - started) / times


def by_hand(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in SCHEMA:
        connection.execute(statement)
    return connection


def batch_by_hand(connection: sqlite3.Connection, size: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(INSERT, [row() for _ in range(size)])
    connection.execute("COMMIT")


def round_of(directory: str, timings: dict[str, tuple[list[float], list[float]]]) -> None:
    with (
        closing(by_hand(f"{directory}/hand.db")) as hand,
        closing(SqliteAdapter(f"{directory}/store.db")) as store,
    ):
        store.create(key(), BODY)

        def note(
            name: str, ours: Callable[[], object], theirs: Callable[[], object], n: int
        ) -> None:
            for times, work in zip(timings.setdefault(name, ([], [])), (ours, theirs), strict=True):
                times.append(seconds(work, n))

        note(
            "one write", lambda: store.create(key(), BODY), lambda: hand.execute(INSERT, row()), 800
        )
        for size in (100, 1000):
            note(
                f"a batch of {size}",
                lambda size=size: store.create_many({key(): BODY for _ in range(size)}),  # type: ignore[misc]
                lambda size=size: batch_by_hand(hand, size),  # type: ignore[misc]
                8,
            )
        ours = [info.key for info in store.list("")]
        theirs = [object_key for (object_key,) in hand.execute("SELECT key FROM objects")]
        get = "SELECT body FROM objects WHERE key = ?"
        note(
            "one read",
            lambda: store.get(random.choice(ours)),
            lambda: hand.execute(get, (random.choice(theirs),)).fetchone(),
            4000,
        )


def main() -> None:
    timings: dict[str, tuple[list[float], list[float]]] = {}
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(dir=sys.argv[1] if sys.argv[1:] else None) as directory:
            round_of(directory, timings)
    print(
        f"SQLite {sqlite3.sqlite_version}, medians of {ROUNDS} rounds, bodies of {len(BODY)} bytes"
    )
    for name, times in timings.items():
        ours, theirs = (statistics.median(samples) * 1e6 for samples in times)
        print(
            f"{name:16} {ours:9.1f} µs, by hand {theirs:9.1f} µs: {theirs / ours:.2f} of its speed"
        )


if __name__ == "__main__":
    main()
