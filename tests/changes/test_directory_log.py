"""The change log of a directory: what its writers and readers do when something else goes wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from amfs_core.errors import PermissionDeniedError
from amfs_local import LocalAdapter
from amfs_local import changes as module
from amfs_local.changes import DIRECTORY, DirectoryLog

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such a log")


@pytest.fixture
def adapter(tmp_path: Path) -> LocalAdapter:
    adapter = LocalAdapter(tmp_path / "store", durability="none")
    adapter.create("before.json", b"one")
    return adapter


@pytest.fixture
def log(adapter: LocalAdapter) -> DirectoryLog:
    return adapter.changes()


@pytest.fixture
def position(log: DirectoryLog) -> str:
    position = log.position(make=True)
    assert position is not None
    return position


def file_of(adapter: LocalAdapter) -> Path:
    [path] = (Path(adapter.root) / DIRECTORY).iterdir()
    return path


def named(log: DirectoryLog, position: str) -> list[str]:
    answer = log.since(position)
    assert answer is not None
    return list(answer[1])


def test_a_store_that_nobody_follows_has_no_log(adapter: LocalAdapter, log: DirectoryLog) -> None:
    assert log.position(make=False) is None
    adapter.create("a.json", b"one")
    assert not (Path(adapter.root) / DIRECTORY).exists()


def test_a_store_that_is_not_there_gets_no_log(tmp_path: Path) -> None:
    log = LocalAdapter(tmp_path / "none").changes()
    assert log.position(make=True) is None
    assert not (tmp_path / "none").exists()


def test_the_log_is_not_an_object(adapter: LocalAdapter, position: str) -> None:
    assert [info.key for info in adapter.list("")] == ["before.json"]


def test_every_adapter_on_the_directory_shares_it(
    adapter: LocalAdapter, log: DirectoryLog, position: str, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(adapter.root)
    LocalAdapter(tmp_path / "link", durability="none").create("a.json", b"one")
    LocalAdapter(tmp_path, "store/", durability="none").create("b.json", b"one")
    assert named(log, position) == ["a.json", "b.json"]


@pytest.fixture
def stopped(
    adapter: LocalAdapter, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Callable[[], None]]]:
    """Begin a create of `late.json` in another thread that stops between the line and the link;
    what this returns lets it go on and end."""
    reached, go_on = threading.Event(), threading.Event()
    link = adapter._scratch.link

    def slowly(data: bytes, path: str) -> None:
        if path.endswith("late.json"):
            reached.set()
            assert go_on.wait(60)
        link(data, path)

    monkeypatch.setattr(adapter._scratch, "link", slowly)
    threads: list[threading.Thread] = []

    def begin() -> Callable[[], None]:
        thread = threading.Thread(target=adapter.create, args=("late.json", b"one"))
        threads.append(thread)
        thread.start()
        assert reached.wait(60)

        def end() -> None:
            go_on.set()
            thread.join()

        return end

    yield begin
    go_on.set()
    for thread in threads:
        thread.join()


def test_a_version_that_lands_after_its_line_was_read_is_named(
    log: DirectoryLog, position: str, stopped: Callable[[], Callable[[], None]]
) -> None:
    end = stopped()
    answer = log.since(position)
    assert answer is not None
    assert answer[1] == []
    end()
    assert named(log, answer[0]) == ["late.json"]
    later = log.since(answer[0])
    assert later is not None
    assert named(log, later[0]) == []


def test_a_version_that_lands_after_a_position_before_which_its_line_is_is_named(
    log: DirectoryLog, position: str, stopped: Callable[[], Callable[[], None]]
) -> None:
    end = stopped()
    between = log.position(make=True)
    assert between is not None
    end()
    assert named(log, between) == ["late.json"]


def test_a_writer_that_slept_longer_than_its_line_counts_adds_another(
    log: DirectoryLog,
    position: str,
    stopped: Callable[[], Callable[[], None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reader has given its line up by then."""
    end = stopped()
    now = module._now()
    monkeypatch.setattr(module, "_now", lambda: now + 70_000)
    answer = log.since(position)
    assert answer is not None
    after = log.position(make=True)
    assert after is not None
    assert not any(text.isdigit() for text in answer[0].split(".")[3:]), "it waits for nothing"
    end()
    assert named(log, answer[0]) == ["late.json"]
    assert named(log, after) == ["late.json"]


