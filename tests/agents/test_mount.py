"""Memories as files of the operating system: real mounts, and real programs on them."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amfs import AgentMemory
from amfs_agents.mount.draft import Draft
from amfs_agents.mount.names import Name, name_of, place_of
from amfs_agents.mount.rescue import Rescue
from amfs_agents.mount.run import mount as mount_memory
from amfs_agents.mount.tree import Attributes, Tree
from amfs_core.errors import (
    BackendUnavailableError,
    ConfigurationError,
    OutcomeUnknownError,
    WriteOutcomeUnknownError,
)
from amfs_local import LocalAdapter
from tests.conftest import NOT_COVERED, REPOSITORY
from tests.docs.test_docs import Block
from tests.support import mounted as support
from tests.support import waiting
from tests.support.known import known
from tests.support.mounted import Mounted, MountUnavailableError, mounting
from tests.support.served import Served

NOBODY = 65534


@pytest.fixture(scope="module")
def fuse() -> None:
    try:
        support.require()
    except MountUnavailableError as reason:
        pytest.skip(f"{NOT_COVERED} nothing can be mounted here, the mount is not tested: {reason}")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mount")


@pytest.fixture(scope="module")
def memory(place: Path) -> Iterator[AgentMemory]:
    """Another process at the same store, as far as the mounts know."""
    with AgentMemory("other", adapter=LocalAdapter(place / "store")) as opened:
        yield opened


@pytest.fixture(scope="module")
def mount(fuse: None, place: Path) -> Iterator[Mounted]:
    try:
        with mounting(
            place / "one", place / "store", "--write", "--rescue", str(place / "rescued")
        ) as mounted:
            yield mounted
    except MountUnavailableError as reason:
        pytest.skip(f"{NOT_COVERED} nothing can be mounted here, the mount is not tested: {reason}")


@pytest.fixture(scope="module")
def other_mount(mount: Mounted, place: Path) -> Iterator[Mounted]:
    with mounting(
        place / "two", place / "store", "--write", "--rescue", str(place / "rescued")
    ) as mounted:
        yield mounted


@pytest.fixture
def here(mount: Mounted, request: pytest.FixtureRequest) -> Path:
    """A directory of the mount that is this test's own."""
    directory = mount.point / request.node.name.partition("[")[0]
    directory.mkdir()
    return directory


def run(*command: str | Path, cwd: Path, code: int = 0) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def sh(script: str, cwd: Path, code: int = 0) -> str:
    return run("bash", "-c", script, cwd=cwd, code=code)


def values(memory: AgentMemory, path: str, key: str) -> list[Any]:
    """The values of all versions, a tombstone as `...`."""
    return [... if version.deleted else version.value for version in memory.history(path, key)]


until = partial(waiting.until, seconds=support.SECONDS)


# --- names ---------------------------------------------------------------------------------------


@given(
    st.text(st.sampled_from("/%.25EF0dir\x00ahistory") | st.characters(codec="utf-8"), min_size=1)
)
def test_each_key_has_one_name_that_a_file_can_have(key: str) -> None:
    name = name_of(key)
    assert "/" not in name and "\0" not in name and name not in (".", "..", ".history")
    assert place_of(f"/path/{name}") == Name("path", key)
    assert place_of(f"/path/{name}%dir") == Name("path", key, must_be_directory=True)


@given(st.text(st.sampled_from("%2F05Edir.a"), min_size=1))
def test_each_name_is_that_of_one_key(name: str) -> None:
    place = place_of(f"/path/{name}")
    if isinstance(place, Name) and not place.must_be_directory:
        assert name_of(place.key) == name


# --- programs ------------------------------------------------------------------------------------


def test_programs_find_the_memories_of_others(here: Path, memory: AgentMemory) -> None:
    base = here.name
    memory.write(f"{base}/notes", "day", "pelicans fish\n")
    memory.write(f"{base}/notes/deep", "night", "owls\n")
    memory.write(base, "limits", {"max": 3, "ok": [True, None]})
    assert sh("ls notes", here).split() == ["day", "deep"]
    assert run("cat", "notes/day", cwd=here) == "pelicans fish\n"
    assert run("cat", "limits", cwd=here) == '{"max":3,"ok":[true,null]}'
    assert run("grep", "-r", "pelican", ".", cwd=here) == "./notes/day:pelicans fish\n"
    assert run("stat", "-c", "%s %F", "limits", cwd=here) == "26 regular file\n"
    assert sorted(sh("find . -type f", here).split()) == [
        "./limits",
        "./notes/day",
        "./notes/deep/night",
    ]
    assert run("tail", "-c", "5", "notes/day", cwd=here) == "fish\n"
    assert run("cat", "no-such", cwd=here, code=1) == ""


