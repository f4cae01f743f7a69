"""Names of memories: followed by a change log, they are those of a listing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amfs import AgentMemory
from amfs_agents.listing import Names, newest_versions
from amfs_local import LocalAdapter
from amfs_sqlite import SqliteAdapter

Opens = Callable[[], AgentMemory]

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["write", "delete", "purge", "look", "look"]),
        st.sampled_from(["e", "e/f", "e/f/g", "ef", "e%2Ff"]),
        st.sampled_from(["k", "f", "k/1"]),
    ),
    max_size=15,
)


@pytest.fixture(params=["directory", "sqlite"])
def opens(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opens]:
    with ExitStack() as stack:

        def opened() -> AgentMemory:
            made = (
                LocalAdapter(tmp_path / "store")
                if request.param == "directory"
                else SqliteAdapter(tmp_path / "store.db")
            )
            adapter = stack.enter_context(closing(made))
            return stack.enter_context(AgentMemory("tests", adapter=adapter))

        yield opened


@settings(
    max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(steps=STEPS)
def test_names_are_those_of_a_listing_whatever_another_process_did(
    steps: list[tuple[str, str, str]], opens: Opens
) -> None:
    names, other = Names(opens()), opens()
    for step, path, key in steps:
        match step:
            case "write":
                other.write(path, key, 1)
            case "delete":
                other.delete(path, key)
            case "purge":
                other.purge(path, key)
            case _:
                assert names.newest(path) == newest_versions(other, path)
    assert names.newest("e") == newest_versions(other, "e")


def test_names_are_of_memories_under_the_path_and_of_no_others(opens: Opens) -> None:
    memory = opens()
    for path, key in (("e", "k"), ("e/f", "k"), ("ef", "k"), ("a", "e")):
        memory.write(path, key, 1)
    names = Names(opens())
    for _ in range(3):
        addresses = names.newest("e")
        assert {(address.entity_path, address.key) for address in addresses} == {
            ("e", "k"),
            ("e/f", "k"),
        }
