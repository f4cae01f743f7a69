"""Processes, forks, threads and signals on one SQLite store; processes that are killed."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from amfs_core.errors import BackendUnavailableError
from amfs_core.memory import AgentMemory
from amfs_core.testing.cases import in_forked_child, keys, together
from amfs_sqlite import SqliteAdapter, connections, database
from tests.conftest import REPOSITORY
from tests.support import moments

ROUNDS = int(os.environ.get("AMFS_TEST_SQLITE_ROUNDS", "6"))
"""Of kills, each with four writers."""

WRITER = """
import itertools, json, os, sys
from amfs_core.memory import AgentMemory
from amfs_sqlite import SqliteAdapter

memory = AgentMemory(f"writer-{os.getpid()}", adapter=SqliteAdapter(sys.argv[1]))
os.write(1, b"ready\\n")
for number in itertools.count():
    made = [memory.write("shared", f"k{number % 3}", {"n": number})]
    made.append(memory.write(f"own/{os.getpid()}", f"k{number % 5}", "x" * (number * 37 % 9000)))
    if number % 4 == 0:
        items = [
            {"entity_path": "many", "key": f"{os.getpid()}-{number}-{n}", "value": n}
            for n in range(20)
        ]
        made += memory.write_many(items)
    if number % 10 == 9:
        memory.purge(f"own/{os.getpid()}", "k0")
    for one in made:
        if one.entity_path.startswith("own") and one.key == "k0":
            continue
        size = len(json.dumps(one.value))
        os.write(1, f"{one.entity_path} {one.key} {one.version} {size}\\n".encode())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def adapter(path: Path) -> Iterator[SqliteAdapter]:
    with closing(SqliteAdapter(path)) as made:
        yield made


