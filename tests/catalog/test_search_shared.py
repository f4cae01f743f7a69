"""Searches on a catalog that others change meanwhile: complete at every step."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from amfs_core.format import MemoryEntry
from amfs_core.memory import AgentMemory
from amfs_core.testing import ModelAdapter
from tests.catalog.test_catalog import Located, catalog_file

Ask = Callable[[AgentMemory], list[MemoryEntry]]


class Intruder:
    """Does something with the file of a catalog before one statement of another connection, unless
    that connection has the file to itself by then."""

    def __init__(self, path: Path, step: int, action: Callable[[], object]) -> None:
        self._path = path
        self._left = step
        self._action = action
        self.came = False

    def __call__(self, _statement: str) -> None:
        self._left -= 1
        if self._left == 0:
            self.came = True
            if self._is_free():
                self._action()

    def _is_free(self) -> bool:
        with closing(sqlite3.connect(self._path, timeout=0, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN EXCLUSIVE")  # nobody reads: a commit would wait for it
            except sqlite3.OperationalError:
                return False
            connection.execute("ROLLBACK")
        return True


def embedder(texts: list[str]) -> list[list[float]]:
    """Give each text a vector that says how often it has each of some letters."""
    return [[1.0 + text.count(letter) for letter in "aeiou"] for text in texts]


def by_words(memory: AgentMemory) -> list[MemoryEntry]:
    return [hit.entry for hit in memory.search("pelican", limit=100)]


def by_meaning(memory: AgentMemory) -> list[MemoryEntry]:
    return [hit.entry for hit in memory.semantic_search("pelican", limit=100)]


def at_each_step(tmp_path: Path, ask: Ask, embeds: bool) -> Iterator[list[MemoryEntry]]:
    """Yield what a search found while another agent wrote a new version of one of the memories, and
    took it into the catalog that both share: before the search's first statement, its second …"""
    for step in count(1):
        store, cache = Located(ModelAdapter()), tmp_path / str(step)
        with (
            AgentMemory(
                "a", adapter=store, cache_dir=cache, embedder=embedder if embeds else None
            ) as memory,
            AgentMemory("b", adapter=store, cache_dir=cache) as other,
        ):
            memory.write("birds", "one", "a pelican")
            memory.write("birds", "two", "another pelican")
            memory.list()
            other.list()

            def write(other: AgentMemory = other) -> None:
                other.write("birds", "two", "a pelican that has moved")
                other.list()

            intruder = Intruder(catalog_file(cache), step, write)
            assert memory._engine._search is not None
            connection = memory._engine._search._catalog.database.run(lambda connection: connection)
            connection.set_trace_callback(intruder)
            entries = ask(memory)
            connection.set_trace_callback(None)
            if not intruder.came:
                return
            yield entries


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ask", "embeds"),
    [(by_words, False), (by_words, True), (by_meaning, True)],
    ids=["words", "both", "meaning"],
)
def test_a_memory_that_is_replaced_during_a_search_is_still_found(
    tmp_path: Path, ask: Ask, embeds: bool
) -> None:
    steps = 0
    for entries in at_each_step(tmp_path, ask, embeds):
        steps += 1
        assert sorted(entry.key for entry in entries) == ["one", "two"], f"at step {steps}"
    assert steps > 5


def test_a_memory_that_another_process_stores_unchanged_stays_indexed(tmp_path: Path) -> None:
    store = Located(ModelAdapter())
    with (
        AgentMemory("a", adapter=store, cache_dir=tmp_path) as memory,
        AgentMemory("b", adapter=store, cache_dir=tmp_path) as other,
    ):
        AgentMemory("w", adapter=store).write("birds", "one", "a pelican")
        store.before(lambda: by_words(memory), skip=1)  # after the other's list, before its get
        assert [entry.key for entry in other.list()] == ["one"]
        with closing(sqlite3.connect(catalog_file(tmp_path))) as connection:
            assert connection.execute("SELECT indexed FROM memory").fetchall() == [(1,)]
            assert connection.execute("SELECT count(*) FROM fulltext_memory").fetchall() == [(1,)]
        assert [entry.key for entry in by_words(memory)] == ["one"]
