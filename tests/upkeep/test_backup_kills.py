"""Processes that make and restore backups are killed at any moment: nothing that is listed is
broken, nothing that was made is lost, and what was interrupted is done by the next one.

`make backup-torture` kills many more.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from amfs_core.memory import AgentMemory
from amfs_core.storage import StorageAdapter
from amfs_core.upkeep.backup import Backups
from tests.support.backups import local, objects
from tests.support.s3_store import Place
from tests.support.servers import REGION, Server

REPOSITORY = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("BACKUP_KILLS", "6"))
KILLS_ON_SERVER = int(os.environ.get("BACKUP_KILLS", "3"))

# Small parts, so that there are many moments between requests.
_WORK = """
import sys
from amfs_core.upkeep.backup import Backups, archive
from amfs_local import LocalAdapter

archive.PART_BYTES = archive._INDEX_BYTES = 2_000

def opened(place):
    if "://" not in place:
        return LocalAdapter(place, durability="none")
    from amfs.config import open_store
    return open_store(place)

what, place, store = sys.argv[1:]
backups = Backups(opened(place))
if what == "restore":
    backups.restore(opened(store))
else:
    backups.create(opened(store), full=what == "full")
"""


@dataclass(frozen=True)
class Ground:
    """Where this is tried: adapters on the places, and how other processes reach them."""

    kept: StorageAdapter
    target: Callable[[int], StorageAdapter]
    names: Callable[[int], tuple[str, str]]
    """The names of the place of the backups, and of the target of that number."""
    variables: Mapping[str, str]

    def start(self, what: str, store: str, number: int = 0) -> subprocess.Popen[bytes]:
        place, target = self.names(number)
        command = [sys.executable, "-c", _WORK, what, place, store or target]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **self.variables}
        return subprocess.Popen(command, env=environment)


def killed(process: subprocess.Popen[bytes], made: Callable[[], int], wanted: int) -> bool:
    """Kill a process once there are so many objects; False when it was done before."""
    while process.poll() is None and made() < wanted:
        time.sleep(0.001)
    process.kill()
    return process.wait() == -signal.SIGKILL


def count(store: StorageAdapter, prefix: str = "") -> int:
    return sum(1 for _ in store.list(prefix))


def contents(store: StorageAdapter) -> dict[str, bytes]:
    """All objects; not what is listed and absent, as MinIO has it while it takes something back."""
    bodies = store.get_many([info.key for info in store.list("")])
    return {key: body for key, body in bodies if body is not None}


def grow(path: Path, dice: random.Random) -> dict[str, bytes]:
    """Write, erase and judge a little, and return what there is then."""
    with AgentMemory("tester", adapter=local(path)) as source:
        source.write_many(
            {"entity_path": f"e{n % 7}", "key": f"k{n % 31}", "value": dice.randbytes(150).hex()}
            for n in range(40)
        )
        source.purge("e0", f"k{dice.randrange(31)}")
        source.commit_outcome(f"o{dice.random()}", "success", entries=[("e1", "k1")])
    return objects(path)


def check_backups(ground: Ground, into: Path, states: dict[str, dict[str, bytes]]) -> None:
    """See that all backups that had been there are there, and restore one that is new."""
    backups = Backups(ground.kept)
    good = {backup.name for backup in backups.list()}
    assert set(states) <= good
    for name in good - set(states):
        backups.restore(local(into / name), name)
        states[name] = objects(into / name)


def kill_creates(ground: Ground, tmp_path: Path, kills: int) -> None:
    dice = random.Random(kills)
    states: dict[str, dict[str, bytes]] = {}
    died = 0
    while died < kills:
        state = grow(tmp_path / "a", dice)
        before, had = count(ground.kept), set(states)
        process = ground.start("full" if died % 3 == 0 else "create", str(tmp_path / "a"))
        wanted = before + dice.randrange(1, 14)
        was_killed = killed(process, partial(count, ground.kept), wanted)
        died += was_killed
        check_backups(ground, tmp_path, states)
        new = set(states) - had
        assert was_killed or (process.returncode == 0 and len(new) == 1)
        assert all(states[name] == state for name in new)
    state = grow(tmp_path / "a", dice)
    assert ground.start("create", str(tmp_path / "a")).wait() == 0
    had = set(states)
    check_backups(ground, tmp_path, states)
    assert [states[name] == state for name in set(states) - had] == [True]
    report = Backups(ground.kept).prune(unfinished_after=0)
    assert report.attempts <= died
    kept = {info.key.split("/")[2] for info in ground.kept.list("default/archives/")}
    assert kept == {backup.name for backup in report.kept} == set(states)
    for name in states:
        Backups(ground.kept).restore(None, name)  # whole to the last byte


def kill_restores(ground: Ground, tmp_path: Path, kills: int) -> None:
    dice = random.Random(kills)
    backups = Backups(ground.kept)
    for _ in range(3):
        state = grow(tmp_path / "a", dice)
        backups.create(local(tmp_path / "a"))
    died = target = 0
    while died < kills:
        restored = ground.target(target)
        before = count(restored)
        process = ground.start("restore", "", target)
        wanted = before + dice.randrange(1, len(state) // 3)
        if killed(process, partial(count, restored), wanted):
            died += 1
            assert contents(restored).items() <= state.items()
        else:
            assert process.returncode == 0
            assert contents(restored) == state
            target += 1
    assert ground.start("restore", "", target).wait() == 0
    assert contents(ground.target(target)) == state


def on_a_disk(tmp_path: Path) -> Ground:
    return Ground(
        local(tmp_path / "kept"),
        lambda number: local(tmp_path / f"target{number}"),
        lambda number: (str(tmp_path / "kept"), str(tmp_path / f"target{number}")),
        {},
    )


def on_a_server(server: Server, bucket: str) -> Ground:
    place = Place.on(server, bucket)
    variables = {
        "AMFS_S3_ENDPOINT": server.endpoint_url,
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_DEFAULT_REGION": REGION,
    }
    targets: dict[int, StorageAdapter] = {}

    def target(number: int) -> StorageAdapter:
        if number not in targets:
            targets[number] = place.adapter(prefix=f"target{number}/")
        return targets[number]

    def names(number: int) -> tuple[str, str]:
        return f"s3://{bucket}/kept/", f"s3://{bucket}/target{number}/"

    return Ground(place.adapter(prefix="kept/"), target, names, variables)


def test_killed_while_a_backup_is_made(tmp_path: Path) -> None:
    kill_creates(on_a_disk(tmp_path), tmp_path, KILLS)


def test_killed_while_a_backup_is_restored(tmp_path: Path) -> None:
    kill_restores(on_a_disk(tmp_path), tmp_path, KILLS)


def test_killed_while_a_backup_is_made_on_a_server(tmp_path: Path, minio: Server) -> None:
    kill_creates(on_a_server(minio, minio.new_bucket()), tmp_path, KILLS_ON_SERVER)


def test_killed_while_a_backup_is_restored_on_a_server(tmp_path: Path, minio: Server) -> None:
    kill_restores(on_a_server(minio, minio.new_bucket()), tmp_path, KILLS_ON_SERVER)
