"""The command line while the primary store is down, and after."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from amfs.cli import amfs
from amfs.config import load
from amfs_core.layers import Layered
from amfs_core.memory import AgentMemory
from amfs_local import LocalAdapter
from tests.layers.stores import Outage


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(f"{{adapter: http, options: {{url: 'http://127.0.0.1:{closed_port()}'}}}}")


def write(primary: str) -> None:
    Path("amfs.yaml").write_text(
        f"layers:\n  primary: {primary}\n  fallback: {{adapter: local, options: {{root: kept}}}}\n"
    )


def run(*arguments: str) -> Result:
    return CliRunner().invoke(amfs, arguments)


def document(*arguments: str) -> Any:
    return json.loads(run("--json", *arguments).output)


def test_a_write_is_kept_by_one_run_and_replayed_by_another() -> None:
    store = load().open_adapter()
    assert isinstance(store, Layered) and store.fallback is not None
    store.close()
    kept = document("write", "e", "k", "1")
    assert (kept["provisional"], kept["version"]) == (True, 1)
    assert document("reconcile", "--dry-run") == {"waiting": 1, "conflicts": []}
    assert run("reconcile", "--dry-run").exit_code == 1
    health = run("health")
    assert health.exit_code == 1
    assert "degraded since 2" in health.output and "1 write waits" in health.output

    write("{adapter: local, options: {root: primary}}")
    report = document("reconcile")
    assert [entry["version"] for entry in report["landed"]] == [1]
    assert (report["waiting"], report["conflicts"], report["error"]) == (0, [], None)
    assert run("reconcile").exit_code == 0
    assert "provisional" not in document("read", "e", "k")
    assert "degraded" not in run("health").output


def conflict_on(key: str) -> None:
    """Have an update of an outage kept, and another version written meanwhile."""
    primary = Outage(LocalAdapter("primary"))
    store = Layered(primary, fallback=LocalAdapter("kept"))
    with AgentMemory("mine", adapter=store, owns_adapter=True) as memory:
        memory.write("e", key, 0)
        primary.down = True
        assert memory.update("e", key, lambda old: old + 1).provisional
        with AgentMemory("theirs", adapter=LocalAdapter("primary"), owns_adapter=True) as other:
            other.write("e", key, 10)


def test_conflicts_are_listed_and_decided() -> None:
    for key in ("first", "second"):
        conflict_on(key)
    write("{adapter: local, options: {root: primary}}")
    assert run("reconcile").exit_code == 1
    conflicts = [json.loads(line) for line in run("--json", "conflicts").output.splitlines()]
    assert [(conflict["entry"]["key"], conflict["newest"]) for conflict in conflicts] == [
        ("first", 2),
        ("second", 2),
    ]
    listed = run("conflicts").output
    assert conflicts[0]["id"] in listed and "it was decided on version 1" in listed
    assert "degraded" in run("health").output
    assert run("reconcile", "--append", "nothing").exit_code == 2
    assert run("reconcile", "--append", "all", "--discard", "all").exit_code == 2

    report = document("reconcile", "--append", conflicts[0]["id"], "--discard", "all")
    assert [(entry["key"], entry["value"], entry["version"]) for entry in report["landed"]] == [
        ("first", 1, 3)
    ]
    assert [conflict["id"] for conflict in report["discarded"]] == [conflicts[1]["id"]]
    assert run("conflicts").output == "no conflicts\n"
    assert document("read", "e", "second")["value"] == 10
