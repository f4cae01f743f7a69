"""Processes, forks, threads and signals on one PostgreSQL store; writers and servers that die."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from amfs_core.errors import BackendUnavailableError
from amfs_core.memory import AgentMemory
from amfs_core.testing.cases import in_forked_child, keys, together
from amfs_postgres import PostgresAdapter
from amfs_postgres.connections import Connections, Link
from tests.conftest import REPOSITORY
from tests.support import moments
from tests.support.postgres import Postgres, new_schema, running

ROUNDS = int(os.environ.get("AMFS_TEST_POSTGRES_ROUNDS", "4"))
"""Of kills, each with four writers; the server dies in every other one."""

WRITER = """
import itertools, json, os, sys
from amfs_core.errors import AMFSError
from amfs_core.memory import AgentMemory
from amfs_postgres import PostgresAdapter

memory = AgentMemory(f"writer-{os.getpid()}", adapter=PostgresAdapter(os.environ["DSN"]))
os.write(1, b"ready\\n")
for number in itertools.count():
    made = []
    try:
        made.append(memory.write("shared", f"k{number % 3}", {"n": number}))
        value = "x" * (number * 37 % 9000)
        made.append(memory.write(f"own/{os.getpid()}", f"k{number % 5}", value))
        if number % 4 == 0:
            items = [
                {"entity_path": "many", "key": f"{os.getpid()}-{number}-{n}", "value": n}
                for n in range(20)
            ]
            made += memory.write_many(items)
    except AMFSError:
        pass
    for one in made:
        size = len(json.dumps(one.value))
        os.write(1, f"{one.entity_path} {one.key} {one.version} {size}\\n".encode())
"""


FORKING = """
import os, sys
from amfs_postgres import PostgresAdapter

adapter = PostgresAdapter(os.environ["DSN"], os.environ["SCHEMA"])
adapter.create("a.json", b"one")
adapter.get("a.json")
ask = lambda: adapter.ask(lambda link: link.execute(b"SELECT pg_backend_pid()").fetchall())
before = ask()
for number in range(5):
    child = os.fork()
    if not child:
        if number % 2:
            assert adapter.get("a.json") == b"one"
            assert adapter.create(f"{number}.json", b"two") is True
        sys.exit(number)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == number
    assert ask() == before
