"""The machine crashes after any call of a writer on a local disk: what was acknowledged is there.

`tests/torture/disk.py` says what the disk may lose.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MethodType
from typing import Any

import pytest

from amfs_core.memory import AgentMemory
from amfs_core.testing import Crash
from amfs_local import LocalAdapter
from amfs_local.directories import Directories
from amfs_local.temporary import Scratch
from tests.torture.disk import SCRATCH, Trace, TracedOs, Tree, build, installed, states

UNDER_WAY = ("but its content is still there", "has not been counted into")
"""What `verify` may find of an operation that was interrupted, and what repeating it fixes."""


class Machine:
    """A directory on the disk that forgets, and what was acknowledged there."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, *, unnamed: bool) -> None:
        self.root = path / "machine"
        self.root.mkdir()
        self._after = path / "after"
        self.trace = Trace()
        self.os = TracedOs(self.trace, self.root, unnamed=unnamed)
        installed(self.os, monkeypatch)
        self._uninstall = monkeypatch.undo
        self.acknowledge()

    def process(self, agent_id: str = "a") -> AgentMemory:
        """A memory as a process of its own has it."""
        return AgentMemory(agent_id, adapter=LocalAdapter(self.root / "store"))

    def acknowledge(self) -> None:
        """Note that all that is there now must survive from now on."""
        self.trace.acknowledged.append((len(self.trace.calls), self.contents()))

    def contents(self) -> dict[str, bytes]:
        """All objects: what is in a directory whose name begins with a dot is none."""
        files = (path for path in self.root.rglob("*") if path.is_file())
        named = {path.relative_to(self.root).as_posix(): path.read_bytes() for path in files}
        return {name: body for name, body in named.items() if "/." not in f"/{name}"}

    def problems(self, *, ordered: bool = False) -> Iterator[str]:
        """What is wrong after a crash at any moment, in any state that it may leave."""
        self._uninstall()  # from here on, the disk is a real one
        dice = random.Random(1)
        seen: set[frozenset[Any]] = set()
        for moment in range(len(self.trace.calls) + 1):
            for tree in states(self.trace.calls[:moment], ordered=ordered, dice=dice):
                seen_by_readers = [file for file in tree.items() if SCRATCH not in file[0]]
                what = frozenset([*seen_by_readers, ("acknowledged", self._last(moment))])
                if what not in seen:
                    seen.add(what)
                    problems = (*self._lost(tree, moment), *self._unsound(tree))
                    yield from (f"after {moment} calls: {problem}" for problem in problems)

    def _last(self, moment: int) -> int:
        done = [index for index, (at, _) in enumerate(self.trace.acknowledged) if at <= moment]
        return done[-1]

    def _lost(self, tree: Tree, moment: int) -> Iterator[str]:
        last = self._last(moment)
        safe = self.trace.acknowledged[last][1]
        coming = self.trace.acknowledged[last + 1 :][:1]  # what an erasure is about to leave
        for name, body in safe.items():
            allowed = {body, *(contents[name] for _, contents in coming)}
            if tree.get(name) not in allowed:
                yield f"{name} was acknowledged and is {tree.get(name)!r:.60}"

    def _unsound(self, tree: Tree) -> Iterator[str]:
        """Open what is left, and go on with it."""
        build(tree, self._after)
        adapter = LocalAdapter(self._after / "store", durability="none")
        with AgentMemory("later", adapter=adapter) as memory:
            for finding in map(str, memory.verify(repair=True).findings):
                if not any(text in finding for text in UNDER_WAY):
                    yield finding
            for entry in memory.list():
                memory.write(entry.entity_path, entry.key, "goes on")
            yield from (
                str(finding)
                for finding in memory.verify().findings
                if not any(text in str(finding) for text in UNDER_WAY)
            )
        shutil.rmtree(self._after)


@pytest.fixture(params=[True, False], ids=["unnamed", "named"])
def machine(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Machine:
    """With and without O_TMPFILE."""
    return Machine(tmp_path, monkeypatch, unnamed=request.param)


def work(machine: Machine) -> None:
    """Some of everything that writes, each acknowledged."""
    memory = machine.process()
    steps: list[Callable[[], object]] = [
        lambda: memory.write("e", "k", {"n": 1}),
        lambda: memory.write("e/deep/er", "other", "x" * 5000),
        lambda: memory.update("e", "k", lambda old: {"n": old["n"] + 1}),
        lambda: machine.process("b").write("e", "k", {"n": 3}),
        lambda: memory.commit_outcome("ref", "success", entries=[("e", "k")]),
        lambda: memory.delete("e/deep/er", "other"),
        lambda: memory.purge("e", "k"),
        lambda: memory.write_many(
            {"entity_path": path, "key": key, "value": number}
            for number, (path, key) in enumerate([("e", "k"), ("e", "new"), ("f", "k"), ("f", "k")])
        ),
    ]
    for step in steps:
        step()
        machine.acknowledge()


def test_acknowledged_writes_survive_a_crash_of_the_machine_at_any_moment(
    machine: Machine,
) -> None:
    work(machine)
    assert list(machine.problems()) == []


def test_the_trace_has_every_call_that_changed_the_disk(machine: Machine) -> None:
    work(machine)
    *_, last = states(machine.trace.calls, ordered=True, dice=random.Random(0))
    there = {name: body for name, body in last.items() if body is not None}
    assert there == machine.contents()


def test_a_writer_that_skips_the_flush_of_directories_is_caught(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Directories, "flush", lambda self, path: None)
        work(machine)
    assert any("was acknowledged and is None" in problem for problem in machine.problems())


def test_a_writer_that_skips_the_flush_of_files_is_caught(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, opened = machine.os.fsync, machine.os.directories
    with monkeypatch.context() as patch:
        patch.setattr(machine.os, "fsync", lambda fd: fsync(fd) if fd in opened else None)
        work(machine)
    assert any("was acknowledged and is b''" in problem for problem in machine.problems())


def crash_before_flush(machine: Machine, key: str) -> None:
    """Have a process die between naming its file and flushing the directory."""

    def die() -> None:
        raise Crash

    memory = machine.process("dying")
    memory.read("e", key)

    def arm(*_: object) -> None:
        machine.os.before["flush"] = die

    adapter = memory.adapter
    assert isinstance(adapter, LocalAdapter)
    scratch = adapter._scratch
    link = scratch.link

    def link_and_arm(self: Scratch, data: bytes, path: str) -> None:
        link(data, path)
        arm()

    scratch.link = MethodType(link_and_arm, scratch)  # type: ignore[method-assign]
    with pytest.raises(Crash):
        memory.write("e", key, "left by the dead")


def test_a_version_on_one_that_its_dead_writer_had_not_flushed_does_not_survive_it(
    machine: Machine,
) -> None:
    machine.process().write("e", "k", 1)
    machine.acknowledge()
    late = machine.process("late")
    late.read("e", "k")
    crash_before_flush(machine, "k")
    late.write("e", "k", 3)  # it finds v2 taken, and stands on it
    machine.acknowledge()
    assert list(machine.problems()) == []


def test_a_writer_that_had_read_loses_nothing_where_names_reach_the_disk_in_order(
    machine: Machine,
) -> None:
    machine.process().write("e", "k", 1)
    machine.acknowledge()
    crash_before_flush(machine, "k")
    late = machine.process("late")
    late.read("e", "k")
    late.write("e", "k", 3)
    machine.acknowledge()
    assert list(machine.problems(ordered=True)) == []