def test_a_writer_whose_log_was_made_again_meanwhile_posts_in_the_new_one(
    adapter: LocalAdapter,
    log: DirectoryLog,
    position: str,
    stopped: Callable[[], Callable[[], None]],
) -> None:
    end = stopped()
    shutil.rmtree(Path(adapter.root) / DIRECTORY)
    assert log.since(position) is None
    again = log.position(make=True)
    assert again is not None
    end()
    assert named(log, again) == ["late.json"]


def test_a_writer_that_met_no_log_posts_in_one_that_was_made_meanwhile(
    log: DirectoryLog, stopped: Callable[[], Callable[[], None]]
) -> None:
    end = stopped()
    made = log.position(make=True)
    assert made is not None
    end()
    assert named(log, made) == ["late.json"]


def test_half_a_line_does_not_spoil_the_next(
    adapter: LocalAdapter, log: DirectoryLog, position: str
) -> None:
    for half in (b"\n", b"\n1234", b"\n12345678 99 half.js", b"garbage\xff\x00"):
        with file_of(adapter).open("ab") as file:
            file.write(half)
        answer = log.since(position)
        assert answer is not None
        position = answer[0]
        adapter.create(f"{len(half)}.json", b"one")
        assert named(log, position) == [f"{len(half)}.json"]


