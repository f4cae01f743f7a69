"""Lists, searches and watches that follow a change log see what listings see."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from amfs import AgentMemory
from amfs_core.changes import source
from amfs_core.errors import PermissionDeniedError
from amfs_core.storage import StorageAdapter
from amfs_core.testing import Fault, FaultyAdapter
from amfs_local import LocalAdapter
from amfs_sqlite import SqliteAdapter

Make = Callable[[], StorageAdapter]


@pytest.fixture(params=["local", "sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Return what opens the store, each time by another adapter."""
    if request.param == "local":
        return lambda: LocalAdapter(tmp_path / "store", durability="none")
    if request.param == "sqlite":
        return lambda: SqliteAdapter(tmp_path / "store.db", durability="none")
    from amfs_postgres import PostgresAdapter
    from tests.support.postgres import new_schema

    dsn, schema = request.getfixturevalue("postgres").dsn, new_schema()
    return lambda: PostgresAdapter(dsn, schema)


@pytest.fixture
def opened(make: Make) -> Iterator[Callable[[], AgentMemory]]:
    """Return what opens a memory on the store, as another process would."""
    with ExitStack() as stack:

        def open_memory() -> AgentMemory:
            adapter = stack.enter_context(closing(make()))
            return stack.enter_context(AgentMemory("a", adapter=adapter))

        yield open_memory


@pytest.fixture
def writer(opened: Callable[[], AgentMemory]) -> AgentMemory:
    memory = opened()
    for number in range(20):
        memory.write(f"e{number % 3}", f"k{number}", f"value {number}")
    return memory


@pytest.fixture
def follower(make: Make, writer: AgentMemory) -> Iterator[tuple[AgentMemory, FaultyAdapter]]:
    """A memory that follows the log, and the adapter that counts what it asks for."""
    del writer  # there is something before it looks
    with closing(make()) as inner:
        adapter = FaultyAdapter(inner)
        with AgentMemory("b", adapter=adapter) as memory:
            memory.list()
            memory.list()  # who looks for the second time begins to follow
            adapter.calls.clear()
            yield memory, adapter


def listed(memory: AgentMemory, **options: Any) -> dict[str, int]:
    return {f"{entry.entity_path}/{entry.key}": entry.version for entry in memory.list(**options)}


def lists(adapter: FaultyAdapter) -> list[str]:
    """Return the prefixes that were listed; a question to the log counts with none."""
    return [call.key for call in adapter.calls if call.verb == "list"]


def test_a_look_with_nothing_new_is_one_question(
    follower: tuple[AgentMemory, FaultyAdapter],
) -> None:
    memory, adapter = follower
    assert len(memory.list()) == 20
    assert len(memory.search("value", limit=50)) == 20
    assert len(memory.list("e1")) == 7
    assert lists(adapter) == ["", "", ""]
    assert adapter.requests() == Counter(list=3)


def test_changes_by_others_are_seen_at_once_and_only_they_are_fetched(
    follower: tuple[AgentMemory, FaultyAdapter], writer: AgentMemory
) -> None:
    memory, adapter = follower
    writer.write("e1", "k1", "changed")
    writer.write("new/deep", "k", "came")
    writer.write_many([{"entity_path": "m", "key": f"k{n}", "value": "many"} for n in range(5)])
    writer.delete("e0", "k0")
    assert {hit.entry.value for hit in memory.search("changed came", limit=9)} >= {
        "changed",
        "came",
    }
    assert listed(memory) == listed(writer)
    assert lists(adapter) == ["", ""]
    assert adapter.requests()["get"] == 8


def test_an_erased_memory_is_not_found(
    follower: tuple[AgentMemory, FaultyAdapter], writer: AgentMemory
) -> None:
    memory, adapter = follower
    memory.search("value")
    writer.purge("e0", "k0")
    assert all(hit.entry.key != "k0" for hit in memory.search("value", limit=50))
    assert lists(adapter) == ["", ""]


def test_a_path_below_one_that_is_followed_needs_no_listing(
    follower: tuple[AgentMemory, FaultyAdapter], writer: AgentMemory
) -> None:
    memory, adapter = follower
    writer.write("e1/below", "k", 1)
    assert [entry.key for entry in memory.list("e1/below")] == ["k"]
    assert memory.list("e") == []
    assert lists(adapter) == ["", ""]


def test_a_path_is_followed_alone(
    make: Make, writer: AgentMemory, opened: Callable[[], AgentMemory]
) -> None:
    with closing(make()) as inner:
        adapter = FaultyAdapter(inner)
        with AgentMemory("b", adapter=adapter) as memory:
            memory.list("e1")
            memory.list("e1")
            adapter.calls.clear()
            writer.write("e1", "new", 1)
            writer.write("e2", "new", 1)
            assert "e1/new" in listed(memory, entity_path="e1")
            assert lists(adapter) == [""]
            assert len(memory.list()) == 22
            assert lists(adapter) == ["", "default/entries/"]