def test_a_file_that_is_written_and_closed_is_one_version(here: Path, memory: AgentMemory) -> None:
    base = here.name
    sh("echo one > file; echo two > file; echo three >> file", here)
    assert values(memory, base, "file") == ["one\n", "two\n", "two\nthree\n"]
    sh("head -c 300000 /dev/zero | tr '\\0' x > big; cp big copy; cp copy big", here)
    assert [len(value) for value in values(memory, base, "big")] == [300_000, 300_000]
    assert values(memory, base, "copy") == ["x" * 300_000]
    sh("touch empty; : > file; truncate -s 4 copy; sync .", here)
    until(lambda: len(values(memory, base, "file")) == 4)  # nobody waits for the last close
    assert values(memory, base, "file")[-1] == ""
    assert values(memory, base, "copy")[-1] == "xxxx"
    until(lambda: values(memory, base, "empty") == [""])
    sh("head -c 200 /dev/urandom > bytes; cmp bytes bytes; cp bytes again; cmp bytes again", here)
    assert set(values(memory, base, "bytes")[0]) == {"base64"}
    entry = memory.read(base, "file", version=1)
    assert entry is not None and entry.provenance.agent_id != "other"


def test_editors_save_in_their_ways(here: Path, memory: AgentMemory) -> None:
    base = here.name
    memory.write(base, "page", "draft\n")
    (here / "page.tmp").write_text("renamed\n")
    os.replace(here / "page.tmp", here / "page")
    assert values(memory, base, "page") == ["draft\n", "renamed\n"]
    assert values(memory, base, "page.tmp") == ["renamed\n", ...]
    sh("sed -i s/renamed/sed/ page", here)
    assert (here / "page").read_text() == "sed\n"
    # As vim does: a backup by rename, the file again, synchronized, and the backup goes.
    os.rename(here / "page", here / "page~")
    with open(here / "page", "w") as file:
        file.write("vim\n")
        file.flush()
        os.fsync(file.fileno())
    os.chmod(here / "page", 0o600)
    os.unlink(here / "page~")
    assert values(memory, base, "page") == ["draft\n", "renamed\n", "sed\n", ..., "vim\n"]
    assert os.listdir(here) == ["page"]
    with open(here / "page", "r+") as file:
        file.seek(1)
        file.write("IM")
    assert (here / "page").read_text() == "vIM\n"


def test_files_are_copied_moved_and_removed(
    here: Path, memory: AgentMemory, tmp_path: Path
) -> None:
    base = here.name
    (tmp_path / "tree/below").mkdir(parents=True)
    (tmp_path / "tree/a").write_text("1")
    (tmp_path / "tree/below/b").write_text("2")
    run("cp", "-rp", tmp_path / "tree", here, cwd=here)
    run("diff", "-r", tmp_path / "tree", here / "tree", cwd=here)
    sh("mv tree moved; mv moved/a moved/below/c", here)
    assert sorted(sh("find moved", here).split()) == [
        *("moved", "moved/below", "moved/below/b", "moved/below/c")
    ]
    run("rm", "-r", "moved", cwd=here)
    assert os.listdir(here) == [] and memory.list(base) == []
    assert values(memory, f"{base}/tree/below", "b") == ["2", ...]
    memory.write(base, "limits", {"max": 3})
    sh("mv limits kept; mv -n kept no-clobber; echo x > kept; mv -n kept no-clobber", here)
    assert values(memory, base, "no-clobber") == [{"max": 3}]
    assert sorted(os.listdir(here)) == ["kept", "no-clobber"]


def test_a_directory_is_there_until_it_is_removed(here: Path, memory: AgentMemory) -> None:
    sh("mkdir -p a/b; rmdir a/b; echo 1 > a/x; rm a/x", here)
    assert os.listdir(here) == ["a"] and os.listdir(here / "a") == []
    memory.write(f"{here.name}/a", "y", 1)
    with pytest.raises(OSError) as raised:
        os.rmdir(here / "a")
    assert raised.value.errno == errno.ENOTEMPTY


