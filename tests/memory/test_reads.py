"""What a session has read is what a table kept with each read would have."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amfs_core.format import Address
from amfs_core.memory import read_log as reads_module
from amfs_core.memory.read_log import SessionReads


@pytest.fixture(scope="module", autouse=True)
def few() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reads_module, "MAX_MEMORIES", 3)
        patch.setattr(reads_module, "_MOST_WAITING", 4)
        yield


def address(key: str) -> Address:
    return Address("e", key, f"default/entries/e/{key}/")


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 5)), max_size=60), st.data())
def test_the_newest_version_of_the_memories_that_were_read_last(
    notes: list[tuple[str, int]], data: st.DataObject
) -> None:
    asked = data.draw(st.sets(st.integers(0, len(notes))))
    reads, model = SessionReads(), OrderedDict[Address, int]()
    for index, (key, version) in enumerate(notes):
        if index in asked:
            assert reads.newest() == model
        reads.note(address(key), version)
        model[address(key)] = max(version, model.pop(address(key), 0))
        if len(model) > 3:
            model.popitem(last=False)
    assert list(reads.newest().items()) == list(model.items())
