"""An index for many processes: who pays for what, what everybody sees, and whom nobody believes."""

from __future__ import annotations

import logging
import pickle
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    ConfigurationError,
    PermissionDeniedError,
)
from amfs_core.memory import AgentMemory
from amfs_core.storage import ObjectInfo, StorageAdapter
from amfs_core.testing import ModelAdapter
from amfs_core.testing.cases import together
from amfs_local import LocalAdapter
from amfs_postgres import PostgresAdapter
from amfs_postgres.index import PostgresIndex, looks
from amfs_sqlite import SqliteAdapter
from tests.conftest import NOT_COVERED, REPOSITORY
from tests.support.known import known
from tests.support.postgres import Postgres, new_schema, pooled
from tests.support.served import serving
from tests.support.servers import ServerUnavailableError, free_port

Open = Callable[[], AgentMemory]


class Listed(ModelAdapter):
    """A store without a change log, as a bucket is."""

    location = "model://shared"


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def process(opened: ExitStack, index: PostgresIndex, adapter: StorageAdapter) -> AgentMemory:
    """What another process has: an engine and connections of its own."""
    own = opened.enter_context(closing(pickle.loads(pickle.dumps(index))))
    memory = AgentMemory("other", adapter=adapter, index=own, patience=5)
    return known(opened.enter_context(memory))


def requests(memory: AgentMemory) -> tuple[int, int]:
    """The listings and the gets of a process, but for that of the manifest, if it made one."""
    made = memory.metrics.requests
    return made["list"], max(made["get"] - 1, 0)


# -- who pays --------------------------------------------------------------------------------


def test_only_the_first_process_fetches(index: PostgresIndex, opened: ExitStack) -> None:
    adapter = Listed()
    with AgentMemory("writer", adapter=adapter) as writer:
        writer.write_many({"entity_path": "e", "key": f"k{n}", "value": n} for n in range(20))
    first, second = (process(opened, index, adapter) for _ in range(2))
    assert len(first.list()) == 20
    assert requests(first) == (1, 20)
    assert second.search("k7")[0].entry.key == "k7"
    assert requests(second) == (1, 0)
    second.write("e", "new", "needle")
    assert [hit.entry.key for hit in second.search("needle")] == ["new"]
    assert [hit.entry.key for hit in first.search("needle")] == ["new"]
    assert requests(first) == (2, 20)  # what another wrote is in the index when it is asked for


def test_within_max_age_nobody_asks_the_store(index: PostgresIndex, opened: ExitStack) -> None:
    adapter = Listed()
    first, second, third = (process(opened, index, adapter) for _ in range(3))
    first.write("e", "k", "apple")
    first.list()
    assert [hit.entry.key for hit in second.search("apple", max_age=60)] == ["k"]
    assert requests(second) == (0, 0)
    second.write("e", "own", "apple")
    assert {hit.entry.key for hit in second.search("apple", max_age=60)} == {"k", "own"}
    assert requests(second) == (0, 0)
    assert third.search("apple", entity_path="e", max_age=0.0) != []
    assert requests(third)[0] == 1


