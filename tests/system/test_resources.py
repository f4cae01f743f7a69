"""When the machine gives out: a full or vanished disk, no files left, too many memories."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from amfs import AgentMemory
from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    ConfigurationError,
    StorageFullError,
    WriteOutcomeUnknownError,
)
from amfs_core.memory import agent_memory as core
from amfs_core.testing.cases import in_forked_child
from amfs_local import LocalAdapter
from tests.conftest import NOT_COVERED
from tests.support.s3_store import Place, answering, s3_error


def objects(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


class TestFullDisk:
    @pytest.fixture
    def small_disk(self, tmp_path: Path) -> Iterator[Path]:
        """A file system of a megabyte."""
        place = tmp_path / "small"
        place.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=200", "amfs-test", place],
            capture_output=True,
            text=True,
        )
        if mounted.returncode:
            pytest.skip(f"{NOT_COVERED} a full disk: no file system can be mounted here")
        yield place
        subprocess.run(["umount", "-l", place], check=True)

    @pytest.mark.parametrize("named", [False, True], ids=["unnamed", "named"])
    def test_a_write_fails_at_once_leaves_nothing_and_works_again_with_space(
        self, small_disk: Path, named: bool
    ) -> None:
        adapter = LocalAdapter(small_disk / "root")
        adapter._scratch._unnamed = not named
        memory = AgentMemory("agent", adapter=adapter)  # with all its patience
        memory.write("e", "k", "x" * 100_000)
        ballast = small_disk / "ballast"
        with pytest.raises(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        before = objects(small_disk)
        for call in (
            lambda: memory.write("e", "k", "y" * 10_000),
            lambda: memory.write("new", "new", "y" * 10_000),
            lambda: memory.update("e", "k", lambda old: old + "y" * 10_000),
        ):
            with pytest.raises(StorageFullError, match="free some space"):
                call()
        assert memory.metrics.retries == 0
        assert objects(small_disk) == before
        entry = memory.read("e", "k")
        assert entry is not None and entry.version == 1
        assert memory.verify().ok
        ballast.unlink()
        assert memory.write("e", "k", "y" * 10_000).version == 2
        assert memory.verify().ok

    def test_no_more_names_is_full_too(self, small_disk: Path) -> None:
        memory = AgentMemory("agent", adapter=LocalAdapter(small_disk / "root"))
        with pytest.raises(StorageFullError):
            for number in range(1000):
                memory.write("e", f"k{number}", 1)
        report = memory.verify()
        assert report.ok
        assert report.memories == number == len(memory.list())

    def test_a_directory_that_cannot_be_flushed_leaves_the_outcome_unknown(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The file has its name by then, so to say that nothing was written would be wrong."""
        adapter = LocalAdapter(tmp_path)
        memory = core.AgentMemory("agent", adapter=adapter, patience=0.2)
        memory.write("e", "k", 1)
        fails = threading.Event()
        flush = adapter._directories.flush

        def broken(path: str) -> None:
            if fails.is_set():
                raise OSError(5, "Input/output error")
            flush(path)

        monkeypatch.setattr(adapter._directories, "flush", broken)
        fails.set()
        with pytest.raises(WriteOutcomeUnknownError) as caught:
            memory.write("e", "k", 2)
        assert isinstance(caught.value.__cause__, AMFSError)
        fails.clear()
        entry = memory.find_write("e", "k", caught.value.write_id, version=2)
        assert entry is not None and entry.value == 2

    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (507, "XMinioStorageFull"),
            (507, "InsufficientStorage"),
            (400, "XMinioAdminBucketQuotaExceeded"),
            (403, "QuotaExceeded"),
        ],
    )
    def test_a_full_bucket_is_reported_and_not_tried_again(self, status: int, code: str) -> None:
        answer = s3_error(status, code)
        with (
            answering(lambda _: answer) as url,
            Place("a-bucket", url, "AKIDFORTESTS", "secret").memory() as memory,
        ):
            with pytest.raises(StorageFullError, match="free some space"):
                memory.write("e", "k", 1)
            assert memory.metrics.retries == 0


