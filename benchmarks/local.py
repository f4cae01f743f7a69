"""Durable writes to a directory, beside the same steps written by hand."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

from amfs import AgentMemory
from amfs_local import LocalAdapter
from benchmarks.measure import Comparison, Work, compare
from benchmarks.s3 import BODY, VALUE


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


def comparisons(root: Path, count: int, repetitions: int) -> Iterator[Comparison]:
    """Yield the comparison for one thread and for eight."""
    memory = AgentMemory("bench", adapter=LocalAdapter(root / "store"))

    for threads in (1, 8):

        def write(repetition: int) -> Work:
            return lambda _: memory.write("load", f"k{repetition}-{threading.get_ident()}", VALUE)

        def hand(repetition: int, threads: int = threads) -> Work:
            directory = root / f"raw{threads}-{repetition}"
            directory.mkdir()
            return lambda number: by_hand(directory, f"v{number}.json", BODY)

        yield compare(
            f"local: durable write, {threads} threads / by hand",
            write,
            hand,
            count=count,
            threads=threads,
            repetitions=repetitions,
            goal=">= 0.85",
        )
