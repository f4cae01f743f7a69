"""What else may be in a directory where memories should be: links, pipes, sockets, devices."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from amfs_core.errors import AMFSError, ConfigurationError, CorruptEntryError, PermissionDeniedError
from amfs_core.memory import AgentMemory
from amfs_core.testing.cases import in_forked_child
from amfs_local import LocalAdapter
from tests.support import hostile
from tests.support.hostile import ENTITY, GOOD, error_of, genuine


@pytest.fixture
def adapter(tmp_path: Path) -> LocalAdapter:
    made = LocalAdapter(tmp_path / "root", durability="none")
    hostile.fill(made, {})
    return made


def spot(adapter: LocalAdapter, key: str, version: int = 1) -> Path:
    """Where a version would be, its directory made."""
    path = Path(adapter.root) / f"default/entries/{ENTITY}/{key}/v{version}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def inside(directory: Path) -> Iterator[None]:
    """Work in a directory: the path of a socket must be short."""
    before = Path.cwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)


def make_socket(path: Path) -> None:
    with inside(path.parent), socket.socket(socket.AF_UNIX) as unix_socket:
        unix_socket.bind(path.name)


def make_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("NOT COVERED: device files in a store, which only root may make")


def link_inside(path: Path) -> None:
    path.symlink_to(path.parent.parent / GOOD[0] / "v1.json")


def link_outside(path: Path) -> None:
    outside = path.parents[5] / "outside.json"
    outside.write_bytes(genuine(path.parent.name))  # a body that would be right here
    path.symlink_to(outside)


KINDS: dict[str, Callable[[Path], None]] = {
    "link inside": link_inside,
    "link outside": link_outside,
    "link to nothing": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to a directory": lambda path: path.symlink_to(path.parent.parent / GOOD[0]),
    "pipe": os.mkfifo,
    "socket": make_socket,
    "device": make_device,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", [1, 2])
def test_anything_but_a_file_is_named_and_does_not_block_others(
    adapter: LocalAdapter, kind: str, version: int
) -> None:
    if version == 2:
        hostile.place(adapter, "odd", genuine("odd"))
    path = spot(adapter, "odd", version)
    KINDS[kind](path)
    hostile.hold(adapter, {str(path.relative_to(adapter.root)): "odd"})


@pytest.mark.parametrize("kind", KINDS)
def test_anything_but_a_file_is_neither_waited_for_nor_overwritten(
    adapter: LocalAdapter, kind: str
) -> None:
    path = spot(adapter, "odd")
    KINDS[kind](path)
    before = path.lstat()
    memory = AgentMemory("agent", adapter=adapter)  # with all its patience
    for call in (lambda: memory.read(ENTITY, "odd"), lambda: memory.write(ENTITY, "odd", 1)):
        with pytest.raises(CorruptEntryError, match=r"odd/v1\.json: it is empty or no file"):
            call()
    assert memory.metrics.retries == 0
    assert path.lstat() == before
    assert adapter.create(f"default/entries/{ENTITY}/odd/v1.json", b"x") is False


@pytest.mark.parametrize("kind", KINDS)
def test_purging_replaces_whatever_stands_in_a_versions_place(
    adapter: LocalAdapter, kind: str
) -> None:
    path = spot(adapter, "odd")
    KINDS[kind](path)
    memory = AgentMemory("agent", adapter=adapter)
    assert memory.purge(ENTITY, "odd") == 1
    assert memory.verify().ok
    assert stat.S_ISREG(path.lstat().st_mode)
    assert memory.write(ENTITY, "odd", "again").version == 3
    for key in GOOD:
        entry = memory.read(ENTITY, key)
        assert entry is not None and entry.value == {"n": 1}


def test_a_directory_named_like_a_version_is_found_by_whoever_meets_it(
    adapter: LocalAdapter,
) -> None:
    path = spot(adapter, "odd")
    path.mkdir()
    memory = AgentMemory("agent", adapter=adapter)
    for call in (lambda: memory.read(ENTITY, "odd"), lambda: memory.write(ENTITY, "odd", 1)):
        assert isinstance(error_of(call), CorruptEntryError)
    assert {entry.key for entry in memory.list()} == set(GOOD)
    (path / "x").write_bytes(b"x")
    (finding,) = memory.verify().findings
    assert finding.object_key.endswith("odd/v1.json/x")


def test_a_hard_link_is_not_another_version(adapter: LocalAdapter) -> None:
    hostile.place(adapter, "odd", genuine("odd"))
    path = spot(adapter, "odd", 2)
    path.hardlink_to(spot(adapter, "odd", 1))
    other = spot(adapter, "another")
    other.hardlink_to(spot(adapter, "odd", 1))
    keys = {str(link.relative_to(adapter.root)): link.parent.name for link in (path, other)}
    hostile.hold(adapter, keys)


class TestDirectories:
    @pytest.mark.parametrize("level", ["default", "default/entries", "default/entries/e/k"])
    def test_nothing_is_written_through_a_link_that_leads_out_of_the_root(
        self, tmp_path: Path, level: str
    ) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        link = tmp_path / "root" / level
        link.parent.mkdir(parents=True)
        link.symlink_to(outside)
        for durability in ("fsync", "none"):
            memory = AgentMemory(
                "agent",
                adapter=LocalAdapter(tmp_path / "root", durability=durability),  # type: ignore[arg-type]
            )
            with pytest.raises(ConfigurationError, match="symbolic link"):
                memory.write("e", "k", 1)
        assert list(outside.iterdir()) == []

    def test_a_root_that_is_a_link_is_a_root(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "root").symlink_to("real")
        memory = AgentMemory("agent", adapter=LocalAdapter(tmp_path / "root"))
        memory.write("e", "k", 1)
        assert len(memory.list()) == 1
        assert (tmp_path / "real/default/entries/e/k/v1.json").is_file()

    def test_a_link_to_a_directory_is_named_and_not_followed_by_listings(
        self, adapter: LocalAdapter
    ) -> None:
        entity = Path(adapter.root) / f"default/entries/{ENTITY}"
        (entity / "elsewhere").symlink_to(entity / GOOD[0])
        (entity / "loop").symlink_to(entity)
        (entity / "itself").symlink_to("itself")
        hostile.hold(adapter, {}, foreign=3)
        memory = AgentMemory("agent", adapter=adapter, patience=0.5)
        for key in ("elsewhere", "itself"):
            assert isinstance(error_of(lambda key=key: memory.read(ENTITY, key)), AMFSError)

    def test_a_file_in_place_of_a_directory_is_named_and_no_memory(
        self, adapter: LocalAdapter
    ) -> None:
        (Path(adapter.root) / f"default/entries/{ENTITY}/odd").write_bytes(b"x")
        memory = AgentMemory("agent", adapter=adapter)
        assert memory.read(ENTITY, "odd") is None
        with pytest.raises(ConfigurationError, match=r"Not a directory|not a directory"):
            memory.write(ENTITY, "odd", 1)
        hostile.hold(adapter, {}, foreign=1)

    def test_names_that_are_not_utf8_or_begin_with_a_dot_do_not_block_others(
        self, adapter: LocalAdapter
    ) -> None:
        entries = os.fsencode(adapter.root) + b"/default/entries/"
        os.makedirs(entries + b"not-utf8-\xff/k")
        with open(entries + b"not-utf8-\xff/k/v1.json", "wb") as file:
            file.write(b"x")
        os.makedirs(entries + b".git/k")
        hostile.hold(adapter, {})


def test_an_unreadable_file_is_named_and_does_not_block_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As a damaged one is; whoever asks for it is told."""
    adapter = LocalAdapter(tmp_path / "root")
    hostile.fill(adapter, {"odd": genuine("odd")})
    path = spot(adapter, "odd")
    os.chmod(path, 0)
    for directory in (tmp_path, *tmp_path.parents):
        with contextlib.suppress(PermissionError):
            os.chmod(directory, os.stat(directory).st_mode | 0o011)

    def look() -> None:
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        memory = AgentMemory("agent", adapter=LocalAdapter(adapter.root))
        for key in GOOD:
            assert memory.read(ENTITY, key) is not None
        for _ in range(2):
            assert [entry.key for entry in memory.list()] == list(GOOD)
            assert {hit.entry.key for hit in memory.search()} == set(GOOD)
        assert caplog.text.count("left out") == caplog.text.count("odd/v1.json") == 1
        (finding,) = memory.verify().findings
        assert finding.object_key.endswith("odd/v1.json")
        assert "give this user access" in finding.hint
        for call in (
            lambda: memory.read(ENTITY, "odd"),
            lambda: memory.history(ENTITY, "odd"),
        ):
            with pytest.raises(PermissionDeniedError, match=r"odd/v1\.json.*give this user access"):
                call()

    in_forked_child(look)
    shutil.rmtree(tmp_path / "root")
