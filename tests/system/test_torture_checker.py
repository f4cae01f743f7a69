"""The checker of the torture is to be trusted: a good history passes, each bad one is caught.

`tests/system/test_torture_broken.py` has it catch broken adapters.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from amfs_core.memory import AgentMemory
from amfs_core.testing import ModelAdapter
from tests.torture import history
from tests.torture.checker import check
from tests.torture.final import Final, Version, read
from tests.torture.history import NEVER, History, Operation, Recorder, Seen, Watching

KEYS = ("k0", "k1")


def rules(happened: History, there: Final, lag: float = 0.0) -> set[str]:
    return {violation.rule for violation in check(happened, there, keys=KEYS, lag=lag)}


# --- a good history, and a store to go with it ---------------------------------------------------


def version(number: int, by: str, **changes: Any) -> Version:
    made = Version(
        key="k0",
        number=number,
        write_id=by,
        sha256=f"sha-{number}",
        previous=f"sha-{number - 1}" if number > 1 else None,
        deleted=False,
        value={"by": by, "count": number},
        agent="p",
        claim=number,
        outcome=None,
    )
    return replace(made, **changes)


def seen(number: int, by: str | None) -> Seen:
    return Seen("k0", number, f"sha-{number}", by)


def operation(
    id: str, kind: str, invoked: int, returned: int, *shown: Seen, **changes: Any
) -> Operation:
    key = None if kind in ("list", "search", "commit") else "k0"
    made = Operation(id, id[0], kind, key, {}, invoked, returned, "ok", shown)
    return replace(made, **changes)


class Good:
    """write, update, outcome, delete, write; read, listed, watched and told as it should be."""

    def __init__(self) -> None:
        self.operations = {
            "write": operation("a1", "write", 0, 10, seen(1, "a1")),
            "update": operation("b1", "update", 5, 20, seen(2, "b1")),
            "read": operation("c1", "read", 21, 25, seen(2, "b1")),
            "commit": operation(
                "a2", "commit", 26, 30, arguments={"ref": "r", "causes": [["k0", 2]]}
            ),
            "list": operation("c2", "list", 31, 35, seen(3, "b1")),
            "delete": operation("b2", "delete", 36, 40, seen(4, None)),
            "nothing": operation("c3", "read", 41, 45),
            "again": operation("a3", "write", 46, 50, seen(5, "a3"), arguments={"expected": 4}),
            "failed": operation("b3", "write", 46, 50, status="failed"),
            "conflict": operation("b4", "write", 51, 55, status="conflict", newest=5),
            "history": operation(
                "c4",
                "history",
                56,
                60,
                *(seen(number, by) for number, by in enumerate(("a1", "b1", "b1", None, "a3"), 1)),
            ),
            "old": operation("c5", "read version", 61, 65, seen(1, "a1"), arguments={"version": 1}),
            "none": operation("c6", "read version", 66, 70, arguments={"version": 6}),
            "unknown": operation("d1", "write", 66, 70, status="unknown"),
        }
        counted = {"value": {"by": "b1", "count": 2}, "claim": 1, "outcome": "r"}
        self.chain = {
            1: version(1, "a1"),
            2: version(2, "b1", write_id="random", claim=1),
            3: version(3, "of the outcome", **counted),
            4: version(4, "of the delete", deleted=True, value=None, agent="b"),
            5: version(5, "a3"),
        }
        self.watch = Watching(
            "w", {"k0": 2}, [(80, seen(3, "b1")), (81, seen(4, None)), (82, seen(5, "a3"))], True
        )
        self.outcomes: dict[str, dict[str, Any]] = {"r": {}}
        self.faulty: list[str] = []

    def change(self, name: str, **changes: Any) -> Good:
        self.operations[name] = replace(self.operations[name], **changes)
        return self

    def land(self, **changes: Any) -> Good:
        """Have the write whose outcome is unknown be in the store."""
        self.chain[6] = version(6, "d1", **changes)
        self.watch.delivered.append((83, seen(6, "d1")))
        return self

    def rules(self, lag: float = 0.0) -> set[str]:
        happened = History(list(self.operations.values()), [self.watch])
        return rules(happened, Final({"k0": self.chain}, self.outcomes, self.faulty), lag)


def test_a_good_history_has_no_violation() -> None:
    assert Good().rules() == set()


def test_an_unknown_write_may_have_landed() -> None:
    assert Good().land().rules() == set()
    assert Good().land().change("unknown", status="killed", returned=NEVER).rules() == set()


def _without(number: int) -> Good:
    good = Good()
    del good.chain[number]
    return good


def _with(number: int, **changes: Any) -> Good:
    good = Good()
    good.chain[number] = replace(good.chain[number], **changes)
    return good


def _watching(**changes: Any) -> Good:
    good = Good()
    good.watch = replace(good.watch, **changes)
    return good


def _outcomes(*refs: str) -> Good:
    good = Good()
    good.outcomes = {ref: {} for ref in refs}
    return good


def _broken() -> Good:
    good = Good()
    good.faulty = ["x"]
    return good


BAD = {
    "a write that is gone": ("lost", _without(5)),
    "a write under another write_id": ("lost", _with(5, write_id="another")),
    "a write whose bytes are others": ("lost", _with(5, sha256="another")),
    "a gap": ("gap", _without(1)),
    "a chain that does not close": ("chain", _with(4, previous="another")),
    "a write_id twice": ("doubled", _with(5, write_id="a1")),
    "a write that landed twice": ("doubled", Good().land(value={"by": "a3", "count": 6})),
    "a write that failed and is there": ("not written", Good().land(value={"by": "b3"})),
    "a lost race that is there": ("not written", Good().land(value={"by": "b4"})),
    "a version of nobody": ("stray", Good().land(value={"by": "nobody"})),
    "a tombstone of nobody": ("stray", Good().land(deleted=True, value=None)),
    "a write that another had overtaken": (
        "order",
        Good().change("write", invoked=21, returned=22),
    ),
    "a read that is older than a write": ("order", Good().change("read", seen=(seen(1, "a1"),))),
    "a read of nothing after a write": ("order", Good().change("read", seen=())),
    "a read of something after a delete": (
        "order",
        Good().change("nothing", seen=(seen(3, "b1"),)),
    ),
    "a read before its write": ("future", Good().change("old", invoked=-9, returned=-5)),
    "a version said to be absent": ("order", Good().change("none", arguments={"version": 5})),
    "a list that is behind": ("order", Good().change("list", seen=(seen(2, "b1"),))),
    "a list without a memory": ("order", Good().change("list", seen=())),
    "a list with a memory twice": (
        "list",
        Good().change("list", seen=(seen(3, "b1"), seen(3, "b1"))),
    ),
    "a conflict with an old version": ("order", Good().change("conflict", newest=4)),
    "bytes that nobody wrote": (
        "content",
        Good().change("read", seen=(Seen("k0", 2, "another", "b1"),)),
    ),
    "a version that is not there": ("content", Good().change("read", seen=(seen(9, "z"),))),
    "an update of an older version": ("update", _with(2, value={"by": "b1", "count": 7})),
    "an expected version that was not": (
        "expected",
        Good().change("again", arguments={"expected": 3}),
    ),
    "a history with a gap": ("history", Good().change("history", seen=(seen(2, "b1"),))),
    "a history that ends early": ("order", Good().change("history", seen=(seen(1, "a1"),))),
    "a watch that skips": ("watch", _watching(start={"k0": 1})),
    "a watch that repeats": ("watch", _watching(start={"k0": 3})),
    "a watch that ends early": ("watch", _watching(delivered=[(80, seen(3, "b1"))])),
    "a watch that shows the future": ("future", _watching(delivered=[(-1, seen(3, "b1"))])),
    "an outcome that is gone": ("lost", _outcomes()),
    "an outcome of nobody": ("outcome", _outcomes("r", "another")),
    "an outcome that failed": ("outcome", Good().change("commit", status="failed")),
    "an outcome that is not counted": (
        "outcome",
        Good().change("commit", arguments={"ref": "r", "causes": [["k1", 1]]}),
    ),
    "an outcome counted twice": ("doubled", _with(4, outcome="r", deleted=False, agent="p")),
    "an outcome that changed a value": ("outcome", _with(3, value={"by": "b1", "count": 3})),
    "an error": ("error", Good().change("read", status="error")),
    "bytes that are not an object": ("broken", _broken()),
}


@pytest.mark.parametrize(("rule", "good"), BAD.values(), ids=BAD)
def test_a_bad_history_is_caught(rule: str, good: Good) -> None:
    assert rule in good.rules()


def test_a_lagging_list_may_be_behind_others_and_not_behind_its_own_process() -> None:
    behind = Good().change("list", seen=(seen(2, "b1"),))
    assert "order" in behind.rules()
    assert behind.rules(lag=6e-9) == set()
    own = behind.change("list", id="a9", process="a").change("nothing", kind="list", key=None)
    own.operations["first"] = operation("a0", "list", -9, -8)
    assert "order" in own.rules(lag=6e-9)


# --- purges --------------------------------------------------------------------------------------


class Purged(Good):
    """The good history, then a purge by b, who finds all erased; and v7, which e wrote."""

    def __init__(self) -> None:
        super().__init__()
        for number in list(self.chain):
            self.erase(number)
        self.chain[6] = version(6, "of the purge", deleted=True, value=None, agent="b", purges=True)
        self.chain[7] = version(7, "e1")
        self.operations |= {
            "purge": operation("b5", "purge", 71, 75),
            "gone": operation("b6", "read", 76, 79),
            "stub": operation("b7", "read version", 76, 79, stub(1), arguments={"version": 1}),
            "cached": operation(
                "f1", "read version", 76, 79, seen(1, "a1"), arguments={"version": 1}
            ),
            "after": operation("e1", "write", 90, 91, seen(7, "e1")),
            "knows": operation("e2", "read version", 92, 93, stub(2), arguments={"version": 2}),
        }
        self.watch.delivered += [(83, seen(6, None)), (95, seen(7, "e1"))]

    def erase(self, number: int, **changes: Any) -> Purged:
        self.chain[number] = replace(
            self.chain[number],
            **{"value": None, "agent": "", "deleted": True, "erased": True, **changes},
        )
        return self

    def keep(self, number: int) -> Purged:
        self.chain[number] = Good().chain[number]
        return self

    def without(self, name: str) -> Purged:
        del self.operations[name]
        return self


def stub(number: int) -> Seen:
    return Seen("k0", number, f"sha-{number}", None, erased=True)


def test_a_good_purge_has_no_violation() -> None:
    assert Purged().rules() == set()


def test_a_purge_that_was_killed_may_have_left_something() -> None:
    killed = Purged().keep(4).keep(5).change("purge", status="killed", returned=NEVER)
    assert killed.rules() == set()


def test_a_write_that_was_erased_before_anybody_saw_it_may_have_been_of_a_killed_update() -> None:
    good = Purged().without("after").without("knows")
    good.chain[7] = replace(good.chain[6], number=7, sha256="sha-7", previous="sha-6")
    good.erase(6, write_id="its own", purges=False)
    good.operations["killed"] = operation("g1", "update", 60, NEVER, status="killed")
    good.watch.delivered[-1] = (95, seen(7, None))
    assert good.rules() == set()
    assert "stray" in good.without("killed").rules()


BAD_PURGES = {
    "a version that was left": ("erased", Purged().keep(2)),
    "content that its own process shows": (
        "erased",
        Purged().change("stub", seen=(seen(1, "a1"),)),
    ),
    "content that a process shows which knows of what came later": (
        "erased",
        Purged().change("knows", seen=(seen(2, "b1"),)),
    ),
    "content that comes back": (
        "erased",
        Purged()
        .keep(1)
        .change("purge", status="killed", returned=NEVER)
        .change("stub", process="z"),
    ),
    "an erasure above every order": ("erased", Purged().erase(7)),
    "an erasure that nobody asked for": ("erased", Purged().without("purge")),
    "an order of nobody": ("stray", Purged().without("purge")),
    "a number that is used again": ("lost", Purged().erase(5, sha256="another")),
    "a stub without the hash of the content": ("chain", Purged().erase(2, sha256="another")),
    "a read of something after a purge": (
        "order",
        Purged().change("gone", seen=(seen(5, "a3"),)),
    ),
    "an outcome that is counted twice and erased": ("doubled", Purged().erase(4, outcome="r")),
}


@pytest.mark.parametrize(("rule", "bad"), BAD_PURGES.values(), ids=BAD_PURGES)
def test_a_bad_purge_is_caught(rule: str, bad: Good) -> None:
    assert rule in bad.rules()


def test_an_outcome_recognises_its_evidence_in_a_stub() -> None:
    model = ModelAdapter()
    with AgentMemory("a", adapter=model) as memory:
        memory.write("torture", "k0", {"by": "x", "count": 1})
        memory.commit_outcome("r", "success", entries=[("torture", "k0")])
        memory.purge("torture", "k0")
    objects = {info.key: model.get(info.key) or b"" for info in model.list("")}
    chain = read(objects).chains["k0"]
    assert [chain[number].outcome for number in (1, 2, 3)] == [None, "r", None]
    assert [chain[number].erased for number in (1, 2, 3)] == [True, True, False]
    assert [chain[number].previous for number in (2, 3)] == [chain[1].sha256, chain[2].sha256]


# --- files ---------------------------------------------------------------------------------------


def test_a_killed_process_leaves_its_operation_open(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "p.jsonl", "p")
    recorder.invoke("p.0", "write", "k0", {})
    recorder.returned("p.0", "ok", [])
    recorder.invoke("p.1", "write", "k0", {})
    with (tmp_path / "p.jsonl").open("ab") as file:
        file.write(b'{"t":"return","id":"p.1","sta')
    first, second = history.load(tmp_path).operations
    assert (first.status, first.is_open) == ("ok", False)
    assert (second.status, second.is_open, second.returned) == ("killed", True, NEVER)
    assert first.invoked < first.returned < second.invoked


def test_objects_that_are_not_sealed_or_at_the_wrong_place_are_named() -> None:
    model = ModelAdapter()
    memory = AgentMemory("a", adapter=model)
    memory.write("torture", "k0", {"by": "x", "count": 1})
    name = "default/entries/torture/k0/v1.json"
    body = model.get(name) or b""
    assert read({name: body}).broken == []
    assert read({name: body[:-1]}).broken
    assert read({name: body.replace(b'"count":1', b'"count":2')}).broken
    assert read({name.replace("v1", "v2"): body}).broken
    assert read({"another": body}).broken
