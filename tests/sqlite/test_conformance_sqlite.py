"""The SQLite adapter is held to the contract by the conformance kit."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import settings

from amfs_core.storage import StorageAdapter
from amfs_core.testing.cases import StorageAdapterCases
from amfs_core.testing.machine import AdapterMachine, VersionsMachine
from amfs_sqlite import SqliteAdapter


class TestSqliteAdapter(StorageAdapterCases):
    rings = True

    @pytest.fixture
    def adapter(self, tmp_path: Path) -> Iterator[StorageAdapter]:
        made = SqliteAdapter(tmp_path / "store.db")
        yield made
        made.close()


class TestSqliteAdapterWithoutFlushes(StorageAdapterCases):
    rings = True

    @pytest.fixture
    def adapter(self, tmp_path: Path) -> Iterator[StorageAdapter]:
        made = SqliteAdapter(tmp_path / "store.db", prefix="some/prefix", durability="none")
        yield made
        made.close()


class _File:
    durability: Literal["fsync", "none"] = "none"

    def make_adapter(self) -> StorageAdapter:
        self.directory = tempfile.mkdtemp(prefix="amfs-machine-")
        self.made = SqliteAdapter(f"{self.directory}/store.db", durability=self.durability)
        return self.made

    def teardown(self) -> None:
        super().teardown()  # type: ignore[misc]
        self.made.close()
        shutil.rmtree(self.directory)


class SqliteMachine(_File, AdapterMachine):
    durability = "none"


class DurableSqliteMachine(_File, AdapterMachine):
    durability = "fsync"


class SqliteVersionsMachine(_File, VersionsMachine):
    durability = "none"


TestSqliteMachine = SqliteMachine.TestCase
TestDurableSqliteMachine = DurableSqliteMachine.TestCase
TestSqliteVersionsMachine = SqliteVersionsMachine.TestCase

TestSqliteMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestDurableSqliteMachine.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)
TestSqliteVersionsMachine.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None
)
