"""`amfs import --from`: what people and programs see."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.cli.test_cli import REPOSITORY, START, documents, ok, on_a_terminal, refused, run

LINES = """\
{"type":"entity","name":"Alice","entityType":"person","observations":["likes tea"]}
{"type":"relation","from":"Alice","to":"Acme\\u001b[2J","relationType":"works_at"}
{"type":"note"}
"""


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("memory.jsonl").write_text(LINES)


def test_a_dry_run_shows_what_an_import_then_does() -> None:
    shown = run("import", "--from", "mcp-memory", "memory.jsonl", "--dry-run")
    assert shown.exit_code == 1
    assert shown.stdout.splitlines() == [
        "new\tline 1\tmcp-memory/Alice/observations",
        "new\tline 2\tmcp-memory/Alice/works_at/Acme\\u001b[2J",
        'refused\tline 3\t\tit is neither {"type": "entity", …} nor {"type": "relation", …}',
        "dry run: 2 new, 1 refused",
    ]
    assert ok("ls") == ""
    done = run("import", "--from", "mcp-memory", "memory.jsonl")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1] == "imported: 2 new, 1 refused"
    assert len(done.stdout.splitlines()) == 2


def test_the_exit_code_is_0_when_all_could_be_memories() -> None:
    Path("memory.jsonl").write_text("".join(LINES.splitlines(keepends=True)[:2]))
    arguments = ("import", "--from", "mcp-memory", "memory.jsonl", "--into", "graph")
    assert ok(*arguments) == "imported: 2 new\n"
    assert ok(*arguments) == "imported: 2 unchanged\n"
    ok("write", "graph/Alice", "observations", "mine")
    assert ok(*arguments).splitlines()[0].startswith("kept\tline 1\tgraph/Alice/observations\t")
    assert ok(*arguments, "--overwrite") == "imported: 1 changed, 1 unchanged\n"
    Path("empty.jsonl").touch()
    assert ok("import", "--from", "mcp-memory", "empty.jsonl") == "imported: nothing\n"


def test_json_has_a_document_for_each_record_and_one_at_the_end() -> None:
    done = run("--json", "import", "--from", "mcp-memory", "memory.jsonl", "--dry-run")
    first, _, third, report = map(json.loads, done.stdout.splitlines())
    assert first == {
        "place": "line 1",
        "state": "new",
        "entity_path": "mcp-memory/Alice",
        "key": "observations",
        "reason": None,
    }
    assert (third["state"], third["key"]) == ("refused", None)
    assert report == {
        **{"new": 2, "changed": 0, "unchanged": 0, "kept": 0, "expired": 0, "refused": 1},
        "dry_run": True,
    }


def test_lines_of_json_are_imported_as_before() -> None:
    Path("lines.jsonl").write_text('{"entity_path": "e", "key": "k", "value": 1}\n')
    assert ok("import", "lines.jsonl") == "imported 1 memory\n"
    assert documents("--json", "import", "lines.jsonl") == [{"written": 1, "expired": 0}]
    assert documents("read", "e", "k", "--json")[0]["version"] == 2


def test_an_impossible_request_is_one_line_of_error() -> None:
    assert "did you mean 'markdown'" in refused("import", "--from", "markdwn", "x")
    assert "absent'" in refused("import", "--from", "mem0", "absent")
    assert "--dry-run needs --from" in refused("import", "memory.jsonl", "--dry-run")
    assert "--into needs --from" in refused("import", "memory.jsonl", "--into", "x")
    assert "empty" in refused("import", "--from", "mem0", "memory.jsonl", "--into", "a//b")


def test_rows_go_to_their_file_while_a_bar_moves_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    ours, theirs = pty.openpty()
    command = [*START, "import", "--from", "mcp-memory", "memory.jsonl"]
    with open("rows", "wb") as rows:
        process = subprocess.Popen(command, stdout=rows, stderr=theirs)
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # how Linux says that the other side is closed
        while data := os.read(ours, 65536):
            seen += data
    os.close(ours)
    process.wait(timeout=60)
    assert b"Importing" in seen
    said = Path("rows").read_text().splitlines()
    assert [line.partition("\t")[0] for line in said] == ["refused", "imported: 2 new, 1 refused"]


def test_rows_are_shown_beside_the_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    shown = on_a_terminal("import", "--from", "mcp-memory", "memory.jsonl")
    assert "line 3" in shown and "imported: 2 new, 1 refused" in shown