class TestVanishedRoot:
    def test_a_store_that_is_removed_under_a_writer_begins_again_or_says_what_is_missing(
        self, tmp_path: Path
    ) -> None:
        root = tmp_path / "root"
        memory = AgentMemory("agent", adapter=LocalAdapter(root))
        memory.write("e", "k", 1)
        memory.write("e", "k", 2)
        shutil.rmtree(root)
        other = AgentMemory("other", adapter=LocalAdapter(root))
        assert other.list() == []
        assert other.read("e", "k") is None
        assert memory.write("new", "k", 1).version == 1
        assert memory.verify().ok
        # What this process knew of the memory it goes on from; that a part is missing is found.
        assert memory.write("e", "k", 3).version == 3
        assert not memory.verify().ok
        assert memory.purge("e", "k") == 3
        assert memory.verify().ok

    def test_a_root_that_becomes_a_file_is_a_configuration_error(self, tmp_path: Path) -> None:
        root = tmp_path / "root"
        memory = AgentMemory("agent", adapter=LocalAdapter(root))
        memory.write("e", "k", 1)
        shutil.rmtree(root)
        root.write_bytes(b"a file")
        for call in (lambda: memory.write("e", "k", 2), lambda: memory.read("e", "k"), memory.list):
            with pytest.raises(ConfigurationError, match="must be a directory"):
                call()


def test_without_open_files_calls_fail_clearly_and_work_again_afterwards(tmp_path: Path) -> None:
    adapter = LocalAdapter(tmp_path)
    core.AgentMemory("agent", adapter=adapter).write("e", "k", 1)

    def use() -> None:
        memory = core.AgentMemory("agent", adapter=LocalAdapter(tmp_path), patience=0.5)
        assert len(memory.list()) == 1
        lowest = os.open("/dev/null", os.O_RDONLY)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        fresh = core.AgentMemory("agent", adapter=LocalAdapter(tmp_path), patience=0.2)
        for call in (
            lambda: memory.write("e", "k", 2),
            lambda: fresh.write("new", "k", 2),
            lambda: fresh.read("e", "k"),
            memory.list,
            memory.verify,
            memory.stats,
        ):
            with pytest.raises(BackendUnavailableError, match=r"Too many open files.*ulimit -n"):
                call()
        # The store was not asked, so however long this lasted, it is not taken to be down.
        assert memory.metrics.outages == 0
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        memory.write("e", "k", 2)
        assert memory.verify().ok
        assert len(memory.list()) == 1
        again = os.open("/dev/null", os.O_RDONLY)
        assert again <= lowest + 1, "a file stayed open"

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_forked_child(use)


def test_thousands_of_keys_under_one_entity(tmp_path: Path) -> None:
    memory = core.AgentMemory("agent", adapter=LocalAdapter(tmp_path, durability="none"))
    memory.write_many({"entity_path": "e", "key": f"k{n}", "value": n} for n in range(5000))
    assert sorted(entry.value for entry in memory.list("e")) == list(range(5000))
    assert memory.stats().memories == 5000
    assert memory.write("e", "k17", "more").version == 2


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_scanning_many_memories_takes_bounded_memory(tmp_path: Path) -> None:
    """20,000 memories of 10 kB are 200 MB: whoever held them all would show."""
    adapter = LocalAdapter(tmp_path, durability="none")
    writer = core.AgentMemory("agent", adapter=adapter)
    writer.write_many(
        {"entity_path": f"e{n % 100}", "key": f"k{n}", "value": "x" * 10_000} for n in range(20_000)
    )
    program = """
import json, re, sys
from amfs_core.memory import AgentMemory
from amfs_local import LocalAdapter
def peak():  # getrusage would go on from what the parent had
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024
memory = AgentMemory("agent", adapter=LocalAdapter(sys.argv[1]), cache_dir=sys.argv[2])
memory.stats(); memory.search(limit=1); scanned = peak()
print(json.dumps([scanned, memory.verify().versions, peak()]))
"""
    ran = subprocess.run(
        [sys.executable, "-c", program, tmp_path, tmp_path.parent / "catalog"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    scanned, versions, verified = json.loads(ran.stdout)
    assert versions == 20_000
    # The cache holds 64 MiB at most, SQLite some pages, a batch of `verify` 10 MB.
    assert scanned < 250
    assert verified < 300