def test_a_removed_file_is_read_and_written_while_it_is_open(
    here: Path, memory: AgentMemory
) -> None:
    memory.write(here.name, "file", "kept open")
    with open(here / "file") as reader, open(here / "new", "w") as writer:
        os.unlink(here / "file")
        os.unlink(here / "new")
        assert reader.read() == "kept open"
        writer.write("into nothing")
    assert os.listdir(here) == [] and memory.history(here.name, "new") == []


def test_the_example_of_the_documentation_works(fuse: None, tmp_path: Path) -> None:
    page = REPOSITORY / "docs" / "filesystem.md"
    (script,) = (block.text for block in Block.all_of(page) if "amfs mount" in block.text)
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", f"{script}\nwait"],
        cwd=tmp_path,
        env={**os.environ, "PATH": programs, "AMFS_AGENT_ID": "you"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "team/notes/day:pelicans fish" in said and "> herons fish" in said
    assert [line.split("\t")[0] for line in said[-2:]] == ["v1", "v2"]


# --- names, history, refusals --------------------------------------------------------------------


def test_every_name_can_be_reached(here: Path, memory: AgentMemory) -> None:
    base = here.name
    keys = ["with/slash", "%2F", "100%", "..", ".", ".history", ".hidden", "x%dir", "ünï côde ?*"]
    for key in keys:
        memory.write(base, key, f"of {key}")
    memory.write(f"{base}/../up", "k", "above")
    names = os.listdir(here)
    assert sorted((here / name).read_text() for name in names if name != "%2E.%dir") == sorted(
        f"of {key}" for key in keys
    )
    assert (here / "%2E.%dir" / "up" / "k").read_text() == "above"  # `..` is a memory, too
    (here / "a?b").write_text("new")
    (here / "c%2Fd").write_text("new")
    assert {entry.key for entry in memory.list(base)} >= {"a?b", "c/d"}
    for name in ("%2Ehidden", "a%25b", b"\xff"):
        with pytest.raises(OSError) as raised:
            os.mknod(os.path.join(os.fsencode(here), os.fsencode(name)))
        assert raised.value.errno == errno.EINVAL
    with pytest.raises(OSError) as raised:
        (here / ("x" * 300)).write_text("")
    assert raised.value.errno in (errno.ENAMETOOLONG, errno.EINVAL)


def test_a_memory_and_a_directory_of_one_name_are_both_there(
    here: Path, memory: AgentMemory
) -> None:
    base = here.name
    memory.write(base, "b", "file")
    memory.write(f"{base}/b", "c", "below")
    assert sorted(os.listdir(here)) == ["b", "b%dir"]
    assert (here / "b").read_text() == "file" and (here / "b%dir/c").read_text() == "below"
    (here / "b%dir" / "d").write_text("new")
    assert [entry.key for entry in memory.list(f"{base}/b")] == ["c", "d"]
    (here / "b").unlink()
    assert os.listdir(here) == ["b"] and (here / "b" / "c").read_text() == "below"


def test_a_memory_is_not_taken_for_the_directory_of_its_name_when_all_known_is_too_old(
    tmp_path: Path,
) -> None:
    with AgentMemory("a", adapter=LocalAdapter(tmp_path)) as memory:
        memory.write("a", "b", "file")
        memory.write("a/b", "c", "below")
        tree = Tree(memory, max_age=0)
        tree.list("a")
        tree.list("other")  # forgets what is too old
        attributes = tree.is_file_or_directory(Name("a", "b"))
        assert isinstance(attributes, Attributes) and attributes.size == 4
        assert tree.is_file_or_directory(Name("a", "b", must_be_directory=True)) is True
        memory.delete("a", "b")
        assert tree.is_file_or_directory(Name("a", "b")) is True


def test_the_history_lies_beside_and_is_only_read(here: Path, memory: AgentMemory) -> None:
    base = here.name
    memory.write(base, "day", "one\n")
    memory.write(base, "day", "two\n", confidence=0.5)
    memory.delete(base, "day")
    memory.write(base, "day", "four\n")
    history = here / ".history" / "day"
    assert sorted(os.listdir(history)) == [
        *("v1", "v1.json", "v2", "v2.json", "v3.json", "v4", "v4.json")
    ]
    assert (history / "v2").read_text() == "two\n"
    assert json.loads((history / "v2.json").read_text())["confidence"] == 0.5
    assert json.loads((history / "v3.json").read_text())["deleted"] is True
    assert sh("diff .history/day/v1 day", here, code=1) == "1c1\n< one\n---\n> four\n"
    assert os.listdir(here / ".history") == ["day"] and os.listdir(here) == ["day"]
    assert "of memories" not in sh("grep -rl one . || true", here)
    for act in (
        lambda: (history / "v1").write_text("x"),
        lambda: (history / "v9").write_text("x"),
        (history / "v1").unlink,
        lambda: (here / "day").rename(history / "v5"),
    ):
        with pytest.raises(OSError) as raised:
            act()
        assert raised.value.errno in (errno.EROFS, errno.EPERM)
    (here / "day").unlink()
    assert (history / "v4").read_text() == "four\n"


def test_an_invalid_memory_is_refused(mount: Mounted, here: Path) -> None:
    for act, number in (
        (lambda: (mount.point / "file").write_text("x"), errno.EPERM),
        (lambda: os.symlink("a", here / "link"), errno.EPERM),
        (lambda: os.link(here / "a", here / "link"), errno.EPERM),
        (lambda: os.truncate(here / "a", 1 << 40), errno.EFBIG),
        (lambda: (here / "a").read_bytes() and (here / "large").write_bytes(bytes(17 << 20)), 27),
    ):
        (here / "a").write_text("x")
        with pytest.raises(OSError) as raised:
            act()
        assert raised.value.errno == number


def test_without_write_nothing_is_written(mount: Mounted, place: Path, memory: AgentMemory) -> None:
    memory.write("only", "read", "text")
    with mounting(place / "read-only", place / "store") as mounted:
        file = mounted.point / "only" / "read"
        assert file.read_text() == "text" and oct(file.stat().st_mode) == "0o100444"
        for act in (
            lambda: file.write_text("x"),
            file.unlink,
            lambda: file.rename(file.with_name("other")),
            file.with_name("directory").mkdir,
            lambda: os.truncate(file, 0),
        ):
            with pytest.raises(OSError) as raised:
                act()
            assert raised.value.errno == errno.EROFS


# --- others who write ----------------------------------------------------------------------------


def test_writes_acknowledged_before_a_file_is_opened_are_read(
    here: Path, memory: AgentMemory
) -> None:
    for number in range(50):
        memory.write(here.name, "count", "x" * number)
        memory.write(here.name, f"new-{number}", number)
        with open(here / "count") as file:
            assert os.fstat(file.fileno()).st_size == number
            memory.write(here.name, "count", "y" * 99)
            assert file.read() == "x" * number  # one version, to the end
        assert (here / f"new-{number}").read_text() == str(number)
    memory.delete(here.name, "count")
    with pytest.raises(FileNotFoundError):
        os.open(here / "count", os.O_RDONLY)
    assert len(os.listdir(here)) == 50


def test_attributes_are_no_older_than_the_limit(here: Path, memory: AgentMemory) -> None:
    memory.write(here.name, "file", "1")
    assert os.listdir(here) == ["file"] and (here / "file").stat().st_size == 1
    written = memory.write(here.name, "file", "22")
    until(lambda: (here / "file").stat().st_size == 2)
    since = time.time() - written.provenance.written_at.timestamp()
    assert since >= 0
    moment = written.provenance.written_at.timestamp()
    assert (here / "file").stat().st_mtime == pytest.approx(moment, abs=1e-5)


def test_a_conflict_is_an_error_and_loses_nothing(
    mount: Mounted, here: Path, memory: AgentMemory, place: Path
) -> None:
    memory.write(here.name, "plan", "one")
    file = os.open(here / "plan", os.O_WRONLY | os.O_TRUNC)
    os.write(file, b"mine")
    memory.write(here.name, "plan", "theirs")
    with pytest.raises(OSError) as raised:
        os.fsync(file)
    assert raised.value.errno == errno.ESTALE
    with pytest.raises(OSError) as raised:
        os.write(file, b"more")
    assert raised.value.errno == errno.ESTALE
    with pytest.raises(OSError):
        os.close(file)
    assert (here / "plan").read_text() == "theirs"
    assert values(memory, here.name, "plan") == ["one", "theirs"]
    until(lambda: f"{here.name}/plan': not stored" in mount.said)
    (line,) = (line for line in mount.lines if f"{here.name}/plan': not stored" in line)
    kept = Path(line.rpartition(" kept in ")[2])
    assert kept.parent == place / "rescued" and kept.read_bytes() == b"mine"
    assert kept.stat().st_mode & 0o777 == 0o600
    (here / "plan").write_text("again")
    assert values(memory, here.name, "plan") == ["one", "theirs", "again"]


def test_lines_appended_in_two_mounts_at_once_are_all_there(
    here: Path, other_mount: Mounted, memory: AgentMemory
) -> None:
    there = other_mount.point / here.name
    script = "for n in $(seq 15); do echo $0$n >> log || exit 1; done"
    memory.write(here.name, "log", "begin\n")
    writers = [
        subprocess.Popen(["bash", "-c", script, name], cwd=cwd)
        for name, cwd in (("a", here), ("b", there), ("c", here))
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    lines = (here / "log").read_text().split()
    assert sorted(lines) == sorted(["begin", *(f"{n}{i}" for n in "abc" for i in range(1, 16))])
    assert (there / "log").read_text().split() == lines


def test_a_file_overwritten_by_two_mounts_at_once_is_a_version_or_kept(
    here: Path, other_mount: Mounted, memory: AgentMemory, place: Path
) -> None:
    memory.write(here.name, "plan", "begin")
    done: list[str] = []
    refused: list[str] = []

    def overwrite(directory: Path, name: str) -> None:
        for number in range(20):
            text = f"{name} {number} of {here.name}"
            file = os.open(directory / "plan", os.O_WRONLY | os.O_TRUNC)
            os.write(file, text.encode())
            try:
                os.close(file)
            except OSError as error:
                assert error.errno == errno.ESTALE
                refused.append(text)
            else:
                done.append(text)

    threads = [
        threading.Thread(target=overwrite, args=(directory, name))
        for directory, name in ((here, "a"), (other_mount.point / here.name, "b"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) + len(refused) == 40
    assert sorted(values(memory, here.name, "plan")) == sorted(["begin", *done])
    kept = {file.read_text() for file in (place / "rescued").iterdir()} if refused else set()
    assert {text for text in kept if here.name in text} == set(refused)


def test_a_file_renamed_while_it_is_open_becomes_the_newest_version(
    here: Path, memory: AgentMemory
) -> None:
    memory.write(here.name, "old", {"n": 1})
    with open(here / "old", "a") as file:
        memory.write(here.name, "old", {"n": 2})
        os.rename(here / "old", here / "new")
        assert values(memory, here.name, "new") == [{"n": 2}]
        file.write(" more")
    assert values(memory, here.name, "new") == [{"n": 2}, '{"n":2} more']
    assert os.listdir(here) == ["new"]


def test_a_file_that_another_removed_is_not_brought_back(
    here: Path, other_mount: Mounted, memory: AgentMemory
) -> None:
    (here / "file").write_text("one")
    with open(here / "file", "r+") as file:
        file.write("two")
        os.unlink(other_mount.point / here.name / "file")
        with pytest.raises(OSError) as raised:
            file.flush()
            os.fsync(file.fileno())
        assert raised.value.errno == errno.ESTALE
        with pytest.raises(OSError):
            file.close()
    assert os.listdir(here) == [] and values(memory, here.name, "file") == ["one", ...]


# --- beside a directory --------------------------------------------------------------------------

_PATHS = st.sampled_from(["x", "y", "d", "d/x", "d/y", "d/e/x"])
_BYTES = st.binary(max_size=6) | st.sampled_from([b"text\n", b"\xff", b""])
_MODES = st.sampled_from(
    [
        os.O_RDWR,
        os.O_RDWR | os.O_CREAT,
        os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
        os.O_WRONLY | os.O_APPEND,
    ]
)
_STEPS = st.one_of(
    st.tuples(st.just("write"), _PATHS, _BYTES),
    st.tuples(st.just("append"), _PATHS, _BYTES),
    st.tuples(st.just("create"), _PATHS, _BYTES),
    st.tuples(st.just("overlay"), _PATHS, _BYTES),
    st.tuples(st.just("resize"), _PATHS, st.integers(0, 9)),
    st.tuples(st.just("replace"), _PATHS, _PATHS),
    st.tuples(st.sampled_from(["read", "remove", "size"]), _PATHS, st.none()),
    st.tuples(st.sampled_from(["mkdir", "rmdir", "list"]), _PATHS, st.none()),
    st.tuples(st.just("hold"), _PATHS, _MODES),
    st.tuples(st.just("held write"), st.none(), _BYTES),
    st.tuples(st.just("held resize"), st.none(), st.integers(0, 9)),
    st.tuples(st.sampled_from(["held sync", "held close"]), st.none(), st.none()),
)

Step = tuple[str, Any, Any]


class Program:
    """Takes steps under a directory; one file may be held open meanwhile."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._held: int | None = None

    def take(self, step: Step) -> object:
        """Take a step: what comes of it, or the name of its error."""
        kind, path, argument = step
        try:
            if path is None:
                return None if self._held is None else self._with_held(kind, self._held, argument)
            if kind == "hold":
                self.end()
                self._held = os.open(self.root / path, argument)
                return None
            return self._with(kind, self.root / path, argument)
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    def end(self) -> None:
        """Close what is held open."""
        if self._held is not None:
            descriptor, self._held = self._held, None
            os.close(descriptor)

    def _with_held(self, kind: str, descriptor: int, argument: Any) -> object:
        match kind:
            case "held write":
                return os.write(descriptor, argument)
            case "held resize":
                return os.ftruncate(descriptor, argument)
            case "held sync":
                return os.fsync(descriptor)
            case _:
                return self.end()

    def _with(self, kind: str, file: Path, argument: Any) -> object:
        match kind:
            case "write":
                return file.write_bytes(argument)
            case "append" | "create":
                with open(file, {"append": "ab", "create": "xb"}[kind]) as opened:
                    return opened.write(argument)
            case "overlay":
                with open(file, "r+b") as opened:
                    opened.seek(3)
                    opened.write(argument)
                    opened.seek(0)
                    return opened.read()
            case "resize":
                return os.truncate(file, argument)
            case "replace":
                return None if file.is_dir() else os.replace(file, self.root / argument)
            case "read":
                return file.read_bytes()
            case "list":
                return sorted(os.listdir(file))
            case "size":
                return None if file.is_dir() else file.stat().st_size
            case _:
                return {"remove": os.unlink, "mkdir": os.mkdir, "rmdir": os.rmdir}[kind](file)


def tree(root: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(root)): None if path.is_dir() else path.read_bytes()
        for path in root.rglob("*")
    }


def test_random_programs_cannot_tell_it_from_a_directory(
    here: Path, memory: AgentMemory, tmp_path: Path
) -> None:
    numbers = iter(range(10**6))

    def stored(name: str) -> set[str]:
        path = f"{here.name}/{name}"
        return {f"{entry.entity_path}/{entry.key}"[len(path) + 1 :] for entry in memory.list(path)}

    @settings(max_examples=25)
    @given(st.lists(_STEPS, min_size=5, max_size=25))
    def beside(steps: list[Step]) -> None:
        name = str(next(numbers))
        ours, theirs = Program(here / name), Program(tmp_path / name)
        ours.root.mkdir()
        theirs.root.mkdir()
        for step in steps:
            assert ours.take(step) == theirs.take(step), step
        ours.end()
        theirs.end()
        assert tree(ours.root) == tree(theirs.root)
        files = {path for path, content in tree(theirs.root).items() if content is not None}
        until(lambda: stored(name) == files)  # nobody waits for the last close of an empty file

    beside()


# --- outcomes that are unknown -------------------------------------------------------------------


class Forgetful(LocalAdapter):
    """A store that, while it is away, does what it is asked and does not say so."""

    is_away = False

    def create(self, key: str, data: bytes) -> bool:
        created = super().create(key, data)
        if self.is_away:
            raise OutcomeUnknownError("no answer came")
        return created

    def get(self, key: str) -> bytes | None:
        if self.is_away:
            raise BackendUnavailableError("no answer came")
        return super().get(key)


@pytest.mark.parametrize("appends", [True, False])
def test_a_version_that_was_stored_without_an_answer_is_not_stored_twice(
    tmp_path: Path, appends: bool
) -> None:
    adapter = Forgetful(tmp_path)
    with known(AgentMemory("a", adapter=adapter, patience=0.0)) as memory:
        same, more = (Draft(memory, Name("notes", key), None) for key in ("same", "more"))
        adapter.is_away = True
        for draft in (same, more):
            draft.write(b"one", None if appends else 0)
            with pytest.raises(WriteOutcomeUnknownError):
                draft.store(even_if_empty=False)
        adapter.is_away = False
        more.write(b" two", None if appends else 3)
        for draft in (same, more):
            until(lambda draft=draft: succeeds(lambda: draft.store(even_if_empty=False)))
        assert values(memory, "notes", "same") == ["one"]
        assert values(memory, "notes", "more") == ["one", "one two"]


def test_an_append_whose_answer_was_lost_is_not_repeated(tmp_path: Path) -> None:
    adapter = Forgetful(tmp_path)
    with AgentMemory("a", adapter=adapter, patience=0.0) as memory:
        memory.write("notes", "log", "1\n")
        draft = Draft(memory, Name("notes", "log"), memory.read("notes", "log"))
        draft.write(b"2\n", None)
        adapter.is_away = True
        with pytest.raises(WriteOutcomeUnknownError):
            draft.store(even_if_empty=False)
        adapter.is_away = False
        with AgentMemory("b", adapter=LocalAdapter(tmp_path)) as other:
            other.update("notes", "log", lambda text: f"{text}other\n")
        draft.write(b"3\n", None)
        until(lambda: succeeds(lambda: draft.store(even_if_empty=False)))
        assert values(memory, "notes", "log")[-1] == "1\n2\nother\n3\n"


# --- requests ------------------------------------------------------------------------------------


def test_operations_cost_the_requests_that_the_design_names(fuse: None, tmp_path: Path) -> None:
    from amfs_agents.mount.operations import Operations  # needs libfuse

    adapter = LocalAdapter(tmp_path / "store")
    with AgentMemory("a", adapter=adapter) as memory:
        for number in range(20):
            memory.write("notes", f"n{number}", number)
        files = Operations(
            memory, writes=True, max_age=60, rescue=Rescue(str(tmp_path)), mounted=lambda: None
        )

        def cost(*work: Callable[[], Any]) -> dict[str, int]:
            before = memory.metrics.requests
            for call in work:
                call()
            after = memory.metrics.requests
            return {kind: n - before[kind] for kind, n in after.items() if n != before[kind]}

        directory = files.opendir("/notes")
        assert set(cost(lambda: files.readdir(None, directory))) == {"list"}
        looks = [lambda n=n: files.getattr(f"/notes/n{n}") for n in range(20)]
        assert cost(*looks, lambda: files.getattr("/notes")) == {}
        opened: list[int] = []
        assert cost(lambda: opened.append(files.open("/notes/n3", os.O_RDONLY))) == {"get": 1}
        assert cost(lambda: files.read(None, 9, 0, opened[0])) == {}
        handle = files.create("/notes/new", 0o644, os.O_WRONLY)
        assert cost(lambda: files.write(None, b"text", 0, handle)) == {}
        assert cost(lambda: files.flush(None, handle)) == {"create": 1}
        assert cost(lambda: files.release(None, handle)) == {}
        assert cost(lambda: files.getattr("/notes/new")) == {}


# --- the end, and what goes away -----------------------------------------------------------------


def test_open_files_are_stored_when_the_mount_ends(fuse: None, tmp_path: Path) -> None:
    for how in (signal.SIGINT, signal.SIGTERM):
        with mounting(tmp_path / "point", "store", "--write", cwd=tmp_path) as mounted:
            assert os.readlink(f"/proc/{mounted.process.pid}/cwd") == str(tmp_path)
            (mounted.point / "notes").mkdir(exist_ok=True)
            file = os.open(mounted.point / "notes" / how.name, os.O_WRONLY | os.O_CREAT)
            os.write(file, b"not closed")
            assert mounted.stop(how) == 0
            assert not os.path.ismount(mounted.point)
            with pytest.raises(OSError):
                os.close(file)
        with AgentMemory("b", adapter=LocalAdapter(tmp_path / "store")) as memory:
            assert values(memory, "notes", how.name) == ["not closed"]


def test_fusermount_ends_it(fuse: None, tmp_path: Path) -> None:
    with mounting(tmp_path / "point", tmp_path / "store") as mounted:
        run("fusermount3", "-u", mounted.point, cwd=tmp_path)
        assert mounted.ended() == 0
        assert os.listdir(mounted.point) == []


def test_a_mount_whose_program_is_killed_goes_by_itself_or_says_how(
    fuse: None, tmp_path: Path
) -> None:
    point = tmp_path / "point"
    with mounting(point, tmp_path / "store") as mounted:
        mounted.stop(signal.SIGKILL)
        until(lambda: succeeds(lambda: os.listdir(point)))
        assert os.listdir(point) == []
    with mounting(point, tmp_path / "store") as mounted:
        os.kill(watcher_of(point), signal.SIGKILL)  # so that nobody is left to unmount it
        mounted.stop(signal.SIGKILL)
        with pytest.raises(OSError) as raised:
            os.listdir(point)
        assert raised.value.errno == errno.ENOTCONN
        with pytest.raises(AssertionError, match=f"fusermount3 -u {point}"):
            Mounted(point, str(tmp_path / "store"))
        run("fusermount3", "-u", point, cwd=tmp_path)
        assert os.listdir(point) == []


def watcher_of(point: Path) -> int:
    """The process id of the fusermount3 that unmounts when the program is gone."""
    process_ids = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # one that has just ended
            command = (process / "cmdline").read_bytes().split(b"\0")
            if b"fusermount3" in command[0] and os.fsencode(point) in command:
                process_ids.append(int(process.name))
    (watcher,) = process_ids
    return watcher


def test_a_store_that_is_away_is_an_error_with_its_reason_and_later_fine(
    fuse: None, tmp_path: Path
) -> None:
    state = ("--state", str(tmp_path / "events"))
    before = ("--store", str(tmp_path / "store"))
    served = Served(*state, before=before)
    with mounting(
        tmp_path / "point",
        served.url,
        "--write",
        "--rescue",
        str(tmp_path / "rescued"),
        AMFS_PATIENCE="0.5",
    ) as mounted:
        notes = mounted.point / "notes"
        notes.mkdir()
        (notes / "day").write_text("before")
        (notes / "other").write_text("text")
        file = os.open(notes / "day", os.O_WRONLY | os.O_APPEND)
        os.write(file, b" and after")
        lost = os.open(notes / "lost", os.O_WRONLY | os.O_CREAT)
        os.write(lost, b"kept")
        served.stop()
        for act in (
            (notes / "other").read_text,
            lambda: os.fsync(file),
            lambda: os.close(lost),
            lambda: os.listdir(notes),
        ):
            with pytest.raises(OSError) as raised:
                act()
            assert raised.value.errno == errno.EIO
        until(lambda: re.search(f"readdir '/notes': .*{served.url}", mounted.said) is not None)
        until(lambda: "'notes/lost': not stored" in mounted.said)
        (kept,) = (tmp_path / "rescued").iterdir()
        assert kept.read_bytes() == b"kept"
        again = Served(*state, "--port", str(served.port), before=before)
        try:
            until(lambda: succeeds(lambda: os.fsync(file)))
            os.close(file)
            assert (notes / "day").read_text() == "before and after"
        finally:
            again.stop()


def succeeds(act: Callable[[], Any]) -> bool:
    try:
        act()
    except (OSError, BackendUnavailableError):
        return False
    return True


def test_where_it_would_wait_for_itself_or_hide_something_it_refuses(
    fuse: None, tmp_path: Path
) -> None:
    (tmp_path / "store" / "empty").mkdir(parents=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "outer").mkdir()
    for point, store, reason in (
        ("full", "store", "is not empty"),
        ("store/empty", "store", "within each other"),
        ("outer", "outer/store", "within each other"),
        ("nowhere", "store", "cannot be mounted on"),
    ):
        with (
            AgentMemory("a", adapter=LocalAdapter(tmp_path / store)) as memory,
            pytest.raises(ConfigurationError, match=reason),
        ):
            mount_memory(
                memory,
                str(tmp_path / point),
                writes=False,
                max_age=1,
                rescue=Rescue(str(tmp_path / "rescued")),
                mounted=lambda: pytest.fail("it is mounted"),
            )


def test_a_user_other_than_root_mounts(fuse: None) -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become another user; all other tests are run by one")
    # The right to read is for this interpreter, which may lie in root's own directory.
    as_nobody = [
        *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
        *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
    ]
    with tempfile.TemporaryDirectory() as made:
        home = Path(made)
        point = home / "point"
        point.mkdir()
        for directory in (home, point):
            os.chown(directory, NOBODY, NOBODY)
        store = str(home / "store")
        mounted = Mounted(point, store, "--write", before=as_nobody, cwd=home, HOME=made)
        try:
            script = "mkdir point/notes; echo text > point/notes/day; cat point/notes/day"
            assert run(*as_nobody, "bash", "-c", script, cwd=home) == "text\n"
            assert run(*as_nobody, "stat", "-c", "%u", "point/notes/day", cwd=home) == "65534\n"
        finally:
            assert mounted.stop() == 0


def test_many_write_at_once(here: Path) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(10):
                file = here / f"{number}-{step % 3}"
                file.write_text(f"{number} {step}")
                assert file.read_text() == f"{number} {step}"
                if step % 3 == 2:
                    file.unlink()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert len(os.listdir(here)) == 16
