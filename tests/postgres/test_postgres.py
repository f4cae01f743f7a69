"""The PostgreSQL adapter: its schema, what is refused, who may do what, and what is never shown."""

from __future__ import annotations

import logging
import os
import pickle
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from amfs.config import load
from amfs.doctor import diagnose
from amfs_core.doctor import Diagnosis, examine
from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    ConfigurationError,
    PermissionDeniedError,
    StorageFullError,
)
from amfs_core.memory import AgentMemory
from amfs_core.storage import StorageAdapter
from amfs_core.testing.cases import in_forked_child, keys, together
from amfs_core.upkeep.copy import copy
from amfs_local import LocalAdapter
from amfs_postgres import PostgresAdapter, schema
from amfs_postgres.failures import translated
from amfs_sqlite import SqliteAdapter
from tests.conftest import REPOSITORY
from tests.support.postgres import Postgres, new_schema

SECRET = "hunter2%3F"
DECODED = "hunter2?"


_PAGE = REPOSITORY / "docs" / "security.md"


def everything(adapter: StorageAdapter) -> dict[str, bytes | None]:
    return dict(adapter.get_many([info.key for info in adapter.list("")]))


def tables(postgres: Postgres, name: str) -> list[str]:
    [rows] = postgres.sql(
        f"SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace "
        f"WHERE nspname = '{name}' AND relkind = 'r' ORDER BY relname"
    )
    return [table for (table,) in rows]


