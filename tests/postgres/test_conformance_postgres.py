"""The PostgreSQL adapter is held to the contract by the conformance kit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from amfs_core.storage import StorageAdapter
from amfs_core.testing.cases import StorageAdapterCases
from amfs_core.testing.machine import AdapterMachine, VersionsMachine
from amfs_postgres import PostgresAdapter
from tests.support.postgres import Postgres, new_schema


class TestPostgresAdapter(StorageAdapterCases):
    rings = True

    @pytest.fixture
    def adapter(self, postgres: Postgres) -> Iterator[StorageAdapter]:
        # More threads than connections, and a disk that may be slow: each waits for its turn.
        made = PostgresAdapter(postgres.dsn, new_schema(), connect_timeout=30.0)
        yield made
        made.close()


class _Schema:
    """A prefix of its own for each program."""

    dsn: ClassVar[str]

    def make_adapter(self) -> StorageAdapter:
        self.made = PostgresAdapter(self.dsn, "machines", prefix=new_schema(), connect_timeout=30.0)
        return self.made

    def teardown(self) -> None:
        super().teardown()  # type: ignore[misc]
        self.made.close()


class PostgresMachine(_Schema, AdapterMachine): ...


class PostgresVersionsMachine(_Schema, VersionsMachine): ...


@pytest.mark.parametrize(
    ("machine", "examples"), [(PostgresMachine, 30), (PostgresVersionsMachine, 20)]
)
def test_random_programs_do_what_the_model_does(
    postgres: Postgres, machine: type[RuleBasedStateMachine], examples: int
) -> None:
    _Schema.dsn = postgres.dsn
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=30, deadline=None)
    )
