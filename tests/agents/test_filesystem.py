"""Memories as files: fsspec's own tests, and what a memory is beyond a file."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.tests.abstract import AbstractFixtures
from fsspec.tests.abstract.copy import AbstractCopyTests
from fsspec.tests.abstract.get import AbstractGetTests
from fsspec.tests.abstract.open import AbstractOpenTests
from fsspec.tests.abstract.pipe import AbstractPipeTests
from fsspec.tests.abstract.put import AbstractPutTests
from hypothesis import given
from hypothesis import strategies as st
from upath import UPath

from amfs import AgentMemory
from amfs_agents.files import content, value_of
from amfs_agents.filesystem import AMFSFileSystem
from amfs_core.errors import InvalidKeyError, InvalidValueError
from amfs_core.storage import StorageAdapter
from amfs_local import LocalAdapter
from tests.conftest import REPOSITORY


class Fixtures(AbstractFixtures):
    @pytest.fixture
    def fs(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AMFSFileSystem]:
        with AgentMemory("a", adapter=LocalAdapter(tmp_path_factory.mktemp("files"))) as memory:
            yield AMFSFileSystem(memory)

    @pytest.fixture
    def fs_path(self) -> str:
        return "test"

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return False


class TestCopy(Fixtures, AbstractCopyTests):
    pass


class TestGet(Fixtures, AbstractGetTests):
    pass


class TestPut(Fixtures, AbstractPutTests):
    pass


class TestOpen(Fixtures, AbstractOpenTests):
    pass


class TestPipe(Fixtures, AbstractPipeTests):
    pass


@pytest.fixture
def adapter(tmp_path: Path) -> StorageAdapter:
    return LocalAdapter(tmp_path / "store")


@pytest.fixture
def memory(adapter: StorageAdapter) -> Iterator[AgentMemory]:
    with AgentMemory("ann", adapter=adapter) as opened:
        yield opened


@pytest.fixture
def fs(memory: AgentMemory) -> AMFSFileSystem:
    return AMFSFileSystem(memory)


def test_each_write_is_a_version_and_earlier_ones_are_read_by_number_and_time(
    fs: AMFSFileSystem, memory: AgentMemory
) -> None:
    for text in ("one", "two", "three"):
        with fs.open("notes/day", "w") as file:
            file.write(text)
    first, second, _ = memory.history("notes", "day")
    assert fs.cat("notes/day") == b"three"
    assert fs.cat("amfs://notes/day?version=2") == b"two"
    at = first.provenance.written_at.isoformat().replace("+00:00", "Z")
    assert fs.cat(f"notes/day?at={at}") == b"one"
    assert fs.info("notes/day?version=2")["version"] == 2
    assert fs.checksum("notes/day?version=2") == second.sha256
    assert fs.created("notes/day") == first.provenance.written_at
    with pytest.raises(FileNotFoundError):
        fs.cat("notes/day?version=9")


@pytest.mark.parametrize("path", ["notes/day?version=1", "notes/day?at=2026-01-01T00:00:00Z"])
def test_an_earlier_version_is_not_written(fs: AMFSFileSystem, path: str) -> None:
    fs.pipe("notes/day", b"one")
    with pytest.raises(InvalidValueError):
        fs.pipe(path, b"x")
    with pytest.raises(InvalidValueError):
        fs.open(path, "wb")
    with pytest.raises(InvalidValueError):
        fs.rm_file(path)


@given(st.binary(max_size=200))
def test_any_bytes_come_back(data: bytes) -> None:
    assert content(value_of(data)) == data


def test_values_of_other_programs_are_their_json(fs: AMFSFileSystem, memory: AgentMemory) -> None:
    memory.write("shop", "limits", {"max": 3, "ok": [True, None]})
    memory.write("shop", "odd", {"base64": "not of this form!"})
    assert fs.cat("shop/limits") == b'{"max":3,"ok":[true,null]}'
    assert fs.cat("shop/odd") == b'{"base64":"not of this form!"}'
    fs.cp("shop/limits", "copied/limits")
    entry = memory.read("copied", "limits")
    assert entry is not None and entry.value == {"max": 3, "ok": [True, None]}


def test_text_is_found_by_search_and_bytes_are_kept_out_of_it(
    fs: AMFSFileSystem, memory: AgentMemory
) -> None:
    fs.pipe("a/text", b"pelicans fish")
    fs.pipe("a/bytes", b"\xff\xfe pelicans")
    assert [hit.entry.key for hit in memory.search("pelican")] == ["text"]
    assert fs.cat("a/bytes") == b"\xff\xfe pelicans"


def test_directories_are_where_something_is(fs: AMFSFileSystem) -> None:
    fs.pipe({"a/b/c/one": b"1", "a/b/two": b"22", "a/three": b"333"})
    assert fs.ls("a", detail=False) == ["a/b", "a/three"]
    assert fs.ls("", detail=False) == ["a"]
    assert [info["size"] for info in fs.ls("a/b")] == [0, 2]
    assert fs.isdir("a/b/c") and not fs.isdir("a/three") and fs.isfile("a/three")
    assert fs.find("a") == ["a/b/c/one", "a/b/two", "a/three"]
    assert fs.glob("a/**/*o*") == ["a/b/c/one", "a/b/two"]
    assert sorted(name for _, _, files in fs.walk("a") for name in files) == ["one", "three", "two"]
    with pytest.raises(IsADirectoryError):
        fs.cat_file("a/b")
    with pytest.raises(OSError, match="not empty"):
        fs.rmdir("a/b")
    fs.rm("a/b", recursive=True)
    assert not fs.exists("a/b") and fs.ls("a", detail=False) == ["a/three"]
    with pytest.raises(FileNotFoundError):
        fs.ls("a/b")


def test_a_removed_file_stays_in_the_history(fs: AMFSFileSystem, memory: AgentMemory) -> None:
    fs.pipe("a/k", b"one")
    fs.rm("a/k")
    with pytest.raises(FileNotFoundError):
        fs.rm_file("a/k")
    with pytest.raises(FileNotFoundError):
        fs.info("a/k")
    assert [entry.deleted for entry in memory.history("a", "k")] == [False, True]
    assert fs.cat("a/k?version=1") == b"one"
    fs.pipe_file("a/k", b"again", mode="create")
    assert fs.cat("a/k") == b"again"


def test_exclusive_creation_refuses_what_is_there(fs: AMFSFileSystem) -> None:
    with fs.open("a/k", "xb") as file:
        file.write(b"mine")
    with pytest.raises(FileExistsError), fs.open("a/k", "xb") as file:
        file.write(b"yours")
    assert fs.cat("a/k") == b"mine"


def test_a_write_that_raised_or_was_dropped_is_none(fs: AMFSFileSystem) -> None:
    with pytest.raises(RuntimeError), fs.open("a/k", "wb") as file:
        file.write(b"half")
        raise RuntimeError
    dropped = fs.open("a/k", "wb")
    dropped.write(b"half")
    del dropped
    assert not fs.exists("a/k")
    with fs.open("a/k", "wb") as file:
        file.write(b"whole")
    with fs.open("a/k", "ab") as file:
        file.write(b" and more")
    assert fs.cat("a/k") == b"whole and more"


def test_names_that_cannot_be_are_refused(fs: AMFSFileSystem) -> None:
    with pytest.raises(InvalidValueError, match="directory"):
        fs.pipe("alone", b"x")
    with pytest.raises(InvalidKeyError):
        fs.pipe("a//k", b"x")
    with pytest.raises(InvalidValueError):
        fs.cat("a/k?at=yesterday")
    with pytest.raises(ValueError, match="mode"):
        fs.open("a/k", "r+b")


def test_other_libraries_open_it_by_its_protocol(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    with fsspec.open("amfs://reports/day.csv", "w", store=store, agent_id="ann") as file:
        file.write("a,b\n1,2\n")
    with pytest.warns(UserWarning, match="not explicitly implemented"):  # as for any third party's
        path = UPath("amfs://reports/day.csv", store=store)
    assert path.read_text() == "a,b\n1,2\n"
    with AgentMemory("x", adapter=LocalAdapter(store)) as memory:
        entry = memory.read("reports", "day.csv")
    assert entry is not None and entry.provenance.agent_id == "ann"


def test_another_process_gets_it_pickled(fs: AMFSFileSystem) -> None:
    fs.pipe("a/k", b"one")
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).cat('a/k').decode())"
    finished = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(fs),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        timeout=60,
    )
    assert finished.stdout == b"one\n", finished.stderr
