"""A process dies before or after any request of any operation: the store is consistent, nothing
that was acknowledged is gone, and the operation can be done again to its end."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from amfs_core.format import MemoryEntry
from amfs_core.memory import AgentMemory
from amfs_core.memory.jsonl import import_lines
from amfs_core.storage import StorageAdapter
from amfs_core.testing import Crash, Fault, FaultyAdapter
from amfs_core.upkeep.copy import copy
from amfs_local import LocalAdapter
from tests.torture.mortal import Life, MortalAdapter

MOST_POINTS = 200
DIED = 9

Adapter = Callable[[str], StorageAdapter]
"""Gives the adapter of "store" or of "copy", another store beside it."""


@dataclass(frozen=True)
class Scenario:
    """An operation, what is wrong after a crash until it is repeated, and what is so at the end.

    `act` is called with adapters that die, then with ones that do not. `check` gets a memory on the
    store that `act` changes (`target`) and the directory.
    """

    act: Callable[[Adapter], object]
    check: Callable[[AgentMemory, Path], None]
    until_repeated: tuple[str, ...] = ()
    target: str = "store"


def prepare(root: Path) -> None:
    """Two memories with histories, one purged, one deleted, and an outcome."""
    with AgentMemory("first", adapter=LocalAdapter(root / "store", durability="none")) as memory:
        for number in range(3):
            memory.write("e", "a", {"n": number})
        memory.write("e", "b", {"n": 0})
        memory.write("e/deep", "gone", "secret")
        memory.purge("e/deep", "gone")
        memory.write("e", "deleted", 1)
        memory.delete("e", "deleted")
        memory.commit_outcome("before", "success", entries=[("e", "b")])


def plain(root: Path) -> Adapter:
    return lambda name: LocalAdapter(root / name, durability="none")


def mortal(root: Path, life: Life) -> Adapter:
    return lambda name: MortalAdapter(plain(root)(name), life)


def by(adapter: Adapter, act: Callable[[AgentMemory], object]) -> object:
    with AgentMemory("actor", adapter=adapter("store")) as memory:
        return act(memory)


def values(memory: AgentMemory, key: str) -> list[Any]:
    return [entry.value for entry in memory.history("e", key)]


def once_or_twice(history: list[object], value: object, before: int) -> None:
    """A call that was repeated by its user counts as another."""
    assert history[before:] in ([value], [value, value])


# --- the operations ------------------------------------------------------------------------------


def check_written(memory: AgentMemory, root: Path) -> None:
    once_or_twice(values(memory, "a"), "new", before=3)


def check_first(memory: AgentMemory, root: Path) -> None:
    once_or_twice(values(memory, "first"), "new", before=0)


def check_counted(memory: AgentMemory, root: Path) -> None:
    assert [value["n"] for value in values(memory, "a")] in ([0, 1, 2, 3], [0, 1, 2, 3, 4])


def check_deleted(memory: AgentMemory, root: Path) -> None:
    assert memory.read("e", "a") is None
    assert values(memory, "a") == [{"n": 0}, {"n": 1}, {"n": 2}, None]


def check_purged(memory: AgentMemory, root: Path) -> None:
    history = memory.history("e", "a")
    assert [entry.erased is not None for entry in history] == [True, True, True, False]
    assert history[-1].purges


def many(memory: AgentMemory) -> None:
    keys = ("x", "y", "x", "z", "a")
    items = [{"entity_path": "e", "key": key, "value": n} for n, key in enumerate(keys)]
    memory.write_many(items)


def check_many(memory: AgentMemory, root: Path) -> None:
    assert values(memory, "x") in ([0, 2], [0, 0, 2], [0, 2, 0, 2])
    once_or_twice(values(memory, "y"), 1, before=0)
    once_or_twice(values(memory, "z"), 3, before=0)
    once_or_twice(values(memory, "a"), 4, before=3)


LINES = b"".join(
    json.dumps({"entity_path": "e", "key": f"i{n}", "value": n}).encode() + b"\n" for n in range(4)
)


def check_imported(memory: AgentMemory, root: Path) -> None:
    for number in range(4):
        once_or_twice(values(memory, f"i{number}"), number, before=0)


def check_same(memory: AgentMemory, root: Path) -> None:
    assert contents(root / "copy") == contents(root / "store")


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def commit(memory: AgentMemory) -> None:
    memory.commit_outcome("ref", "failure", entries=[("e", "a"), ("e", "b")])


def check_committed(memory: AgentMemory, root: Path) -> None:
    for key in ("a", "b"):
        refs = [entry.provenance.outcome_ref for entry in memory.history("e", key)]
        assert refs.count("ref") == 1, key


def half_done(adapter: Adapter) -> None:
    """Record an outcome, and die before it is counted anywhere."""
    faulty = FaultyAdapter(adapter("store"))
    faulty.inject(Fault.CRASH_BEFORE, skip=1, times=2)
    with AgentMemory("hasty", adapter=faulty) as memory, pytest.raises(Crash):
        commit(memory)


def repair(adapter: Adapter) -> None:
    with AgentMemory("mender", adapter=adapter("store")) as memory:
        memory.verify(repair=True)


PENDING = "has not been counted into"
SCENARIOS = {
    "a write": Scenario(lambda to: by(to, lambda m: m.write("e", "a", "new")), check_written),
    "a first write": Scenario(
        lambda to: by(to, lambda m: m.write("e", "first", "new")), check_first
    ),
    "an update": Scenario(
        lambda to: by(to, lambda m: m.update("e", "a", lambda old: {"n": old["n"] + 1})),
        check_counted,
    ),
    "a delete": Scenario(lambda to: by(to, lambda m: m.delete("e", "a")), check_deleted),
    "a purge": Scenario(
        lambda to: by(to, lambda m: m.purge("e", "a")),
        check_purged,
        ("but its content is still there",),
    ),
    "write_many": Scenario(lambda to: by(to, many), check_many),
    "an import": Scenario(
        lambda to: by(to, lambda m: import_lines(m, io.BytesIO(LINES))), check_imported
    ),
    # Outcomes come last: what counts one misses it until the end.
    "a copy": Scenario(
        lambda to: copy(to("store"), to("copy")),
        check_same,
        (" of which there is no record",),
        target="copy",
    ),
    "an outcome": Scenario(lambda to: by(to, commit), check_committed, (PENDING,)),
}


# --- dying ---------------------------------------------------------------------------------------


def assert_consistent(memory: AgentMemory, excused: tuple[str, ...] = ()) -> None:
    """Nothing is wrong but what repeating the operation fixes, as the finding says itself."""
    findings = map(str, memory.verify().findings)
    assert [finding for finding in findings if not any(text in finding for text in excused)] == []


def acknowledged(memory: AgentMemory) -> dict[str, list[MemoryEntry]]:
    return {key: memory.history("e", key) for key in ("a", "b", "deleted")}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_an_operation_that_dies_at_any_request_leaves_a_store_that_goes_on(
    scenario: Scenario, after: bool, tmp_path: Path
) -> None:
    prepare(tmp_path / "prepared")
    with AgentMemory("reader", adapter=plain(tmp_path / "prepared")("store")) as reader:
        before = acknowledged(reader)
    for point in itertools.count(1):
        assert point < MOST_POINTS
        root = tmp_path / str(point)
        shutil.copytree(tmp_path / "prepared", root)
        life = Life(point, after=after)
        with contextlib.suppress(Crash):
            scenario.act(mortal(root, life))
        with AgentMemory("reader", adapter=plain(root)("store")) as reader:
            for key, history in acknowledged(reader).items():
                kept = history[: len(before[key])]
                erased = [entry.erased or entry.sha256 for entry in kept]
                assert erased == [entry.sha256 for entry in before[key]], f"at {point}"
        with AgentMemory("reader", adapter=plain(root)(scenario.target)) as reader:
            assert_consistent(reader, scenario.until_repeated)
        if not life.over:
            break
        scenario.act(plain(root))
        with AgentMemory("reader", adapter=plain(root)(scenario.target)) as reader:
            assert_consistent(reader)
            scenario.check(reader, root)
    assert point > 1


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_repair_that_dies_at_any_request_is_finished_by_the_next(
    after: bool, tmp_path: Path
) -> None:
    prepare(tmp_path / "prepared")
    half_done(plain(tmp_path / "prepared"))
    with AgentMemory("reader", adapter=plain(tmp_path / "prepared")("store")) as reader:
        assert not reader.verify().ok
    for point in itertools.count(1):
        assert point < MOST_POINTS
        root = tmp_path / str(point)
        shutil.copytree(tmp_path / "prepared", root)
        life = Life(point, after=after)
        with contextlib.suppress(Crash):
            repair(mortal(root, life))
        repair(plain(root))
        with AgentMemory("reader", adapter=plain(root)("store")) as reader:
            assert_consistent(reader)
            check_committed(reader, root)
        if not life.over:
            break
    assert point > 1


def refresh(root: str, cache_dir: str, requests: int, after: bool) -> None:
    """List with a catalog in a file, and really die at a request: no handler runs, no file is
    closed."""
    life = Life(requests, after=after, die=lambda: os._exit(DIED))
    adapter = MortalAdapter(LocalAdapter(root, durability="none"), life)
    with AgentMemory("lister", adapter=adapter, cache_dir=cache_dir) as memory:
        memory.list()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_catalog_whose_refresh_dies_at_any_request_is_right_at_the_next(
    after: bool, tmp_path: Path
) -> None:
    prepare(tmp_path)
    store = tmp_path / "store"
    with AgentMemory("reader", adapter=LocalAdapter(store)) as reader:
        reader.write("e", "more", "words")
        expected = reader.list()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    for point in itertools.count(1):
        assert point < MOST_POINTS
        cache_dir = tmp_path / f"cache-{point}"
        process = context.Process(target=refresh, args=(str(store), str(cache_dir), point, after))
        process.start()
        process.join()
        with AgentMemory("reader", adapter=LocalAdapter(store), cache_dir=cache_dir) as reader:
            assert reader.list() == expected
            assert [hit.entry.key for hit in reader.search("words")] == ["more"]
        if process.exitcode == 0:
            break
        assert process.exitcode == DIED
    assert point > 1
