"""The command line: what people and programs see."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from amfs import AgentMemory
from amfs.cli import amfs as program
from amfs.cli.run import COMMANDS
from amfs_core.errors import BackendUnavailableError, ConfigurationError
from amfs_core.upkeep import copy
from amfs_local import LocalAdapter
from amfs_s3 import S3Adapter

REPOSITORY = Path(__file__).resolve().parents[2]
START = [sys.executable, "-m", "amfs"]


@pytest.fixture(autouse=True)
def empty_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AMFS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
    """Run the program in this process; a traceback fails the test."""
    result = CliRunner().invoke(program, arguments, input=stdin)
    assert "Traceback" not in result.stderr
    return result


def ok(*arguments: str, stdin: str | bytes | None = None) -> str:
    result = run(*arguments, stdin=stdin)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def documents(*arguments: str) -> list[Any]:
    return [json.loads(line) for line in ok(*arguments).splitlines()]


def refused(*arguments: str, stdin: str | None = None) -> str:
    """Return the one line that an error is."""
    result = run(*arguments, stdin=stdin)
    assert result.exit_code == 2
    assert result.stderr.startswith("amfs: ") and result.stderr.count("\n") == 1
    return result.stderr


# -- write and read --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ('{"a": [1, null]}', {"a": [1, None]}),
        ("5", 5),
        ("true", True),
        ('"5"', "5"),
        ("plain text", "plain text"),
        ("", ""),
        ("NaN", "NaN"),
        ("[draft] call back", "[draft] call back"),
        ("👋 ümlaut", "👋 ümlaut"),
    ],
)
def test_a_value_is_json_or_else_text(given: str, value: object) -> None:
    ok("write", "e", "k", given)
    (entry,) = documents("read", "e", "k", "--json")
    assert entry["value"] == value


def test_a_value_that_begins_as_json_but_is_none_is_noted() -> None:
    result = run("write", "e", "k", '{"a": 1')
    assert result.exit_code == 0
    assert "note: this is not JSON, so it is text" in result.stderr


def test_a_value_is_read_from_a_file_or_standard_input(tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text('{"from": "file"}')
    ok("write", "e", "file", "@v.json")
    ok("write", "e", "stdin", "-", stdin="from stdin\n")
    ok("write", "e", "dash", "--", "-5")
    with AgentMemory() as memory:
        assert {entry.key: entry.value for entry in memory.list()} == {
            "file": {"from": "file"},
            "stdin": "from stdin\n",
            "dash": -5,
        }
    assert "absent" in refused("write", "e", "k", "@absent")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in refused("write", "e", "k", "@binary")


NOT_KEPT = [
    ('{"a": 1, "a": 2}', "the name 'a' is there twice, and one would be lost"),
    ('[{"b": {"a": 1, "a": 1}}]', "the name 'a' is there twice"),
    ("9" * 5_000, "more digits than can be read back"),
    ("-" + "9" * 5_000, "more digits"),
    (f"[{'9' * 5_000}]", "more digits"),
    ("[" * 100_000 + "]" * 100_000, "deeper than 200 levels"),
    ('{"a":' * 100_000 + "1" + "}" * 100_000, "deeper than 200 levels"),
    ("[" * 201 + "]" * 201, "deeper than 200 levels"),
    ("1e400", "inf"),
    ('"\\ud800"', "surrogate"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("given", "problem"), NOT_KEPT, ids=range(len(NOT_KEPT)))
def test_json_that_could_not_be_kept_is_refused_by_write_and_import_alike(
    tmp_path: Path, given: str, problem: str
) -> None:
    (tmp_path / "v.json").write_text(given)
    ways = [["@v.json"], ["-"], *([["--", given]] if len(given) < 10_000 else [])]
    for way in ways:
        assert problem in refused("write", "e", "k", *way, stdin=given)
    line = f'{{"entity_path": "e", "key": "k", "value": {given}}}'
    said = refused("import", "-", stdin=line)
    assert said.startswith("amfs: line 1: ") and problem in said
    assert documents("ls", "--json") == []


@pytest.mark.parametrize(
    "given",
    [
        '{"a": 1, "a": 2',
        '[{"a": 1, "a": 2}, oops]',
        "9" * 5_000 + "x",
        "0" + "9" * 5_000,
        f"[{'9' * 5_000},]",
        "[" * 100_000,
        "[" * 100_000 + "}" * 100_000,
        '{"a":' * 100_000 + "}" * 100_000,
        f"[{'9' * 5_000}] and more",
        f'["\t", {"9" * 5_000}]',
        f"[NaN, {'9' * 5_000}]",
    ],
    ids=range(11),
)
def test_text_that_is_not_json_stays_text_however_long(tmp_path: Path, given: str) -> None:
    (tmp_path / "v").write_text(given)
    ok("write", "e", "k", "@v")
    assert documents("read", "e", "k", "--json")[0]["value"] == given


def test_a_byte_order_mark_is_not_part_of_a_value(tmp_path: Path) -> None:
    (tmp_path / "v.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    ok("write", "e", "file", "@v.json")
    ok("write", "e", "stdin", "-", stdin=b"\xef\xbb\xbftext \xef\xbb\xbf")
    with AgentMemory() as memory:
        values = [memory.read("e", key) for key in ("file", "stdin")]
        assert [entry and entry.value for entry in values] == [{"a": 1}, "text \ufeff"]


def test_write_takes_every_aspect_of_a_memory() -> None:
    ok(
        *("--agent", "me", "--namespace", "n", "write", "e", "k", "1", "--confidence", "0.5"),
        *("--tag", "a", "--tag", "b", "--type", "belief", "--ttl", "2h", "--pattern-ref", "p/1"),
    )
    (entry,) = documents("--namespace", "n", "--json", "read", "e", "k")
    assert (entry["confidence"], entry["tags"], entry["memory_type"]) == (0.5, ["a", "b"], "belief")
    assert entry["provenance"]["agent_id"] == "me"
    assert entry["provenance"]["pattern_refs"] == ["p/1"]
    assert entry["expires_at"] is not None
    assert documents("ls", "--json") == []


def test_expect_writes_only_on_the_expected_version() -> None:
    ok("write", "e", "k", "1", "--expect", "0")
    assert "expected to be at version 0" in refused("write", "e", "k", "2", "--expect", "0")
    ok("write", "e", "k", "2", "--expect", "1")


def test_read_of_nothing_exits_1() -> None:
    result = run("read", "e", "k")
    assert (result.exit_code, result.stdout) == (1, "")
    result = run("read", "e", "k", "--json")
    assert (result.exit_code, result.stdout) == (1, "null\n")
    ok("write", "e", "k", "1", "--confidence", "0.2")
    assert run("read", "e", "k", "--min-confidence", "0.5").exit_code == 1


def test_read_of_a_version_and_of_a_time() -> None:
    with AgentMemory() as memory:
        first = memory.write("e", "k", "first")
        memory.write("e", "k", "second")
    assert ok("read", "e", "k") == "second\n"
    assert ok("read", "e", "k", "--version", "1") == "first\n"
    assert ok("read", "e", "k", "--at", first.provenance.written_at.isoformat()) == "first\n"
    assert run("read", "e", "k", "--at", "2001-01-01").exit_code == 1
    assert "not a time such as" in refused("read", "e", "k", "--at", "yesterday")


def test_json_may_stand_before_or_after_the_command() -> None:
    ok("write", "e", "k", "1")
    assert documents("--json", "ls") == documents("ls", "--json")


# -- looking around --------------------------------------------------------------------------


def test_ls_log_and_diff() -> None:
    ok("write", "e/f", "k", '{"n": 1, "gone": true}')
    ok("write", "e/f", "k", '{"n": 2, "new": "x"}')
    ok("write", "other", "k", "text")
    assert [line.split("\t")[0] for line in ok("ls").splitlines()] == ["e/f", "other"]
    assert [entry["entity_path"] for entry in documents("ls", "e", "--json")] == ["e/f"]
    assert [line.split("\t")[0] for line in ok("log", "e/f", "k").splitlines()] == ["v1", "v2"]
    assert [entry["version"] for entry in documents("log", "e/f", "k", "--json")] == [1, 2]
    assert ok("diff", "e/f", "k").splitlines() == [
        "~ /value/n: 1 → 2",
        "- /value/gone: true",
        '+ /value/new: "x"',
    ]
    (difference,) = documents("diff", "e/f", "k", "0", "1", "--json")
    assert (difference["old"], difference["new"]) == (None, 1)
    assert run("log", "no", "no").exit_code == 1
    assert "no version 9" in refused("diff", "e/f", "k", "1", "9")


def test_an_absent_memory_is_exit_code_1_and_null_in_json() -> None:
    for command in ("read", "diff", "rm", "log"):
        result = run(command, "e", "absent")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == "amfs: there is no e/absent\n"
        result = run(command, "e", "absent", "--json")
        assert (result.exit_code, result.stderr) == (1, "")
        assert result.stdout == ("" if command == "log" else "null\n")
    ok("write", "e", "k", "1")
    assert "has no version 7 to compare" in refused("diff", "e", "k", "1", "7")
    ok("rm", "e", "k")
    assert "deleted" in ok("diff", "e", "k")


def test_the_difference_of_long_texts_is_by_line() -> None:
    ok("write", "e", "k", "one\ntwo\nthree\n")
    ok("write", "e", "k", "one\n2\nthree\n")
    assert "    -two\n    +2\n" in ok("diff", "e", "k")


def test_stats_verify_and_health(tmp_path: Path) -> None:
    ok("write", "e", "k", "1")
    ok("write", "e", "k", "2")
    (stats,) = documents("stats", "--json")
    assert (stats["memories"], stats["versions"]) == (1, 2)
    assert "2 versions of 1 memory: all is well" in ok("verify")
    assert documents("health", "--json")[0]["ok"] is True
    path = tmp_path / ".amfs/default/entries/e/k/v1.json"
    path.write_bytes(path.read_bytes().replace(b'"value":1', b'"value":7'))
    result = run("verify")
    assert result.exit_code == 1 and "e/k/v1.json" in result.stdout
    result = run("verify", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["findings"][0]["object_key"].endswith("e/k/v1.json")


def test_health_of_a_store_that_cannot_be_read_exits_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> Iterator[object]:
        raise BackendUnavailableError("the disk is on fire")

    monkeypatch.setenv("AMFS_PATIENCE", "0")
    monkeypatch.setattr(LocalAdapter, "list", unreachable)
    result = run("health", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"] == "the disk is on fire"


# -- rm and purge ----------------------------------------------------------------------------


def test_rm_keeps_the_history_and_exits_1_when_nothing_was_there() -> None:
    ok("write", "e", "k", "1")
    ok("rm", "e", "k")
    assert run("rm", "e", "k").exit_code == 1
    assert run("read", "e", "k").exit_code == 1
    assert [entry["deleted"] for entry in documents("log", "e", "k", "--json")] == [False, True]


def test_purge_wants_a_yes(tmp_path: Path) -> None:
    ok("write", "e", "k", "a secret")
    assert "--yes" in refused("purge", "e", "k", stdin="y\n")
    assert "a secret" in ok("read", "e", "k")
    assert "erased 1 version" in ok("purge", "e", "k", "--yes")
    assert run("purge", "e", "k", "--yes").exit_code == 1
    assert run("purge", "no", "no", "--yes").exit_code == 1
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*.json"))
    assert b"a secret" not in stored


# -- moving ----------------------------------------------------------------------------------


def test_export_and_import(tmp_path: Path) -> None:
    for number in range(3):
        ok("write", "e", f"k{number}", str(number), "--tag", "t")
    exported = ok("export")
    ok("export", "-o", "all.jsonl")
    assert (tmp_path / "all.jsonl").read_text() == exported
    assert "imported 3 memories" in ok("--store", "second", "import", "all.jsonl")
    assert documents("--store", "third", "--json", "import", "all.jsonl") == [
        {"written": 3, "expired": 0}
    ]
    ok("--store", "fourth", "import", "-", stdin=exported)
    for store in ("second", "third", "fourth"):
        values = [entry["value"] for entry in documents("--store", store, "ls", "--json")]
        assert values == [0, 1, 2]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["all.jsonl"]


def test_import_of_a_bad_line_is_one_error_and_writes_nothing() -> None:
    good = '{"entity_path": "e", "key": "k", "value": 1}\n'
    assert "line 2: it has no 'value'" in refused(
        "import", "-", stdin=good + '{"entity_path": "e", "key": "k"}\n'
    )
    assert documents("ls", "--json") == []
    assert "absent.jsonl" in refused("import", "absent.jsonl")


def test_copy_between_stores() -> None:
    ok("write", "e", "k", "1")
    ok("--namespace", "other", "write", "e", "k", "2")
    assert "copied 2 objects" in ok("copy", ".amfs", "second")
    (report,) = documents("copy", ".amfs", "second", "--json")
    assert (report["copied"], report["already_there"]) == (0, 2)
    (report,) = documents("--namespace", "other", "--json", "copy", ".amfs", "third")
    assert report["copied"] == 1
    ok("--store", "fourth", "write", "e", "k", "different")
    assert "different bytes" in refused("copy", ".amfs", "fourth")
    assert "no directory 'nowhere'" in refused("copy", "nowhere", "fifth")


def test_a_store_is_never_copied_into_itself(tmp_path: Path) -> None:
    ok("write", "e", "k", "1")
    (tmp_path / "link").symlink_to(".amfs")
    for source, target in (
        (".amfs", ".amfs/backup"),
        (".amfs", "link/backup"),
        (".amfs/default", ".amfs"),
        (".", ".amfs"),
    ):
        assert "is within the store" in refused("copy", source, target)
    assert "copied 1 object" in ok("copy", ".amfs", ".amfs-2")
    assert "copied 0 objects" in ok("copy", ".amfs", "link")
    options = {"endpoint_url": "http://127.0.0.1:9", "region_name": "x"}
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
    inner, outer = (S3Adapter("bucket", prefix, **options, **keys) for prefix in ("a/b/", "a/"))
    for adapter, other in ((inner, outer), (outer, inner)):
        with pytest.raises(ConfigurationError, match="is within the store"):
            copy.copy(adapter, other)


# -- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("frob",),
        ("ls", "--frob"),
        ("write", "e", "k"),
        ("write", "e", "", "1"),
        ("write", "e", "k", "1", "--confidence", "2"),
        ("write", "e", "k", "1", "--type", "rumour"),
        ("write", "e", "k", "1", "--ttl", "soon"),
        ("--store", "gs://x", "ls"),
        ("--config", "absent.yaml", "ls"),
        ("read", "e", "k", "--version", "0"),
        ("read", "a\x1b[2J\nb/", "k"),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(arguments: tuple[str, ...]) -> None:
    assert "\x1b" not in refused(*arguments)


def test_a_misspelt_command_is_told_which_was_meant() -> None:
    assert "there is no command 'serach'; did you mean 'search'?" in refused("serach", "x")
    assert "there is no command 'xyzzy' (see 'amfs --help')" in refused("xyzzy")


def test_a_fault_of_the_program_is_never_taken_for_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(AgentMemory, "read", broken)
    result = CliRunner().invoke(program, ["read", "e", "k"])
    assert result.exit_code == 2 and "please report it" in result.stderr


def test_output_to_a_closed_pipe_ends_quietly() -> None:
    ok("write", "e", "k", json.dumps("x" * 200_000))
    command = [*START, "log", "e", "k", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def closed(arguments: str) -> tuple[int, str, str]:
    """Run the program by a shell that closes a stream."""
    command = f"{sys.executable} -m amfs {arguments}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_a_stream_that_the_shell_closed_is_reported() -> None:
    code, _, said = closed("write e k 1 >&-")
    assert (code, said.count("\n")) == (2, 1) and "standard output is closed" in said
    assert documents("ls", "--json") == []
    for command in ("write e k - <&-", "import - <&-"):
        code, _, said = closed(command)
        assert (code, said.count("\n")) == (2, 1) and "standard input is closed" in said
    assert "--yes" in closed("purge e k <&-")[2]
    ok("write", "e", "k", "1")
    assert closed("read e k 2>&-") == (0, "1\n", "")
    assert closed("read e absent 2>&-") == (1, "", "")


def test_an_interrupt_exits_130_without_a_traceback() -> None:
    process = subprocess.Popen(
        [*START, "write", "e", "k", "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    time.sleep(1.5)  # it waits for standard input by now
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and b"Traceback" not in said


# -- terminals -------------------------------------------------------------------------------


def on_a_terminal(*arguments: str) -> str:
    """Run the program on a real terminal and return all that reached it."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    process = subprocess.Popen(
        [*START, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # how Linux says that the other side is closed
            break
        if not data:
            break
        seen += data
    os.close(ours)
    process.wait()
    return seen.decode().replace("\r\n", "\n")


HOSTILE = "\x1b]0;owned\x07\x1b[2Jboo\x9b31m\u202egnp\x7f\r"


@pytest.mark.slow
def test_control_characters_in_memories_never_reach_a_terminal() -> None:
    with AgentMemory(f"agent{HOSTILE}") as memory:
        memory.write("e", "text", HOSTILE, tags=[HOSTILE])
        memory.write("e", "json", {HOSTILE: HOSTILE})
        memory.write("e", "json", {HOSTILE: "new\nline" + HOSTILE})
        memory.write("e", f"k{HOSTILE}", 1)
    for arguments in (
        ("ls",),
        ("ls", "--json"),
        ("read", "e", "text"),
        ("read", "e", "json"),
        ("read", "e", "text", "--json"),
        ("log", "e", "json"),
        ("diff", "e", "json"),
        ("rm", "e", f"k{HOSTILE}"),
        ("read", "e", f"absent{HOSTILE}"),
        ("export",),
        ("verify",),
    ):
        seen = on_a_terminal(*arguments)
        assert seen
        for sequence in ("\x1b]0", "\x1b[2J", "\x9b", "\u202e", "\x7f", "\x07"):
            assert sequence not in seen, (arguments, seen)


def test_text_that_is_piped_is_exact() -> None:
    with AgentMemory() as memory:
        memory.write("e", "k", HOSTILE)
    done = subprocess.run([*START, "read", "e", "k"], capture_output=True, check=True)
    assert done.stdout.decode() == HOSTILE + "\n"


def test_json_is_exact_although_control_characters_are_escaped() -> None:
    with AgentMemory() as memory:
        memory.write("e", "k", HOSTILE)
    (entry,) = documents("read", "e", "k", "--json")
    assert entry["value"] == HOSTILE
    assert json.loads(ok("export"))["value"] == HOSTILE


@pytest.mark.slow
def test_people_get_colour_tables_and_progress() -> None:
    for number in range(3):
        ok("write", "e", f"k{number}", str(number))
    table = on_a_terminal("ls")
    assert "entity" in table and "\x1b[" in table and "3 memories" in table
    assert "Copying" in on_a_terminal("copy", ".amfs", "second")
    assert "Verifying" in on_a_terminal("verify")


def test_purge_asks_on_a_terminal() -> None:
    ok("write", "e", "k", "1")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*START, "purge", "e", "k"], stdin=theirs, stdout=theirs, stderr=subprocess.PIPE
    )
    os.close(theirs)
    os.write(ours, b"n\n")
    _, asked = process.communicate(timeout=30)
    os.close(ours)
    assert b"permanently?" in asked
    assert process.returncode == 1
    assert ok("read", "e", "k") == "1\n"


