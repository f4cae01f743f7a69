"""Forks: a child writes and reads with what it inherited, whatever its parent was doing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from amfs_core.memory import AgentMemory
from tests.support.s3_store import Place, Tell, Worker
from tests.support.servers import Server

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@pytest.fixture
def place(s3_server: Server, bucket: str) -> Place:
    return Place.on(s3_server, bucket)


@pytest.fixture
def memory(place: Place) -> Iterator[AgentMemory]:
    with place.memory("parent", patience=60) as made:
        yield made


def read_and_write(memory: AgentMemory, name: str, count: int, tell: Tell) -> None:
    """Read what the parent wrote, then write; all with the memory that was inherited."""
    known = memory.read("fork", "from-parent")
    tell(None if known is None else known.value)
    for number in range(count):
        shared = memory.write("fork", "shared", [name, number])
        tell((shared.version, shared.provenance.write_id))
    items = [{"entity_path": "fork", "key": f"{name}-{n}", "value": n} for n in range(5)]
    tell([entry.value for entry in memory.write_many(items)])
    tell([entry.value for entry in memory.list("fork") if entry.key.startswith(f"{name}-")])
    memory.close()


def assert_child(told: list[Any], known: object, count: int) -> list[tuple[int, str]]:
    assert told[0] == known
    assert told[-2:] == [list(range(5)), list(range(5))]
    assert len(told) == count + 3
    acknowledged: list[tuple[int, str]] = told[1:-2]
    return acknowledged


def assert_exactly(place: Place, acknowledged: list[tuple[int, str]]) -> None:
    with place.memory("reader") as reader:
        history = reader.history("fork", "shared")
        there = {entry.version: entry.provenance.write_id for entry in history}
        assert there == dict(acknowledged)
        assert len(history) == len(acknowledged) == len(set(there.values()))
        report = reader.verify()
        assert report.ok, report.findings


def test_two_children_of_one_process_and_their_parent_write_with_the_same_memory(
    memory: AgentMemory, place: Place
) -> None:
    memory.write("fork", "from-parent", "hello")
    children = [Worker(read_and_write, memory, name, 10, method="fork") for name in ("one", "two")]
    mine = [memory.write("fork", "shared", ["parent", number]) for number in range(10)]
    acknowledged = [(entry.version, entry.provenance.write_id) for entry in mine]
    for child in children:
        acknowledged += assert_child(child.result(), "hello", 10)
    assert_exactly(place, acknowledged)


def test_children_forked_while_threads_are_writing_neither_hang_nor_lose(
    memory: AgentMemory, place: Place
) -> None:
    memory.write("fork", "from-parent", "hello")
    enough = threading.Event()
    under_way = threading.Barrier(5)

    def work(number: int) -> list[tuple[int, str]]:
        acknowledged = []
        under_way.wait()
        while not enough.wait(0.02):  # or the shared history grows beyond reading
            entry = memory.write("fork", "shared", ["thread", number])
            acknowledged.append((entry.version, entry.provenance.write_id))
            memory.history("fork", "from-parent")
        return acknowledged

    with ThreadPoolExecutor(4) as threads:
        working = [threads.submit(work, number) for number in range(4)]
        under_way.wait()
        try:
            acknowledged = []
            for number in range(4):
                child = Worker(read_and_write, memory, f"child-{number}", 3, method="fork")
                acknowledged += assert_child(child.result(), "hello", 3)
        finally:
            enough.set()
        for thread in working:
            acknowledged += thread.result()
    assert_exactly(place, acknowledged)


def test_a_child_forked_before_the_first_request_of_its_parent_works(
    memory: AgentMemory, place: Place
) -> None:
    child = Worker(read_and_write, memory, "child", 3, method="fork")
    acknowledged = assert_child(child.result(), None, 3)
    memory.write("fork", "from-parent", "later")
    second = Worker(read_and_write, memory, "second", 3, method="fork")
    acknowledged += assert_child(second.result(), "later", 3)
    assert_exactly(place, acknowledged)


def do_nothing(_tell: Tell) -> None:
    """The child only comes to life, and ends."""


def test_a_child_waits_for_nothing_that_a_thread_of_its_parent_held(place: Place) -> None:
    with place.memory("busy") as busy, ThreadPoolExecutor(4) as threads:
        busy.write("fork", "from-parent", "hello")
        enough = threading.Event()

        def ask() -> None:
            while not enough.is_set():
                assert busy.health().ok

        asking = [threads.submit(ask) for _ in range(4)]
        try:
            for _ in range(60):  # of 100 that freed the client of the memory, 4 never came to life
                with place.memory("used") as used:
                    assert used.read("fork", "from-parent") is not None
                    Worker(do_nothing, method="fork").result()
        finally:
            enough.set()
        for thread in asking:
            thread.result()


def test_objects_that_are_kept_forever_are_not_freed_at_exit_either() -> None:
    program = """
import gc
from amfs_core.fork import keep_forever

class Client:
    def __del__(self):
        print("freed", self.name, flush=True)

kept, other = Client(), Client()
kept.name, other.name = "kept", "other"
keep_forever(kept)
del kept, other
gc.collect()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "freed other\n"), done.stderr


def fork_again(memory: AgentMemory, tell: Tell) -> None:
    memory.write("fork", "from-parent", "from the child")
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:  # the grandchild
        told: list[Any] = []
        try:
            read_and_write(memory, "grandchild", 3, told.append)
            os.write(writer, repr(told).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        tell(pipe.read().decode())
    os.waitpid(pid, 0)


def test_a_grandchild_works_too(memory: AgentMemory, place: Place) -> None:
    memory.read("fork", "from-parent")
    (told,) = Worker(fork_again, memory, method="fork").result()
    assert told.startswith("['from the child', (1, ")
    with place.memory("reader") as reader:
        assert len(reader.history("fork", "shared")) == 3


def make_and_use(place: Place, tell: Tell) -> None:
    with place.memory("maker") as made:
        read_and_write(made, "maker", 3, tell)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_memory_made_in_a_child_works(memory: AgentMemory, place: Place, method: str) -> None:
    memory.write("fork", "from-parent", "hello")
    acknowledged = assert_child(Worker(make_and_use, place, method=method).result(), "hello", 3)
    assert_exactly(place, acknowledged)


def test_the_parent_goes_on_after_its_children(memory: AgentMemory, place: Place) -> None:
    written = memory.write("fork", "from-parent", "hello")
    for _ in range(2):
        Worker(read_and_write, memory, "child", 1, method="fork").result()
    assert memory.read("fork", "from-parent") == written
    assert memory.write("fork", "from-parent", "again").version == 2


FIRST_USE = """
import os, sys, threading, time
from amfs_s3 import S3Adapter

bucket, endpoint, key, secret, module = sys.argv[1:]
store = S3Adapter(bucket, endpoint_url=endpoint, region_name="us-east-1",
                  aws_access_key_id=key, aws_secret_access_key=secret)
thread = threading.Thread(target=store.get, args=("x",))
thread.start()
while module not in sys.modules:
    time.sleep(0)
child = os.fork()
if child == 0:
    store.get("x")
    os._exit(0)
thread.join()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("module", ["boto3", "botocore.session", "amfs_s3.transport"])
def test_a_child_forked_while_another_thread_imports_for_the_first_use_has_whole_modules(
    minio: Server, module: str
) -> None:
    arguments = (minio.new_bucket(), minio.endpoint_url, minio.access_key, minio.secret_key)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FIRST_USE, *arguments, module],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