def test_a_failure_on_the_way_loses_nothing(
    follower: tuple[AgentMemory, FaultyAdapter], writer: AgentMemory
) -> None:
    memory, adapter = follower
    writer.write("e1", "one", 1)
    writer.write("e1", "two", 1)
    adapter.inject(Fault.CRASH_BEFORE, on="get", skip=1)
    with pytest.raises(BaseException, match="before the request"):
        memory.list()
    assert listed(memory) == listed(writer)
    assert "default/entries/" not in lists(adapter)


def test_a_damaged_version_is_asked_for_again_and_nothing_is_listed(
    follower: tuple[AgentMemory, FaultyAdapter], writer: AgentMemory
) -> None:
    memory, adapter = follower
    entry = writer.write("e1", "new", "whole")
    name = "default/entries/e1/new/v1.json"
    body = adapter.inner.get(name)
    assert body is not None
    adapter.inner.replace(name, body.replace(b"whole", b"whale"))
    writer.write("e1", "last", 1)  # a position at a row that is replaced is not gone on from
    assert "e1/new" not in listed(memory)
    assert "e1/new" not in listed(memory)
    adapter.inner.replace(name, body)
    assert listed(memory)["e1/new"] == entry.version
    assert "default/entries/" not in lists(adapter)


def test_all_is_listed_where_something_may_not_be_read(
    follower: tuple[AgentMemory, FaultyAdapter],
    writer: AgentMemory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory, adapter = follower
    writer.write("secret", "k", 1)
    get = adapter.inner.get

    def refuse(key: str) -> bytes | None:
        if "secret" in key:
            raise PermissionDeniedError(f"{key} may not be read", hint="")
        return get(key)

    monkeypatch.setattr(adapter.inner, "get", refuse)
    assert "secret/k" not in listed(memory)
    assert len(memory.list()) == 20
    with pytest.raises(PermissionDeniedError):
        memory.list("secret")
    monkeypatch.undo()
    assert listed(memory) == listed(writer)


def test_changes_by_other_tools_are_found_by_a_complete_look(
    follower: tuple[AgentMemory, FaultyAdapter], writer: AgentMemory
) -> None:
    memory, adapter = follower
    for number in range(20):
        if number % 3 == 0:
            adapter.inner.delete(f"default/entries/e0/k{number}/v1.json")
    assert len(memory.list()) == 20
    assert len(memory.list(complete=True)) == 13
    assert len(memory.search("value", complete=True, limit=50)) == 13
    assert len(memory.list()) == 13
    assert lists(adapter).count("default/entries/") == 2
    writer.write("e9", "k", 1)
    assert len(memory.list()) == 14
    assert lists(adapter).count("default/entries/") == 2


def test_a_complete_look_is_not_older_than_it_may_be(
    follower: tuple[AgentMemory, FaultyAdapter],
) -> None:
    memory, adapter = follower
    memory.list(complete=True)
    memory.list()
    memory.list(complete=True, max_age=60)
    memory.list(complete=True, max_age=0)
    assert lists(adapter).count("default/entries/") == 2


def test_everything_is_listed_again_after_a_while(
    make: Make, writer: AgentMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(make()) as inner:
        adapter = FaultyAdapter(inner)
        # One that lists so seldom that the clock need not be turned far.
        log = inner.changes()
        monkeypatch.setattr(type(log), "audit", 1000.0)
        now = time.monotonic()
        monkeypatch.setattr(source.time, "monotonic", lambda: now)
        with AgentMemory("b", adapter=adapter) as memory:
            memory.list()
            memory.list()
            adapter.inner.delete("default/entries/e0/k0/v1.json")
            now += 999
            assert len(memory.list()) == 20
            now += 2
            assert len(memory.list()) == 19


def test_a_watch_asks_the_log_and_delivers_each_version_once(
    make: Make, writer: AgentMemory
) -> None:
    with closing(make()) as inner:
        adapter = FaultyAdapter(inner)
        with (
            AgentMemory("b", adapter=adapter) as memory,
            memory.watch(interval=0.02) as watch,
        ):
            adapter.calls.clear()
            writer.write("e1", "k1", 2)
            writer.write("e1", "k1", 3)
            writer.write("new", "k", 1)
            entries = [next(watch) for _ in range(3)]
            assert [(entry.key, entry.version) for entry in entries if entry.key == "k1"] == [
                ("k1", 2),
                ("k1", 3),
            ]
            adapter.inject(Fault.UNAVAILABLE, on="list")
            adapter.inject(Fault.CRASH_BEFORE, on="get")
            writer.write("e1", "k1", 4)
            with pytest.raises(BaseException, match="before the request"):
                next(watch)
            assert next(watch).value == 4
            assert set(lists(adapter)) == {""}
            cursor = watch.cursor
        writer.write("e1", "k1", 5)
        with (
            AgentMemory("c", adapter=make()) as memory,
            memory.watch(since=cursor, interval=0.02) as watch,
        ):
            assert next(watch).value == 5


def test_a_watch_waits_before_a_damaged_version_and_goes_on_without_a_listing(
    make: Make, writer: AgentMemory
) -> None:
    with closing(make()) as inner:
        adapter = FaultyAdapter(inner)
        with AgentMemory("b", adapter=adapter) as memory, memory.watch(interval=0.01) as watch:
            adapter.calls.clear()
            writer.write("e1", "k1", "whole")
            writer.write("e1", "k1", "third")
            name = "default/entries/e1/k1/v2.json"
            body = inner.get(name)
            assert body is not None
            inner.replace(name, body.replace(b"whole", b"whale"))
            writer.write("e2", "other", 1)
            assert next(watch).key == "other"
            inner.replace(name, body)
            assert [next(watch).value for _ in range(2)] == ["whole", "third"]
            assert set(lists(adapter)) == {""}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.fork
def test_a_forked_child_looks_for_itself(
    follower: tuple[AgentMemory, FaultyAdapter], writer: AgentMemory
) -> None:
    memory, _ = follower
    writer.write("e1", "new", 1)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if len(memory.list()) == 21 and len(memory.list()) == 21 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(memory.list()) == 21


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_random_programs_see_what_a_listing_sees(
    opened: Callable[[], AgentMemory], seed: int
) -> None:
    """Writers on adapters of their own; followers of the whole and of a path, and a watch."""
    dice = random.Random(seed)
    writers = [opened(), opened()]
    whole, part = opened(), opened()
    seen: dict[tuple[str, str], int] = {}
    writers[0].write("e0", "k0", 0)
    with opened().watch(since="beginning", interval=0.01) as watch:
        for step in range(60):
            memory = dice.choice(writers)
            path = dice.choice(["e0", "e0/k1", "e1", "e1/é %/x"])
            key = f"k{dice.randrange(4)}"
            verb = dice.choice(["write", "write", "write", "many", "delete", "purge", "look"])
            if verb == "write":
                memory.write(path, key, step)
            elif verb == "many":
                items = [{"entity_path": path, "key": f"m{n}", "value": step} for n in range(3)]
                memory.write_many(items)
            elif verb == "delete":
                memory.delete(path, key)
            elif verb == "purge":
                memory.purge(path, key)
            truth = listed(writers[0], complete=True)
            assert listed(whole) == truth
            below = {name: v for name, v in truth.items() if name.startswith("e0/")}
            assert listed(part, entity_path="e0") == below
            for entry in watch.take():
                name = entry.entity_path, entry.key
                assert entry.version == seen.get(name, 0) + 1
                seen[name] = entry.version
        while not watch.is_current or watch.take():
            pass
        newest = {(a.entity_path, a.key): v for a, v in watch.delivered().items()}
        for (path, key), version in newest.items():
            assert len(writers[0].history(path, key)) == version


_WRITER = """
import sys
from amfs import AgentMemory
from amfs_local import LocalAdapter
with AgentMemory("w", adapter=LocalAdapter(sys.argv[1], durability="none")) as memory:
    number = 0
    while True:
        entry = memory.write(f"e{number % 7}", f"{sys.argv[2]}-{number % 50}", number)
        print(entry.entity_path, entry.key, entry.version, flush=True)
        number += 1
"""


def test_writers_that_are_killed_at_any_moment_hide_nothing(tmp_path: Path) -> None:
    """What they were told was written is in every look that begins after it."""
    root = tmp_path / "store"
    with AgentMemory("r", adapter=LocalAdapter(root, durability="none")) as memory:
        memory.write("first", "k", 1)
        memory.list()
        for number in range(8):
            process = subprocess.Popen(
                [sys.executable, "-c", _WRITER, str(root), str(number % 3)],
                stdout=subprocess.PIPE,
                text=True,
            )
            assert process.stdout is not None
            acknowledged: dict[str, int] = {}
            for _ in range(60):
                path, key, version = process.stdout.readline().split()
                acknowledged[f"{path}/{key}"] = int(version)
                shown = listed(memory)
                assert all(shown.get(name, 0) >= minimum for name, minimum in acknowledged.items())
            if number == 3:
                shutil.rmtree(root / ".amfs-changes")  # as somebody may who tidies up
            process.send_signal(signal.SIGKILL)
            for line in process.stdout.read().splitlines(keepends=True):
                if line.endswith("\n"):
                    path, key, version = line.split()
                    acknowledged[f"{path}/{key}"] = int(version)
            process.stdout.close()
            process.wait()
            shown = listed(memory)
            assert all(shown.get(name, 0) >= minimum for name, minimum in acknowledged.items())
        assert listed(memory) == listed(memory, complete=True)