# -- help, completion, cold start ------------------------------------------------------------


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help_with_examples(name: str) -> None:
    text = ok(name, "--help")
    assert f"Usage: amfs {name}" in text
    assert "Examples:" in text and f"amfs {name}" in text.split("Examples:")[1]


def test_the_help_of_the_program_says_what_the_commands_say() -> None:
    context = click.Context(program)
    for name, (_, summary) in COMMANDS.items():
        command = program.get_command(context, name)
        assert command is not None and command.name == name
        assert summary in ok("--help")


def test_no_command_shows_the_help() -> None:
    result = run()
    assert result.exit_code == 2 and "Usage: amfs" in result.stderr


def test_the_version_is_told() -> None:
    from amfs import __version__

    assert ok("--version") == f"amfs {__version__}\n"


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_prints_a_script(shell: str) -> None:
    assert "_AMFS_COMPLETE" in ok("completion", shell)


def test_completion_completes_commands() -> None:
    environment = {
        **os.environ,
        "_AMFS_COMPLETE": "fish_complete",
        "COMP_WORDS": "amfs ex",
        "COMP_CWORD": "ex",
    }
    done = subprocess.run(START, env=environment, capture_output=True, text=True, check=True)
    assert "export" in done.stdout


def modules_of(*arguments: str) -> set[str]:
    """Return the packages that a run of the program imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "amfs", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    names = (line.rpartition("|")[2].strip() for line in done.stderr.splitlines())
    return {name.partition(".")[0] for name in names}


def test_help_imports_nothing_heavy() -> None:
    """How long that takes is measured by `make bench ONLY=startup`."""
    heavy = {
        "boto3",
        "botocore",
        "pycurl",
        "pydantic",
        "yaml",
        "rich",
        "amfs_s3",
        "asyncio",
        "httpx",
    }
    heavy |= {"sqlite3", "_sqlite3", "numpy", "multiprocessing"}
    assert not modules_of("--help") & heavy


def test_a_local_store_needs_no_cloud_sdk() -> None:
    modules = modules_of("--store", "here", "write", "e", "k", "1")
    assert not modules & {"boto3", "botocore", "pycurl", "pydantic", "rich", "amfs_s3"}


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import importlib.util as util, sys; found = util.find_spec\n"
        "util.find_spec = lambda name, *a: None if name == 'rich' else found(name, *a)\n"
        "from amfs.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "amfs: the command line needs rich: pip install 'amfs[cli]'\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "missing", "extra"),
    [
        (["serve", "--port", "0"], "starlette", "server"),
        (["serve", "--port", "0"], "prometheus_client", "server"),
        (["key", "new", "ci"], "starlette", "server"),
        (["mcp"], "mcp", "mcp"),
        (["mount", "memories"], "mfusepy", "mount"),
    ],
)
def test_a_command_without_its_extra_says_what_to_install(
    tmp_path: Path, command: list[str], missing: str, extra: str
) -> None:
    code = (
        "import sys; sys.modules[sys.argv[1]] = None; "
        "from amfs.cli import amfs; amfs.main(sys.argv[2:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, missing, *command],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"amfs: amfs {command[0]} needs {missing}, which is not installed: "
        f"pip install 'amfs[{extra}]'\n"
    )
