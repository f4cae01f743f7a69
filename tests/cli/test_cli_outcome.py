"""The commands about outcomes, and `verify --repair`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from amfs import AgentMemory
from amfs.cli import amfs as program
from amfs_core.testing import Crash, Fault, FaultyAdapter
from amfs_local import LocalAdapter


@pytest.fixture(autouse=True)
def empty_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AMFS_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(program, arguments)
    assert "Traceback" not in result.stderr
    return result


def ok(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def documents(*arguments: str) -> list[Any]:
    return [json.loads(line) for line in ok(*arguments).splitlines()]


def refused(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("amfs: ") and result.stderr.count("\n") == 1
    return result.stderr


def test_an_outcome_is_recorded_and_moves_the_confidence() -> None:
    ok("write", "checkout/eu", "retries", "3", "--confidence", "0.5")
    ok("write", "checkout", "timeout", "30")
    assert ok(
        *("--agent", "ann", "outcome", "deploy-42", "failure"),
        *("--entry", "checkout/eu/retries", "--entry", "checkout/timeout"),
    ) == ("recorded deploy-42: failure of 2 memories\n")
    (retries,) = documents("read", "checkout/eu", "retries", "--json")
    (timeout,) = documents("read", "checkout", "timeout", "--json")
    assert (retries["confidence"], timeout["confidence"]) == (0.4, 0.8)
    assert retries["provenance"]["outcome_ref"] == "deploy-42"
    assert retries["provenance"]["agent_id"] == "ann"


def test_a_key_with_a_slash_is_named_as_in_object_keys() -> None:
    keys = {"eu%2Fweb1": "eu/web1", "50%25": "50%", "50%": "50%", "a%252Fb": "a%2Fb", "é?": "é?"}
    for key in set(keys.values()):
        ok("write", "hosts/all", key, "1")
    for number, (written, key) in enumerate(keys.items()):
        made = documents(
            *("--json", "outcome", f"r{number}", "failure", "--entry", f"hosts/all/{written}")
        )
        assert made[0]["causes"][0]["entity_path"] == "hosts/all"
        assert made[0]["causes"][0]["key"] == key


def test_recording_it_again_is_fine_and_changes_nothing() -> None:
    ok("write", "e", "k", "1")
    for more in (["--entry", "e/k"], ["--entry", "e/k"], []):
        assert "recorded r: success of 1 memory" in ok("outcome", "r", "success", *more)
    assert len(ok("log", "e", "k").splitlines()) == 2
    assert "it is a success, not a failure" in refused("outcome", "r", "failure")


def test_without_a_type_it_is_shown() -> None:
    ok("write", "e", "k", "1")
    (made,) = documents("--json", "outcome", "r", "success", "--entry", "e/k")
    assert made["causes"] == [{"entity_path": "e", "key": "k", "version": 1}]
    assert documents("outcome", "r", "--json") == [made]
    ref, kind, _, _, causes = ok("outcome", "r").strip().split("\t")
    assert (ref, kind, causes) == ("r", "success", "e/k v1")


def test_one_that_was_never_recorded_is_exit_code_1() -> None:
    absent = run("outcome", "r")
    assert (absent.exit_code, absent.stderr) == (1, "amfs: there is no outcome r\n")
    absent = run("outcome", "r", "--json")
    assert (absent.exit_code, absent.stdout) == (1, "null\n")


def test_outcomes_are_listed_oldest_first() -> None:
    for number, entity in enumerate(("b", "a", "a/c")):
        ok("write", entity, "k", "1")
        ok("outcome", f"r{number}", "success", "--entry", f"{entity}/k")
    assert [line.split("\t")[0] for line in ok("outcomes").splitlines()] == ["r0", "r1", "r2"]
    assert [outcome["ref"] for outcome in documents("outcomes", "a", "--json")] == ["r1", "r2"]
    assert ok("outcomes", "nowhere") == ""


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("r", "sucess", "--entry", "e/k"), "did you mean 'success'"),
        (("r", "success"), "--entry ENTITY/KEY"),
        (("r", "--entry", "e/k"), "--entry needs a TYPE"),
        (("r", "success", "--entry", "k"), "must be ENTITY/KEY, not 'k'"),
        (("r", "success", "--entry", "e/absent"), "e/absent has no live version"),
        (("x" * 300, "success", "--entry", "e/k"), "the limit is 255"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: tuple[str, ...], problem: str) -> None:
    ok("write", "e", "k", "1")
    assert problem in refused("outcome", *arguments)
    assert ok("outcomes") == ""


def test_values_do_not_control_the_terminal() -> None:
    with AgentMemory("a\x1b[2J") as memory:
        memory.commit_outcome("r\x1b[2J", "success", entries=[])
    shown = ok("outcomes") + ok("outcome", "r\x1b[2J") + ok("outcome", "r\x1b[2J", "success")
    assert "\x1b" not in shown
    assert "r\\u001b[2J" in shown


def interrupted() -> None:
    """An outcome whose process died after the record."""
    faulty = FaultyAdapter(LocalAdapter(".amfs"))
    victim = AgentMemory("victim", adapter=faulty)
    entry = victim.write("e", "k", 1)
    faulty.inject(Fault.CRASH_AFTER)
    with pytest.raises(Crash):
        victim.commit_outcome("r", "failure", entries=[entry])


def test_verify_says_what_was_interrupted_and_repair_finishes_it() -> None:
    interrupted()
    result = run("verify")
    assert result.exit_code == 1
    assert "default/outcomes/r.json\tit has not been counted into e/k yet\t" in result.stdout
    assert "1 version of 1 memory and 1 outcome: 1 finding" in result.stdout
    told = ok("verify", "--repair")
    assert "default/outcomes/r.json\tit has not been counted into e/k yet\trepaired" in told
    assert "1 outcome: all is well" in told
    assert "2 versions of 1 memory and 1 outcome: all is well" in ok("verify")


def test_verify_tells_programs_the_same() -> None:
    interrupted()
    (report,) = [json.loads(line) for line in run("verify", "--json").stdout.splitlines()]
    assert (report["ok"], report["outcomes"], report["findings"][0]["repairable"]) == (
        False, 1, True,
    )  # fmt: skip
    (report,) = documents("verify", "--repair", "--json")
    assert (report["ok"], report["findings"], len(report["repaired"])) == (True, [], 1)
