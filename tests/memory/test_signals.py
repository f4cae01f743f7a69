"""A signal handler that uses the memory at whatever moment the signal comes."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from amfs import AgentMemory, open_store
from amfs_local import LocalAdapter
from amfs_sqlite import SqliteAdapter
from tests.conftest import REPOSITORY
from tests.support import servers
from tests.support.postgres import Postgres, new_schema
from tests.support.s3_store import Place
from tests.support.served import serving_here

SIGNALS = int(os.environ.get("AMFS_TEST_SIGNALS", "12"))  # 200 in the long form
END_SECONDS = 30.0


def interrupted(place: str, variant: str, after: float) -> set[str]:
    """Run the program, signal it some seconds after it began, and return what it acknowledged."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.support.signalled", place, variant],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n", child.stderr and child.stderr.read()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(after)  # the moment is random: none of them is waited for
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=END_SECONDS)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 0, err
    return {line.removeprefix("ack ") for line in out.splitlines()}


def run(place: str, variant: str, seed: int) -> set[str]:
    moments = random.Random(seed)
    delays = [moments.choice((0.0, 0.002, 0.02, 0.3)) * moments.random() for _ in range(SIGNALS)]
    with ThreadPoolExecutor(2) as pool:
        every = pool.map(lambda delay: interrupted(place, variant, delay), delays)
        return set().union(*every)


def check(memory: AgentMemory, acknowledged: set[str]) -> None:
    assert len([name for name in acknowledged if name.startswith("last/")]) == SIGNALS
    for name in acknowledged:
        versions = memory.history(*name.split("/"))
        assert len(versions) == 1, name
    memory.verify(repair=True)  # an outcome may have been recorded and not yet been counted
    assert memory.verify().ok


@pytest.mark.parametrize("variant", ["write", "many", "all"])
def test_a_signal_handler_may_use_a_directory_at_any_moment(tmp_path: Path, variant: str) -> None:
    acknowledged = run(str(tmp_path), variant, seed=1)
    check(AgentMemory("checker", adapter=LocalAdapter(tmp_path)), acknowledged)


@pytest.mark.parametrize("variant", ["write", "many", "all"])
def test_a_signal_handler_may_use_a_file_at_any_moment(tmp_path: Path, variant: str) -> None:
    path = tmp_path / "store.db"
    acknowledged = run(f"sqlite:///{path}", variant, seed=3)
    with contextlib.closing(SqliteAdapter(path)) as adapter:
        check(AgentMemory("checker", adapter=adapter), acknowledged)


def test_a_signal_handler_may_use_a_store_behind_a_server_at_any_moment(tmp_path: Path) -> None:
    with serving_here(LocalAdapter(tmp_path)) as url:
        acknowledged = run(url, "all", seed=4)
    check(AgentMemory("checker", adapter=LocalAdapter(tmp_path)), acknowledged)


@pytest.mark.parametrize("variant", ["write", "many", "all"])
def test_a_signal_handler_may_use_a_database_at_any_moment(
    postgres: Postgres, variant: str
) -> None:
    place = f"{postgres.dsn}?schema={new_schema()}"
    acknowledged = run(place, variant, seed=4)
    with contextlib.closing(open_store(place)) as adapter:
        check(AgentMemory("checker", adapter=adapter), acknowledged)


@pytest.fixture
def minio_place(s3_server: servers.Server, bucket: str) -> Place:
    return Place.on(s3_server, bucket)


@pytest.mark.parametrize("variant", ["write", "many", "all"])
def test_a_signal_handler_may_use_a_bucket_at_any_moment(minio_place: Place, variant: str) -> None:
    place = "|".join(
        (
            "s3:",
            minio_place.bucket,
            "amfs/",
            minio_place.endpoint_url,
            minio_place.access_key,
            minio_place.secret_key,
        )
    )
    acknowledged = run(place, variant, seed=2)
    check(AgentMemory("checker", adapter=minio_place.adapter()), acknowledged)
