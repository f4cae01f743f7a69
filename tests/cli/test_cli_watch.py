"""The command `amfs watch`, as real processes that follow real files."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from amfs import AgentMemory
from tests.cli.test_cli import (
    HOSTILE,
    START,
    documents,
    empty_surroundings,  # noqa: F401
    ok,
    on_a_terminal,
    refused,
    run,
)
from tests.support import waiting

QUICK = ("--interval", "0.2")
PATIENCE = 20.0

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(empty_surroundings: None) -> Iterator[Start]:  # noqa: F811
    """Starts `amfs watch` in the background, once it is ready; it ends with the test."""
    running: list[subprocess.Popen[bytes]] = []

    def started(*arguments: str) -> subprocess.Popen[bytes]:
        # The cursor is saved for the first time once it follows.
        ready = Path("ready.cursor")
        ready.unlink(missing_ok=True)
        options = (
            arguments if "--cursor-file" in arguments else (*arguments, "--cursor-file", ready)
        )
        before = _changed(Path(options[options.index("--cursor-file") + 1]))
        process = subprocess.Popen(
            [*START, "watch", *QUICK, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        running.append(process)
        until(lambda: _changed(Path(options[options.index("--cursor-file") + 1])) != before)
        return process

    yield started
    for process in running:
        process.kill()
        process.communicate()


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


until = partial(waiting.until, seconds=PATIENCE)


def write(*keys: str, entity_path: str = "e") -> None:
    with AgentMemory("writer") as memory:
        for key in keys:
            memory.write(entity_path, key, key)


def keys(output: str | bytes) -> list[str]:
    return [json.loads(line)["key"] for line in output.splitlines()]


def ended_by(process: subprocess.Popen[bytes], number: int) -> tuple[bytes, bytes]:
    process.send_signal(number)
    return process.communicate(timeout=PATIENCE)


# -- what is shown ---------------------------------------------------------------------------


def test_every_version_from_now_on_is_a_document_on_a_line(start: Start) -> None:
    write("before")
    process = start("--json", "--count", "3")
    write("a", "a", "b")
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    entries = [json.loads(line) for line in said.splitlines()]
    assert [(entry["key"], entry["version"]) for entry in entries] == [("a", 1), ("a", 2), ("b", 1)]
    assert entries[2] == documents("read", "e", "b", "--json")[0]


def test_without_a_terminal_a_version_is_one_line_and_comes_at_once(start: Start) -> None:
    process = start("e/f")
    write("other", entity_path="elsewhere")
    write("k", entity_path="e/f")
    assert process.stdout is not None
    fields = process.stdout.readline().decode().rstrip("\n").split("\t")
    assert fields[1:] == ["e/f/k", "v1", "writer", '"k"']
    with AgentMemory() as memory:
        memory.delete("e/f", "k")
    assert process.stdout.readline().decode().endswith("\t(deleted)\n")


def test_since_the_beginning_ends_after_as_many_as_wanted() -> None:
    write("a", "b", "c")
    said = ok("watch", "--since", "beginning", "--count", "2", "--json")
    assert keys(said) == ["a", "b"]


def test_since_takes_a_cursor_of_python() -> None:
    write("a")
    with AgentMemory() as memory, memory.watch() as watch:
        cursor = watch.cursor
    write("b")
    assert keys(ok("watch", "--since", cursor, "--count", "1", "--json")) == ["b"]


# -- the end, and going on -------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_quietly_and_keeps_its_place(start: Start, number: int) -> None:
    process = start("--json", "--cursor-file", "seen")
    write("a")
    assert process.stdout is not None
    assert keys(process.stdout.readline()) == ["a"]
    said, complaint = ended_by(process, number)
    assert process.returncode == 130
    assert (said, complaint.strip()) == (b"", b"")
    write("b")
    assert keys(ok("watch", "--cursor-file", "seen", "--count", "1", "--json")) == ["b"]


def test_runs_with_a_cursor_file_show_everything_once(start: Start) -> None:
    arguments = ("watch", "--since", "beginning", "--cursor-file", "seen", "--json", "--count")
    write("a", "b", "c", "d")
    assert keys(ok(*arguments, "1")) == ["a"]
    assert keys(ok(*arguments, "2")) == ["b", "c"]
    write("a")
    entries = [json.loads(line) for line in ok(*arguments, "2").splitlines()]
    assert [(entry["key"], entry["version"]) for entry in entries] == [("d", 1), ("a", 2)]


def test_after_a_crash_nothing_is_missing(start: Start) -> None:
    process = start("--json", "--cursor-file", "seen")
    saved = Path("seen").read_text()
    write(*(f"k{number}" for number in range(50)))
    until(lambda: Path("seen").read_text() != saved)
    said, _ = ended_by(process, signal.SIGKILL)
    shown = keys(said[: said.rindex(b"\n") + 1])
    write("last")
    follower = start("--json", "--cursor-file", "seen")
    assert follower.stdout is not None
    while "last" not in shown:
        shown += keys(follower.stdout.readline())
    assert set(shown) == {*(f"k{number}" for number in range(50)), "last"}


def test_the_cursor_is_kept_up_while_it_follows(start: Start) -> None:
    start("--cursor-file", "seen")
    for key in ("a", "b"):
        before = Path("seen").read_text()
        write(key)
        until(lambda before=before: Path("seen").read_text() != before)
    until(lambda: _shows_nothing_new("seen"))
    assert not list(Path().glob("*.part"))


def _shows_nothing_new(file: str) -> bool:
    with AgentMemory() as memory:
        now = memory.watch()
        now.cancel()
    return Path(file).read_text().strip() == now.cursor


def test_a_reader_that_goes_away_ends_it_and_its_last_version_comes_again(start: Start) -> None:
    process = start("--json", "--cursor-file", "seen")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    write("a")
    assert process.wait(timeout=PATIENCE) == 141
    assert process.stderr.read() == b""
    assert keys(ok("watch", "--cursor-file", "seen", "--count", "1", "--json")) == ["a"]


# -- mistakes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        ("--since", "yesterday"),
        ("--interval", "0"),
        ("--interval", "often"),
        ("--count", "0"),
        ("--cursor-file", "no-such-directory/seen"),
        ("a//b",),
    ],
)
def test_a_mistake_is_one_line(wrong: tuple[str, ...]) -> None:
    refused("watch", *wrong)


def test_a_cursor_file_that_is_none_is_named_and_left_alone() -> None:
    for text in ("", "not a cursor", "\xff"):
        Path("seen").write_bytes(text.encode("latin-1"))
        assert "seen: this is not a cursor" in refused("watch", "--cursor-file", "seen")
        assert Path("seen").read_bytes() == text.encode("latin-1")


def test_a_cursor_of_another_path_is_refused() -> None:
    write("a")
    run("watch", "e", "--since", "beginning", "--count", "1", "--cursor-file", "seen")
    assert "seen: the cursor belongs to 'e'" in refused("watch", "--cursor-file", "seen")


def test_a_store_that_refuses_ends_it_with_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from amfs_core.errors import PermissionDeniedError
    from amfs_local import LocalAdapter

    listing = LocalAdapter.list
    calls: list[Any] = []

    def refusing(self: LocalAdapter, *arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) > 1:
            raise PermissionDeniedError("the door is locked")
        return listing(self, *arguments)

    monkeypatch.setattr(LocalAdapter, "list", refusing)
    assert "the door is locked" in refused("watch", *QUICK)


# -- terminals -------------------------------------------------------------------------------


def test_people_get_a_table_that_fits_with_the_newest_at_the_bottom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LINES", "24")
    with AgentMemory(f"agent{HOSTILE}") as memory:
        items = ({"entity_path": "e", "key": f"k{n}", "value": HOSTILE} for n in range(100))
        memory.write_many(items)
        memory.write("e" * 200, f"last{HOSTILE}", "x" * 1000)
    seen = on_a_terminal("watch", "--since", "beginning", "--count", "101")
    for sequence in ("\x1b]0", "\x1b[2J", "\x9b", "\u202e", "\x7f", "\x07"):
        assert sequence not in seen
    last_frame = seen[seen.rindex("written") :]
    rows = [line for line in last_frame.splitlines() if " v1 " in line]
    assert len(rows) <= 24 - 2
    assert "eee" in rows[-1] and "e/k99" in rows[-2]


def test_ctrl_c_on_a_terminal_leaves_the_table() -> None:
    write("a")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*START, "watch", *QUICK, "--since", "beginning"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    while b"e/a" not in seen:
        seen += os.read(ours, 65536)
    process.send_signal(signal.SIGINT)
    try:
        while data := os.read(ours, 65536):
            seen += data
    except OSError:  # how Linux says that the other side is closed
        pass
    os.close(ours)
    assert process.wait(timeout=PATIENCE) == 130
    assert b"Traceback" not in seen and b"\x1b[?25h" in seen  # the cursor is shown again
