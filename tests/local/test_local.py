"""The local adapter on real disks, with real processes that are really killed."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amfs_core.errors import (
    ConfigurationError,
    CorruptEntryError,
    PermissionDeniedError,
    StorageFullError,
)
from amfs_core.memory import AgentMemory
from amfs_core.testing import ModelAdapter
from amfs_core.testing.cases import in_forked_child, keys, together
from amfs_local import LocalAdapter
from amfs_local.temporary import DIRECTORY
from tests.conftest import SHARED_MEMORY

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["disk", "tmpfs"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A root that does not exist yet, on the default disk and in memory."""
    if request.param == "disk":
        yield tmp_path / "root"
        return
    if not os.access(SHARED_MEMORY, os.W_OK):
        pytest.skip(f"{SHARED_MEMORY} is not there, so tmpfs is not covered")
    directory = tempfile.mkdtemp(dir=SHARED_MEMORY)
    yield Path(directory) / "root"
    shutil.rmtree(directory)


@pytest.fixture(params=["unnamed", "named"])
def adapter(request: pytest.FixtureRequest, root: Path) -> LocalAdapter:
    """An adapter that writes as this file system allows, and as one without O_TMPFILE does."""
    made = LocalAdapter(root)
    if request.param == "named":
        made._scratch._unnamed = False
    return made


def files(root: Path) -> list[str]:
    """Every file under the root, hidden ones too, as relative paths."""
    paths = [Path(path) / name for path, _, names in os.walk(root) for name in names]
    return sorted(str(path.relative_to(root)) for path in paths)


class TestFiles:
    def test_the_object_key_is_the_path(self, adapter: LocalAdapter, root: Path) -> None:
        AgentMemory("a", adapter=adapter).write("checkout/service", "retry pattern", 1)
        assert files(root) == ["default/entries/checkout/service/retry pattern/v1.json"]

    def test_a_prefix_comes_before_every_key(self, root: Path) -> None:
        adapter = LocalAdapter(root, prefix="team/a")
        adapter.create("x.json", b"one")
        assert files(root) == ["team/a/x.json"]
        assert keys(adapter, "") == ["x.json"]
        assert LocalAdapter(root).get("team/a/x.json") == b"one"

    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o027, 0o077])
    def test_the_umask_is_respected(self, root: Path, umask: int, named: bool) -> None:
        adapter = LocalAdapter(root)
        if named:
            adapter._scratch._unnamed = False
        before = os.umask(umask)
        try:
            adapter.create("a/b.json", b"one")
            adapter.replace("a/c.json", b"two")
        finally:
            os.umask(before)
        for name, mode in (("a/b.json", 0o666), ("a/c.json", 0o666), ("a", 0o777), (".", 0o777)):
            assert stat.S_IMODE((root / name).stat().st_mode) == mode & ~umask, name

    @pytest.fixture(params=[False, True], ids=["unnamed", "named"])
    def named(self, request: pytest.FixtureRequest) -> bool:
        return bool(request.param)

    def test_a_finished_write_leaves_nothing_but_the_object(
        self, adapter: LocalAdapter, root: Path
    ) -> None:
        adapter.create("a/b.json", b"one")
        adapter.create("a/b.json", b"two")
        adapter.replace("a/b.json", b"three")
        assert files(root) == ["a/b.json"]

    def test_hidden_files_are_not_listed_and_links_are_not_followed(
        self, adapter: LocalAdapter, root: Path
    ) -> None:
        adapter.create("a/b.json", b"one")
        (root / "a" / ".hidden.json").write_bytes(b"x")
        (root / "a" / ".git").mkdir()
        (root / "a" / ".git" / "config.json").write_bytes(b"x")
        (root / "a" / "link.json").symlink_to(root / "a" / "b.json")
        (root / "a" / "broken.json").symlink_to("nowhere")
        (root / "loop").symlink_to(root)
        os.mkfifo(root / "a" / "fifo.json")
        os.makedirs(os.fsencode(root) + b"/not-utf8-\xff/x")
        odd = ["a/broken.json", "a/fifo.json", "a/link.json", "loop"]
        assert keys(adapter, "") == ["a/b.json", *odd]
        memory = AgentMemory("a", adapter=adapter)
        memory.write("e", "k", 1)
        assert memory.verify("e").ok
        assert len(memory.list()) == 1

    def test_a_link_a_pipe_and_a_directory_have_no_bytes_and_are_not_overwritten(
        self, adapter: LocalAdapter, root: Path
    ) -> None:
        adapter.create("a/b.json", b"one")
        (root / "a" / "link.json").symlink_to(root / "a" / "b.json")
        os.mkfifo(root / "a" / "fifo.json")
        (root / "a" / "directory.json").mkdir()
        for name in ("link", "fifo", "directory"):
            assert adapter.get(f"a/{name}.json") == b""
            assert adapter.create(f"a/{name}.json", b"two") is False
        assert (root / "a" / "b.json").read_bytes() == b"one"

    @pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
    def test_no_file_stays_open(self, adapter: LocalAdapter, root: Path) -> None:
        (root / "directory.json").mkdir(parents=True)
        os.mkfifo(root / "fifo.json")

        def use(number: int) -> None:
            adapter.create(f"a/{number}.json", b"one")
            adapter.create(f"a/{number}.json", b"one")
            adapter.replace(f"a/{number}.json", b"two")
            adapter.get(f"a/{number}.json")
            list(adapter.list(""))
            for name in ("directory.json", "fifo.json"):
                assert adapter.get(name) == b""

        use(0)
        before = len(os.listdir("/proc/self/fd"))
        for number in range(1, 20):
            use(number)
        assert len(os.listdir("/proc/self/fd")) == before

    def test_a_copied_directory_is_the_same_store(
        self, adapter: LocalAdapter, root: Path, tmp_path: Path
    ) -> None:
        memory = AgentMemory("a", adapter=adapter)
        for number in range(3):
            memory.write("e", "k", {"n": number})
        memory.write("Grüße/100%", "a/b", ["x"])
        memory.delete("e", "k")
        shutil.copytree(root, tmp_path / "copy")
        copy = AgentMemory("b", adapter=LocalAdapter(tmp_path / "copy"))
        assert copy.history("e", "k") == memory.history("e", "k")
        assert copy.list() == memory.list()
        assert copy.verify().ok
        assert copy.write("e", "k", "more").version == 5
        assert [info.key for info in copy.adapter.list("")][:-1] != []
        in_memory = ModelAdapter()
        for info in adapter.list(""):
            in_memory.create(info.key, adapter.get(info.key) or b"")
        assert AgentMemory("c", adapter=in_memory).history("e", "k") == memory.history("e", "k")


