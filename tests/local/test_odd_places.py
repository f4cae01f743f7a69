"""Directories and file systems that are not as one expects."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from amfs import AgentMemory as ConfiguredMemory
from amfs_core.errors import (
    AMFSError,
    ConfigurationError,
    CorruptEntryError,
    PermissionDeniedError,
)
from amfs_core.memory import AgentMemory
from amfs_local import LocalAdapter, temporary

KEY = "default/entries/e/k/v1.json"


@pytest.fixture
def memory(tmp_path: Path) -> AgentMemory:
    memory = AgentMemory("a", adapter=LocalAdapter(tmp_path / "store"))
    memory.write("e", "k", "mine")
    return memory


# -- links -----------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", ["default/entries/e/k", "default/entries/e", "default/entries"])
def test_a_directory_link_below_the_root_is_not_followed(
    memory: AgentMemory, tmp_path: Path, depth: str
) -> None:
    inside = tmp_path / "store" / depth
    outside = tmp_path / "outside"
    shutil.move(inside, outside)
    inside.symlink_to(outside, target_is_directory=True)
    adapter = LocalAdapter(tmp_path / "store")
    assert adapter.get(KEY) == b""  # what is no file has no bytes
    stranger = AgentMemory("b", adapter=adapter)
    with pytest.raises(CorruptEntryError):
        stranger.read("e", "k", version=1)
    with pytest.raises(AMFSError):
        stranger.history("e", "k")
        stranger.read("e", "k")
    assert memory.adapter.get(KEY) == b""  # nor by who read it before


def test_links_above_the_root_are_followed(memory: AgentMemory, tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to(tmp_path, target_is_directory=True)
    through = AgentMemory("b", adapter=LocalAdapter(tmp_path / "way" / "store"))
    found = through.read("e", "k")
    assert found is not None and found.value == "mine"
    through.write("e", "k", "yours")
    assert [entry.value for entry in memory.history("e", "k")] == ["mine", "yours"]


def test_a_root_that_was_moved_and_linked_to_is_read_on(
    memory: AgentMemory, tmp_path: Path
) -> None:
    shutil.move(tmp_path / "store", tmp_path / "elsewhere")
    (tmp_path / "store").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert memory.adapter.get(KEY)


# -- hard links ------------------------------------------------------------------------------

REFUSALS = [
    *(errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EINVAL),
    *(errno.ENOSYS, errno.EXDEV),
]


def refusing(number: int, names: Callable[[str], bool]) -> Callable[..., None]:
    """What `os.link` is on a file system that refuses: a mount of one takes rights that a test may
    not have."""
    genuine = os.link

    def link(source: str, target: str, **options: object) -> None:
        if names(source):
            raise OSError(number, os.strerror(number), target)
        genuine(source, target, **options)  # type: ignore[arg-type]

    return link


@pytest.mark.parametrize("number", REFUSALS, ids=lambda number: errno.errorcode[number])
def test_a_file_system_without_hard_links_is_named_and_is_no_outage(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = AgentMemory("a", adapter=LocalAdapter(tmp_path), patience=0)
    memory.write("e", "there", 1)
    monkeypatch.setattr(temporary.os, "link", refusing(number, lambda source: True))
    for _ in range(5):
        with pytest.raises(ConfigurationError, match="has no hard links"):
            memory.write("e", "k", 1)
    reader = AgentMemory("b", adapter=memory.adapter)
    assert reader.read("e", "there") and reader.read("e", "k") is None
    assert memory.read("e", "there")  # the breaker of the writer is closed too
    assert memory.metrics.outages == 0
    assert not [path for path in tmp_path.rglob("*") if ".amfs-" in path.name and path.is_file()]


@pytest.mark.parametrize("number", REFUSALS, ids=lambda number: errno.errorcode[number])
def test_an_unnamed_file_that_cannot_be_linked_gets_a_name_first(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        temporary.os, "link", refusing(number, lambda source: source.startswith("/proc/"))
    )
    memory = AgentMemory("a", adapter=LocalAdapter(tmp_path))
    for value in range(3):
        memory.write("e", "k", value)
    memory.write_many([{"entity_path": "e", "key": f"k{n}", "value": n} for n in range(5)])
    assert len(memory.history("e", "k")) == 3 and len(memory.list()) == 6
    assert not [path for path in tmp_path.rglob("*") if ".amfs-" in path.name and path.is_file()]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody with fewer rights")
def test_a_directory_that_may_not_be_written_to_is_a_matter_of_permission(tmp_path: Path) -> None:
    memory = AgentMemory("a", adapter=LocalAdapter(tmp_path / "store"))
    memory.write("e", "k", 1)
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_mode & 0o005 != 0o005 and path.is_relative_to("/tmp"):
            path.chmod(path.stat().st_mode | 0o005)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            try:
                AgentMemory("b", adapter=LocalAdapter(tmp_path / "store")).write("e", "k", 2)
            except PermissionDeniedError:
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# -- no home ---------------------------------------------------------------------------------


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Nobody knows a home directory: no HOME, and no entry in the list of users."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def test_a_root_in_an_unknown_home_is_refused(
    homeless: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="root '~/mem' begins with a home directory"):
        LocalAdapter("~/mem")
    monkeypatch.setenv("AMFS_ROOT", "~/mem")
    with pytest.raises(ConfigurationError, match="'~/mem' begins with a home directory"):
        ConfiguredMemory("a").write("e", "k", 1)
    monkeypatch.delenv("AMFS_ROOT")
    with pytest.raises(ConfigurationError, match="'~/cache' begins with a home directory"):
        ConfiguredMemory("a", cache_dir="~/cache")
    assert not list(homeless.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user that nobody knows")
def test_a_user_without_a_name_and_a_home_works_in_a_directory(tmp_path: Path) -> None:
    program = """
import os
import amfs_core.catalog.search, amfs_local  # as this Python may be one that only root may read
from amfs import AgentMemory
os.setgroups([])
os.setgid(54321)
os.setuid(54321)
os.environ.pop("HOME", None)
with AgentMemory("a") as memory:
    memory.write("e", "k", 1)
    assert memory.read("e", "k").value == 1 and memory.list() and memory.search("1")
"""
    tmp_path.chmod(0o777)
    for path in tmp_path.parents:
        if path.is_relative_to("/tmp") and path.stat().st_mode & 0o005 != 0o005:
            path.chmod(path.stat().st_mode | 0o005)
    environment = {name: text for name, text in os.environ.items() if name != "HOME"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**environment, "AMFS_ROOT": str(tmp_path / "store")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