def is_whole(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def in_transaction(connection: sqlite3.Connection) -> bool:
    try:
        return connection.in_transaction
    except sqlite3.ProgrammingError:  # it is not open yet
        return False


class TestCrashes:
    def test_writes_that_killed_writers_acknowledged_are_there_and_the_store_is_whole(
        self, path: Path, tmp_path: Path
    ) -> None:
        dice = random.Random(20)
        acknowledged: dict[tuple[str, str, int], int] = {}
        for turn in range(ROUNDS):
            logs = [tmp_path / f"log-{turn}-{number}" for number in range(4)]
            writers = [self.writer(path, log) for log in logs]
            for log in logs:
                while b"ready" not in log.read_bytes():
                    time.sleep(0.01)
            for writer in dice.sample(writers, len(writers)):
                time.sleep(dice.uniform(0, 0.15))
                writer.kill()
            for writer in writers:
                assert writer.wait() == -signal.SIGKILL
            for log in logs:
                for line in log.read_text().splitlines(keepends=True)[1:]:
                    if line.endswith("\n"):
                        entity_path, key, version, size = line.split()
                        acknowledged[entity_path, key, int(version)] = int(size)
            assert is_whole(path)
            with (
                closing(SqliteAdapter(path)) as adapter,
                AgentMemory("j", adapter=adapter) as judge,
            ):
                report = judge.verify()
                # A purge that was killed is half done, which verify says and another one mends.
                odd = [finding for finding in report.findings if "purge" not in str(finding)]
                assert not odd
                bodies = {info.key: adapter.get(info.key) for info in adapter.list("")}
        assert len(acknowledged) > 100
        for (entity_path, key, version), size in acknowledged.items():
            body = bodies[f"default/entries/{entity_path}/{key}/v{version}.json"]
            assert body is not None
            assert len(json.dumps(json.loads(body)["value"])) == size

    @staticmethod
    def writer(path: Path, log: Path) -> subprocess.Popen[bytes]:
        with open(log, "wb") as output:
            return subprocess.Popen(
                [sys.executable, "-c", WRITER, str(path)],
                stdout=output,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            )

    def test_a_commit_is_flushed_before_it_is_acknowledged(self, adapter: SqliteAdapter) -> None:
        adapter.create("a.json", b"one")
        for durability, level in (("fsync", 2), ("none", 1)):
            with closing(SqliteAdapter(adapter.path, durability=durability)) as other:  # type: ignore[arg-type]
                run = other._connections.run
                rows = run(lambda connection: connection.execute("PRAGMA synchronous").fetchall())
                assert rows == [(level,)]


class TestProcesses:
    def test_processes_that_make_a_store_at_once_make_one(self, path: Path) -> None:
        context = multiprocessing.get_context("fork")
        for number in range(8):
            place = path.with_name(f"{number}.db")
            start = context.Barrier(6)

            def make(own: int, place: Path = place, start: Any = start) -> None:
                with closing(SqliteAdapter(place)) as adapter:
                    start.wait(30)
                    assert adapter.create(f"{own}.json", b"one") is True
                    assert adapter.create("all.json", str(own).encode()) in (True, False)

            children = [moments.forked(lambda own=own: make(own)) for own in range(6)]  # type: ignore[misc]
            assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6
            with closing(SqliteAdapter(place)) as adapter:
                assert keys(adapter, "") == [*(f"{own}.json" for own in range(6)), "all.json"]

    def test_of_processes_that_create_one_key_exactly_one_wins(
        self, adapter: SqliteAdapter
    ) -> None:
        context = multiprocessing.get_context("fork")
        start, won = context.Barrier(6), context.Value("i", 0)

        def race() -> None:
            start.wait(30)
            for number in range(100):
                if adapter.create(f"{number}.json", b"the same bytes"):
                    with won.get_lock():
                        won.value += 1
                together_with = {f"m{number}-{n}.json": b"the same bytes" for n in range(3)}
                created = adapter.create_many(together_with)
                with won.get_lock():
                    won.value += len(created)

        adapter.create("first.json", b"one")
        children = [moments.forked(race) for _ in range(6)]
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6
        assert won.value == 400
        assert len(keys(adapter, "")) == 401


class TestForks:
    def test_a_child_loses_nothing_when_its_parent_closes_the_file(
        self, adapter: SqliteAdapter, path: Path
    ) -> None:
        """SQLite would take the locks of the parent, which the child does not have, for its own;
        the parent, as the last one by its locks, would remove the log that the child writes."""
        adapter.create("before.json", b"one")
        context = multiprocessing.get_context("fork")
        wrote, closed = context.Event(), context.Event()

        def child() -> None:
            assert adapter.create("first.json", b"one") is True
            wrote.set()
            assert closed.wait(30)
            assert adapter.create("second.json", b"two") is True

        pid = moments.forked(child)
        assert wrote.wait(30)
        adapter.close()
        closed.set()
        assert os.waitpid(pid, 0)[1] == 0
        with closing(SqliteAdapter(path)) as other:
            assert keys(other, "") == ["before.json", "first.json", "second.json"]

    def test_forks_at_any_moment_of_a_signal_handler_and_of_threads_lose_nothing(
        self, adapter: SqliteAdapter, path: Path
    ) -> None:
        def child(number: int) -> None:
            assert adapter.create(f"c/{number}.json", b"one") is True
            time.sleep(0.02 * random.random())
            assert adapter.create(f"d/{number}.json", b"two") is True
            assert adapter.get(f"c/{number}.json") == b"one"

        children, written = moments.handlers_fork(adapter, 60, 0.01, child)
        adapter.close()
        with closing(SqliteAdapter(path)) as other:
            there = set(keys(other, ""))
        wanted = {f"{prefix}/{number}.json" for prefix in "cd" for number in range(children)}
        assert there == wanted | written
        assert is_whole(path)

    def test_a_child_has_locks_of_its_own(self, adapter: SqliteAdapter, path: Path) -> None:
        if not os.path.exists("/proc/locks"):
            pytest.skip("needs /proc/locks")
        adapter.create("a.json", b"one")

        def child() -> None:
            assert adapter.get("a.json") == b"one"
            locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
            own = {lock[5].split(":")[-1] for lock in locks if lock[4] == str(os.getpid())}
            assert {str(os.stat(path).st_ino), str(os.stat(f"{path}-shm").st_ino)} <= own

        # In a handler, which may come when a connection is in use.
        changed = connections.Connections._take

        def taken(self: Any, *, make: bool) -> Any:
            link = changed(self, make=make)
            in_forked_child(child)
            return link

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(connections.Connections, "_take", taken)
            calls = itertools.count()

            def once(self: Any, *, make: bool) -> Any:
                return (taken if next(calls) == 0 else changed)(self, make=make)

            patched.setattr(connections.Connections, "_take", once)
            assert adapter.create("b.json", b"two") is True

    def test_a_child_that_was_forked_while_a_call_was_stuck_says_so(
        self, adapter: SqliteAdapter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connections, "_LONGEST_FORK_SECONDS", 0.2)
        adapter.create("a.json", b"one")
        started, go_on = threading.Event(), threading.Event()

        def stuck(connection: sqlite3.Connection) -> None:
            started.set()
            assert go_on.wait(30)

        thread = threading.Thread(target=lambda: adapter._connections.run(stuck))
        thread.start()
        assert started.wait(30)

        def child() -> None:
            with pytest.raises(BackendUnavailableError, match="start another"):
                adapter.get("a.json")
            adapter.close()

        in_forked_child(child)
        go_on.set()
        thread.join()
        assert adapter.get("a.json") == b"one"
        in_forked_child(lambda: adapter.create("b.json", b"two"))
        assert adapter.get("b.json") == b"two"


class TestSignals:
    def test_a_handler_may_use_the_store_at_any_moment(self, adapter: SqliteAdapter) -> None:
        moments.handlers_use(adapter, 150)

    def test_ctrl_c_at_any_moment_leaves_no_transaction_and_holds_up_nobody(
        self, adapter: SqliteAdapter, path: Path
    ) -> None:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other:

            def look() -> None:
                other.execute("BEGIN IMMEDIATE")
                other.execute("ROLLBACK")
                [(busy, _, _)] = other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                assert busy == 0

            adapter.create("a.json", b"one")
            moments.interrupts(adapter, 300, (0.0002, 0.004), look)
        written: list[bool] = []
        thread = threading.Thread(
            target=lambda: written.append(adapter.create("after.json", b"one"))
        )
        thread.start()
        thread.join(30)
        assert written == [True]
        assert is_whole(path)

    @pytest.mark.parametrize("moment", ["a rival makes the store", "keys are taken"])
    def test_no_transaction_is_open_where_a_handler_may_run(
        self, path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After a step that fails, too: a handler that writes would wait for what it interrupted.
        Python runs handlers between two instructions, at each of which this looks."""
        with closing(SqliteAdapter(path)) as adapter, closing(SqliteAdapter(path)) as rival:
            if moment == "keys are taken":
                rival.create("a.json", b"one")
            else:
                make = database.Database._make

                def second(self: database.Database, connection: sqlite3.Connection) -> bool:
                    monkeypatch.undo()
                    rival.create("a.json", b"one")
                    return make(self, connection)

                monkeypatch.setattr(database.Database, "_make", second)
            seen: list[bool] = []

            def look(frame: FrameType, event: str, argument: object) -> Any:
                frame.f_trace_opcodes = True
                seen.append(any(map(in_transaction, database.every_connection())))
                return look

            before = sys.gettrace()
            sys.settrace(look)
            try:
                created = adapter.create_many({"b.json": b"two", "a.json": b"three"})
            finally:
                sys.settrace(before)
            assert created == ["b.json"]
            assert len(seen) > 100
            assert not any(seen)


class TestThreads:
    def test_threads_that_write_and_read_at_once_get_what_was_written(
        self, adapter: SqliteAdapter
    ) -> None:
        def work(own: int) -> None:
            for number in range(40):
                key = f"{own}/{number}.json"
                assert adapter.create(key, str(number).encode()) is True
                assert adapter.create("all.json", b"") is (own == number == -1)
                assert adapter.get(key) == str(number).encode()
                assert sum(1 for _ in adapter.list(f"{own}/")) == number + 1

        adapter.create("all.json", b"")
        together([lambda own=own: work(own) for own in range(12)])  # type: ignore[misc]
        assert len(adapter._connections._idle) <= 8
