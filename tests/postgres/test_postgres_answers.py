"""Connections that are cut between a request, its commit and its answer, on the wire."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from amfs_core.errors import BackendUnavailableError, OutcomeUnknownError
from amfs_core.memory import AgentMemory
from amfs_postgres import PostgresAdapter
from tests.support.postgres import USER, Postgres, new_schema
from tests.support.postgres_wire import Cut, Wire

COMMITTED = (Cut.ANSWER, Cut.READY, Cut.SILENCE)


@pytest.fixture
def wire(postgres: Postgres) -> Iterator[Wire]:
    with Wire("127.0.0.1", postgres.port) as made:
        yield made


@pytest.fixture
def cut_off(postgres: Postgres, wire: Wire) -> Iterator[PostgresAdapter]:
    """A store by way of the wire."""
    dsn = postgres.dsn_of(USER, postgres.password, wire.port)
    dsn += "?sslmode=disable&gssencmode=disable"
    with closing(PostgresAdapter(dsn, new_schema(), timeout=1.0)) as made:
        made.create("first.json", b"one")
        assert made.get("first.json") == b"one"
        yield made


def held(postgres: Postgres, adapter: PostgresAdapter, key: str) -> bytes | None:
    """What the row has, past the wire."""
    with closing(PostgresAdapter(postgres.dsn, adapter.schema)) as direct:
        return direct.get(key)


@pytest.mark.parametrize("cut", Cut, ids=lambda cut: cut.name.lower())
def test_the_outcome_of_a_create_that_is_cut_off_is_unknown(
    postgres: Postgres, wire: Wire, cut_off: PostgresAdapter, cut: Cut
) -> None:
    wire.cut_next(cut)
    with pytest.raises(OutcomeUnknownError, match=r"'a\.json'"):
        cut_off.create("a.json", b"two")
    assert wire.cuts == 1
    assert held(postgres, cut_off, "a.json") == (b"two" if cut in COMMITTED else None)
    assert cut_off.create("a.json", b"two") is (cut not in COMMITTED)
    assert cut_off.get("a.json") == b"two"


@pytest.mark.parametrize("cut", Cut, ids=lambda cut: cut.name.lower())
def test_a_write_that_is_cut_off_makes_one_version(
    wire: Wire, cut_off: PostgresAdapter, cut: Cut
) -> None:
    with AgentMemory("a", adapter=cut_off) as memory:
        memory.write("e", "before", 0)
        wire.cut_next(cut)
        entry = memory.write("e", "k", 1)
        assert wire.cuts == 1
        assert [version.value for version in memory.history("e", "k")] == [1]
        assert entry.version == 1


@pytest.mark.parametrize("cut", [Cut.REQUEST, Cut.COMMIT, Cut.READY], ids=lambda cut: cut.name)
def test_a_batch_that_is_cut_off_acknowledges_nothing(
    postgres: Postgres, wire: Wire, cut_off: PostgresAdapter, cut: Cut
) -> None:
    wire.cut_next(cut)
    objects = {f"{number}.json": b"two" for number in range(20)}
    assert cut_off.create_many(objects) == []
    assert held(postgres, cut_off, "7.json") == (b"two" if cut in COMMITTED else None)
    with AgentMemory("a", adapter=cut_off) as memory:
        wire.cut_next(cut)
        items = [{"entity_path": "e", "key": f"k{n}", "value": n} for n in range(20)]
        assert [entry.version for entry in memory.write_many(items)] == [1] * 20
        assert len(memory.list("e")) == 20
        assert memory.verify().ok


def test_a_server_that_is_silent_is_given_up_in_time(wire: Wire, cut_off: PostgresAdapter) -> None:
    wire.cut_next(Cut.SILENCE)
    began = time.monotonic()
    with pytest.raises(BackendUnavailableError, match=r"no answer within [01]\.\d s"):
        cut_off.replace("a.json", b"two")
    assert time.monotonic() - began < 10


def test_connections_that_were_cut_while_idle_are_not_used(
    wire: Wire, cut_off: PostgresAdapter
) -> None:
    for number in range(5):
        cut_off.get("first.json")
        wire.cut_idle()
        assert cut_off.create(f"{number}.json", b"one") is True


def test_a_create_that_the_server_ends_is_unknown_and_one_that_it_cancels_is_not(
    postgres: Postgres, adapter: PostgresAdapter
) -> None:
    """Both wait for a row that another transaction is about to insert."""
    adapter.create("first.json", b"one")
    table = f'"{adapter.schema}".objects'
    waiting = (
        f"FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%{adapter.schema}%'"
    )
    for function, error in (
        ("pg_cancel_backend", BackendUnavailableError),
        ("pg_terminate_backend", OutcomeUnknownError),
    ):
        with psycopg.connect(postgres.dsn) as other:
            other.execute(f"INSERT INTO {table} (key, body) VALUES ('held.json', '')".encode())
            raised: list[BaseException] = []

            def create(raised: list[BaseException] = raised) -> None:
                try:
                    adapter.create("held.json", b"two")
                except Exception as failure:
                    raised.append(failure)

            thread = threading.Thread(target=create)
            thread.start()
            until = time.monotonic() + 30
            while postgres.sql(f"SELECT {function}(pid) {waiting}") == [[]]:
                assert time.monotonic() < until
                time.sleep(0.01)
            thread.join(30)
            other.rollback()
        assert [type(exception) for exception in raised] == [error]
        assert adapter.get("held.json") is None
