"""Memories in workers: pickled, forked, spawned, at exit, and where there is no home."""

from __future__ import annotations

import copy
import inspect
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import amfs_core.errors
from amfs import AgentMemory, AsyncAgentMemory, Outcome
from amfs_core.errors import AMFSError, InvalidValueError, VersionConflictError, WriteManyError
from amfs_core.memory import AgentMemory as CoreMemory
from amfs_core.testing import ModelAdapter
from amfs_local import LocalAdapter
from amfs_s3 import S3Adapter
from tests.support.s3_store import Place
from tests.support.servers import Server

SECRET = "a-secret-key-of-somebody"


def embedder(texts: list[str]) -> list[list[float]]:
    return [[1.0, float(len(text))] for text in texts]


# -- pickling --------------------------------------------------------------------------------

COPIES = {
    "pickle": lambda original: pickle.loads(pickle.dumps(original)),
    "cloudpickle": lambda original: pickle.loads(cloudpickle.dumps(original)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("again", COPIES.values(), ids=COPIES)
def test_a_memory_travels_as_its_arguments(tmp_path: Path, again: Any) -> None:
    with AgentMemory(
        "a",
        adapter=LocalAdapter(tmp_path / "store", durability="none"),
        namespace="n",
        embedder=embedder,
        cache_dir=tmp_path / "cache",
        max_value_bytes=1000,
        patience=3,
    ) as memory:
        memory.write("e", "k", "pelican")
        memory.search("pelican")
        with again(memory) as other:
            assert type(other) is AgentMemory and other is not memory
            assert (other.agent_id, other.session_id) == ("a", memory.session_id)
            assert other.namespace == "n" and other._patience.seconds == 3
            assert other.metrics.requests["get"] == 0  # nothing of the cache came along
            assert other.read("e", "k") == memory.read("e", "k")
            assert other.semantic_search("pelican") and other.search("pelican")
            with pytest.raises(InvalidValueError, match="1,000"):
                other.write("e", "large", "x" * 2000)
        assert memory.write("e", "k", 2).version == 2  # the original goes on


def test_a_memory_from_the_configuration_keeps_its_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMFS_ROOT", str(tmp_path / "one"))
    monkeypatch.setenv("AMFS_NAMESPACE", "from-the-environment")
    with AgentMemory("a") as memory:
        memory.write("e", "k", 1)
        data = pickle.dumps(memory)
    monkeypatch.setenv("AMFS_ROOT", str(tmp_path / "two"))
    monkeypatch.delenv("AMFS_NAMESPACE")
    with pickle.loads(data) as other:
        assert other.namespace == "from-the-environment" and other.read("e", "k") is not None
    assert not (tmp_path / "two").exists()


def test_an_asynchronous_memory_travels_too(tmp_path: Path) -> None:
    import asyncio

    memory = AsyncAgentMemory("a", adapter=LocalAdapter(tmp_path))
    other = pickle.loads(pickle.dumps(memory))
    assert type(other) is AsyncAgentMemory

    async def use() -> None:
        async with memory, other:
            await memory.write("e", "k", 1)
            entry = await other.read("e", "k")
            assert entry is not None and entry.value == 1
            assert await other.list_entity_paths() == ["e"]
            assert [entry.value for entry in await other.read_many([("e", "k")])] == [1]

    asyncio.run(use())


def test_a_local_adapter_keeps_its_directory_wherever_it_wakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(LocalAdapter("store", "some/where", "none"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    adapter = pickle.loads(data)
    assert adapter.root == str(tmp_path / "store")
    assert adapter.prefix == "some/where/" and adapter.durability == "none"


def test_an_s3_adapter_carries_what_it_was_given_and_shows_no_secret(s3_server: Server) -> None:
    place = Place.on(s3_server, s3_server.new_bucket())
    adapter = place.adapter(timeout=7.0)
    adapter.create("default/x", b"body")
    other = pickle.loads(pickle.dumps(adapter))
    assert other._settings == adapter._settings and other.prefix == adapter.prefix
    assert other.get("default/x") == b"body"
    assert place.secret_key not in repr(other)
    keyless_adapter = S3Adapter("a-bucket")  # keys are looked for where it wakes
    assert keyless_adapter._settings.aws_secret_access_key is None
    assert pickle.loads(pickle.dumps(keyless_adapter))._settings.aws_secret_access_key is None
    adapter.close()
    other.close()


ERRORS = [
    kind
    for _, kind in inspect.getmembers(amfs_core.errors, inspect.isclass)
    if issubclass(kind, AMFSError)
]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_comes_back_from_a_process_whole(kind: type[AMFSError]) -> None:
    parameters = inspect.signature(kind).parameters
    arguments = {
        name: {"version": 3, "expected": 1, "actual": 2, "retry_after": 1.5}.get(name, name)
        for name in parameters
        if name not in ("problem", "says_written", "entries", "errors", "outcome")
    }
    error = kind("what happened", **arguments)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and str(again) == "what happened; hint"
    assert vars(again) == vars(error)


def test_errors_with_entries_come_back_whole(tmp_path: Path) -> None:
    memory = AgentMemory("a", adapter=LocalAdapter(tmp_path))
    memory.write("e", "k", 1)
    with pytest.raises(WriteManyError) as raised:
        memory.write_many(
            [
                {"entity_path": "e", "key": "new", "value": 1},
                {"entity_path": "e", "key": "k", "value": 1, "expected_version": 7},
            ]
        )
    again = pickle.loads(pickle.dumps(raised.value))
    assert again.entries == raised.value.entries
    assert isinstance(again.errors[1], VersionConflictError) and again.errors[1].actual == 1


def test_results_of_a_memory_can_be_pickled(tmp_path: Path) -> None:
    memory = AgentMemory("a", adapter=LocalAdapter(tmp_path))
    entry = memory.write("e", "k", {"a": [1]})
    memory.read("e", "k")
    outcome = memory.commit_outcome("o", "success")
    for result in (
        entry,
        memory.search("a"),
        outcome,
        memory.metrics,
        memory.verify(),
        memory.stats(),
        memory.health(),
        memory.diff("e", "k"),
    ):
        assert pickle.loads(pickle.dumps(result)) == result
    assert isinstance(outcome, Outcome)


# -- processes -------------------------------------------------------------------------------


def work(memory: AgentMemory, number: int) -> tuple[int, int]:
    memory.update("shared", "count", lambda old: (old or 0) + 1)
    return memory.write("own", f"k{number}", number).version, os.getpid()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_of_processes_shares_a_memory(tmp_path: Path, method: str) -> None:
    memory = AgentMemory("a", adapter=LocalAdapter(tmp_path, durability="none"))
    memory.write("shared", "count", 0)
    memory.list()
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(3, context) as pool:
        done = list(pool.map(work, [memory] * 12, range(12)))
    assert {version for version, _ in done} == {1} and os.getpid() not in {pid for _, pid in done}
    count = memory.read("shared", "count")
    assert count is not None and count.value == 12
    assert len(memory.list("own")) == 12


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pool_of_processes_shares_a_bucket(minio: Server, method: str) -> None:
    place = Place.on(minio, minio.new_bucket())
    memory = AgentMemory("a", adapter=place.adapter())
    memory.write("shared", "count", 0)
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        list(pool.map(work, [memory] * 6, range(6)))
    count = memory.read("shared", "count")
    assert count is not None and count.value == 6
    assert len(memory.list("own")) == 6


def test_a_closure_travels_as_ray_and_dask_send_it(tmp_path: Path) -> None:
    memory = AgentMemory("a", adapter=LocalAdapter(tmp_path))

    def task(value: int) -> int:
        return memory.write("e", "k", value).version

    (tmp_path / "task").write_bytes(cloudpickle.dumps(task))
    program = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb'))(5))"
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "task")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout == "1\n", done.stderr
    entry = memory.read("e", "k")
    assert entry is not None and entry.value == 5


# -- exit, and no home -----------------------------------------------------------------------

AT_EXIT = """
import atexit, sys, threading, time
from amfs_core.memory import AgentMemory
from amfs_s3 import S3Adapter
bucket, endpoint, key, secret = sys.argv[1:]
adapter = S3Adapter(bucket, endpoint_url=endpoint, region_name="us-east-1",
                    aws_access_key_id=key, aws_secret_access_key=secret)
memory = AgentMemory("a", adapter=adapter)

def use(name):
    memory.write(name, "k", "pelican")
    memory.write_many([{"entity_path": name, "key": f"k{n}", "value": n} for n in range(20)])
    assert len(memory.list(name)) == 21
    assert memory.search("pelican", entity_path=name)
    assert memory.verify(name).ok
    assert len(memory.read_many([(name, f"k{n}") for n in range(20)])) == 20
    print(name, flush=True)

def late():
    threading.main_thread().join()
    use("thread")

atexit.register(use, "exit")
threading.Thread(target=late).start()
"""


def test_at_the_end_of_a_process_a_bucket_can_be_used(minio: Server) -> None:
    arguments = (minio.new_bucket(), minio.endpoint_url, minio.access_key, minio.secret_key)
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT, *arguments], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["thread", "exit"]


HOMELESS = """
import os, sys
import boto3, botocore.session, pycurl, msgspec, platformdirs
import amfs_core.catalog.search, amfs_s3.transport, amfs_s3.proof, amfs_s3.endpoint
import xml.etree.ElementTree
keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
boto3.Session(**keys).client("s3", region_name="us-east-1")
from amfs_core.memory import AgentMemory
from amfs_s3 import S3Adapter
os.environ.pop("HOME", None)
os.environ.pop("XDG_CACHE_HOME", None)
import pwd, pathlib
pwd.getpwuid = lambda uid: (_ for _ in ()).throw(KeyError("uid not found"))
bucket, endpoint, key, secret = sys.argv[1:]
adapter = S3Adapter(bucket, endpoint_url=endpoint, region_name="us-east-1",
                    aws_access_key_id=key, aws_secret_access_key=secret)
memory = AgentMemory("a", adapter=adapter)
memory.write("e", "k", "pelican")
assert memory.read("e", "k") and memory.search("pelican")
print("well")
"""


def test_without_a_home_and_an_entry_for_the_user_a_bucket_is_written_to(
    minio: Server, tmp_path: Path
) -> None:
    arguments = (minio.new_bucket(), minio.endpoint_url, minio.access_key, minio.secret_key)
    done = subprocess.run(
        [sys.executable, "-c", HOMELESS, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert done.stdout == "well\n", done.stderr
    assert not list(tmp_path.iterdir())  # no directory named "~"


# -- reading many, and what there is ---------------------------------------------------------


def test_many_memories_are_read_in_the_order_of_their_names() -> None:
    memory = CoreMemory("a", adapter=ModelAdapter())
    entries = memory.write_many(
        [{"entity_path": "e", "key": f"k{n}", "value": n, "confidence": n / 50} for n in range(50)]
    )
    memory.delete("e", "k7")
    stranger = CoreMemory("b", adapter=memory.adapter)
    pairs: list[Any] = [entries[3], ("e", "absent"), ("e", "k7"), *entries[10:40], ("e", "k0")]
    results = stranger.read_many(pairs)
    assert [entry and entry.value for entry in results] == [3, None, None, *range(10, 40), 0]
    assert stranger.metrics.requests == {
        **stranger.metrics.requests,
        "list": len(pairs),
        "create": 0,
    }
    assert [entry is not None for entry in stranger.read_many(pairs, min_confidence=0.7)].count(
        True
    ) == 5
    assert stranger.read_many([]) == []
    before = stranger.metrics.requests["get"]
    stranger.read_many(entries[10:40], max_age=60)
    assert stranger.metrics.requests["get"] == before
    outcome = stranger.commit_outcome("o", "success")
    assert len(outcome.causes) == 32  # what was read counts as read


@pytest.mark.parametrize("pair", ["e/k", ("e",), ("e", "k", "x"), None, ["e", "k"]])
def test_an_entry_that_is_not_a_pair_is_named_before_anything_is_read(pair: Any) -> None:
    memory = CoreMemory("a", adapter=ModelAdapter())
    with pytest.raises(InvalidValueError, match=r"pairs\[1\] must be an entity path and a key"):
        memory.read_many([("e", "k"), pair])
    assert memory.metrics.requests["get"] == 0


def test_the_entity_paths_are_those_with_live_memories(tmp_path: Path) -> None:
    memory = AgentMemory("a", adapter=LocalAdapter(tmp_path))
    for path in ("b", "a/x", "a", "a/x/y", "näme/%2F", "gone", "late"):
        memory.write(
            path, "k", 1, expires_at=datetime(2020, 1, 1, tzinfo=UTC) if path == "late" else None
        )
    memory.delete("gone", "k")
    assert memory.list_entity_paths() == ["a", "a/x", "a/x/y", "b", "näme/%2F"]
    assert memory.list_entity_paths("a") == ["a", "a/x", "a/x/y"]
    assert memory.list_entity_paths(under="a/x/y/z") == []
    memory.write("new", "k", 1)
    assert "new" in memory.list_entity_paths(max_age=60)


def test_the_namespaces_are_found_by_a_request_each() -> None:
    adapter = ModelAdapter()
    names = ["default", "production", "näme", "a b", "a", "a-b", "with/slash", "v1.json"]
    for name in names:
        memory = CoreMemory("a", adapter=adapter, namespace=name)
        memory.write_many([{"entity_path": "e", "key": f"k{n}", "value": n} for n in range(5)])
    adapter.create(".amfs-probe/x", b"scratch")
    adapter.create("file-of-others", b"x")
    looking = CoreMemory("b", adapter=adapter)
    assert looking.list_namespaces() == sorted(names)
    assert looking.metrics.requests["list"] == len(names) + 3  # 2 that are none, and the end
    assert CoreMemory("b", adapter=ModelAdapter()).list_namespaces() == []


def test_the_commands_list_paths_and_namespaces(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from amfs.cli import amfs as program

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(program, ["--store", str(tmp_path), *arguments])
        assert done.exit_code == 0, done.output
        return done.stdout

    run("write", "a/x", "k", "1")
    run("write", "b", "k", "1")
    run("--namespace", "other", "write", "c", "k", "1")
    assert run("ls", "--paths").split() == ["a/x", "b"]
    assert json.loads(run("ls", "a", "--paths", "--json")) == {"entity_path": "a/x"}
    assert run("namespaces").split() == ["default", "other"]
    told = [json.loads(line) for line in run("namespaces", "--json").splitlines()]
    assert told == [{"namespace": "default"}, {"namespace": "other"}]
