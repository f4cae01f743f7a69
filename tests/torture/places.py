"""Where a worker's memories are, as it can be sent to another process."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from amfs_core.memory import AgentMemory
from amfs_core.storage import StorageAdapter
from amfs_local import LocalAdapter
from amfs_postgres import PostgresAdapter
from amfs_sqlite import SqliteAdapter
from tests.support.s3_store import Place
from tests.torture import broken
from tests.torture.faults import ChaosAdapter

KEYS = tuple(f"k{number}" for number in range(10))
ROOT = "torture"


def entity_path(key: str) -> str:
    """Where a memory is: at three depths, so that names nest."""
    return (ROOT, f"{ROOT}/deep", f"{ROOT}/deep/er")[int(key[1:]) % 3]


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory, in which faults happen within the process."""

    root: str
    rate: float

    def adapter(self, seed: str, note: Callable[[str], None]) -> StorageAdapter:
        return ChaosAdapter(LocalAdapter(self.root), seed, self.rate, note)


@dataclass(frozen=True, slots=True)
class File:
    """A SQLite file, on which faults happen within the process."""

    path: str
    rate: float

    def adapter(self, seed: str, note: Callable[[str], None]) -> StorageAdapter:
        return ChaosAdapter(SqliteAdapter(self.path), seed, self.rate, note)


@dataclass(frozen=True, slots=True)
class Database:
    """A PostgreSQL database, whose server is killed, and on which faults happen within the process
    too."""

    dsn: str
    rate: float

    def adapter(self, seed: str, note: Callable[[str], None]) -> StorageAdapter:
        return ChaosAdapter(PostgresAdapter(self.dsn), seed, self.rate, note)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of a server, behind a proxy that makes the faults."""

    place: Place

    def adapter(self, seed: str, note: Callable[[str], None]) -> StorageAdapter:
        return self.place.adapter()


@dataclass(frozen=True, slots=True)
class Job:
    """What one worker process is to do.

    `name` is unique to the process. `cursor` and `delivered` say where its watch goes on;
    `breaks` names what of `broken.py` it works with, `purges` is the weight of purges among its
    operations.
    """

    name: str
    seed: str
    operations: int
    where: Directory | File | Database | Bucket
    history: str
    patience: float
    cache_dir: str | None
    watches: bool
    cursor: str = "beginning"
    delivered: tuple[tuple[str, int], ...] = ()
    breaks: str | None = None
    purges: float = 0.0

    def memory(self, note: Callable[[str], None]) -> AgentMemory:
        adapter = self.where.adapter(self.seed, note)
        if self.breaks is not None:
            adapter = broken.install(self.breaks, adapter)
        return AgentMemory(
            self.name,
            adapter=adapter,
            patience=self.patience,
            cache_dir=self.cache_dir,
            owns_adapter=True,
            session_id=str(os.getpid()),
        )
