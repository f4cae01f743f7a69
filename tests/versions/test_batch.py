"""`write_many` on a store that creates objects together: each item once, whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amfs_core.errors import (
    BackendUnavailableError,
    InvalidValueError,
    WriteManyError,
    WriteOutcomeUnknownError,
)
from amfs_core.memory import AgentMemory
from amfs_core.testing import Fault, FaultyAdapter, ModelAdapter
from amfs_local import LocalAdapter

Open = Callable[..., AgentMemory]
KEYS = ("a", "b", "c")
FAULTS = (
    Fault.LOST_ANSWER,
    Fault.LOST_REQUEST,
    Fault.CONFLICT,
    Fault.LATE,
    Fault.UNAVAILABLE,
)


class Together(ModelAdapter):
    """A model of a store that creates objects together."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[str]] = []

    def create_many(self, objects: Mapping[str, bytes]) -> list[str]:
        self.batches.append(list(objects))
        return [key for key, data in objects.items() if self.create(key, data)]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Open memories that are closed at the end."""
    with ExitStack() as stack:
        yield lambda name, **options: stack.enter_context(AgentMemory(name, **options))


def item(key: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"entity_path": "e", "key": key, "value": value, **more}


def test_the_next_version_of_each_memory_is_created_in_one_call(opened: Open) -> None:
    store = Together()
    memory = opened("a", adapter=store)
    entries = memory.write_many(item(key, number) for number, key in enumerate("abcabca"))
    assert [entry.version for entry in entries] == [1, 1, 1, 2, 2, 2, 3]
    names = [[key.removeprefix("default/entries/e/") for key in batch] for batch in store.batches]
    assert [sorted(batch) for batch in names] == [
        ["a/v1.json", "b/v1.json", "c/v1.json"],
        ["a/v2.json", "b/v2.json", "c/v2.json"],
    ]  # what is left of a single memory is an ordinary write
    assert memory.metrics.requests["create"] == 7
    assert [entry.value for entry in memory.history("e", "a")] == [0, 3, 6]
    assert memory.verify().ok
    assert {entry.key for entry in memory.list()} == {"a", "b", "c"}


def test_a_batch_builds_on_what_another_wrote_first(opened: Open) -> None:
    store = Together()
    opened("other", adapter=store).write("e", "b", "theirs")
    memory = opened("a", adapter=store)
    entries = memory.write_many(item(key, key) for key in "abcb")
    assert [(entry.key, entry.version) for entry in entries] == [
        ("a", 1),
        ("b", 2),
        ("c", 1),
        ("b", 3),
    ]
    assert memory.verify().ok


def test_an_expected_version_is_looked_at(opened: Open) -> None:
    store = Together()
    memory = opened("a", adapter=store)
    memory.write("e", "a", 0)
    with pytest.raises(WriteManyError) as caught:
        memory.write_many(
            [item("a", 1, expected_version=7), item("b", 2), item("c", 3, expected_version=0)]
        )
    assert sorted(caught.value.errors) == [0]
    assert [entry and entry.value for entry in caught.value.entries] == [None, 2, 3]


def test_a_store_that_is_down_says_so_for_each_item(opened: Open) -> None:
    class Down(Together):
        def create_many(self, objects: Mapping[str, bytes]) -> list[str]:
            return []

        def create(self, key: str, data: bytes) -> bool:
            raise BackendUnavailableError("no connection")

    with pytest.raises(WriteManyError, match=r"3 of 3 items .* no connection"):
        opened("a", adapter=Down(), patience=0.1).write_many(item(key, 1) for key in KEYS)


@pytest.mark.parametrize("there", [True, False], ids=["stored", "not-stored"])
def test_a_write_that_may_have_landed_is_not_called_unwritten(opened: Open, there: bool) -> None:
    """As on a disk that takes files and then fails to flush their directories."""

    class Failing(Together):
        def create_many(self, objects: Mapping[str, bytes]) -> list[str]:
            for key, data in objects.items() if there else ():
                super().create(key, data)
            raise BackendUnavailableError("the disk fails")

        def create(self, key: str, data: bytes) -> bool:
            raise BackendUnavailableError("the disk fails")

    memory = opened("a", adapter=Failing(), patience=0.1)
    with pytest.raises(WriteManyError) as caught:
        memory.write_many(item(key, 1) for key in KEYS)
    for index, key in enumerate(KEYS):
        error = caught.value.errors[index]
        assert isinstance(error, WriteOutcomeUnknownError) is there
        if isinstance(error, WriteOutcomeUnknownError):
            assert memory.find_write("e", key, error.write_id, version=error.version) is not None


def test_an_item_just_within_the_limit_is_written_and_one_above_it_is_refused(opened: Open) -> None:
    store = Together()
    free = opened("a", adapter=store)
    size = len(store.get("default/entries/e/a/v1.json") or b"") if free.write("e", "a", "") else 0
    room = 9 + 62  # the most that a higher number and the SHA-256 of another version add
    memory = opened("a", adapter=Together(), max_value_bytes=size + room + 100)
    written = memory.write_many([item("a", "x" * 100), item("b", "x" * 100)])
    assert [entry.version for entry in written] == [1, 1]
    with pytest.raises(InvalidValueError, match="item 1"):
        memory.write_many([item("c", ""), item("d", "x" * 101)])
    assert memory.read("e", "c") is None


@given(
    keys=st.lists(st.sampled_from(KEYS), max_size=12),
    faults=st.lists(st.tuples(st.sampled_from(FAULTS), st.integers(0, 12)), max_size=4),
    rivals=st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 12)), max_size=3),
)
def test_every_item_is_written_once_and_in_order_through_faults_and_rivals(
    keys: list[str], faults: list[tuple[Fault, int]], rivals: list[tuple[str, int]]
) -> None:
    faulty = FaultyAdapter(Together())
    with (
        AgentMemory("rival", adapter=faulty.inner) as rival,
        AgentMemory("a", adapter=faulty) as memory,
        AgentMemory("reader", adapter=faulty.inner) as reader,
    ):
        for fault, skip in faults:
            faulty.inject(fault, skip=skip)
        for key, skip in rivals:
            faulty.before(lambda key=key: rival.write("e", key, "theirs"), skip=skip)  # type: ignore[misc]
        entries = memory.write_many(item(key, number) for number, key in enumerate(keys))
        faulty.clear()
        faulty.deliver()
        assert [(entry.key, entry.value) for entry in entries] == list(
            zip(keys, range(len(keys)), strict=True)
        )
        assert reader.verify().ok
        for key in KEYS:
            history = [entry for entry in reader.history("e", key) if entry.value != "theirs"]
            assert history == [entry for entry in entries if entry.key == key]


def test_a_directory_gets_thousands_of_memories_and_versions_at_once(
    tmp_path: Path, opened: Open
) -> None:
    memory = opened("a", adapter=LocalAdapter(tmp_path / "store"))
    entries = memory.write_many(item(f"k{n % 1000}", n, tags=[str(n)]) for n in range(3000))
    assert [entry.version for entry in entries] == [n // 1000 + 1 for n in range(3000)]
    reader = opened("r", adapter=LocalAdapter(tmp_path / "store"))
    report = reader.verify()
    assert report.ok
    assert reader.stats().versions == 3000
    assert [entry.value for entry in reader.history("e", "k7")] == [7, 1007, 2007]
    left = [path for path in tmp_path.rglob("*") if path.name.startswith(".")]
    assert left == []


def test_an_obstacle_for_one_memory_of_a_directory_does_not_hinder_others(
    tmp_path: Path, opened: Open
) -> None:
    root = tmp_path / "store"
    memory = opened("a", adapter=LocalAdapter(root), patience=0.1)
    memory.write("e", "there", 1)
    (root / "default/entries/e/b").write_text("a file where a directory should be")
    with pytest.raises(WriteManyError, match="1 of 3 items") as caught:
        memory.write_many(item(key, 1) for key in "abc")
    assert sorted(caught.value.errors) == [1]
    assert {entry.key for entry in memory.list()} == {"a", "c", "there"}
