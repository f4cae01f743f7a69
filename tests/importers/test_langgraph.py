"""LangGraph's stores: databases that its own packages made."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from langgraph.store.base import BaseStore
from langgraph.store.postgres import PostgresStore
from langgraph.store.sqlite import SqliteStore
from psycopg import sql

from amfs_core.errors import BackendUnavailableError, ConfigurationError, PermissionDeniedError
from amfs_core.memory import AgentMemory
from tests.conftest import REPOSITORY
from tests.importers.conftest import Import, reasons, states
from tests.support.postgres import Postgres, new_schema

Fill = Callable[[Callable[[BaseStore], None]], str]
"""Opens a store, has it filled, closes it, and returns where it is."""


@pytest.fixture
def schema(postgres: Postgres) -> str:
    return new_place(postgres)


def new_place(postgres: Postgres) -> str:
    """Return a connection string of a schema that nothing is in."""
    name = new_schema()
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    return f"{postgres.dsn}?options=-csearch_path%3D{name}"


@pytest.fixture(params=["sqlite", "postgres"])
def fill(request: pytest.FixtureRequest, tmp_path: Path) -> Fill:
    if request.param == "sqlite":
        place = str(tmp_path / "store.db")
        opened: Any = lambda: SqliteStore.from_conn_string(place)  # noqa: E731
    else:
        place = request.getfixturevalue("schema")
        opened = lambda: PostgresStore.from_conn_string(place)  # noqa: E731

    def run(work: Callable[[BaseStore], None]) -> str:
        with opened() as store:
            store.setup()
            work(store)
        return place

    return run


NAMESPACES = [
    ("users", "alex"),
    ("users",),
    ("a/b", "100%", "%2F"),
    ("名前", "_x", "v1json"),
    (" lead", "trail "),
]
KEYS = ["profile", "a/b", "100%", "..", ".dot", "v1.json", "鍵 🔑", "line\nbreak"]


def test_items_become_memories_under_their_labels(
    memory: AgentMemory, imported: Import, fill: Fill
) -> None:
    value = {"text": "likes tea", "n": 1, "f": 0.5, "deep": [{"a": None}], "big": 12345678901234567}

    def put(store: BaseStore) -> None:
        for namespace in NAMESPACES:
            for key in KEYS:
                store.put(namespace, key, value)

    before = datetime.now(UTC) - timedelta(seconds=2)
    place = fill(put)
    assert set(states(imported("langgraph", place))) == {"new"}
    entries = memory.list("store")
    assert len(entries) == len(NAMESPACES) * len(KEYS)
    seen = set()
    for entry in entries:
        kept = entry.value
        seen.add((tuple(kept["namespace"]), kept["key"]))
        assert kept["value"] == value
        assert before <= datetime.fromisoformat(kept["created_at"]) <= datetime.now(UTC)
        assert datetime.fromisoformat(kept["updated_at"]).tzinfo is not None
        assert set(kept) == {"namespace", "key", "value", "created_at", "updated_at"}
    assert seen == {(namespace, key) for namespace in NAMESPACES for key in KEYS}
    assert memory.read("store/users/alex", "profile") is not None
    assert memory.read("store/a%2Fb/100%25/%252F", "a%2Fb") is not None
    assert set(states(imported("langgraph", place))) == {"unchanged"}


def test_a_changed_item_becomes_a_version_and_a_deleted_one_stays(
    memory: AgentMemory, imported: Import, fill: Fill
) -> None:
    def put(store: BaseStore) -> None:
        for key in ("a", "b", "c"):
            store.put(("ns",), key, {"n": 1})

    def change(store: BaseStore) -> None:
        store.put(("ns",), "b", {"n": 2})
        store.delete(("ns",), "c")

    imported("langgraph", fill(put), into="graph")
    assert states(imported("langgraph", fill(change), into="graph")) == ["unchanged", "changed"]
    assert [entry.value["value"] for entry in memory.history("graph/ns", "b")] == [
        {"n": 1},
        {"n": 2},
    ]
    assert memory.read("graph/ns", "c") is not None


def test_a_time_to_live_is_kept_and_what_is_over_is_not_written(
    memory: AgentMemory, imported: Import, fill: Fill
) -> None:
    def put(store: BaseStore) -> None:
        store.put(("ns",), "hour", {"n": 1}, ttl=60)
        store.put(("ns",), "over", {"n": 1}, ttl=-1)

    before = datetime.now(UTC)
    done = imported("langgraph", fill(put))
    assert states(done) == ["new", "expired"]
    entry = memory.read("store/ns", "hour")
    assert entry is not None and entry.expires_at is not None
    assert entry.value["ttl"] == 60.0
    expected = before + timedelta(hours=1)
    assert expected <= entry.expires_at <= expected + timedelta(minutes=1)


def test_an_item_that_cannot_be_kept_is_refused_by_name(imported: Import, fill: Fill) -> None:
    def put(store: BaseStore) -> None:
        store.put(("ns",), "", {"n": 1})
        store.put(("ns",), "k" * 101, {"n": 1})
        store.put(("n" * 101,), "k", {"n": 1})

    done = imported("langgraph", fill(put))
    assert [result.key for result in done if result.state == "new"] == ["%"]
    refused = reasons(done)
    assert "its key 'kkkk" in str(refused["ns " + "k" * 101])
    assert "its namespace label 'nnnn" in str(refused["n" * 101 + " k"])


# -- files -----------------------------------------------------------------------------------


def test_a_file_that_langgraph_has_open_is_read_and_not_changed(
    imported: Import, tmp_path: Path
) -> None:
    path = tmp_path / "store.db"
    with SqliteStore.from_conn_string(str(path)) as store:
        store.setup()
        store.put(("ns",), "k", {"n": 1})
        before = path.read_bytes()
        assert states(imported("langgraph", path)) == ["new"]
        assert states(imported("langgraph", f"sqlite:///{path}")) == ["unchanged"]
        assert path.read_bytes() == before
        store.put(("ns",), "k", {"n": 2})


def test_a_file_of_before_times_to_live_is_read(imported: Import, tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as database:
        database.execute(SqliteStore.MIGRATIONS[0])
        database.execute("INSERT INTO store (prefix, key, value) VALUES ('ns', 'k', '{\"n\": 1}')")
    database.close()
    assert states(imported("langgraph", path)) == ["new"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("[1]", "not an object"),
        ("{", "not JSON"),
        (b"\xff", "not UTF-8"),
        ('{"n": 0.1234567890123456789}', "would be rounded"),
    ],
)
def test_a_damaged_row_is_refused(
    imported: Import, tmp_path: Path, value: str | bytes, words: str
) -> None:
    path = tmp_path / "odd.db"
    with sqlite3.connect(path) as database:
        database.execute(SqliteStore.MIGRATIONS[0])
        database.execute("INSERT INTO store (prefix, key, value) VALUES ('ns', 'k', ?)", (value,))
    database.close()
    assert words in str(reasons(imported("langgraph", path))["ns k"])


def test_what_is_not_a_store_is_an_error(imported: Import, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(FileNotFoundError):
        imported("langgraph", path)
    assert not path.exists()
    path.write_text("not a database, and long enough to be none of SQLite's" * 20)
    with pytest.raises(ConfigurationError, match="file is not a database"):
        imported("langgraph", path)
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE other (id)")
    database.close()
    with pytest.raises(ConfigurationError, match="no table 'store'"):
        imported("langgraph", path)
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE store (prefix, key)")
    database.close()
    with pytest.raises(ConfigurationError, match="no 'value'"):
        imported("langgraph", path)


def test_a_file_that_somebody_writes_to_is_an_error_that_says_so(
    imported: Import, tmp_path: Path
) -> None:
    path = tmp_path / "store.db"
    with SqliteStore.from_conn_string(str(path)) as store:
        store.setup()
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(BackendUnavailableError, match="holds its lock"):
            imported("langgraph", path)


# -- PostgreSQL ------------------------------------------------------------------------------


def test_a_database_without_a_store_is_an_error(imported: Import, schema: str) -> None:
    with pytest.raises(ConfigurationError, match="has no LangGraph store") as raised:
        imported("langgraph", schema)
    assert "search_path" in str(raised.value)


def test_stores_in_two_schemas_do_not_overwrite_each_other(
    imported: Import, postgres: Postgres
) -> None:
    places = [new_place(postgres), new_place(postgres)]
    for number, place in enumerate(places):
        with PostgresStore.from_conn_string(place) as store:
            store.setup()
            store.put(("ns",), "k", {"n": number})
    assert [states(imported("langgraph", place)) for place in places] == [["new"], ["kept"]]


def test_a_role_that_may_not_read_is_an_error_without_its_password(
    imported: Import, postgres: Postgres
) -> None:
    wrong = postgres.dsn.replace(postgres.password, "wr0ng-secret")
    with pytest.raises(PermissionDeniedError) as raised:
        imported("langgraph", wrong)
    assert "wr0ng-secret" not in str(raised.value)
    gone = postgres.dsn.replace(f":{postgres.port}/", ":1/")
    with pytest.raises(BackendUnavailableError) as down:
        imported("langgraph", gone)
    assert postgres.password not in str(down.value)


def test_without_the_driver_it_says_which_extra_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['psycopg'] = None; "
        "from amfs.cli import amfs; amfs.main(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "import", "--from", "langgraph", "postgresql:///agents"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "pip install 'amfs[postgres]'" in done.stderr


def test_langgraph_itself_is_not_needed(imported: Import, fill: Fill, tmp_path: Path) -> None:
    place = fill(lambda store: store.put(("ns",), "k", {"n": 1}))
    code = (
        "import sys; sys.modules['langgraph'] = sys.modules['langchain_core'] = None; "
        "from amfs.cli import amfs; amfs.main(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "import", "--from", "langgraph", place],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "imported: 1 new\n"), done.stderr