@pytest.mark.parametrize("kind", ["local", "sqlite", "postgres"])
def test_with_a_change_log_a_first_search_lists_nothing(
    index: PostgresIndex,
    opened: ExitStack,
    kind: str,
    tmp_path: Path,
    postgres: Postgres,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stores: dict[str, Callable[[], StorageAdapter]] = {
        "local": lambda: LocalAdapter(tmp_path / "store"),
        "sqlite": lambda: SqliteAdapter(str(tmp_path / "store.db")),
        "postgres": lambda: PostgresAdapter(postgres.dsn, index.schema + "_store"),
    }
    adapters = [opened.enter_context(closing(stores[kind]())) for _ in range(3)]
    writer, first, second = (process(opened, index, adapter) for adapter in adapters)
    writer.write_many({"entity_path": "e/f", "key": f"k{n}", "value": n} for n in range(10))
    assert len(writer.list()) == 10
    assert len(first.list()) == 10
    listings = []
    listing = adapters[2].list

    def counted(prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        listings.append(prefix)
        return listing(prefix, start_after)

    monkeypatch.setattr(adapters[2], "list", counted)
    for number in range(3):
        writer.write("e/f", "last", number)
        writer.write("e/g", f"another{number}", number)
        writer.delete("e/f", f"k{number}")
        assert second.list() == writer.list()
        assert second.list("e") == writer.list("e")
        assert second.search("last")[0].entry.value == number
    assert listings == []
    assert len(second.list()) == 11
    still = second.metrics.index_queries
    assert len(second.list()) == 11
    assert second.metrics.index_queries - still == 3  # look, find, require


def test_concurrent_callers_wait_for_one_refresh(index: PostgresIndex, opened: ExitStack) -> None:
    adapter = Listed()
    with AgentMemory("writer", adapter=adapter) as writer:
        writer.write_many({"entity_path": "e", "key": f"k{n}", "value": n} for n in range(200))
    memories = [process(opened, index, adapter) for _ in range(6)]
    counts = together([lambda memory=memory: len(memory.list()) for memory in memories])  # type: ignore[misc]
    assert counts == [200] * 6
    made = [requests(memory) for memory in memories]
    assert sum(gets for _, gets in made) == 200
    assert sum(lists for lists, _ in made) <= 6


def test_a_search_never_misses_what_was_written_before_it(
    index: PostgresIndex, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nobody keeps a lease, so that all refresh at once."""
    monkeypatch.setattr(looks, "LEASE_SECONDS", 0.0)
    adapter = Listed()
    writers = [process(opened, index, adapter) for _ in range(3)]
    readers = [process(opened, index, adapter) for _ in range(3)]
    written = [0, 0, 0]
    is_done = threading.Event()

    def write(own: int) -> None:
        for number in range(1, 30):
            writers[own].write("e", f"w{own}", number)
            written[own] = number
            if number % 7 == 0:
                writers[own].search("w1")

    def read(own: int) -> None:
        while not is_done.is_set():
            before = list(written)
            values = {entry.key: entry.value for entry in readers[own].list()}
            for number, least in enumerate(before):
                assert values.get(f"w{number}", 0) >= least

    threads = [threading.Thread(target=write, args=(own,)) for own in range(3)]
    for thread in threads:
        thread.start()

    def wait() -> None:
        for thread in threads:
            thread.join()
        is_done.set()

    together([wait, *(lambda own=own: read(own) for own in range(3))])  # type: ignore[misc]
    assert [entry.value for entry in readers[0].list()] == [29, 29, 29]


# -- several stores, namespaces and releases -------------------------------------------------


def test_stores_and_namespaces_in_one_index_do_not_mix(
    index: PostgresIndex, tmp_path: Path
) -> None:
    adapters = [LocalAdapter(tmp_path / name) for name in ("a", "b")]
    memories = [
        AgentMemory("a", adapter=adapter, namespace=namespace, index=index)
        for adapter in adapters
        for namespace in ("one", "two")
    ]
    for number, memory in enumerate(memories):
        memory.write("e", "k", f"apple {number}")
    for number, memory in enumerate(memories):
        assert [hit.entry.value for hit in memory.search("apple")] == [f"apple {number}"]
        memory.close()


def test_a_place_that_is_another_on_each_machine_is_told_apart_by_the_machine(
    index: PostgresIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = AgentMemory("a", adapter=LocalAdapter(tmp_path), index=index)
    memory.write("e", "k", "apple")
    memory.list()
    monkeypatch.setattr("platform.node", lambda: "another-machine")
    elsewhere = AgentMemory("a", adapter=LocalAdapter(tmp_path / "other"), index=index)
    with closing(elsewhere):
        assert elsewhere.list() == []
    same_path = AgentMemory("a", adapter=LocalAdapter(tmp_path), index=index)
    same_path.list()
    assert requests(same_path)[1] == 1  # it does not know what the first machine has
    named = PostgresIndex(index._dsn.text, index.schema, name="shared disk")
    with closing(named):
        for gets in (1, 0):
            monkeypatch.setattr("platform.node", lambda gets=gets: f"machine {gets}")
            reader = AgentMemory("a", adapter=LocalAdapter(tmp_path), index=named)
            reader.list()
            assert requests(reader)[1] == gets
            reader.close()
    same_path.close()
    memory.close()


def test_a_store_without_a_place_needs_a_name(index: PostgresIndex) -> None:
    memory = AgentMemory("a", adapter=ModelAdapter(), index=index)
    with pytest.raises(ConfigurationError, match="no location"):
        memory.list()


def test_a_purge_reaches_what_other_releases_have(
    index: PostgresIndex, postgres: Postgres, opened: ExitStack
) -> None:
    adapter = Listed()
    memory, other = (process(opened, index, adapter) for _ in range(2))
    memory.write("e", "k", "secretword")
    memory.write("e", "kept", "apple")
    memory.search("apple")
    schema = index.schema
    postgres.sql(  # a later release, whose tables are others
        f"CREATE TABLE {schema}.memory_9 (store bigint, body text)",
        f"INSERT INTO {schema}.layouts VALUES (9, '{{memory_9,never_made_9}}')",
        f"INSERT INTO {schema}.stores (layout, identity) SELECT 9, identity FROM {schema}.stores",
        f"INSERT INTO {schema}.memory_9 SELECT id, 'secretword' FROM {schema}.stores",
        f"INSERT INTO {schema}.migrations (version) VALUES (9)",
    )
    newer = process(opened, index, adapter)
    assert [hit.entry.key for hit in newer.search("secretword")] == ["k"]
    memory.purge("e", "k")
    assert postgres.sql(f"SELECT count(*) FROM {schema}.memory_9 WHERE store > 1") == [[(0,)]]
    assert [entry.key for entry in other.list()] == ["kept"]
    for table, column in (("posting_1", "term"), ("content_1", "terms")):
        rows = f"SELECT count(*) FROM {schema}.{table} WHERE {column} LIKE '%secretword%'"
        assert postgres.sql(rows) == [[(0,)]]


# -- what is not believed --------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE {s}.content_1 SET body = 'rot'",
        "UPDATE {s}.memory_1 SET prefix = 'default/entries/e/other/', path = 'default/entries/e/'",
        "UPDATE {s}.memory_1 SET version = 7",
        "UPDATE {s}.memory_1 SET tags = '{{red}}', memory_type = 'belief', confidence = 1",
        "UPDATE {s}.memory_1 SET prefix = 'nowhere', path = 'nowhere'",
        "DROP SCHEMA {s} CASCADE",
        "DROP TABLE {s}.posting_1",
        "TRUNCATE {s}.stores",
        "DELETE FROM {s}.total_1",
    ],
)
def test_a_damaged_index_is_rebuilt(
    index: PostgresIndex, postgres: Postgres, opened: ExitStack, damage: str
) -> None:
    adapter = Listed()
    memory, other = (process(opened, index, adapter) for _ in range(2))
    entry = memory.write("e", "k", "apple", confidence=0.5)
    assert memory.list() == other.list() == [entry]
    postgres.sql(damage.format(s=index.schema))
    if damage.startswith("DROP TABLE"):
        with pytest.raises(ConfigurationError, match="not as AMFS made them"):
            memory.search("apple")
        return
    assert memory.search("apple", tags=["red"]) == []
    assert other.search("apple", memory_type="belief") == []
    assert [hit.entry for hit in memory.search("apple")] == [entry]
    assert memory.list() == other.list() == [entry]
    assert memory.read("e", "k") == entry


def test_reads_never_ask_the_index(index: PostgresIndex, opened: ExitStack) -> None:
    memory = process(opened, index, Listed())
    memory.write("e", "k", 1)
    memory.update("e", "k", lambda value: value + 1)
    assert memory.read("e", "k").value == 2  # type: ignore[union-attr]
    assert len(memory.history("e", "k")) == 2
    assert memory.metrics.index_queries == 0


class Guarded(Listed):
    """A store that some may not read all of."""

    def __init__(self, forbidden: str = "") -> None:
        super().__init__()
        self.forbidden = forbidden

    def as_seen_by(self, forbidden: str) -> Guarded:
        other = Guarded(forbidden)
        other.__dict__.update({**self.__dict__, "forbidden": forbidden})
        return other

    def get(self, key: str) -> bytes | None:
        if self.forbidden and self.forbidden in key:
            raise PermissionDeniedError(f"{key} may not be read")
        return super().get(key)

    def get_many(self, keys: Any) -> Any:
        for key in keys:
            yield key, self.get(key)


def test_a_process_that_may_not_read_everything_removes_nothing_for_others(
    index: PostgresIndex, opened: ExitStack
) -> None:
    store = Guarded()
    reader = process(opened, index, store)
    limited = process(opened, index, store.as_seen_by("/secret/"))
    with AgentMemory("writer", adapter=store) as writer:
        writer.write("e", "open", "apple")
        writer.write("e", "secret", "apple")
        assert [entry.key for entry in limited.list()] == ["open"]
        assert [entry.key for entry in reader.list()] == ["open", "secret"]
        writer.write("e", "secret", "apple again")
        assert [entry.key for entry in limited.list()] == ["open"]
        assert len(reader.list(max_age=1000)) == 2
        assert [hit.entry.version for hit in reader.search("again")] == [2]
        assert [hit.entry.key for hit in limited.search("apple")] == ["open"]


# -- a database that fails -------------------------------------------------------------------


def test_without_the_database_a_search_says_so_and_reads_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dsn = f"postgresql://u:Sec-ret@127.0.0.1:{free_port()}/d"
    adapter = LocalAdapter(tmp_path)
    with (
        closing(PostgresIndex(dsn)) as index,
        AgentMemory("a", adapter=adapter, index=index, patience=0.2) as memory,
    ):
        memory.write("e", "k", 1)
        assert memory.read("e", "k") is not None
        with pytest.raises(BackendUnavailableError, match="the index") as caught:
            memory.list()
        health = memory.health()
        assert health.ok
        assert health.index is not None
        assert health.index.error is not None
        with pytest.raises(BackendUnavailableError, match="is erased in the store, but the index"):
            memory.purge("e", "k")
        shown = f"{index!r} {caught.value} {health.index} {caught.value.__cause__} {caplog.text}"
        assert "Sec-ret" not in shown
    with (
        caplog.at_level(logging.WARNING, "amfs"),
        closing(PostgresIndex(dsn, fallback=True)) as index,
        AgentMemory("a", adapter=adapter, index=index, patience=0.2) as memory,
    ):
        entry = memory.write("e", "k2", "apple")
        assert [hit.entry for hit in memory.search("apple")] == [entry]
        assert "of this process's own" in caplog.text
        assert "Sec-ret" not in caplog.text


def test_memories_written_while_a_catalog_stood_in_are_found_in_the_index(
    postgres: Postgres, opened: ExitStack
) -> None:
    index = PostgresIndex(postgres.dsn, new_schema(), fallback=True, connect_timeout=2)
    memory = opened.enter_context(
        AgentMemory("a", adapter=Listed(), index=opened.enter_context(closing(index)), patience=0)
    )
    memory.write("e", "k", "apple")
    assert len(memory.search("apple")) == 1
    postgres.crash()
    try:
        memory.write("e", "while", "apple")
        assert len(memory.search("apple", max_age=1000)) == 2
    finally:
        postgres.start()
    assert len(memory.search("apple", max_age=1000)) == 2
    assert len(memory.search("apple")) == 2


def test_a_restart_of_the_database_is_waited_for(
    index: PostgresIndex, postgres: Postgres, opened: ExitStack
) -> None:
    memory = process(opened, index, Listed())
    memory.write("e", "k", "apple")
    memory.list()
    postgres.crash()
    starter = threading.Timer(0.5, postgres.start)
    starter.start()
    try:
        until = time.monotonic() + 60
        while True:
            try:
                assert [entry.key for entry in memory.list()] == ["k"]
                break
            except BackendUnavailableError:  # it took longer than patience does
                assert time.monotonic() < until
    finally:
        starter.join()


def test_it_works_through_pgbouncer_in_transaction_mode(
    index: PostgresIndex, postgres: Postgres, opened: ExitStack
) -> None:
    try:
        pooler = opened.enter_context(pooled(postgres))
    except ServerUnavailableError as reason:
        pytest.skip(f"{NOT_COVERED} PgBouncer can't be had, no index runs behind it: {reason}")
    adapter = Listed()
    behind = opened.enter_context(closing(PostgresIndex(pooler, index.schema)))
    memories = [process(opened, behind, adapter) for _ in range(5)]

    def work(own: int) -> int:
        for number in range(5):
            memories[own].write("e", f"k{own}-{number}", f"apple {own}")
            memories[own].search("apple")
        return len(memories[own].search(f"apple {own}", limit=100))

    assert together([lambda own=own: work(own) for own in range(5)])[0] >= 5  # type: ignore[misc]
    assert len(memories[0].list()) == 25
    assert memories[0].list() == memories[4].list()


def test_a_role_that_may_not_make_a_schema_is_told_and_one_that_may_prepares(
    postgres: Postgres, opened: ExitStack
) -> None:
    role, dsn = postgres.new_role()
    index = opened.enter_context(closing(PostgresIndex(dsn, new_schema())))
    memory = opened.enter_context(AgentMemory("a", adapter=Listed(), index=index))
    memory.write("e", "k", "apple")
    with pytest.raises(PermissionDeniedError):
        memory.list()
    owner = opened.enter_context(closing(PostgresIndex(postgres.dsn, index.schema)))
    owner.prepare()
    page = (REPOSITORY / "docs/security.md").read_text()
    [_, granted] = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    user = f"{index.schema}_user"  # roles belong to all databases of a server
    postgres.sql(
        granted.replace("amfs_index_user", user).replace("amfs_index", index.schema),
        f"GRANT {user} TO {role}",
    )
    assert [hit.entry.key for hit in memory.search("apple")] == ["k"]
    memory.purge("e", "k")
    assert memory.search("apple") == []
    assert memory.health().ok


def test_the_server_counts_what_it_sends_to_the_index(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMFS_INDEX", f"{postgres.dsn}?schema={new_schema()}")
    with serving(tmp_path / "store") as server, server.client() as client:
        for namespace in ("one", "two"):
            client.put(f"/v1/{namespace}/memories/e/k", json={"value": "apple"})
        counts = []
        for _ in range(2):
            assert len(client.get("/v1/one/search?q=apple").json()["hits"]) == 1
            text = client.get("/metrics").text
            [count] = re.findall(r"^amfs_index_queries_total (\S+)", text, re.MULTILINE)
            counts.append(float(count))
    assert 0 < counts[0] < counts[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"dsn": ""}, "dsn is empty"),
        ({"schema": "pg_x"}, "PostgreSQL's own"),
        ({"fallback": 1}, "fallback must be true or false"),
        ({"max_connections": 0}, "max_connections must be"),
        ({"name": ""}, "name"),
        ({"timeout": 0}, "timeout"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(AMFSError, match=said):
        PostgresIndex(**{"dsn": "postgresql:///d", **arguments})


def test_tables_of_another_program_are_left_alone(postgres: Postgres, opened: ExitStack) -> None:
    schema = new_schema()
    postgres.sql(f"CREATE SCHEMA {schema}", f"CREATE TABLE {schema}.stores (a int)")
    index = opened.enter_context(closing(PostgresIndex(postgres.dsn, schema)))
    memory = opened.enter_context(AgentMemory("a", adapter=Listed(), index=index))
    with pytest.raises(ConfigurationError, match="another program"):
        memory.list()
    assert postgres.sql(f"SELECT count(*) FROM {schema}.stores") == [[(0,)]]