class TestRoots:
    def test_reading_a_root_that_is_not_there_finds_nothing_and_makes_nothing(
        self, adapter: LocalAdapter, root: Path
    ) -> None:
        memory = AgentMemory("a", adapter=adapter)
        assert memory.read("e", "k") is None
        assert memory.list() == []
        assert memory.health().ok
        assert not root.exists()

    @pytest.mark.parametrize("durability", ["fsync", "none"])
    def test_a_root_whose_parents_are_not_there_is_made(self, root: Path, durability: Any) -> None:
        deep = root / "not" / "there" / "yet"
        assert LocalAdapter(deep, durability=durability).create("a/b.json", b"one") is True
        assert files(root) == ["not/there/yet/a/b.json"]

    def test_a_relative_root_stays_where_it_was(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        adapter = LocalAdapter("store")
        monkeypatch.chdir("/")
        adapter.create("a.json", b"one")
        assert files(tmp_path) == ["store/a.json"]

    @pytest.mark.parametrize("gone", [".", "e", "e/k"])
    def test_a_directory_that_was_removed_is_made_again(
        self, adapter: LocalAdapter, root: Path, gone: str
    ) -> None:
        adapter.create("e/k/v1.json", b"one")
        shutil.rmtree(root / gone)
        assert adapter.create("e/k/v1.json", b"two") is True
        shutil.rmtree(root / gone)
        assert adapter.create("e/other/v1.json", b"three") is True
        shutil.rmtree(root / gone, ignore_errors=True)
        adapter.replace("e/k/v1.json", b"four")
        assert adapter.get("e/k/v1.json") == b"four"

    @pytest.mark.parametrize("below", ["", "below"])
    def test_a_root_that_is_a_file_is_a_configuration_error_and_never_absence(
        self, root: Path, below: str
    ) -> None:
        root.write_bytes(b"a file")
        adapter = LocalAdapter(root / below)
        for call in (
            lambda: adapter.create("a/b.json", b"one"),
            lambda: adapter.replace("a/b.json", b"one"),
            lambda: adapter.get("a/b.json"),
            lambda: list(adapter.list("")),
            lambda: list(adapter.list("a/")),
        ):
            with pytest.raises(ConfigurationError, match="directory") as caught:
                call()
            assert str(root) in str(caught.value)
        assert root.read_bytes() == b"a file"
        assert not AgentMemory("a", adapter=adapter).health().ok

    def test_a_full_disk_is_reported_and_leaves_nothing_half_written(
        self, adapter: LocalAdapter, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        adapter.create("a/a.json", b"one")

        def full(fd: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            for call in (adapter.create, adapter.replace):
                with pytest.raises(StorageFullError, match="No space left"):
                    call("a/b.json", b"two")
        assert files(root) == ["a/a.json"]

    def test_short_writes_are_completed(
        self, adapter: LocalAdapter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = os.write
        monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:1000]))
        body = os.urandom(4567)
        adapter.create("a.json", body)
        adapter.replace("b.json", body)
        assert adapter.get("a.json") == adapter.get("b.json") == body

    @pytest.mark.parametrize("durability", ["sync", "", None, True])
    def test_a_durability_that_is_not_known_is_refused(self, root: Path, durability: Any) -> None:
        with pytest.raises(ConfigurationError, match="durability"):
            LocalAdapter(root, durability=durability)

    def test_a_read_only_root_can_be_read_and_refuses_writes(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            root = Path(directory) / "root"
            AgentMemory("a", adapter=LocalAdapter(root)).write("e", "k", 1)
            os.chmod(directory, 0o755)
            for path, names, _ in os.walk(root):
                os.chmod(path, 0o555)
                assert names is not None

            def use() -> None:
                become_ordinary()
                memory = AgentMemory("b", adapter=LocalAdapter(root))
                assert [entry.value for entry in memory.list()] == [1]
                assert [entry.value for entry in memory.history("e", "k")] == [1]
                assert memory.verify().ok
                for call in (
                    lambda: memory.write("e", "k", 2),
                    lambda: memory.write("new", "k", 2),
                    lambda: memory.purge("e", "k"),
                ):
                    with pytest.raises(PermissionDeniedError, match="give this user access"):
                        call()

            in_forked_child(use)
            for path, _, _ in os.walk(root):
                os.chmod(path, 0o755)
            assert files(root) == ["default/entries/e/k/v1.json"]

    def test_a_file_that_may_not_be_read_is_not_absent(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            root = Path(directory) / "root"
            LocalAdapter(root).create("a/b.json", b"one")
            os.chmod(directory, 0o755)
            os.chmod(root / "a" / "b.json", 0)
            LocalAdapter(root).create("c/d.json", b"one")
            os.chmod(root / "c", 0)

            def use() -> None:
                become_ordinary()
                adapter = LocalAdapter(root)
                for key in ("a/b.json", "c/d.json"):
                    with pytest.raises(PermissionDeniedError):
                        adapter.get(key)
                with pytest.raises(PermissionDeniedError):
                    list(adapter.list(""))

            in_forked_child(use)
            os.chmod(root / "c", 0o755)


def become_ordinary() -> None:
    """Give up root's right to ignore permissions."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)


class TestDurability:
    def test_file_and_directories_are_flushed_before_a_create_returns(
        self, adapter: LocalAdapter, root: Path, flushed: list[tuple[int, bool]]
    ) -> None:
        adapter.create("a/b/c.json", b"one")
        inode = (root / "a/b/c.json").stat().st_ino
        assert (inode, False) in flushed, "the file itself, before it had its name"
        for directory in ("a/b", "a", ".", ".."):
            assert ((root / directory).stat().st_ino, True) in flushed, directory
        assert flushed[-1] == ((root / "a/b").stat().st_ino, True)

    def test_a_create_that_is_refused_flushes_what_it_found(
        self, adapter: LocalAdapter, root: Path, flushed: list[tuple[int, bool]]
    ) -> None:
        adapter.create("a/b.json", b"one")
        flushed.clear()
        assert LocalAdapter(root).create("a/b.json", b"two") is False
        assert flushed[-1] == ((root / "a").stat().st_ino, True)

    def test_a_writer_that_was_late_does_not_write_another_file_in_vain(
        self, adapter: LocalAdapter, root: Path, flushed: list[tuple[int, bool]]
    ) -> None:
        rival = LocalAdapter(root)
        for number in range(3):
            rival.create(f"a/{number}.json", b"one")
        flushed.clear()
        late = [adapter.create(f"a/{number}.json", b"two") for number in range(3)]
        assert late == [False] * 3
        assert [is_directory for _, is_directory in flushed].count(False) == 1
        assert adapter.create("a/new.json", b"two") is True

    def test_without_durability_nothing_is_flushed(
        self, root: Path, flushed: list[tuple[int, bool]]
    ) -> None:
        adapter = LocalAdapter(root, durability="none")
        adapter.create("a/b.json", b"one")
        adapter.replace("a/b.json", b"two")
        assert flushed == []

    @pytest.fixture
    def flushed(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
        """The inode of every flush, and whether the object had its name by then."""
        flushes: list[tuple[int, bool]] = []
        fsync = os.fsync

        def spy(fd: int) -> None:
            flushes.append((os.fstat(fd).st_ino, stat.S_ISDIR(os.fstat(fd).st_mode)))
            fsync(fd)

        monkeypatch.setattr(os, "fsync", spy)
        return flushes


class TestLeftovers:
    @pytest.fixture
    def named(self, root: Path) -> LocalAdapter:
        adapter = LocalAdapter(root)
        adapter._scratch._unnamed = False
        return adapter

    @contextlib.contextmanager
    def blocked_writer(self, adapter: LocalAdapter) -> Iterator[Any]:
        """A process that has written its temporary file and stops before it names it."""
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()

        def write() -> None:
            link = os.link

            def blocked(*arguments: Any, **options: Any) -> None:
                theirs.send("written")
                theirs.recv()
                link(*arguments, **options)

            os.link = blocked
            theirs.send(adapter.create("a/slow.json", b"slow"))

        child = context.Process(target=write)
        child.start()
        child.connection = ours  # type: ignore[attr-defined]
        try:
            assert ours.poll(60)
            assert ours.recv() == "written"
            yield child
        finally:
            child.kill()
            child.join()
            ours.close()
            theirs.close()

    def test_a_killed_writer_leaves_no_file_where_files_need_no_name(self, tmp_path: Path) -> None:
        adapter = LocalAdapter(tmp_path / "root")
        adapter.create("a/b.json", b"one")
        if not adapter._scratch._unnamed:
            pytest.skip("this file system has no O_TMPFILE")
        with self.blocked_writer(adapter) as child:
            os.kill(child.pid, signal.SIGKILL)
            child.join()
            assert files(tmp_path / "root") == ["a/b.json"]

    def test_a_killed_writers_file_is_gone_after_the_next_write_and_never_listed(
        self, named: LocalAdapter, root: Path
    ) -> None:
        with self.blocked_writer(named) as child:
            os.kill(child.pid, signal.SIGKILL)
            child.join()
            (left,) = files(root)
            assert left.startswith(f"{DIRECTORY}/")
            assert keys(named, "") == []
            assert AgentMemory("a", adapter=named).stats().foreign == 0
            assert LocalAdapter(root).create("a/b.json", b"one") is True
            assert files(root) == ["a/b.json"]

    def test_a_process_that_goes_on_writing_removes_the_file_of_one_that_was_killed(
        self, named: LocalAdapter, root: Path
    ) -> None:
        goes_on = LocalAdapter(root)
        goes_on.create("a/0.json", b"one")
        with self.blocked_writer(named) as child:
            os.kill(child.pid, signal.SIGKILL)
            child.join()
            assert any(name.startswith(DIRECTORY) for name in files(root))
            deadline = time.monotonic() + 60
            number = 0
            while any(name.startswith(DIRECTORY) for name in files(root)):
                assert time.monotonic() < deadline, "it was never removed"
                number += 1
                goes_on.create(f"a/{number}.json", b"one")

    def test_a_living_writers_file_is_left_alone(self, named: LocalAdapter, root: Path) -> None:
        with self.blocked_writer(named) as child:
            for number in range(3):
                LocalAdapter(root).create(f"a/{number}.json", b"one")
                LocalAdapter(root).replace(f"a/{number}.json", b"two")
            assert any(name.startswith(DIRECTORY) for name in files(root))
            child.connection.send("go on")
            assert child.connection.poll(60)
            assert child.connection.recv() is True
        assert named.get("a/slow.json") == b"slow"

    def test_a_file_removed_under_its_writer_is_written_again(
        self, named: LocalAdapter, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a cleaner does that comes before the writer has its lock."""
        for verb, call in (("link", named.create), ("rename", named.replace)):
            real = getattr(os, verb)

            def robbed(source: str, *rest: Any, real: Any = real, verb: str = verb) -> None:
                monkeypatch.setattr(os, verb, real)
                os.unlink(source)
                real(source, *rest)

            monkeypatch.setattr(os, verb, robbed)
            call(f"a/{verb}.json", b"body")
            assert named.get(f"a/{verb}.json") == b"body"
        assert files(root) == ["a/link.json", "a/rename.json"]

    def test_many_replaces_at_once_do_not_trip_over_their_scratch_directory(
        self, root: Path
    ) -> None:
        adapters = [LocalAdapter(root, durability="none") for _ in range(8)]

        def replace(adapter: LocalAdapter, name: int) -> bool:
            for number in range(100):
                adapter.replace(f"{name}.json", b"%d" % number)
            return True

        work = [lambda n=n: replace(adapters[n], n) for n in range(8)]  # type: ignore[misc]
        assert together(work) == [True] * 8
        assert files(root) == [f"{name}.json" for name in range(8)]
        assert adapters[0].get("7.json") == b"99"


WORKER = """
import os, sys
from amfs_core.memory import AgentMemory
from amfs_local import LocalAdapter

what, root, name, count = sys.argv[1:]
memory = AgentMemory(name, adapter=LocalAdapter(root))

def say(text):
    os.write(1, text.encode() + b"\\n")

say("ready")
sys.stdin.readline()
for number in range(int(count)):
    if what == "write":
        entry = memory.write("e", "k", f"{name}-{number}")
    elif what == "update":
        entry = memory.update("e", "k", lambda old: (old or 0) + 1)
    else:  # several keys, each kind of call, until it is killed
        key = f"k{number % 3}"
        if number % 7 == 6:
            entry = memory.update("e", key, lambda old: f"{name}-{number}")
        else:
            (entry,) = memory.write_many(
                [{"entity_path": "e", "key": key, "value": f"{name}-{number}"}]
            )
    say(f"{entry.key} {entry.version} {entry.value}")
"""


@contextlib.contextmanager
def workers(
    what: str, root: Path, names: list[str], count: int
) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that stand ready to work on a store, and have begun together."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, what, str(root), name, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for name in names
    ]
    try:
        for worker in running:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in running:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        yield running
    finally:
        for worker in running:
            worker.kill()
            worker.wait()
            for pipe in (worker.stdin, worker.stdout):
                if pipe is not None:
                    pipe.close()


def finished(worker: subprocess.Popen[str]) -> list[tuple[str, int, str]]:
    """What a worker was told was written, once it has ended well."""
    assert worker.stdout is not None
    said = acknowledged(worker.stdout.read())
    assert worker.wait(120) == 0
    return said


def acknowledged(output: str) -> list[tuple[str, int, str]]:
    """The whole lines of a worker's output."""
    lines = [line.split() for line in output.splitlines(keepends=True) if line.endswith("\n")]
    return [(key, int(version), value) for key, version, value in lines]


class TestProcesses:
    def test_200_writes_of_8_processes_to_one_key_are_200_versions(self, root: Path) -> None:
        with workers("write", root, [f"p{number}" for number in range(8)], 25) as running:
            said = [finished(worker) for worker in running]
        history = AgentMemory("r", adapter=LocalAdapter(root)).history("e", "k")
        assert [entry.version for entry in history] == list(range(1, 201))
        in_history = {(entry.version, entry.value) for entry in history}
        assert in_history == {(version, value) for lines in said for _, version, value in lines}
        assert len({entry.value for entry in history}) == 200
        assert len({entry.provenance.write_id for entry in history}) == 200
        assert AgentMemory("r", adapter=LocalAdapter(root)).verify().ok
        assert [name for name in files(root) if name.startswith(".")] == []

    def test_update_counts_to_800_with_8_processes(self, tmp_path: Path) -> None:
        root = tmp_path / "root"
        with workers("update", root, [f"p{number}" for number in range(8)], 100) as running:
            said = [finished(worker) for worker in running]
        history = AgentMemory("r", adapter=LocalAdapter(root)).history("e", "k")
        assert [entry.value for entry in history] == list(range(1, 801))
        assert sorted(version for lines in said for _, version, _ in lines) == list(range(1, 801))
        assert AgentMemory("r", adapter=LocalAdapter(root)).verify().ok

    def test_40_kills_at_random_moments_lose_and_damage_nothing(self, tmp_path: Path) -> None:
        root = tmp_path / "root"
        said: list[tuple[str, int, str]] = []
        for batch in range(10):
            names = [f"b{batch}w{number}" for number in range(4)]
            with workers("kill", root, names, 10_000) as running:
                for worker in running:
                    assert worker.stdout is not None
                    said += acknowledged("".join(worker.stdout.readline() for _ in range(3)))
                    time.sleep(random.uniform(0, 0.01))  # a random moment is what is meant
                    worker.kill()
                    said += acknowledged(worker.stdout.read())
                    assert worker.wait(60) == -signal.SIGKILL
        reader = AgentMemory("r", adapter=LocalAdapter(root))
        report = reader.verify()
        assert report.ok, report.findings
        histories = {key: reader.history("e", key) for key in ("k0", "k1", "k2")}
        for key, version, value in said:
            assert histories[key][version - 1].value == value
        assert len(set(said)) == len(said) >= 120
        versions = [entry for history in histories.values() for entry in history]
        assert len({entry.value for entry in versions}) == len(versions)
        assert len(versions) <= len(said) + 40  # each kill may hide one answer
        reader.write("e", "k0", "the next writer")
        assert [name for name in files(root) if name.startswith(".")] == []

    def test_a_memory_is_usable_in_children_forked_while_threads_write(self, root: Path) -> None:
        memory = AgentMemory("a", adapter=LocalAdapter(root))
        done = threading.Event()

        def write(name: str) -> int:
            number = 0
            while not done.is_set():
                memory.write("e", name, number)
                memory.update("e", "shared", lambda old: (old or 0) + 1)
                number += 1
            return number

        def use(name: str) -> None:
            assert memory.write("e", f"child-{name}", 1).version == 1
            assert memory.read("e", f"child-{name}") is not None
            memory.update("e", "shared", lambda old: (old or 0) + 1)
            items = [{"entity_path": "e", "key": f"many-{name}", "value": n} for n in range(3)]
            assert len(memory.write_many(items)) == 3
            assert memory.history("e", "shared")

        def fork() -> int:
            try:
                for number in range(5):
                    in_forked_child(lambda number=number: use(str(number)))  # type: ignore[misc]
            finally:
                done.set()
            return 5

        counts = together([fork, lambda: write("x"), lambda: write("y")], seconds=200)
        reader = AgentMemory("r", adapter=LocalAdapter(root))
        shared = reader.read("e", "shared")
        assert shared is not None
        assert shared.value == shared.version == sum(counts)
        assert reader.verify().ok

    def test_a_damaged_file_is_found_and_named(self, root: Path) -> None:
        memory = AgentMemory("a", adapter=LocalAdapter(root))
        memory.write("e", "k", {"n": 1})
        path = root / "default/entries/e/k/v1.json"
        os.chmod(path, 0o644)
        path.write_bytes(path.read_bytes().replace(b'"n":1', b'"n":2'))
        assert json.loads(path.read_bytes())["value"] == {"n": 2}
        with pytest.raises(CorruptEntryError, match=r"e/k/v1\.json"):
            AgentMemory("b", adapter=LocalAdapter(root)).read("e", "k")


class TestRoot:
    """What can be a root, and what is said when it cannot be made."""

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"root": 5}, "root must be a path, not int"),
            ({"root": None}, "root must be a path, not NoneType"),
            ({"root": b"bytes"}, "root must be a path, not bytes"),
            ({"root": ""}, "root is empty"),
            ({"root": "\0"}, "root has a NUL character"),
            ({"root": "s3://bucket/amfs/"}, "root must be a directory, not a URL"),
            ({"prefix": None}, "prefix must be text, not NoneType"),
            ({"prefix": 5}, "prefix must be text, not int"),
            ({"durability": 5}, "durability must be"),
        ],
    )
    def test_an_argument_of_a_wrong_kind_is_named(
        self, options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=message):
            LocalAdapter(**options)

    @pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
    @pytest.mark.parametrize("root", ["/proc/nope", "/proc/nope/deeper/still"])
    def test_a_parent_that_takes_no_directories_is_a_clear_error(self, root: str) -> None:
        with (
            AgentMemory("a", adapter=LocalAdapter(root)) as memory,
            pytest.raises(ConfigurationError, match=f"the root '{root}' cannot be made") as raised,
        ):
            memory.write("a", "b", 1)
        assert "\n" not in str(raised.value)
