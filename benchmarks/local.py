"""Durable writes to a directory, beside the same steps written by hand, and beside SQLite."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from amfs_core.memory import AgentMemory
from amfs_local import LocalAdapter
from benchmarks.figure import Figure
from benchmarks.measure import Work, compare
from benchmarks.peer import places
from benchmarks.s3 import BODY, VALUE
from benchmarks.scale import Scale

BATCH = 500
"""Writes that one call of `write_many` makes."""


def by_hand(directory: Path, name: str, data: bytes) -> None:
    """Temporary file, fsync, link, fsync of the directory: what durability costs at least."""
    temporary = directory / f".{name}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    os.write(fd, data)
    os.fsync(fd)
    os.close(fd)
    os.link(temporary, directory / name)
    os.unlink(temporary)
    fd = os.open(directory, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def comparisons(scale: Scale) -> Iterator[Figure]:
    """Yield the comparison for one thread and for eight, and batches beside SQLite."""
    with places() as made:
        yield from _writes(made.root, scale)
        yield from _batches(made.root, scale)


def _writes(root: Path, scale: Scale) -> Iterator[Figure]:
    memory = AgentMemory("bench", adapter=LocalAdapter(root / "store"))

    for threads in (1, 8):

        def write(repetition: int) -> Work:
            return lambda _: memory.write("load", f"k{repetition}-{threading.get_ident()}", VALUE)

        def hand(repetition: int, threads: int = threads) -> Work:
            directory = root / f"raw{threads}-{repetition}"
            directory.mkdir()
            return lambda number: by_hand(directory, f"v{number}.json", BODY)

        yield from compare(
            f"directory: durable write, {threads} thread{'s' if threads > 1 else ''}",
            "files by hand",
            write,
            hand,
            # Many short turns: what else the machine does then hits both alike.
            count=scale.raw_operations // 6,
            threads=threads,
            repetitions=scale.repetitions * 3,
            least_speed=0.9,
        ).figures()


def _batches(root: Path, scale: Scale) -> Iterator[Figure]:
    """Yield `write_many` beside SQLite (WAL, synchronous=FULL), which has the same durability."""
    memory = AgentMemory("bench", adapter=LocalAdapter(root / "batches"))
    database = sqlite3.connect(root / "batches.db", isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE memory (path TEXT, key TEXT, value TEXT, UNIQUE (path, key))")
    insert = "INSERT INTO memory VALUES (?, ?, ?)"

    def many(repetition: int) -> Work:
        def work(number: int) -> None:
            path = f"load/{repetition}-{number}"
            memory.write_many(
                {"entity_path": path, "key": f"k{index}", "value": VALUE} for index in range(BATCH)
            )

        return work

    def each(repetition: int) -> Work:
        def work(number: int) -> None:
            for index in range(BATCH):
                database.execute(insert, (f"{repetition}-{number}", f"k{index}", json.dumps(VALUE)))

        return work

    def together(repetition: int) -> Work:
        def work(number: int) -> None:
            path = f"together/{repetition}-{number}"
            rows = ((path, f"k{index}", json.dumps(VALUE)) for index in range(BATCH))
            database.execute("BEGIN")
            database.executemany(insert, rows)
            database.execute("COMMIT")

        return work

    for raw_name, raw, goal in (
        ("SQLite, a transaction per write", each, 1.0),
        ("SQLite, one transaction for all", together, None),
    ):
        yield from compare(
            f"directory: batches of {BATCH} / {raw_name}",
            raw_name,
            many,
            raw,
            count=1,
            threads=1,
            repetitions=scale.repetitions * 3,
            least_speed=goal,
        ).figures()
    database.close()
