"""A version number that no writer reached: another tool put it there, whole or garbage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amfs_core.errors import CorruptEntryError, PermissionDeniedError
from amfs_core.format import MAX_VERSION, Cause
from amfs_core.memory import AgentMemory
from amfs_core.storage import ObjectInfo, StorageAdapter
from amfs_core.testing import FaultyAdapter, ModelAdapter
from amfs_core.versions import reached
from amfs_local import LocalAdapter
from tests.support import hostile
from tests.support.hostile import ENTITY, GOOD, error_of, genuine

KEY = "k"
WRITTEN = 3


def whole(number: int) -> bytes:
    return hostile.with_field("version", number)(genuine(KEY))


BODIES: dict[str, Callable[[int], bytes]] = {
    "whole": whole,
    "garbage": lambda _: b"hello\n",
    "empty": lambda _: b"",
}


@pytest.fixture(params=["model", "local"])
def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> StorageAdapter:
    if request.param == "model":
        return ModelAdapter()
    return LocalAdapter(tmp_path, durability="none")


@pytest.fixture(params=BODIES)
def body(request: pytest.FixtureRequest) -> Callable[[int], bytes]:
    return BODIES[request.param]


def requests(memory: AgentMemory) -> int:
    return sum(memory.metrics.requests.values())


def opened(adapter: StorageAdapter) -> AgentMemory:
    return AgentMemory("agent", adapter=adapter, patience=0.5)


def fill(adapter: StorageAdapter, number: int, body: bytes, written: int = WRITTEN) -> str:
    """Three versions of a memory, a forged one, and two other memories; return the forged key."""
    with opened(adapter) as memory:
        for count in range(written):
            memory.write(ENTITY, KEY, f"secret {count}")
    for key in GOOD:
        hostile.place(adapter, key, genuine(key))
    return hostile.place(adapter, KEY, body, number)


@pytest.mark.parametrize("number", [MAX_VERSION, MAX_VERSION - 1, 2**32, 5000])
class TestForgedNumber:
    def test_a_purge_ends_and_erases_what_is_there(
        self, adapter: StorageAdapter, number: int, body: Callable[[int], bytes]
    ) -> None:
        forged = fill(adapter, number, body(number))
        memory = opened(adapter)
        assert memory.purge(ENTITY, KEY) == WRITTEN + 1
        assert requests(memory) < 20
        there = [info.key for info in adapter.list(f"default/entries/{ENTITY}/{KEY}/")]
        assert len(there) == WRITTEN + 2
        assert not any(b"secret" in (adapter.get(key) or b"") for key in there)
        assert b'"n":1' not in (adapter.get(forged) or b"")
        (finding,) = opened(adapter).verify().findings
        assert finding.object_key == forged
        assert "move it out" in finding.hint
        assert memory.purge(ENTITY, KEY) == 0
        for reader in (memory, opened(adapter)):
            assert reader.read(ENTITY, KEY) is None
        assert memory.write(ENTITY, KEY, "again").version == WRITTEN + 2
        assert opened(adapter).read(ENTITY, KEY) == memory.read(ENTITY, KEY)
        adapter.delete(forged)
        assert opened(adapter).verify().ok

    def test_everything_else_is_bounded_and_true(
        self,
        adapter: StorageAdapter,
        number: int,
        body: Callable[[int], bytes],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        forged = fill(adapter, number, body(number))
        memory = opened(adapter)
        newest_entry = memory.read(ENTITY, KEY)
        assert newest_entry is not None and newest_entry.version == WRITTEN
        missing = error_of(lambda: memory.history(ENTITY, KEY))
        assert isinstance(missing, CorruptEntryError)
        assert f"v{WRITTEN + 1}.json is missing" in str(missing)
        assert memory.write(ENTITY, KEY, "more").version == WRITTEN + 1
        assert memory.update(ENTITY, KEY, lambda old: f"{old}!").version == WRITTEN + 2
        deleted = memory.delete(ENTITY, KEY)
        assert deleted is not None and deleted.version == WRITTEN + 3
        written = memory.write(ENTITY, KEY, "again")
        for _ in range(2):
            assert [entry for entry in memory.list() if entry.key == KEY] == [written]
            assert [hit.entry for hit in memory.search("again")] == [written]
        assert sum(forged in record.getMessage() for record in caplog.records) == 1
        assert memory.delete(ENTITY, KEY) is not None
        assert memory.stats().deepest == WRITTEN + 6
        assert {entry.key for entry in memory.list()} >= set(GOOD)
        assert {hit.entry.key for hit in memory.search(limit=100)} >= set(GOOD)
        assert forged in {finding.object_key for finding in memory.verify().findings}
        waited = set(GOOD)
        with memory.watch(since="beginning") as watch:
            while waited:
                entry = next(watch)
                waited.discard(entry.key)
                assert entry.version < number
        assert requests(memory) < 2200  # a history and a watch each look for a thousand at once

    def test_only_a_forged_number_is_erased_too(
        self, adapter: StorageAdapter, number: int, body: Callable[[int], bytes]
    ) -> None:
        forged = fill(adapter, number, body(number), written=0)
        memory = opened(adapter)
        assert memory.purge(ENTITY, KEY) == 1
        assert requests(memory) < 10
        assert b'"n":1' not in (adapter.get(forged) or b"")
        assert memory.purge(ENTITY, KEY) == 0


def test_an_outcome_does_not_look_through_numbers_that_are_not_there(
    adapter: StorageAdapter,
) -> None:
    """The forged version says nothing new, so whether the outcome was counted is looked for."""
    number = MAX_VERSION - 1
    fill(adapter, number, hostile.with_field("claim", 1)(whole(number)))
    used = [Cause(ENTITY, KEY, WRITTEN)]
    opened(adapter).commit_outcome("o", "success", entries=used)
    memory = opened(adapter)
    memory.read(ENTITY, KEY, version=number)  # from here on this process takes it for the newest
    assert memory.commit_outcome("o", "success", entries=used).ref == "o"
    assert not memory.verify().ok
    assert requests(memory) < 2200


def test_a_purge_finds_everything_while_a_listing_is_behind_or_not_allowed() -> None:
    class Unlisted(ModelAdapter):
        def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
            raise PermissionDeniedError("no listing")

    for inner, hidden in ((Unlisted(), 0), (ModelAdapter(), 3), (ModelAdapter(), 5)):
        faulty = FaultyAdapter(inner)
        memory = opened(faulty)
        for count in range(5):
            memory.write("e", "k", f"secret {count}")
        if hidden:
            faulty.hide_newest(hidden)
        assert opened(faulty).purge("e", "k") == 5
        reader = opened(faulty)
        versions = [reader.read("e", "k", version=number) for number in range(1, 7)]
        assert [version.value for version in versions if version] == [None] * 6


numbers = st.sets(st.integers(1, MAX_VERSION), max_size=60)
lost = st.sets(st.integers(1, 3000), max_size=500)


@given(numbers, st.integers(0, 3000), lost)
def test_the_newest_version_of_a_writer_is_told_from_foreign_ones(
    foreign: set[int], written: int, lost: set[int]
) -> None:
    genuine = set(range(1, written + 1)) - lost
    number = reached(genuine | foreign)
    assert number >= max(genuine, default=0)
    # However many are put there, the way up to what was reached is short.
    assert number <= 1000 + 11 * len(genuine | foreign)