def test_forged_lines_name_nothing_that_is_not_there(
    adapter: LocalAdapter, log: DirectoryLog, position: str, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    with file_of(adapter).open("ab") as file:
        for key in ("none.json", "../secret", "/etc/passwd", "", "a//b", ".", "a\0b"):
            file.write(module._line(module._now(), key))
    assert named(log, position) == []
    assert log.position(make=True) is not None


@pytest.mark.parametrize("kept", [0, 10, 80, 200])
def test_a_log_that_was_cut_is_not_followed(
    adapter: LocalAdapter, log: DirectoryLog, kept: int
) -> None:
    log.position(make=True)
    for number in range(10):
        adapter.create(f"{number}.json", b"one")
    position = log.position(make=True)
    assert position is not None
    os.truncate(file_of(adapter), kept)
    assert log.since(position) is None
    for number in range(10, 40):  # longer again than it was
        adapter.create(f"{number}.json", b"one")
    assert log.since(position) is None
    again = log.position(make=True)
    assert again is not None
    adapter.create("a.json", b"one")
    assert named(log, again) == ["a.json"]


def test_a_copied_directory_has_a_log_of_its_own(
    adapter: LocalAdapter, position: str, tmp_path: Path
) -> None:
    adapter.create("a.json", b"one")
    subprocess.run(["cp", "-a", adapter.root, tmp_path / "copy"], check=True)
    copy = LocalAdapter(tmp_path / "copy", durability="none")
    log = copy.changes()
    assert log.since(position) is None
    copy.create("b.json", b"one")
    assert log.since(position) is None
    made = log.position(make=True)
    assert made is not None
    copy.create("c.json", b"one")
    assert named(log, made) == ["c.json"]
    assert named(adapter.changes(), position) == ["a.json"]


def test_a_log_restored_from_a_backup_is_not_followed(
    adapter: LocalAdapter, log: DirectoryLog, position: str
) -> None:
    path = file_of(adapter)
    backup = path.read_bytes()
    adapter.create("a.json", b"one")
    answer = log.since(position)
    assert answer is not None
    path.write_bytes(backup)  # into the same file
    adapter.create("b.json", b"one")
    adapter.create("c.json", b"one")
    assert log.since(answer[0]) is None


@pytest.mark.parametrize("text", ["", "x", "..", "0.0.0", "a.b.c.d", "9.9.99999999.x"])
def test_an_invalid_position_is_not_followed(log: DirectoryLog, position: str, text: str) -> None:
    token, *_ = position.split(".")
    assert log.since(text) is None
    assert log.since(f"{token}{text}") is None


def test_a_log_that_grew_long_is_removed(
    adapter: LocalAdapter, log: DirectoryLog, position: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 2000)
    for number in range(100):
        adapter.create(f"{number}.json", b"one")
        made = log.position(make=True)
        assert made is not None
        adapter.create(f"{number}-a.json", b"one")
        answer = log.since(made)
        assert answer is None or answer[1] == [f"{number}-a.json"]
    assert log.since(position) is None


def test_the_logs_of_earlier_starts_of_the_machine_are_removed(
    adapter: LocalAdapter, log: DirectoryLog
) -> None:
    directory = Path(adapter.root) / DIRECTORY
    directory.mkdir()
    (directory / "0123-of-yesterday").write_bytes(b"x")
    assert log.position(make=True) is not None
    assert len(list(directory.iterdir())) == 1


def test_a_file_system_that_machines_share_has_no_log(
    adapter: LocalAdapter, log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOCAL", frozenset())
    assert log.position(make=True) is None
    assert not (Path(adapter.root) / DIRECTORY).exists()


def as_another_user(adapter: LocalAdapter, key: str, group: int) -> None:
    """Create an object as another user, by a fork: that one may not read our environment."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(group)
            os.setuid(65534)
            LocalAdapter(adapter.root, durability="none").create(key, b"one")
            code = 0
        except PermissionDeniedError as error:
            code = 2 if DIRECTORY in str(error) else 3
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == 2:
        raise PermissionDeniedError("the log", hint="")
    assert code == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
class TestAnotherUser:
    @pytest.fixture(autouse=True)
    def reachable(self, tmp_path: Path) -> None:
        for path in (tmp_path, *tmp_path.parents):
            if path != Path("/") and path != Path("/tmp"):
                path.chmod(path.stat().st_mode | 0o005)

    def test_a_process_that_may_write_to_the_store_may_post(
        self, adapter: LocalAdapter, log: DirectoryLog
    ) -> None:
        os.chown(adapter.root, 0, 4242)
        os.chmod(adapter.root, 0o2775)
        position = log.position(make=True)
        assert position is not None
        as_another_user(adapter, "theirs.json", 4242)
        assert named(log, position) == ["theirs.json"]

    def test_a_process_that_may_not_post_removes_the_log(
        self, adapter: LocalAdapter, log: DirectoryLog, position: str
    ) -> None:
        os.chmod(adapter.root, 0o777)
        os.chmod(file_of(adapter), 0o600)
        os.chmod(Path(adapter.root) / DIRECTORY, 0o777)
        as_another_user(adapter, "theirs.json", 4242)
        assert log.since(position) is None

    def test_a_process_that_may_do_neither_writes_nothing(
        self, adapter: LocalAdapter, log: DirectoryLog, position: str
    ) -> None:
        os.chmod(adapter.root, 0o777)
        os.chmod(file_of(adapter), 0o600)
        os.chmod(Path(adapter.root) / DIRECTORY, 0o755)
        with pytest.raises(PermissionDeniedError):
            as_another_user(adapter, "theirs.json", 4242)
        assert adapter.get("theirs.json") is None
        assert named(log, position) == []


def test_a_full_disk_removes_the_log(
    adapter: LocalAdapter, log: DirectoryLog, position: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that was cut off counts for nothing, so nobody may rely on the log."""
    write = os.write

    def full(fd: int, data: bytes) -> int:
        return write(fd, data[:5]) if b"a.json" in data else write(fd, data)

    monkeypatch.setattr(module.os, "write", full)
    adapter.create("a.json", b"one")
    assert adapter.get("a.json") == b"one"
    assert log.since(position) is None
