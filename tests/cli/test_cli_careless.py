"""What people mistype, and the hint that each mistake gets."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from amfs.cli import amfs as program
from amfs.cli.output import grid
from amfs_core.memory import AgentMemory
from amfs_local import LocalAdapter
from tests.conftest import REPOSITORY


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(program, arguments)
    return result.exit_code, result.stdout, result.stderr


def wrong(*arguments: str) -> str:
    code, shown, problem = run(*arguments)
    assert (code, shown) == (2, "")
    return problem


@pytest.mark.parametrize("option", ["--store", "--namespace", "--config", "--agent", "--no-cache"])
@pytest.mark.parametrize("command", ["ls", "read", "stats"])
def test_an_option_of_the_program_after_the_command_is_told_its_place(
    option: str, command: str
) -> None:
    problem = wrong(command, option, "x")
    assert f"{option} comes before the command: amfs {option} … {command}" in problem


@pytest.mark.parametrize("value", ["-5", "-x"])
def test_a_value_that_begins_with_a_dash_is_told_how(value: str) -> None:
    assert "put -- before an argument" in wrong("write", "e", "k", value)
    assert run("write", "e", "k", "--", value)[0] == 0


def test_an_option_that_no_command_has_is_not_told_a_place() -> None:
    problem = wrong("ls", "--josn")
    assert "--json" in problem and "before" not in problem


@pytest.mark.parametrize("command", ["read", "log", "diff", "rm", "purge"])
def test_a_name_with_its_key_in_one_word_is_split(command: str) -> None:
    problem = wrong(command, "checkout service/db/retry")
    assert f"did you mean amfs {command} 'checkout service/db' retry?" in problem


def test_a_missing_key_of_a_plain_name_is_missing() -> None:
    assert "did you mean" not in wrong("read", "checkout")


@pytest.mark.parametrize(
    ("said", "meant"),
    [("get", "read"), ("delete", "rm"), ("list", "ls"), ("restore", "backup restore")],
)
def test_a_command_by_the_name_that_others_give_it(said: str, meant: str) -> None:
    assert f"did you mean {meant!r}?" in wrong(said)


def test_short_help_is_help() -> None:
    assert run("-h")[:2] == run("--help")[:2]
    assert run("ls", "-h")[:2] == run("ls", "--help")[:2]
    assert "Print the version" in run("-h")[1]


def test_an_absent_version_is_not_an_absent_memory() -> None:
    run("write", "e", "k", "1", "--confidence", "0.3")
    read = ("read", "e", "k")
    assert run(*read, "--version", "9") == (1, "", "amfs: there is no e/k in version 9\n")
    assert "no e/k at 2001-01-01" in run(*read, "--at", "2001-01-01T00:00:00Z")[2]
    assert "no e/k with a confidence of 0.9 or more" in run(*read, "--min-confidence", "0.9")[2]


def test_a_watch_from_a_time_is_told_of_the_search() -> None:
    assert "amfs search --since 1h" in wrong("watch", "--since", "1h")
    assert "search" not in wrong("watch", "--since", "yesterday")


def test_an_outcome_about_nothing_has_to_say_so() -> None:
    problem = wrong("outcome", "d1", "success")
    assert "--entry ENTITY/KEY, or say --nothing" in problem
    assert run("outcome", "d1", "success", "--nothing")[1] == "recorded d1: success of 0 memories\n"
    assert run("outcome", "d1", "success")[0] == 0  # the same again
    assert "exclude each other" in wrong("outcome", "d2", "success", "--nothing", "--entry", "a/b")
    assert "--nothing needs a TYPE" in wrong("outcome", "d1", "--nothing")
    assert "--nothing" not in wrong("outcome", "d2", "sucess")  # that is about the TYPE


# -- a place where nothing is ----------------------------------------------------------------------

READERS = [["ls"], ["search", "x"], ["export"], ["stats"], ["verify"]]


@pytest.mark.parametrize("command", READERS, ids=lambda command: command[0])
def test_a_directory_that_is_not_there_is_named(command: list[str], here: Path) -> None:
    _, _, notes = run("--store", "nowhere", *command)
    assert f"there is no directory '{here}/nowhere' yet" in notes
    assert not (here / "nowhere").exists()


def test_a_database_that_is_not_there_is_named(here: Path) -> None:
    _, _, notes = run("--store", "sqlite:///nowhere.db", "ls")
    assert f"there is no file '{here}/nowhere.db' yet" in notes
    assert not (here / "nowhere.db").exists()


@pytest.mark.parametrize("command", READERS, ids=lambda command: command[0])
def test_a_mistyped_namespace_is_told_of_another(command: list[str]) -> None:
    run("write", "e", "k", "1")
    _, _, notes = run("--namespace", "defualt", *command)
    assert "did you mean --namespace default?" in notes


@pytest.mark.parametrize("command", READERS, ids=lambda command: command[0])
def test_an_empty_answer_in_a_namespace_with_memories_gets_no_note(command: list[str]) -> None:
    run("write", "e", "k", "1")
    assert "note" not in run(*command)[2]
    assert "note" not in run("ls", "elsewhere")[2]


def test_an_empty_backup_or_copy_does_not_look_like_success() -> None:
    run("write", "e", "k", "1")
    for command in (["backup", "create", "backups"], ["copy", ".amfs", "copied"]):
        code, _, notes = run("--namespace", "defualt", *command)
        assert code == 1
        assert "did you mean --namespace default?" in notes
        assert run(*command)[0] == 0
    assert run("copy", ".amfs", "copied")[0] == 0  # all of it is there already


def test_an_empty_store_is_copied_and_backed_up_without_complaint(here: Path) -> None:
    (here / ".amfs").mkdir()
    assert run("backup", "create", "backups")[0] == 0
    assert run("--namespace", "n", "copy", ".amfs", "copied")[0] == 0
    assert run("--store", "nowhere", "backup", "create", "others")[0] == 1


def test_a_directory_by_its_url_is_that_directory(here: Path) -> None:
    run("--store", f"file://{here}/a", "write", "e", "k", "1")
    assert AgentMemory("a", adapter=LocalAdapter(here / "a")).read("e", "k") is not None
    assert "is not a kind of store" in wrong("--store", "file://host/a", "ls")


def test_a_variable_that_nobody_reads_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMFS_TELEPORTER", "x")
    assert "AMFS does not read AMFS_TELEPORTER" in run("doctor")[1]


# -- on a terminal -------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_name_in_a_table_is_whole(width: int) -> None:
    from rich.console import Console

    name = "20261127T232833Z-77bb6a6e"
    columns = ("name", "as of", "memories", "versions", "outcomes", "new", "bytes", "kind")
    row = (name, "2026-11-27T23:28:33.000001Z", *("1000",) * 5, "full")
    console = Console(width=width, force_terminal=False)
    with console.capture() as shown:
        console.print(grid(columns, [row], width))
    first = [line.split(" ")[0] for line in shown.get().splitlines()[1:]]
    assert name in ("".join(first), first[0])


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_each_row_of_a_table_that_is_redrawn_has_one_line(width: int) -> None:
    """The watch shows as many rows as the terminal has lines."""
    from rich.console import Console

    columns = ("written", "name", "version", "agent", "value")
    row = ("2026-11-27 23:28:33Z", "checkout-service/retry-pattern", "v1", "someone", "{" * 200)
    console = Console(width=width, force_terminal=False)
    with console.capture() as shown:
        console.print(grid(columns, [row] * 3, width, one_line=True))
    assert len(shown.get().splitlines()) == 4


INTERRUPTIBLE = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where whoever runs this ignores it
sys.argv = ["amfs", "ls"]
runpy.run_module("amfs", run_name="__main__")
"""


def test_ctrl_c_during_the_imports_shows_no_traceback(here: Path) -> None:
    """The signal comes from within, at the first import of the command line."""
    (here / "click.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n", encoding="utf-8"
    )
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTIBLE],
        env={**os.environ, "PYTHONPATH": f"{here}:{REPOSITORY}"},
        cwd=here,
        capture_output=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, b"", b"")


def test_mcp_on_a_terminal_says_who_starts_it_and_ends_with_ctrl_c(here: Path) -> None:
    primary, secondary = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "amfs", "mcp"],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=secondary,
        stdout=secondary,
        stderr=secondary,
    ) as process:
        os.close(secondary)
        shown = b""
        while b"Ctrl-C ends it" not in shown:
            shown += os.read(primary, 1000)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) in (130, -signal.SIGINT)
    os.close(primary)
