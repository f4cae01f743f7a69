"""The log of changes of a PostgreSQL store, as docs/design/postgres.md says why.

A transaction that commits late, whatever its numbers, is found by the next reading and by no other.
"""

from __future__ import annotations

import re
from contextlib import closing

import psycopg
import pytest

from amfs_core.memory import AgentMemory
from amfs_postgres import PostgresAdapter
from amfs_postgres.statements import Statements
from tests.support.postgres import Postgres


class Log:
    """What is read from a position on."""

    def __init__(self, adapter: PostgresAdapter) -> None:
        self._log = adapter.changes()
        position = self._log.position(make=False)
        assert position is not None
        self.position = position

    def look(self) -> list[str]:
        answer = self._log.since(self.position)
        assert answer is not None
        self.position, keys = answer
        return keys


@pytest.fixture
def log(made: PostgresAdapter) -> Log:
    return Log(made)


@pytest.fixture
def made(adapter: PostgresAdapter) -> PostgresAdapter:
    adapter.create_many({f"before-{number}.json": b"one" for number in range(50)})
    return adapter


def test_each_change_is_read_once_and_in_order(log: Log, made: PostgresAdapter) -> None:
    assert log.look() == []
    made.create("b.json", b"one")
    made.create("a.json", b"one")
    assert log.look() == ["b.json", "a.json"]
    assert log.look() == []
    made.replace("b.json", b"two")
    made.create_many({"y.json": b"", "x.json": b"", "a.json": b""})
    assert log.look() == ["b.json", "x.json", "y.json"]
    assert log.look() == []


def test_a_transaction_that_commits_late_is_not_skipped(
    postgres: Postgres, log: Log, made: PostgresAdapter
) -> None:
    """The first takes its number and its id before all others, and commits after them; the second
    takes its number before the others, and its id after."""
    insert = f"INSERT INTO {made.schema}.objects (key, body) VALUES ('first.json', '')"
    with psycopg.connect(postgres.dsn) as first, psycopg.connect(postgres.dsn) as second:
        first.execute(insert.encode())
        sequence = f"pg_get_serial_sequence('{made.schema}.objects', 'seq')"
        ((number,),) = second.execute(f"SELECT nextval({sequence})".encode()).fetchall()
        made.create("quick.json", b"one")
        assert log.look() == ["quick.json"]
        made.create("quicker.json", b"one")
        assert log.look() == ["quicker.json"]
        second.execute(
            (
                f"INSERT INTO {made.schema}.objects (key, body, seq) OVERRIDING SYSTEM VALUE "
                "VALUES ('second.json', '', %s)"
            ).encode(),
            (number,),
        )
        assert log.look() == []
        second.commit()
        assert log.look() == ["second.json"]
        first.commit()
        assert log.look() == ["first.json"]
        assert log.look() == []


def test_a_look_with_nothing_new_reads_the_index(
    postgres: Postgres, log: Log, made: PostgresAdapter
) -> None:
    statement = Statements.of(made.schema).since.replace(b")t", b")s")
    values = {"snapshot": log.position.rpartition(".")[2], "prefix": ""}
    with psycopg.connect(postgres.dsn) as connection:
        connection.execute(b"SET enable_seqscan = off")
        rows = connection.execute(b"EXPLAIN " + statement, values).fetchall()
    plan = "\n".join(line for (line,) in rows)
    assert "objects_changes" in plan
    assert re.search(r"Index Cond: \(\(xid >= .* AND \(xid < ", plan)


@pytest.mark.parametrize(
    "position",
    [
        *("", "x", "1.1.1:1:", "{system}.7.{snapshot}", "1.{timeline}.{snapshot}"),
        *("{system}.{timeline}.9000000000:9000000000:", "{system}.{timeline}.5:4:"),
    ],
)
def test_a_position_of_another_server_or_timeline_is_not_followed(
    log: Log, made: PostgresAdapter, position: str
) -> None:
    system, timeline, snapshot = log.position.split(".")
    foreign_position = position.format(system=system, timeline=timeline, snapshot=snapshot)
    assert made.changes().since(foreign_position) is None


def test_only_keys_with_the_prefix_are_named(postgres: Postgres, made: PostgresAdapter) -> None:
    with closing(PostgresAdapter(postgres.dsn, made.schema, prefix="below/")) as below:
        log = Log(below)
        below.create("a.json", b"one")
        made.create("b.json", b"one")
        assert log.look() == ["a.json"]


def test_a_role_that_may_not_ask_which_server_this_is_lists_everything(
    postgres: Postgres, made: PostgresAdapter
) -> None:
    role, dsn = postgres.new_role()
    postgres.sql(f"GRANT USAGE ON SCHEMA {made.schema} TO {role}")
    postgres.sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA {made.schema} TO {role}")
    with closing(PostgresAdapter(dsn, made.schema)) as reader:
        assert reader.changes().position(make=True) is not None
        postgres.sql("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
        try:
            assert reader.changes().position(make=True) is None
            with AgentMemory("reader", adapter=reader) as memory:
                AgentMemory("writer", adapter=made).write("e", "k", 1)
                assert len(memory.list()) == len(memory.list()) == 1
        finally:
            postgres.sql("GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC")


def test_an_absent_store_has_no_log(postgres: Postgres, adapter: PostgresAdapter) -> None:
    assert adapter.changes().position(make=True) is None
    assert adapter.changes().since("1.1.5:5:") is None


def test_rows_that_were_restored_from_another_server_are_not_new_at_every_look(
    postgres: Postgres, log: Log, made: PostgresAdapter
) -> None:
    """Their ids are ahead of this server's."""
    postgres.sql(
        f"INSERT INTO {made.schema}.objects (key, body, xid) VALUES ('a.json', '', '9000000000')"
    )
    assert log.look() == []
    made.create("b.json", b"one")
    assert log.look() == ["b.json"]
    made.replace("a.json", b"two")
    assert log.look() == ["a.json"]


def test_the_numbers_of_a_replaced_row_are_new(postgres: Postgres, made: PostgresAdapter) -> None:
    numbers = f"SELECT seq, xid::text::bigint FROM {made.schema}.objects WHERE key = 'a.json'"
    made.create("a.json", b"one")
    [[before]] = postgres.sql(numbers)
    made.replace("a.json", b"two")
    [[after]] = postgres.sql(numbers)
    assert before[0] < after[0]
    assert before[1] < after[1]
