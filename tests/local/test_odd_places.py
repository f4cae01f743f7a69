"""Directories and file systems that are not as one expects."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from amfs import AgentMemory as ConfiguredMemory
from amfs_core.errors import (
    ConfigurationError,
    PermissionDeniedError,
    StorageFullError,
    WriteManyError,
    WriteOutcomeUnknownError,
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


def move_and_link(tmp_path: Path, below: str) -> Path:
    """Move a directory of the store out of it, put a link in its place, and return where it is."""
    inside, outside = tmp_path / "store" / below, tmp_path / "outside"
    shutil.move(inside, outside)
    inside.symlink_to(outside, target_is_directory=True)
    return outside


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("depth", ["default/entries/e/k", "default/entries/e", "default/entries"])
def test_a_directory_link_below_the_root_is_not_followed(
    memory: AgentMemory, tmp_path: Path, depth: str
) -> None:
    outside = move_and_link(tmp_path, depth)
    before = contents(outside)
    stranger = AgentMemory("b", adapter=LocalAdapter(tmp_path / "store"))
    calls: list[Callable[[], object]] = [
        lambda: stranger.read("e", "k", version=1),
        lambda: stranger.read("e", "k"),
        lambda: stranger.history("e", "k"),
        lambda: stranger.write("e", "k", "yours"),
        lambda: stranger.purge("e", "k"),
        lambda: list(stranger.adapter.list("default/entries/e/k/")),
        lambda: stranger.adapter.delete(KEY),
        lambda: memory.adapter.get(KEY),  # nor by who read it before
    ]
    for call in calls:
        with pytest.raises(ConfigurationError, match="symbolic link"):
            call()
    assert contents(outside) == before


def test_a_process_that_knew_a_directory_does_not_write_through_a_link_in_its_place(
    memory: AgentMemory, tmp_path: Path
) -> None:
    """Such a write was acknowledged, and no read found it."""
    outside = move_and_link(tmp_path, "default/entries/e")
    before = contents(outside)
    for unnamed in (True, False):
        adapter = LocalAdapter(tmp_path / "store")
        adapter._scratch._unnamed = unnamed
        adapter._directories._known.add(f"{adapter.root}/default/entries/e/k")
        with pytest.raises(ConfigurationError, match="symbolic link"):
            adapter.create("default/entries/e/k/v2.json", b"x")
    with pytest.raises(WriteManyError, match="symbolic link"):
        memory.write_many([{"entity_path": "e", "key": "k", "value": 1}])
    with pytest.raises(ConfigurationError, match="symbolic link"):
        memory.adapter.replace(KEY, b"x")
    assert contents(outside) == before


def test_a_listing_says_once_that_it_leaves_out_what_a_link_leads_to(
    memory: AgentMemory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    move_and_link(tmp_path, "default/entries/e")
    stranger = AgentMemory("b", adapter=LocalAdapter(tmp_path / "store"))
    assert stranger.list() == [] and stranger.search("mine") == []
    told = [text for text in caplog.messages if "entries/e is a symbolic link" in text]
    assert len(told) == 1


def test_links_above_the_root_are_followed(memory: AgentMemory, tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to(tmp_path, target_is_directory=True)
    through = AgentMemory("b", adapter=LocalAdapter(tmp_path / "way" / "store"))
    entry = through.read("e", "k")
    assert entry is not None and entry.value == "mine"
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
def test_a_file_system_without_hard_links_is_named_and_is_not_an_outage(
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


# -- answers that are misjudged ---------------------------------------------------------------


@pytest.mark.parametrize("unnamed", [True, False], ids=["unnamed", "named"])
@pytest.mark.parametrize(
    "number",
    [errno.EIO, errno.ETIMEDOUT, errno.EINTR, errno.ESTALE],
    ids=lambda number: errno.errorcode[number],
)
def test_a_link_whose_answer_was_lost_leaves_the_outcome_unknown(
    tmp_path: Path, number: int, unnamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS with `soft`, where the server did what its answer no longer says."""
    adapter = LocalAdapter(tmp_path)
    adapter._scratch._unnamed = unnamed
    genuine = os.link

    def link(source: str, target: str, **options: object) -> None:
        genuine(source, target, **options)  # type: ignore[arg-type]
        raise OSError(number, os.strerror(number), target)

    with monkeypatch.context() as patch:
        patch.setattr(temporary.os, "link", link)
        with pytest.raises(WriteOutcomeUnknownError) as caught:
            AgentMemory("a", adapter=adapter, patience=0).write("e", "k", 1)
        assert AgentMemory("b", adapter=adapter).write("e", "k2", 1).version == 1  # settled
    entry = AgentMemory("c", adapter=adapter).find_write("e", "k", caught.value.write_id)
    assert entry is not None and entry.value == 1


def test_a_temporary_file_that_cannot_be_removed_does_not_make_a_write_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = LocalAdapter(tmp_path)
    adapter._scratch._unnamed = False
    genuine = os.unlink

    def unlink(path: str) -> None:
        if temporary.DIRECTORY in path:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        genuine(path)

    with monkeypatch.context() as patch:
        patch.setattr(temporary.os, "unlink", unlink)
        assert adapter.create("a/b.json", b"one") is True
    assert LocalAdapter(tmp_path).get("a/b.json") == b"one"


def test_a_name_that_the_file_system_refuses_is_not_an_outage(tmp_path: Path) -> None:
    root = str(tmp_path)
    while len(root) < 3_600:  # PATH_MAX is 4,096
        root += "/" + "y" * 200
    memory = AgentMemory("a", adapter=LocalAdapter(root), patience=0)
    path = "/".join(["z" * 200] * 3)
    for call in (lambda: memory.write(path, "k", 1), lambda: memory.read(path, "k", version=1)):
        with pytest.raises(ConfigurationError, match="does not take such a name"):
            call()
    assert memory.metrics.outages == 0


def test_a_version_over_the_file_size_limit_is_not_an_outage(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    memory = AgentMemory("a", adapter=LocalAdapter(tmp_path / "store"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))
    try:
        with pytest.raises(StorageFullError, match="raise the limit on the size of a file"):
            memory.write("e", "k", "x" * 5_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert memory.metrics.retries == 0
    assert memory.write("e", "k", "x" * 5_000).version == 1


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


@pytest.mark.parametrize("home", ["", "relative", "~"])
def test_a_home_that_is_a_relative_path_is_ignored(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty one would make `/mem` of `~/mem`."""
    monkeypatch.setenv("HOME", home)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="begins with a home directory"):
        LocalAdapter("~/mem")
    assert not list(tmp_path.iterdir())


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