"""


class TestCrashes:
    def test_acknowledged_writes_are_there_when_writers_and_the_server_are_killed(
        self, tmp_path: Path, postgres: Postgres
    ) -> None:
        """`postgres` is only asked for to be skipped with it: this server is another one."""
        dice = random.Random(20)
        acknowledged: dict[tuple[str, str, int], int] = {}
        with running() as server:
            for turn in range(ROUNDS):
                logs = [tmp_path / f"log-{turn}-{number}" for number in range(4)]
                writers = [self.writer(server, log) for log in logs]
                for log in logs:
                    while b"shared" not in log.read_bytes():
                        time.sleep(0.01)
                if turn % 2:
                    time.sleep(dice.uniform(0, 0.2))
                    server.crash()
                    server.start()
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
            server.crash()
            server.start()
            with (
                closing(PostgresAdapter(server.dsn)) as adapter,
                AgentMemory("judge", adapter=adapter) as judge,
            ):
                assert judge.verify().ok
                bodies = dict(adapter.get_many([info.key for info in adapter.list("")]))
        assert len(acknowledged) > 100
        for (path, name, number), length in acknowledged.items():
            body = bodies[f"default/entries/{path}/{name}/v{number}.json"]
            assert body is not None
            assert len(json.dumps(json.loads(body)["value"])) == length

    @staticmethod
    def writer(server: Postgres, log: Path) -> subprocess.Popen[bytes]:
        with open(log, "wb") as output:
            return subprocess.Popen(
                [sys.executable, "-c", WRITER],
                stdout=output,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY), "DSN": server.dsn},
            )

    def test_a_server_that_is_down_is_unavailable_at_once_and_found_again_when_it_is_up(
        self, postgres: Postgres
    ) -> None:
        with running() as server, closing(PostgresAdapter(server.dsn)) as adapter:
            adapter.create("a.json", b"one")
            assert adapter.get("a.json") == b"one"
            server.crash()
            for _ in range(3):
                began = time.monotonic()
                with pytest.raises(BackendUnavailableError) as refused:
                    adapter.create("b.json", b"two")
                assert time.monotonic() - began < 9  # the timeout of a request is 10 s
                assert isinstance(refused.value.__cause__, psycopg.Error)
            with pytest.raises(BackendUnavailableError):
                list(adapter.list(""))
            server.start()
            assert adapter.create("b.json", b"two") is True
            assert adapter.get("a.json") == b"one"


class TestProcesses:
    def test_processes_that_make_a_schema_at_once_make_one(self, postgres: Postgres) -> None:
        context = multiprocessing.get_context("fork")
        for _ in range(4):
            schema, start = new_schema(), context.Barrier(6)

            def make(own: int, schema: str = schema, start: object = start) -> None:
                with closing(PostgresAdapter(postgres.dsn, schema)) as adapter:
                    start.wait(30)  # type: ignore[attr-defined]
                    assert adapter.create(f"{own}.json", b"one") is True
                    assert adapter.create("all.json", str(own).encode()) in (True, False)

            children = [moments.forked(lambda own=own: make(own)) for own in range(6)]  # type: ignore[misc]
            assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6
            with closing(PostgresAdapter(postgres.dsn, schema)) as adapter:
                assert keys(adapter, "") == [*(f"{own}.json" for own in range(6)), "all.json"]

    def test_of_processes_that_create_one_key_exactly_one_wins(
        self, adapter: PostgresAdapter
    ) -> None:
        context = multiprocessing.get_context("fork")
        start, won = context.Barrier(6), context.Value("i", 0)

        def race() -> None:
            start.wait(30)
            for number in range(50):
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
        assert won.value == 200
        assert len(keys(adapter, "")) == 201

    def test_batches_with_keys_in_common_do_not_wait_for_each_other_in_a_circle(
        self, postgres: Postgres, adapter: PostgresAdapter
    ) -> None:
        names = [f"{number:03}.json" for number in range(200)]

        def batch(own: int) -> int:
            order = random.Random(own).sample(names, len(names))
            return len(adapter.create_many(dict.fromkeys(order, b"one")))

        made = together([lambda own=own: batch(own) for own in range(8)])  # type: ignore[misc]
        assert sum(made) == 200
        ((deadlocks,),) = postgres.sql(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )[0]
        assert deadlocks == 0


class TestForks:
    def test_a_child_uses_no_connection_of_its_parent(
        self, postgres: Postgres, adapter: PostgresAdapter
    ) -> None:
        adapter.create("a.json", b"one")
        assert adapter.get("a.json") == b"one"

        def backend(link: Link) -> int:
            ((pid,),) = link.execute(b"SELECT pg_backend_pid()").fetchall()
            return int(pid)

        own = adapter.ask(backend)

        def child() -> None:
            assert adapter.ask(backend) != own
            assert adapter.create("b.json", b"two") is True
            adapter.close()

        for _ in range(5):
            in_forked_child(child)
            assert adapter.ask(backend) == own
            adapter.delete("b.json")

    def test_a_child_that_exits_in_order_hangs_nowhere_and_disturbs_nobody(
        self, postgres: Postgres
    ) -> None:
        environment = {"PYTHONPATH": str(REPOSITORY), "DSN": postgres.dsn, "SCHEMA": new_schema()}
        done = subprocess.run(
            [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", FORKING],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")

    def test_what_a_handler_interrupted_that_forked_fails_in_the_child_and_goes_on_in_the_parent(
        self, postgres: Postgres, adapter: PostgresAdapter
    ) -> None:
        adapter.create("a.json", b"one")
        waiting = f"SELECT pg_sleep(0.5), '{adapter.schema}'".encode()
        children: list[int] = []

        def fork(signum: int, frame: object) -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                children.append(os.fork())

        before = signal.signal(signal.SIGALRM, fork)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            try:
                rows = adapter.ask(lambda link: link.execute(waiting).fetchall())
            except BackendUnavailableError:
                if children == [0]:
                    os._exit(7 if adapter.get("a.json") == b"one" else 8)
                raise
            finally:
                if children == [0]:
                    os._exit(9)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert rows[0][1] == adapter.schema
        [child] = children
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

    def test_forks_at_any_moment_of_a_signal_handler_and_of_threads_lose_nothing(
        self, adapter: PostgresAdapter
    ) -> None:
        def child(number: int) -> None:
            assert adapter.create(f"c/{number}.json", b"one") is True
            assert adapter.get(f"c/{number}.json") == b"one"

        adapter.create("first.json", b"one")
        children, written = moments.handlers_fork(adapter, 25, 0.02, child)
        wanted = {f"c/{number}.json" for number in range(children)}
        assert set(keys(adapter, "")) == wanted | written | {"first.json"}


class TestSignals:
    def test_a_handler_may_use_the_store_at_any_moment(self, adapter: PostgresAdapter) -> None:
        moments.handlers_use(adapter, 80)

    def test_threads_that_a_handler_starts_wait_for_nothing_that_it_interrupted(
        self, postgres: Postgres
    ) -> None:
        handled: list[bool] = []

        def use() -> None:
            threads = [threading.Thread(target=adapter.get, args=("a.json",)) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(10)
            handled.append(not any(thread.is_alive() for thread in threads))

        adapter = PostgresAdapter(postgres.dsn, new_schema())
        with closing(adapter), moments.alarms(use, 0.001):
            while len(handled) < 60 and all(handled):
                adapter.close()  # so that connections are made all the time
                adapter.get("a.json")
        assert all(handled)

    def test_an_interrupt_at_any_moment_leaves_no_transaction_and_no_connection_behind(
        self, postgres: Postgres, adapter: PostgresAdapter
    ) -> None:
        def look() -> None:
            assert adapter.create(f"o/{os.urandom(8).hex()}.json", b"one") is True

        kept = moments.interrupts(adapter, 100, (0.0005, 0.02), look)
        open_transactions = (
            "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
        )
        assert postgres.sql(open_transactions) == [[(0,)]]
        assert len(keys(adapter, "o/")) == 100
        kept = kept.with_traceback(None)
        adapter.close()
        ours = (
            "SELECT count(*) FROM pg_stat_activity "
            f"WHERE application_name = 'amfs' AND query LIKE '%{adapter.schema}%'"
        )
        until = time.monotonic() + 30
        while postgres.sql(ours) != [[(0,)]]:
            assert time.monotonic() < until, "connections stay open"
            time.sleep(0.05)


class TestThreads:
    def test_many_threads_share_few_connections(self, postgres: Postgres) -> None:
        schema = new_schema()
        with closing(PostgresAdapter(postgres.dsn, schema, max_connections=2)) as adapter:
            adapter.create("all.json", b"")

            def work(own: int) -> int:
                for number in range(30):
                    key = f"{own}/{number}.json"
                    assert adapter.create(key, str(number).encode()) is True
                    assert adapter.get(key) == str(number).encode()
                return adapter.ask(count)

            def count(link: Link) -> int:
                ((connections,),) = link.execute(
                    b"SELECT count(*) FROM pg_stat_activity WHERE query LIKE %s", (f"%{schema}%",)
                ).fetchall()
                return int(connections)

            adapter.get("all.json")
            most = max(together([lambda own=own: work(own) for own in range(12)]))  # type: ignore[misc]
            assert most <= 2

    def test_connections_that_are_all_busy_are_unavailable_and_no_more_are_made(
        self, postgres: Postgres
    ) -> None:
        options = {"connect_timeout": 0.2, "max_connections": 1}
        with closing(PostgresAdapter(postgres.dsn, new_schema(), **options)) as adapter:  # type: ignore[arg-type]
            adapter.create("a.json", b"one")
            adapter.get("a.json")
            started, go_on = threading.Event(), threading.Event()

            def hold(link: Link) -> None:
                started.set()
                assert go_on.wait(30)

            thread = threading.Thread(target=lambda: adapter.ask(hold))
            thread.start()
            assert started.wait(30)
            with pytest.raises(BackendUnavailableError, match=r"all 1 .* busy .*max_connections"):
                adapter.create("b.json", b"two")
            go_on.set()
            thread.join()
            assert adapter.create("b.json", b"two") is True

    def test_a_handler_may_close_the_store_at_any_moment(self, adapter: PostgresAdapter) -> None:
        adapter.create("a.json", b"one")
        with moments.alarms(adapter.close, 0.003):
            for number in range(300):
                assert adapter.create(f"{number}.json", b"one") is True
                assert adapter.get(f"{number}.json") == b"one"
        assert len(keys(adapter, "")) == 301

    def test_a_closed_store_has_no_threads_and_no_files(self, postgres: Postgres) -> None:
        before = len(os.listdir("/proc/self/fd")), threading.active_count()
        for _ in range(3):
            with closing(PostgresAdapter(postgres.dsn, new_schema())) as adapter:
                for number in range(3):
                    adapter.create(f"{number}.json", b"one")
                bell = adapter.doorbell("")
                assert bell.wait(30)
                bell.close()
        assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before

    def test_a_place_that_an_interrupt_lost_is_found_again(self, postgres: Postgres) -> None:
        """As when it came while a connection was on its way to a call."""
        adapter = PostgresAdapter(
            postgres.dsn, new_schema(), connect_timeout=0.2, max_connections=1
        )
        with closing(adapter):
            adapter.create("a.json", b"one")
            connections: Connections = adapter._connections
            connections._places.get_nowait()
            assert adapter.get("a.json") == b"one"
            assert connections._places.qsize() == 1
            assert adapter.get("a.json") == b"one"

    def test_an_idle_connection_is_used_again_until_it_is_old(
        self, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def own(link: Link) -> int:
            return link.info.backend_pid

        with closing(PostgresAdapter(postgres.dsn, new_schema())) as adapter:
            first = adapter.ask(own)
            assert adapter.ask(own) == first
            for limit in ("_LONGEST_IDLE", "_LONGEST_LIFE"):
                with monkeypatch.context() as patched:
                    patched.setattr(f"amfs_postgres.connections.{limit}", 0.0)
                    assert adapter.ask(own) != first
                first = adapter.ask(own)
