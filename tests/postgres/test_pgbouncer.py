"""The PostgreSQL adapter behind PgBouncer in transaction mode, where no session is one's own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import closing

import pytest

from amfs_core.doctor import examine
from amfs_core.memory import AgentMemory
from amfs_core.storage import StorageAdapter
from amfs_core.testing.cases import StorageAdapterCases, together
from amfs_postgres import PostgresAdapter
from tests.conftest import NOT_COVERED
from tests.support.postgres import Postgres, new_schema, pooled
from tests.support.servers import ServerUnavailableError


@pytest.fixture(scope="module")
def pooler(postgres: Postgres) -> Iterator[str]:
    """How to connect by way of a PgBouncer with three connections to the server."""
    with contextlib.ExitStack() as stack:
        try:
            dsn = stack.enter_context(pooled(postgres))
        except ServerUnavailableError as reason:
            pytest.skip(f"{NOT_COVERED} PgBouncer can't be had, nothing runs behind it: {reason}")
        yield dsn


class TestBehindPgBouncer(StorageAdapterCases):
    rings = True

    @pytest.fixture
    def adapter(self, pooler: str, postgres: Postgres) -> Iterator[StorageAdapter]:
        # More threads than connections, and a disk that may be slow: each waits for its turn.
        with closing(
            PostgresAdapter(pooler, new_schema(), listen_dsn=postgres.dsn, connect_timeout=30.0)
        ) as made:
            yield made


def test_processes_share_its_few_connections_with_others_that_change_their_settings(
    pooler: str, postgres: Postgres
) -> None:
    """Settings and prepared statements of others stay on the connections that we are given."""
    name = new_schema()
    stores = [PostgresAdapter(pooler, name) for _ in range(6)]
    memories = [AgentMemory(f"a{number}", adapter=store) for number, store in enumerate(stores)]

    def work(own: int) -> int:
        for number in range(10):
            stores[own].ask(lambda link: link.execute(b"SET synchronous_commit = off"))
            memories[own].write("e", "shared", number)
            memories[own].write_many(
                [{"entity_path": f"own/{own}", "key": f"{number}-{n}", "value": n} for n in "abc"]
            )
        return len(memories[own].list(f"own/{own}"))

    assert together([lambda own=own: work(own) for own in range(6)]) == [30] * 6  # type: ignore[misc]
    assert memories[0].read("e", "shared").version == 60  # type: ignore[union-attr]
    assert memories[0].verify().ok
    prepared = stores[0].ask(
        lambda link: link.execute(b"SELECT count(*) FROM pg_prepared_statements").fetchall()
    )
    assert prepared == [(0,)]
    for store in stores:
        store.close()


def test_the_doctor_says_that_a_pooler_notifies_nobody(pooler: str, postgres: Postgres) -> None:
    with closing(PostgresAdapter(pooler, new_schema())) as adapter:
        adapter.create("a.json", b"one")
        diagnoses = {diagnosis.name: diagnosis for diagnosis in examine(adapter.checks())}
        assert [name for name, diagnosis in diagnoses.items() if diagnosis.verdict != "ok"] == [
            "server"
        ]
        assert "through a pooler" in diagnoses["server"].found
        assert "listen_dsn" in diagnoses["server"].hint
        with closing(adapter.doorbell("")) as bell:
            assert bell.wait(1.0) is False
    with closing(PostgresAdapter(pooler, new_schema(), listen_dsn=postgres.dsn)) as adapter:
        assert {diagnosis.verdict for diagnosis in examine(adapter.checks())} == {"ok"}
