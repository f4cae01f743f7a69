"""The SQLite adapter and its file: what is made, what is refused, what is erased."""

from __future__ import annotations

import os
import pickle
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    ConfigurationError,
    OutcomeUnknownError,
    PermissionDeniedError,
    StorageFullError,
)
from amfs_core.memory import AgentMemory
from amfs_core.storage import StorageAdapter
from amfs_core.testing.cases import in_forked_child, keys
from amfs_core.upkeep.copy import copy
from amfs_local import LocalAdapter
from amfs_sqlite import SqliteAdapter
from amfs_sqlite.database import APPLICATION, VERSION
from amfs_sqlite.doorbell import FileDoorbell
from tests.conftest import NOT_COVERED, REPOSITORY
from tests.support.moments import alarms


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store is to be."""
    return tmp_path / "store.db"


@pytest.fixture
def adapter(path: Path) -> Iterator[SqliteAdapter]:
    with closing(SqliteAdapter(path)) as made:
        yield made


def sql(path: Path, *statements: str) -> list[Any]:
    """What another program gets that does this to the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return [connection.execute(statement).fetchall() for statement in statements]


def everything(adapter: StorageAdapter) -> dict[str, bytes | None]:
    return {info.key: adapter.get(info.key) for info in adapter.list("")}


class TestFile:
    def test_a_closed_store_is_one_file_that_says_what_it_is(
        self, adapter: SqliteAdapter, path: Path
    ) -> None:
        adapter.create("a/b.json", b"one")
        adapter.close()
        assert os.listdir(path.parent) == ["store.db"]
        assert path.read_bytes()[68:72] == b"AMFS"
        assert sql(path, "PRAGMA application_id", "PRAGMA user_version", "PRAGMA journal_mode") == [
            [(APPLICATION,)],
            [(VERSION,)],
            [("wal",)],
        ]
        assert sql(path, "SELECT key, body FROM objects") == [[(b"a/b.json", b"one")]]

    def test_a_prefix_comes_before_every_key(self, path: Path) -> None:
        with closing(SqliteAdapter(path, prefix="team/a")) as adapter:
            adapter.create("x.json", b"one")
            assert keys(adapter, "") == ["x.json"]
        with closing(SqliteAdapter(path)) as adapter:
            adapter.create("z.json", b"two")
            assert keys(adapter, "") == ["team/a/x.json", "z.json"]

    def test_reading_a_store_that_is_not_there_finds_nothing_and_makes_nothing(
        self, adapter: SqliteAdapter, path: Path
    ) -> None:
        with AgentMemory("a", adapter=adapter) as memory:
            assert memory.read("e", "k") is None
            assert memory.list() == []
            assert memory.health().ok
        adapter.delete("a.json")
        assert not path.exists()

    def test_the_umask_is_respected(self, path: Path) -> None:
        before = os.umask(0o002)
        try:
            with closing(SqliteAdapter(path)) as adapter:
                adapter.create("a.json", b"one")
                for name in os.listdir(path.parent):
                    assert stat.S_IMODE(os.stat(path.parent / name).st_mode) == 0o664, name
        finally:
            os.umask(before)

    def test_a_relative_path_stays_where_it_was(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with closing(SqliteAdapter("a #?%.db")) as adapter:
            monkeypatch.chdir("/")
            adapter.create("a.json", b"one")
        assert os.listdir(tmp_path) == ["a #?%.db"]

    def test_a_pickled_adapter_opens_the_same_store(self, path: Path) -> None:
        with closing(SqliteAdapter(path, prefix="p", durability="none")) as adapter:
            adapter.create("a.json", b"one")
            with closing(pickle.loads(pickle.dumps(adapter))) as other:
                assert other.get("a.json") == b"one"
                assert (other.path, other.prefix, other.durability) == (str(path), "p/", "none")

    def test_the_location_is_the_same_by_way_of_a_link(self, path: Path) -> None:
        path.symlink_to("real.db")
        with (
            closing(SqliteAdapter(path)) as link,
            closing(SqliteAdapter(path.with_name("real.db"))) as real,
        ):
            assert link.location == real.location == f"sqlite://{path.parent}/real.db/"
            link.create("a.json", b"one")
            real.create("b.json", b"two")
            assert keys(link, "") == keys(real, "") == ["a.json", "b.json"]

    def test_a_closed_adapter_opens_the_file_again(self, adapter: SqliteAdapter) -> None:
        adapter.create("a.json", b"one")
        adapter.close()
        assert adapter.get("a.json") == b"one"
        assert adapter.create("b.json", b"two") is True

    def test_a_removed_file_is_made_again_and_a_replaced_one_is_noticed(
        self, adapter: SqliteAdapter, path: Path, tmp_path: Path
    ) -> None:
        adapter.create("a.json", b"one")
        for name in os.listdir(path.parent):
            os.unlink(path.parent / name)
        assert adapter.get("a.json") is None
        assert adapter.create("b.json", b"two") is True
        with closing(SqliteAdapter(tmp_path / "other.db")) as other:
            other.create("c.json", b"three")
        for name in ("store.db-wal", "store.db-shm"):
            os.unlink(path.parent / name)
        os.replace(tmp_path / "other.db", path)
        assert keys(adapter, "") == ["c.json"]

    def test_a_file_that_is_removed_while_it_is_written_leaves_the_outcome_unknown(
        self, adapter: SqliteAdapter, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        adapter.create("a.json", b"one")
        changed = sqlite_changed()

        def removed(*arguments: Any) -> int:
            for name in os.listdir(path.parent):
                os.unlink(path.parent / name)
            return changed(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr("amfs_sqlite.adapter.changed", removed)
            with pytest.raises(OutcomeUnknownError, match="removed or replaced"):
                adapter.create("b.json", b"two")
        assert adapter.create("b.json", b"two") is True

    def test_no_file_stays_open(self, path: Path) -> None:
        before = len(os.listdir("/proc/self/fd"))
        for number in range(5):
            with closing(SqliteAdapter(path)) as adapter:
                adapter.create(f"{number}.json", b"one")
                list(adapter.list(""))
        assert len(os.listdir("/proc/self/fd")) == before

    def test_a_listing_that_is_left_open_keeps_no_transaction(
        self, adapter: SqliteAdapter, path: Path
    ) -> None:
        adapter.create_many({f"{number:05}.json": b"one" for number in range(1500)})
        left = iter(adapter.list(""))
        assert next(left).key == "00000.json"
        adapter.create("99999.json", b"two")
        [[(busy, log, done)]] = sql(path, "PRAGMA wal_checkpoint(TRUNCATE)")
        assert (busy, log, done) == (0, 0, 0)
        assert [info.key for info in left][-1] == "99999.json"

    def test_times_are_those_of_the_last_change(self, adapter: SqliteAdapter) -> None:
        adapter.create("a.json", b"one")
        [first] = adapter.list("")
        adapter.replace("a.json", b"three")
        [second] = adapter.list("")
        assert first.modified < second.modified < first.modified + timedelta(seconds=60)
        assert (first.size, second.size) == (3, 5)

    def test_a_batch_acknowledges_only_keys_that_were_free(self, adapter: SqliteAdapter) -> None:
        adapter.create("b.json", b"mine")
        assert adapter.create_many({"a.json": b"1", "b.json": b"mine", "c.json": b"3"}) == [
            "a.json",
            "c.json",
        ]
        assert everything(adapter) == {"a.json": b"1", "b.json": b"mine", "c.json": b"3"}

    def test_the_log_stays_short(self, adapter: SqliteAdapter, path: Path) -> None:
        for number in range(1200):
            adapter.create(f"{number}.json", bytes(2000))
        assert os.path.getsize(f"{path}-wal") < 16 * 1024 * 1024


def sqlite_changed() -> Any:
    from amfs_sqlite.database import changed

    return changed


class TestErasure:
    def test_replaced_content_is_in_no_file(self, adapter: SqliteAdapter, path: Path) -> None:
        with AgentMemory("a", adapter=adapter) as memory, closing(SqliteAdapter(path)) as other:
            for number in range(400):
                memory.write("people", f"p{number % 40}", f"SECRET-{number}-" + "x" * number * 7)
                memory.write("others", f"o{number}", "y" * (number * 11 % 3000))
            assert other.get("nothing.json") is None  # another connection, so the log stays
            before = b"".join(file.read_bytes() for file in path.parent.iterdir())
            assert before.count(b"SECRET-") >= 400
            for number in range(40):
                memory.purge("people", f"p{number}")
            after = b"".join(file.read_bytes() for file in path.parent.iterdir())
            assert after.count(b"SECRET-") == 0
            assert memory.verify().ok

    def test_a_long_reader_keeps_erased_bytes_in_the_log_which_is_reported(
        self, adapter: SqliteAdapter, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        adapter.create("a.json", b"SECRET")
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM objects").fetchall()
            adapter.replace("a.json", b"stub")
            assert "stays in its -wal" in caplog.text
            reader.execute("COMMIT")
        adapter.replace("a.json", b"stub")
        assert b"SECRET" not in path.read_bytes()
        assert os.path.getsize(f"{path}-wal") == 0


class TestOtherFiles:
    def calls(self, adapter: SqliteAdapter) -> Iterator[Any]:
        yield lambda: adapter.create("a.json", b"one")
        yield lambda: adapter.replace("a.json", b"one")
        yield lambda: adapter.get("a.json")
        yield lambda: list(adapter.get_many(["a.json"]))
        yield lambda: list(adapter.list(""))
        yield lambda: adapter.delete("a.json")

    def refused(self, path: Path, words: str) -> None:
        before = path.read_bytes() if path.is_file() else None
        with closing(SqliteAdapter(path)) as adapter:
            for call in self.calls(adapter):
                with pytest.raises(ConfigurationError, match=words) as caught:
                    call()
                assert str(path) in str(caught.value)
            assert adapter.create_many({"a.json": b"one", "b.json": b"two"}) == []
            with AgentMemory("a", adapter=adapter) as memory:
                assert not memory.health().ok
        assert before == (path.read_bytes() if path.is_file() else None)

    def test_a_file_that_is_not_a_database_is_refused_and_left_alone(self, path: Path) -> None:
        path.write_bytes(b"a file of somebody's, which is no database of SQLite's" * 100)
        self.refused(path, "not a database")

    def test_another_programs_database_is_refused_and_left_alone(self, path: Path) -> None:
        sql(path, "CREATE TABLE songs (name)", "INSERT INTO songs VALUES ('one')")
        self.refused(path, "database of another program")

    def test_a_catalog_is_refused(self, path: Path) -> None:
        with AgentMemory("a", adapter=LocalAdapter(path.parent / "s"), cache_dir=path.parent) as m:
            m.write("e", "k", 1)
            m.list()
        [catalog] = path.parent.glob("*.sqlite")
        self.refused(catalog, "database of another program")

    def test_a_newer_version_is_refused_by_its_number(self, path: Path) -> None:
        with closing(SqliteAdapter(path)) as adapter:
            adapter.create("a.json", b"one")
        sql(path, f"PRAGMA user_version = {VERSION + 1}")
        self.refused(path, f"of version {VERSION + 1}")

    def test_a_path_below_no_directory_or_of_a_directory_is_refused(self, path: Path) -> None:
        self.refused(path / "deeper" / "store.db", "is in no directory")
        path.mkdir()
        self.refused(path, "not a file")

    def test_a_path_below_a_file_is_refused(self, path: Path) -> None:
        path.write_bytes(b"x")
        self.refused(path / "store.db", "not a directory")

    def test_a_damaged_file_is_reported_as_damaged(self, path: Path) -> None:
        with closing(SqliteAdapter(path)) as adapter:
            adapter.create_many({f"{number}.json": bytes(500) for number in range(500)})
        with open(path, "r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * 4096 * 20)
        self.refused(path, "damaged")

    def test_a_file_that_was_not_finished_is_taken(self, path: Path) -> None:
        path.touch()
        with closing(SqliteAdapter(path)) as adapter:
            assert adapter.get("a.json") is None
            assert adapter.create("a.json", b"one") is True


class TestArguments:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"path": 5}, "path must be a path, not int"),
            ({"path": None}, "path must be a path, not NoneType"),
            ({"path": b"bytes"}, "path must be a path, not bytes"),
            ({"path": ""}, "path is empty"),
            ({"path": "\0"}, "path has a NUL character"),
            ({"path": ":memory:"}, "path must be a file"),
            ({"path": "sqlite:///x.db"}, "path must be a file, not a URL"),
            ({"path": "file:/x.db"}, "path must be a file, not a URL"),
            ({"path": "directory/"}, "names a directory"),
            ({"path": "x", "prefix": 5}, "prefix must be text, not int"),
            ({"path": "x", "durability": "sync"}, "durability must be"),
        ],
    )
    def test_an_argument_of_a_wrong_kind_is_named(
        self, options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=message):
            SqliteAdapter(**options)


def become_ordinary() -> None:
    """Give up root's right to ignore permissions."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)


class TestPermissions:
    @pytest.fixture
    def shared(self) -> Iterator[Path]:
        """A store with a memory, of this user, in a directory that everybody may enter."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "store.db"
            with closing(SqliteAdapter(path)) as adapter, AgentMemory("a", adapter=adapter) as m:
                m.write("e", "k", 1)
            os.chmod(directory, 0o555)
            os.chmod(path, 0o444)
            yield path
            os.chmod(directory, 0o755)

    @pytest.mark.parametrize("open_elsewhere", [False, True])
    def test_a_read_only_file_can_be_read_and_refuses_writes(
        self, shared: Path, open_elsewhere: bool
    ) -> None:
        with closing(SqliteAdapter(shared)) as writer:
            if open_elsewhere:
                assert writer.create("default/x.json", b"one")

            def use() -> None:
                become_ordinary()
                with closing(SqliteAdapter(shared)) as adapter:
                    memory = AgentMemory("b", adapter=adapter)
                    assert [entry.value for entry in memory.list()] == [1]
                    assert [entry.value for entry in memory.history("e", "k")] == [1]
                    assert memory.verify().ok
                    for call in (
                        lambda: memory.write("e", "k", 2),
                        lambda: memory.write("new", "k", 2),
                        lambda: memory.purge("e", "k"),
                    ):
                        with pytest.raises(PermissionDeniedError, match="give this user access"):
                            call()

            os.chmod(shared.parent, 0o555)
            in_forked_child(use)
        assert os.listdir(shared.parent) == ["store.db"]

    def test_a_read_only_reader_sees_what_is_written_meanwhile(self, shared: Path) -> None:
        started, wrote = multiprocessing_events()

        def use() -> None:
            become_ordinary()
            with closing(SqliteAdapter(shared)) as adapter:
                assert adapter.get("later.json") is None
                started.set()
                assert wrote.wait(30)
                assert adapter.get("later.json") == b"two"

        def write() -> None:
            assert started.wait(30)
            with closing(SqliteAdapter(shared)) as writer:
                writer.create("later.json", b"two")
            wrote.set()

        if os.getuid() != 0:
            pytest.skip(f"{NOT_COVERED} a reader of another user's file: needs root")
        thread = threading.Thread(target=write)
        thread.start()
        in_forked_child(use)
        thread.join()

    @pytest.mark.parametrize("what", ["file", "directory"])
    def test_an_unreadable_object_is_not_absent(self, shared: Path, what: str) -> None:
        os.chmod(shared if what == "file" else shared.parent, 0)

        def use() -> None:
            become_ordinary()
            with closing(SqliteAdapter(shared)) as adapter:
                for call in (lambda: adapter.get("a.json"), lambda: list(adapter.list(""))):
                    with pytest.raises(PermissionDeniedError):
                        call()

        in_forked_child(use)

    def test_a_directory_that_may_not_be_written_takes_no_store(self, shared: Path) -> None:
        def use() -> None:
            become_ordinary()
            with closing(SqliteAdapter(shared.with_name("new.db"))) as adapter:
                assert adapter.get("a.json") is None
                with pytest.raises(PermissionDeniedError, match="give this user access"):
                    adapter.create("a.json", b"one")

        in_forked_child(use)


def multiprocessing_events() -> tuple[Any, Any]:
    import multiprocessing

    context = multiprocessing.get_context("fork")
    return context.Event(), context.Event()


class TestSpace:
    def test_a_file_size_limit_is_reported_and_old_content_stays(self, path: Path) -> None:
        def use() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
            with closing(SqliteAdapter(path)) as adapter:
                made = []
                with pytest.raises(StorageFullError, match="ulimit"):
                    for number in range(10_000):
                        if adapter.create(f"{number}.json", bytes([number % 256]) * 700):
                            made.append(number)
                full = len(made)
                assert full > 20
                assert adapter.create_many({"x.json": bytes(9000), "y.json": bytes(9000)}) == []
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
                for number in made:
                    assert adapter.get(f"{number}.json") == bytes([number % 256]) * 700
                assert adapter.create(f"{full}.json", b"one") is True

        in_forked_child(use)

    def test_a_full_disk_is_reported_and_writes_go_on_when_there_is_room(
        self, tmp_path: Path
    ) -> None:
        disk = tmp_path / "disk"
        disk.mkdir()
        options = ["-t", "tmpfs", "-o", "size=1m", "amfs-test", str(disk)]
        if subprocess.run(["mount", *options], capture_output=True).returncode:
            pytest.skip(f"{NOT_COVERED} SQLite on a full disk: no file system can be mounted here")
        try:
            with closing(SqliteAdapter(disk / "store.db")) as adapter:
                (disk / "filler").write_bytes(bytes(500_000))
                made = []
                with pytest.raises(StorageFullError, match="free some space"):
                    for number in range(10_000):
                        if adapter.create(f"{number}.json", bytes(3000)):
                            made.append(f"{number}.json")
                assert len(made) > 10
                assert sorted(keys(adapter, "")) == sorted(made)
                (disk / "filler").unlink()
                assert adapter.create("more.json", b"one") is True
                [[(whole,)]] = sql(disk / "store.db", "PRAGMA integrity_check")
                assert whole == "ok"
        finally:
            subprocess.run(["umount", "-l", disk], check=True)

    def test_a_quota_that_is_reached_is_a_full_store(self, tmp_path: Path) -> None:
        """Few machines can mount a file system with quotas, so the answer of its system call is
        put before the one of the C library."""
        source, library = Path(__file__).with_name("quota.c"), tmp_path / "quota.so"
        compiler = shutil.which("cc")
        if compiler is None or sys.platform != "linux":
            pytest.skip(f"{NOT_COVERED} SQLite over a quota: there is no C compiler for Linux")
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        program = (
            "import os, pathlib, sys\n"
            "from amfs_core.errors import StorageFullError\n"
            "from amfs_sqlite import SqliteAdapter\n"
            "reached = pathlib.Path(os.environ['QUOTA_REACHED'])\n"
            "adapter = SqliteAdapter(sys.argv[1])\n"
            "assert adapter.create('a.json', b'one')\n"
            "reached.touch()\n"
            "writes = [adapter.create, adapter.replace, SqliteAdapter(sys.argv[2]).create]\n"
            "for write in writes:\n"
            "    try:\n"
            "        write('b.json', bytes(9000))\n"
            "    except StorageFullError as error:\n"
            "        assert 'raise the quota' in str(error), error\n"
            "    else:\n"
            "        raise AssertionError(write)\n"
            "reached.unlink()\n"
            "assert adapter.get('a.json') == b'one' and adapter.get('b.json') is None\n"
            "assert adapter.create('b.json', b'two')\n"
        )
        subprocess.run(
            [sys.executable, "-c", program, tmp_path / "store.db", tmp_path / "new.db"],
            env={
                **os.environ,
                "PYTHONPATH": str(REPOSITORY),
                "LD_PRELOAD": str(library),
                "QUOTA_REACHED": str(tmp_path / "reached"),
            },
            check=True,
            timeout=60,
        )


class TestLocks:
    @pytest.fixture
    def locked(self, adapter: SqliteAdapter, path: Path) -> Iterator[sqlite3.Connection]:
        """Another process's lock on a store with one object."""
        adapter.create("a.json", b"one")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield other

    def test_a_lock_of_another_is_waited_for(
        self, adapter: SqliteAdapter, locked: sqlite3.Connection
    ) -> None:
        results: list[bool] = []
        thread = threading.Thread(target=lambda: results.append(adapter.create("b.json", b"two")))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        locked.execute("ROLLBACK")
        thread.join(30)
        assert results == [True]

    def test_a_lock_that_stays_is_unavailable_and_reads_go_on(
        self, adapter: SqliteAdapter, locked: sqlite3.Connection
    ) -> None:
        started = time.monotonic()
        with pytest.raises(
            BackendUnavailableError, match="another process holds its lock"
        ) as raised:
            adapter.create("b.json", b"two")
        assert time.monotonic() - started < adapter.timeout + 5
        assert isinstance(raised.value.__cause__, sqlite3.OperationalError)
        assert not isinstance(raised.value, OutcomeUnknownError)
        assert adapter.get("a.json") == b"one"
        locked.execute("ROLLBACK")
        assert adapter.create("b.json", b"two") is True

    def test_ctrl_c_ends_the_wait_for_a_lock(
        self, adapter: SqliteAdapter, locked: sqlite3.Connection
    ) -> None:
        adapter.timeout = 60.0

        def interrupt() -> None:
            raise KeyboardInterrupt

        started = time.monotonic()
        with alarms(interrupt, 0.2), pytest.raises(KeyboardInterrupt):
            adapter.create("b.json", b"two")
        assert time.monotonic() - started < 10
        locked.execute("ROLLBACK")
        assert adapter.create("b.json", b"two") is True

    def test_an_error_of_the_disk_in_a_create_leaves_its_outcome_unknown(
        self, adapter: SqliteAdapter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        adapter.create("a.json", b"one")

        def failed(*arguments: Any) -> int:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error

        monkeypatch.setattr("amfs_sqlite.adapter.changed", failed)
        with pytest.raises(OutcomeUnknownError, match="disk I/O error"):
            adapter.create("b.json", b"two")
        with pytest.raises(BackendUnavailableError, match="disk I/O error"):
            adapter.replace("b.json", b"two")


class TestDoorbell:
    def test_it_rings_for_every_change_of_another_and_for_nothing_else(
        self, adapter: SqliteAdapter, path: Path
    ) -> None:
        adapter.create("a.json", b"one")
        with closing(FileDoorbell(str(path))) as bell:
            while bell.wait(0.3):
                pass
            for number in range(20):
                with closing(SqliteAdapter(path)) as other:
                    other.create(f"b{number}.json", b"two")
                assert bell.wait(10)
            while bell.wait(0.3):
                pass
            assert not bell.wait(0.1)

    def test_a_store_that_is_not_there_yet_rings_when_it_is_made(self, path: Path) -> None:
        with closing(FileDoorbell(str(path))) as bell:
            assert bell.wait(0)  # it listens
            assert not bell.wait(0)
            with closing(SqliteAdapter(path)) as adapter:
                adapter.create("a.json", b"one")
                assert bell.wait(10)

    def test_closing_it_ends_a_wait(self, path: Path) -> None:
        bell = FileDoorbell(str(path))
        bell.wait(0)
        threading.Timer(0.2, bell.close).start()
        started = time.monotonic()
        assert bell.wait(60) is False
        assert time.monotonic() - started < 30


class TestCopies:
    def test_a_directory_that_goes_through_sqlite_and_back_is_the_same_byte_for_byte(
        self, adapter: SqliteAdapter, tmp_path: Path
    ) -> None:
        first, last = LocalAdapter(tmp_path / "first"), LocalAdapter(tmp_path / "last")
        with AgentMemory("a", adapter=first) as memory:
            for number in range(5):
                memory.write("Grüße/100%", "a/b", {"n": number})
                memory.write("people", "somebody", f"private {number}")
            memory.delete("Grüße/100%", "a/b")
            used = memory.read("people", "somebody")
            assert used is not None
            memory.commit_outcome("deploy-1", "failure", entries=[used])
            memory.purge("people", "somebody")
        copy(first, adapter)
        copy(adapter, last)
        assert everything(first) == everything(adapter) == everything(last)
        assert len(everything(first)) > 10
        with AgentMemory("b", adapter=adapter) as memory:
            assert memory.verify().ok
            assert memory.read("people", "somebody") is None
            with AgentMemory("c", adapter=first) as original:
                assert memory.history("Grüße/100%", "a/b") == original.history("Grüße/100%", "a/b")

    def test_a_copied_file_is_the_same_store(
        self, adapter: SqliteAdapter, path: Path, tmp_path: Path
    ) -> None:
        with AgentMemory("a", adapter=adapter) as memory:
            memory.write("e", "k", 1)
        adapter.close()
        shutil.copy(path, tmp_path / "copy.db")
        with (
            closing(SqliteAdapter(tmp_path / "copy.db")) as copied,
            AgentMemory("b", adapter=copied) as memory,
        ):
            assert memory.write("e", "k", 2).version == 2
            assert memory.verify().ok


def test_every_error_of_sqlite_becomes_one_of_the_contract(path: Path) -> None:
    from amfs_sqlite.failures import translated

    path.touch()
    codes = [
        value
        for name, value in vars(sqlite3).items()
        if name.startswith("SQLITE_") and isinstance(value, int)
    ]
    for code in codes:
        error = sqlite3.OperationalError("what it says")
        error.sqlite_errorcode = code
        for creates in (True, False):
            amfs_error = translated(error, str(path), "a.json", "write", creates=creates)
            assert isinstance(amfs_error, AMFSError)
            assert amfs_error.object_key == "a.json"
            assert str(path) in str(amfs_error) and "what it says" in str(amfs_error)
