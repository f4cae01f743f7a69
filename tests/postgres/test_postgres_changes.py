"""What the log of changes stands on: the columns, and the reading that docs/design/postgres.md has.

A transaction that commits late, whatever its numbers, is found by the next reading and by no other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from amfs_postgres import PostgresAdapter
from tests.conftest import REPOSITORY
from tests.support.postgres import Postgres

_PAGE = REPOSITORY / "docs" / "design" / "postgres.md"


class Log:
    """Reads the log as the page says."""

    def __init__(self, postgres: Postgres, adapter: PostgresAdapter) -> None:
        [statement] = re.findall(r"```sql\n(.*?)```", _PAGE.read_text(), re.DOTALL)
        text = statement.replace("$1", "%(position)s::pg_snapshot")
        self._statement = text.replace("amfs.objects", f'"{adapter.schema}".objects')
        self._connection = psycopg.connect(postgres.dsn, autocommit=True)
        self._position = self._snapshot()

    def _snapshot(self) -> str:
        return str(self._value("SELECT pg_current_snapshot()::text"))

    def _value(self, statement: str) -> object:
        ((value,),) = self._connection.execute(statement.encode()).fetchall()
        return value

    def look(self) -> list[str]:
        values = {"position": self._position}
        rows = self._connection.execute(self._statement.encode(), values).fetchall()
        ((self._position, keys),) = rows
        return list(keys)

    def plan(self) -> str:
        values = {"position": self._position}
        self._connection.execute(b"SET enable_seqscan = off")
        rows = self._connection.execute(b"EXPLAIN " + self._statement.encode(), values).fetchall()
        return "\n".join(line for (line,) in rows)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def log(postgres: Postgres, made: PostgresAdapter) -> Iterator[Log]:
    with closing(Log(postgres, made)) as log:
        yield log


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


def test_a_look_with_nothing_new_reads_the_index(log: Log) -> None:
    plan = log.plan()
    assert "objects_changes" in plan
    assert re.search(r"Index Cond: \(\(xid >= .* AND \(xid < ", plan)


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