class TestSchema:
    def test_the_first_write_makes_it_and_reading_makes_nothing(
        self, postgres: Postgres, adapter: PostgresAdapter
    ) -> None:
        with AgentMemory("a", adapter=adapter) as memory:
            assert memory.read("e", "k") is None
            assert memory.list() == []
            assert memory.health().ok
        adapter.delete("a.json")
        assert tables(postgres, adapter.schema) == []
        assert adapter.create("a/b.json", b"one") is True
        assert tables(postgres, adapter.schema) == ["migrations", "objects"]
        results = postgres.sql(f"SELECT key, body FROM {adapter.schema}.objects")
        assert results == [[("a/b.json", b"one")]]

    def test_a_prefix_comes_before_every_key(self, postgres: Postgres) -> None:
        name = new_schema()
        with closing(PostgresAdapter(postgres.dsn, name, prefix="team/a")) as adapter:
            adapter.create("x.json", b"one")
            adapter.create_many({"y.json": b"one", "w.json": b"one"})
            assert keys(adapter, "") == ["w.json", "x.json", "y.json"]
        with closing(PostgresAdapter(postgres.dsn, name)) as adapter:
            adapter.create("z.json", b"two")
            assert keys(adapter, "")[1:] == ["team/a/x.json", "team/a/y.json", "z.json"]

    @pytest.mark.parametrize("name", ["with space", 'q"uote', "semi;colon--", "Ünï", "x" * 63])
    def test_any_name_is_taken_literally(self, postgres: Postgres, name: str) -> None:
        with closing(PostgresAdapter(postgres.dsn, name)) as adapter:
            adapter.create("a.json", b"one")
            assert keys(adapter, "") == ["a.json"]
            assert adapter.version() == 1
            with closing(adapter.doorbell("")) as bell:
                assert bell.wait(30)
                while bell.wait(0.3):
                    pass
                adapter.create("b.json", b"one")
                assert bell.wait(30)

    @pytest.mark.parametrize(
        "name", ["", "pg_mine", "information_schema", "x" * 64, "é" * 32, "a\0b", "\ud800", None, 5]
    )
    def test_an_impossible_name_is_refused(self, name: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"^schema "):
            PostgresAdapter("postgresql:///x", name)

    def test_tables_of_another_program_are_refused_and_left_alone(self, postgres: Postgres) -> None:
        name = new_schema()
        postgres.sql(f"CREATE SCHEMA {name}", f"CREATE TABLE {name}.objects (id int)")
        with closing(PostgresAdapter(postgres.dsn, name)) as adapter:
            with pytest.raises(ConfigurationError, match="another program"):
                adapter.get("a")
            with pytest.raises(ConfigurationError, match="another program"):
                adapter.create("a", b"")
        assert tables(postgres, name) == ["objects"]

    def test_tables_of_another_name_are_no_hindrance(self, postgres: Postgres) -> None:
        name = new_schema()
        postgres.sql(f"CREATE SCHEMA {name}", f"CREATE TABLE {name}.users (id int)")
        with closing(PostgresAdapter(postgres.dsn, name)) as adapter:
            assert adapter.create("a.json", b"one") is True
        assert tables(postgres, name) == ["migrations", "objects", "users"]

    def test_a_newer_store_is_refused_by_its_version(
        self, postgres: Postgres, adapter: PostgresAdapter
    ) -> None:
        adapter.create("a.json", b"one")
        postgres.sql(f"INSERT INTO {adapter.schema}.migrations (version) VALUES (7)")
        with closing(PostgresAdapter(postgres.dsn, adapter.schema)) as other:
            for call in (lambda: other.get("a.json"), lambda: other.create("b.json", b"")):
                with pytest.raises(ConfigurationError, match=r"version 7.*up to 1.*newer AMFS"):
                    call()

    def test_writers_migrate_an_older_store_once_and_readers_read_it_as_it_is(
        self, postgres: Postgres, adapter: PostgresAdapter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        adapter.create("a.json", b"one")
        added = ("ALTER TABLE {schema}.objects ADD COLUMN note text",)
        store = replace(schema.STORE, migrations=(*schema.STORE.migrations, added))
        monkeypatch.setattr(schema, "STORE", store)

        def open_it() -> PostgresAdapter:
            return PostgresAdapter(postgres.dsn, adapter.schema)

        with closing(open_it()) as reader:
            assert reader.get("a.json") == b"one"
            assert reader.version() == 1
        others = [open_it() for _ in range(6)]
        created = together(
            [lambda n=n, peer=peer: peer.create(f"{n}.json", b"") for n, peer in enumerate(others)]  # type: ignore[misc]
        )
        assert created == [True] * 6
        assert [peer.version() for peer in others] == [2] * 6
        for peer in others:
            peer.close()

    def test_a_migration_that_fails_leaves_nothing(
        self, postgres: Postgres, adapter: PostgresAdapter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        adapter.create("a.json", b"one")
        broken = ("CREATE TABLE {schema}.half (id int)", "SELECT 1 / 0")
        store = replace(schema.STORE, migrations=(*schema.STORE.migrations, broken))
        monkeypatch.setattr(schema, "STORE", store)
        with closing(PostgresAdapter(postgres.dsn, adapter.schema)) as other:
            with pytest.raises(BackendUnavailableError, match="division by zero"):
                other.create("b.json", b"two")
            assert other.version() == 1
        assert tables(postgres, adapter.schema) == ["migrations", "objects"]

    def test_a_removed_schema_is_made_again(
        self, postgres: Postgres, adapter: PostgresAdapter
    ) -> None:
        adapter.create("a.json", b"one")
        postgres.sql(f"DROP SCHEMA {adapter.schema} CASCADE")
        assert adapter.get("a.json") is None
        assert keys(adapter, "") == []
        assert adapter.create("b.json", b"two") is True
        postgres.sql(f"DROP SCHEMA {adapter.schema} CASCADE")
        assert adapter.create("b.json", b"two") is True

    def test_a_database_in_another_encoding_is_refused(self, postgres: Postgres) -> None:
        dsn = postgres.new_database(
            "ENCODING 'LATIN1' LOCALE 'C' LOCALE_PROVIDER libc TEMPLATE template0"
        )
        with (
            closing(PostgresAdapter(dsn)) as adapter,
            pytest.raises(ConfigurationError, match=r"LATIN1.*ENCODING 'UTF8'"),
        ):
            adapter.create("a.json", b"one")

    def test_times_are_those_of_the_last_change(self, adapter: PostgresAdapter) -> None:
        adapter.create("a.json", b"one")
        [first] = adapter.list("")
        adapter.replace("a.json", b"three")
        [second] = adapter.list("")
        assert first.modified < second.modified < first.modified + timedelta(seconds=60)
        assert (first.size, second.size) == (3, 5)

    def test_a_copy_has_the_same_bytes(self, adapter: PostgresAdapter, tmp_path: Path) -> None:
        local = LocalAdapter(tmp_path / "one")
        with AgentMemory("a", adapter=local) as memory:
            for number in range(5):
                memory.write("e/ü", f"k {number}", {"n": number})
                memory.write("e/ü", f"k {number}", {"n": -number})
            memory.read("e/ü", "k 1")
            memory.commit_outcome("o-1", "success")
            memory.purge("e/ü", "k 2")
        before = everything(local)
        copy(local, adapter)
        back = LocalAdapter(tmp_path / "two")
        with closing(SqliteAdapter(tmp_path / "store.db")) as file:
            copy(adapter, file)
            copy(file, back)
        assert everything(adapter) == everything(back) == before


class TestDurability:
    @pytest.mark.parametrize("setting", ["off", "local", "remote_write", "on", "remote_apply"])
    def test_a_commit_is_flushed_whatever_the_role_is_set_to(
        self, postgres: Postgres, setting: str
    ) -> None:
        """What the commit sees is written down by a trigger that runs at its very end."""
        name, (role, dsn) = new_schema(), postgres.new_role("LOGIN SUPERUSER")
        postgres.sql(f"ALTER ROLE {role} SET synchronous_commit = {setting}")
        with closing(PostgresAdapter(dsn, name)) as adapter:
            adapter.prepare()
            postgres.sql(
                f"CREATE TABLE {name}.seen (setting text)",
                f"CREATE FUNCTION {name}.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"INSERT INTO {name}.seen VALUES (current_setting('synchronous_commit')); "
                "RETURN NULL; END $$",
                f"CREATE CONSTRAINT TRIGGER note AFTER INSERT OR UPDATE ON {name}.objects "
                f"DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {name}.note()",
            )
            adapter.create("a.json", b"one")
            adapter.create_many({"b.json": b"two", "c.json": b"three"})
            adapter.replace("a.json", b"four")
            shown = adapter.ask(lambda link: link.execute(b"SHOW synchronous_commit").fetchall())
        wanted = "remote_apply" if setting == "remote_apply" else "on"
        assert postgres.sql(f"SELECT DISTINCT setting FROM {name}.seen") == [[(wanted,)]]
        assert shown == [(setting,)]  # of the session nothing was changed


class TestErrors:
    def test_a_wrong_password_user_database_or_port_is_told_at_once(
        self, postgres: Postgres
    ) -> None:
        wrong = postgres.dsn.replace(postgres.password, "wrong")
        for dsn, error, message in (
            (wrong, PermissionDeniedError, "password authentication failed"),
            (postgres.dsn_of("nobody", "x"), PermissionDeniedError, "authentication failed"),
            (postgres.dsn.replace("/memories", "/none"), ConfigurationError, "does not exist"),
            (postgres.dsn_of("a", "b", 1), BackendUnavailableError, "check host and port"),
            (postgres.dsn + "?sslmode=require", ConfigurationError, "SSL"),
        ):
            began = time.monotonic()
            with closing(PostgresAdapter(dsn)) as adapter:
                with pytest.raises(error, match=message) as raised:
                    adapter.get("a")
                assert postgres.password not in str(raised.value)
                with pytest.raises(error, match=message):
                    list(adapter.list(""))
                assert adapter.create_many({"a": b"", "b": b""}) == []
            assert time.monotonic() - began < 10

    def test_a_server_that_is_stopped_is_unavailable_in_time(
        self, postgres: Postgres, adapter: PostgresAdapter
    ) -> None:
        adapter.create("a.json", b"one")
        name = adapter.schema
        with closing(PostgresAdapter(postgres.dsn, name, timeout=0.5)) as other:
            other.get("a.json")
            other.get("a.json")
            pid = other.ask(lambda link: link.execute(b"SELECT pg_backend_pid()").fetchall()[0][0])
            os.kill(pid, signal.SIGSTOP)
            try:
                began = time.monotonic()
                with pytest.raises(BackendUnavailableError, match="no answer within"):
                    other.get("a.json")
                assert time.monotonic() - began < 10
                assert other.get("a.json") == b"one"
            finally:
                os.kill(pid, signal.SIGCONT)

    def test_too_many_connections_are_unavailable(self, postgres: Postgres) -> None:
        _, dsn = postgres.new_role("LOGIN CONNECTION LIMIT 1")
        with (
            psycopg.connect(dsn),
            closing(PostgresAdapter(dsn)) as adapter,
            pytest.raises(BackendUnavailableError, match="too many connections"),
        ):
            adapter.get("a.json")

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (psycopg.errors.DiskFull("no space left"), StorageFullError),
            (psycopg.errors.DataCorrupted("invalid page"), ConfigurationError),
            (psycopg.errors.InvalidPassword("no"), PermissionDeniedError),
            (psycopg.errors.SerializationFailure("again"), BackendUnavailableError),
            (psycopg.InterfaceError("the connection is closed"), BackendUnavailableError),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.__name__,
    )
    def test_answers_that_real_servers_rarely_give_are_translated(
        self, error: psycopg.Error, expected: type[AMFSError]
    ) -> None:
        made = translated(error, str(error), "a.json", "read", "h:1/d")
        assert type(made) is expected
        assert str(made).startswith("cannot read 'a.json' at h:1/d: ")
        assert made.object_key == "a.json"

    def test_a_role_that_serializes_writes_as_well(self, postgres: Postgres) -> None:
        role, dsn = postgres.new_role("LOGIN SUPERUSER")
        postgres.sql(f"ALTER ROLE {role} SET default_transaction_isolation = 'serializable'")
        with (
            closing(PostgresAdapter(dsn, new_schema())) as adapter,
            AgentMemory("a", adapter=adapter) as memory,
        ):
            work = [lambda: memory.write("e", "k", 1).version] * 8
            assert sorted(together(work)) == list(range(1, 9))


class TestRoles:
    """The statements of docs/security.md, and that no role may more than they say."""

    @pytest.fixture
    def store(self, postgres: Postgres) -> Iterator[PostgresAdapter]:
        """A store whose owner is no superuser, of a schema that was made for it."""
        owner, dsn = postgres.new_role()
        name = new_schema()
        postgres.sql(f"CREATE SCHEMA {name} AUTHORIZATION {owner}")
        with closing(PostgresAdapter(dsn, name)) as made:
            made.prepare()
            yield made

    def grant(self, postgres: Postgres, name: str, role: str) -> str:
        """Carry out the page's statements for this schema; return how a member connects."""
        text = re.findall(r"```sql\n(.*?)```", _PAGE.read_text(), re.DOTALL)[0]
        own = f"{name}_"  # roles belong to all databases of a server
        text = text.replace("amfs_", own).replace("SCHEMA amfs", f"SCHEMA {name}")
        postgres.sql(text.replace("amfs.objects", f"{name}.objects"))
        user, dsn = postgres.new_role()
        postgres.sql(f"GRANT {own}{role} TO {user}")
        return dsn

    def test_an_owner_makes_its_schema_without_the_right_to_make_others(
        self, store: PostgresAdapter
    ) -> None:
        assert store.create("a.json", b"one") is True
        with closing(store._another(new_schema())) as other:
            with pytest.raises(PermissionDeniedError, match="permission denied for database"):
                other.create("a.json", b"one")
            assert other.get("a.json") is None

    def test_a_role_with_the_right_to_make_schemas_needs_no_other(self, postgres: Postgres) -> None:
        role, dsn = postgres.new_role()
        postgres.sql(f"GRANT CREATE ON DATABASE memories TO {role}")
        with closing(PostgresAdapter(dsn, new_schema())) as adapter:
            assert adapter.create("a.json", b"one") is True

    def test_a_reader_reads_and_may_not_write(
        self, postgres: Postgres, store: PostgresAdapter
    ) -> None:
        with AgentMemory("a", adapter=store) as memory:
            memory.write("e", "k", 1)
        dsn = self.grant(postgres, store.schema, "reader")
        with closing(PostgresAdapter(dsn, store.schema)) as adapter:
            with AgentMemory("b", adapter=adapter) as memory:
                entry = memory.read("e", "k")
                assert entry is not None
                assert entry.value == 1
                assert [version.value for version in memory.list()] == [1]
                assert memory.verify().ok
                with pytest.raises(PermissionDeniedError, match=r"objects.*grant it"):
                    memory.write("e", "k", 2)
            assert adapter.create_many({"a.json": b"", "b.json": b""}) == []
            with pytest.raises(PermissionDeniedError):
                adapter.replace("a.json", b"")
            with pytest.raises(PermissionDeniedError):
                adapter.delete("a.json")
            with closing(adapter.doorbell("")) as bell:
                assert bell.wait(30)
            diagnoses = {diagnosis.name: diagnosis for diagnosis in examine(adapter.checks())}
            assert {diagnosis.verdict for diagnosis in diagnoses.values()} == {
                "ok",
                "warning",
                "skipped",
            }
            assert "may only be read" in diagnoses["writing"].found
            assert diagnoses["create"].verdict == "skipped"
            assert diagnoses["get"].verdict == "ok"

    def test_a_writer_writes_and_may_not_erase(
        self, postgres: Postgres, store: PostgresAdapter
    ) -> None:
        dsn = self.grant(postgres, store.schema, "writer")
        with closing(PostgresAdapter(dsn, store.schema)) as adapter:
            with AgentMemory("a", adapter=adapter) as memory:
                memory.write("e", "k", 1)
                memory.write_many([{"entity_path": "e", "key": f"{n}", "value": n} for n in "ab"])
                assert len(memory.list()) == 3
                with pytest.raises(PermissionDeniedError):
                    memory.purge("e", "k")
            with pytest.raises(PermissionDeniedError):
                adapter.delete("a.json")

    def test_with_update_a_role_erases(self, postgres: Postgres, store: PostgresAdapter) -> None:
        dsn = self.grant(postgres, store.schema, "eraser")
        with (
            closing(PostgresAdapter(dsn, store.schema)) as adapter,
            AgentMemory("a", adapter=adapter) as memory,
        ):
            memory.write("e", "k", "the secret content")
            memory.purge("e", "k")
            bodies = everything(adapter).values()
            assert not any(b"the secret content" in (body or b"") for body in bodies)

    def test_without_the_schema_a_role_is_refused_and_not_told_that_it_is_empty(
        self, postgres: Postgres, store: PostgresAdapter
    ) -> None:
        _, dsn = postgres.new_role()
        with closing(PostgresAdapter(dsn, store.schema)) as adapter:
            for call in (lambda: adapter.get("a"), lambda: list(adapter.list(""))):
                with pytest.raises(PermissionDeniedError, match=r"permission denied for schema"):
                    call()

    def test_a_server_that_may_only_be_read_says_so(self, postgres: Postgres) -> None:
        name, (role, dsn) = new_schema(), postgres.new_role("LOGIN SUPERUSER")
        with closing(PostgresAdapter(dsn, name)) as adapter:
            adapter.create("a.json", b"one")
            adapter.close()
            postgres.sql(f"ALTER ROLE {role} SET default_transaction_read_only = on")
            with pytest.raises(PermissionDeniedError, match=r"read-only.*target_session_attrs"):
                adapter.create("b.json", b"two")
            assert adapter.get("a.json") == b"one"


class TestSecrets:
    @pytest.mark.parametrize(
        "dsn",
        [
            f"postgresql://u:{SECRET}@127.0.0.1:1/d",
            f"postgresql://127.0.0.1:1/d?user=u&password={SECRET}",
            f"host=127.0.0.1 port=1 user=u password={DECODED} dbname=d",
        ],
    )
    def test_a_password_is_in_nothing_that_is_shown(
        self, dsn: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        with closing(PostgresAdapter(dsn)) as adapter:
            with pytest.raises(BackendUnavailableError) as raised:
                adapter.get("a.json")
            shown = [repr(adapter), str(adapter.location), str(vars(adapter)), caplog.text]
            error: BaseException | None = raised.value
            while error is not None:
                shown += [str(error), repr(error)]
                error = error.__cause__ or error.__context__
            diagnoses = [str(diagnosis) for diagnosis in examine(adapter.checks())]
            assert "hunter2" not in "".join([*shown, *diagnoses])
            assert adapter.location == "postgresql://127.0.0.1:1/d/amfs/"

    @pytest.mark.parametrize(
        "dsn",
        [
            f"postgresql://u:{SECRET}@h:1/d?passwrd={SECRET}",
            f"postgresql://u:{SECRET}@[h/d",
            f"host=h password='{SECRET}",
            f"host=h password {SECRET}",
            f"postgresql://u:{SECRET}@h/d%zz",
        ],
    )
    def test_an_invalid_dsn_is_refused_without_quoting_it(self, dsn: str) -> None:
        ways: list[Callable[[], object]] = [
            lambda: PostgresAdapter(dsn),
            lambda: PostgresAdapter("postgresql:///d", listen_dsn=dsn),
        ]
        if "://" in dsn:
            ways.append(lambda: load(environ={"AMFS_STORE": dsn}).open_adapter())
        for make in ways:
            with pytest.raises(ConfigurationError) as raised:
                make()
            error: BaseException | None = raised.value
            while error is not None:
                assert "hunter2" not in f"{error!r}{error}"
                error = error.__cause__

    def test_a_pickled_adapter_opens_the_same_store(self, postgres: Postgres) -> None:
        made = PostgresAdapter(
            postgres.dsn, new_schema(), prefix="p", timeout=5, connect_timeout=2, max_connections=3
        )
        with closing(made) as adapter:
            adapter.create("a.json", b"one")
            with closing(pickle.loads(pickle.dumps(adapter))) as other:
                assert other.get("a.json") == b"one"
                assert other._options() == adapter._options()
                assert other.location == adapter.location
                in_forked_child(lambda: other.create("b.json", b"two"))

    def test_libpq_says_what_the_dsn_leaves_out(
        self, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in postgres.variables.items():
            monkeypatch.setenv(name, value)
        with (
            closing(PostgresAdapter("postgresql:///memories")) as adapter,
            closing(PostgresAdapter(postgres.dsn)) as named,
        ):
            adapter.prepare()
            assert adapter.location == named.location

    @pytest.mark.parametrize(
        "options",
        [
            {"timeout": 0},
            {"timeout": "5"},
            {"timeout": True},
            {"timeout": float("nan")},
            {"connect_timeout": -1},
            {"max_connections": 0},
            {"max_connections": 1.5},
            {"max_connections": 10**6},
            {"prefix": "a//b"},
            {"listen_dsn": ""},
            {"listen_dsn": 5},
        ],
        ids=str,
    )
    def test_impossible_options_are_refused(self, options: dict[str, Any]) -> None:
        [name] = options
        with pytest.raises(ConfigurationError, match=rf"^{name} "):
            PostgresAdapter("postgresql:///d", **options)


class TestDoorbell:
    def test_it_rings_for_others_and_again_after_the_server_was_away(
        self, postgres: Postgres, adapter: PostgresAdapter
    ) -> None:
        adapter.create("a.json", b"one")
        listening = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE query = 'LISTEN \"{adapter.schema}\"'"
        )
        with (
            closing(PostgresAdapter(postgres.dsn, adapter.schema)) as other,
            closing(adapter.doorbell("")) as bell,
        ):
            assert bell.wait(30)
            for number in range(3):
                while bell.wait(0.3):
                    pass
                assert other.create(f"{number}.json", b"one") is True
                assert bell.wait(30)
                while bell.wait(0.3):
                    pass
                assert postgres.sql(listening) == [[(True,)]]
                assert bell.wait(30)  # it listens again, and something may have changed

    def test_the_last_of_many_writes_is_rung_for(self, adapter: PostgresAdapter) -> None:
        """Most of them notify nobody: whoever heard of one looks again."""
        with closing(adapter.doorbell("")) as bell:
            assert bell.wait(30)
            while bell.wait(0.3):
                pass
            for turn in range(10):
                for number in range(turn + 1):
                    assert adapter.create(f"{turn}-{number}.json", b"one") is True
                until = time.monotonic() + 30
                seen: list[str] = []
                while f"{turn}-{turn}.json" not in seen:
                    assert time.monotonic() < until
                    assert bell.wait(30)
                    seen = keys(adapter, "")
                while bell.wait(0.1):
                    pass

    def test_a_watch_hears_of_a_write_long_before_it_polls(
        self, postgres: Postgres, adapter: PostgresAdapter
    ) -> None:
        with (
            closing(PostgresAdapter(postgres.dsn, adapter.schema)) as other,
            AgentMemory("w", adapter=adapter) as memory,
            AgentMemory("a", adapter=other) as writer,
        ):
            writer.write("e", "first", 0)
            watch = memory.watch("e", since="beginning", interval=600.0)
            assert next(watch).key == "first"
            for number in range(5):
                writer.write("e", f"k{number}", number)
                began = time.monotonic()
                assert next(watch).key == f"k{number}"
                assert time.monotonic() - began < 30
            watch.cancel()


class TestDoctor:
    def look(self, adapter: PostgresAdapter) -> dict[str, Diagnosis]:
        return {diagnosis.name: diagnosis for diagnosis in examine(adapter.checks())}

    def test_a_store_is_well_and_keeps_nothing_of_the_examination(
        self, postgres: Postgres, adapter: PostgresAdapter
    ) -> None:
        diagnoses = self.look(adapter)
        assert {diagnosis.verdict for diagnosis in diagnoses.values()} == {"ok"}, diagnoses
        assert "not there yet" in diagnoses["schema"].found
        assert tables(postgres, adapter.schema) == []
        adapter.create("a.json", b"one")
        diagnoses = self.look(adapter)
        assert {diagnosis.verdict for diagnosis in diagnoses.values()} == {"ok"}, diagnoses
        assert "a store of" in diagnoses["schema"].found
        assert keys(adapter, "") == ["a.json"]
        [left] = postgres.sql("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'amfs_doctor%'")
        assert left == []

    def test_the_examination_of_a_place_shows_no_password(
        self, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        schema_ = new_schema()
        query = f"host=127.0.0.1&port={postgres.port}&user=amfs&password={postgres.password}"
        for place in (
            f"{postgres.dsn}?schema={schema_}",
            f"postgresql:///memories?{query}&schema={schema_}",
        ):
            diagnoses = list(diagnose(store=place))
            assert postgres.password not in str(diagnoses)
            assert {diagnosis.verdict for diagnosis in diagnoses} == {"ok"}, diagnoses
            assert f"/memories/{schema_}/" in diagnoses[1].found
            with monkeypatch.context() as patched:
                patched.setenv("AMFS_STORE", place)
                diagnoses = list(diagnose())
            assert postgres.password not in str(diagnoses)
            assert {diagnosis.verdict for diagnosis in diagnoses} == {"ok"}, diagnoses

    def test_a_server_that_does_not_flush_is_a_problem(
        self, postgres: Postgres, adapter: PostgresAdapter
    ) -> None:
        postgres.sql("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        try:
            until = time.monotonic() + 30
            while (diagnosis := self.look(adapter)["durability"]).verdict != "problem":
                assert time.monotonic() < until
            assert "fsync off" in diagnosis.found
        finally:
            postgres.sql("ALTER SYSTEM RESET fsync", "SELECT pg_reload_conf()")

    def test_a_server_that_is_not_there_is_the_only_problem(self) -> None:
        with closing(PostgresAdapter("postgresql://u@127.0.0.1:1/d")) as adapter:
            diagnoses = self.look(adapter)
        assert [
            name for name, diagnosis in diagnoses.items() if diagnosis.verdict == "problem"
        ] == ["server"]
