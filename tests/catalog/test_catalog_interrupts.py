"""Interrupts and signal handlers at every place of the catalog where Python lets one in."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from amfs_core.catalog import live, own, refresh, search
from amfs_core.catalog.sqlite import answers, catalog, database
from amfs_core.memory import AgentMemory
from amfs_core.testing import FaultyAdapter, ModelAdapter
from amfs_core.testing.cases import together
from tests.support.places import STRIDE, Place, Places

MODULES = (answers, catalog, database, live, own, refresh, search)


class Located(FaultyAdapter):
    location = "model://interrupted"


def opened(directory: Path) -> AgentMemory:
    """Return a memory of six, the last two of which its catalog has not stored yet."""
    memory = AgentMemory("a", adapter=Located(ModelAdapter()), cache_dir=directory)
    for number in range(5):
        memory.write("e", f"k{number}", f"pelican {number}")
    memory.search("pelican")
    memory.write("e", "k1", "pelican again")
    memory.write("e", "new", "pelican too")
    return memory


USES: dict[str, Callable[[AgentMemory], object]] = {
    "list": lambda memory: len(memory.list()),
    "list of own writes": lambda memory: len(memory.list(max_age=60)),
    "search": lambda memory: len(memory.search("pelican", limit=100)),
    "purge": lambda memory: memory.purge("e", "k0"),
    "first list": lambda memory: (memory.close(), len(memory.list()))[1],
}


def places(directory: Path, use: Callable[[AgentMemory], object]) -> list[Place]:
    all_of_them = Places(MODULES)
    memory = opened(directory)
    all_of_them.during(lambda: use(memory))
    seen_places = list(all_of_them.seen)
    assert len(seen_places) > 20
    return seen_places[::STRIDE]


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_an_interrupt_at_any_place_leaves_nothing_open(
    tmp_path: Path, use: Callable[[AgentMemory], object]
) -> None:
    for number, place in enumerate(places(tmp_path / "first", use)):
        memory = opened(tmp_path / str(number))
        interrupting, kept = Places(MODULES, place, interrupt), None
        try:
            interrupting.during(lambda memory=memory: use(memory))
        except KeyboardInterrupt as error:
            kept = error  # and with it all frames, as a debugger or a prompt keeps them
        where = f"interrupted in {place[0].co_name}, instruction {place[1]}: {kept!r}"
        assert interrupting.came, where
        assert not memory._searching().is_at_work_here(), where
        path = memory._searching()._catalog.database.path
        if path is not None:
            other = sqlite3.connect(path, timeout=0, isolation_level=None)
            other.execute("BEGIN EXCLUSIVE")  # nobody has a lock
            other.close()
        live = 6 - any(entry.deleted for entry in memory.history("e", "k0"))
        # In another thread: it waits for any lock that was left taken.
        (listed,) = together([lambda memory=memory: memory.list(max_age=60)])
        assert len(listed) == live, where
        assert len(memory.search("pelican", limit=100)) == live, where
        memory.purge("e", "k0")
        memory.close()
        files = b"".join(file.read_bytes() for file in (tmp_path / str(number)).iterdir())
        assert b"pelican 0" not in files, where


def handle(memory: AgentMemory) -> None:
    """Do in a handler all that it may want of a memory."""
    live = len(memory.list())
    assert live in (5, 6)
    assert len(memory.search("pelican", limit=100)) == live
    memory.write("e", "last", "pelican from the handler")
    assert memory.read("e", "last") is not None
    assert len(memory.list(max_age=60)) == live + 1
    memory.purge("e", "k2")
    assert len(memory.search("pelican", limit=100)) == live


@pytest.mark.slow
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_handler_may_use_the_memory_at_any_place(
    tmp_path: Path, use: Callable[[AgentMemory], object]
) -> None:
    for number, place in enumerate(places(tmp_path / "first", use)):
        memory = opened(tmp_path / str(number))
        handling = Places(MODULES, place, lambda memory=memory: handle(memory))
        answer = handling.during(lambda memory=memory: use(memory))
        where = f"handled in {place[0].co_name}, instruction {place[1]}"
        assert handling.came, where
        assert answer in (1, 5, 6, 7), where
        live = 6 - any(entry.deleted for entry in memory.history("e", "k0"))
        assert len(memory.list(max_age=60)) == live, where
        assert len(memory.search("pelican", limit=100)) == live, where
        memory.close()
        files = b"".join(file.read_bytes() for file in (tmp_path / str(number)).iterdir())
        assert b"pelican 2" not in files, where
