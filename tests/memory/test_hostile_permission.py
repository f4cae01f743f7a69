"""Objects that may not be read: named and in nobody's way, and never taken for absence."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amfs_core.errors import PermissionDeniedError
from amfs_core.memory import AgentMemory
from amfs_core.storage import StoreClient, refusals
from amfs_core.testing import ModelAdapter


class Guarded(ModelAdapter):
    """Refuses to give some objects."""

    def __init__(self) -> None:
        super().__init__()
        self.secret: set[str] = set()
        self.closed = False

    def get(self, key: str) -> bytes | None:
        if self.closed or key in self.secret:
            raise PermissionDeniedError(f"cannot read {key!r}", hint="ask for it", object_key=key)
        return super().get(key)

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        for key in keys:
            yield key, self.get(key)


def name(key: str, version: int = 1) -> str:
    return f"default/entries/e/{key}/v{version}.json"


@pytest.fixture
def adapter() -> Guarded:
    adapter = Guarded()
    with AgentMemory("writer", adapter=adapter) as memory:
        for key in ("a", "b", "c"):
            memory.write("e", key, f"word {key}")
    return adapter


@pytest.fixture
def memory(adapter: Guarded) -> AgentMemory:
    return AgentMemory("reader", adapter=adapter, patience=0.5)


def keys(memory: AgentMemory) -> list[str]:
    return [entry.key for entry in memory.list()]


class TestOneAmongOthers:
    def test_it_is_left_out_of_lists_and_searches_and_named_once(
        self, adapter: Guarded, memory: AgentMemory, caplog: pytest.LogCaptureFixture
    ) -> None:
        adapter.secret = {name("b")}
        for _ in range(3):  # the second refresh asks for nothing but what may not be read
            assert keys(memory) == ["a", "c"]
            assert {hit.entry.key for hit in memory.search("word")} == {"a", "c"}
        (record,) = [
            log_record for log_record in caplog.records if log_record.levelno >= logging.WARNING
        ]
        assert name("b") in record.getMessage()
        adapter.secret = set()
        assert keys(memory) == ["a", "b", "c"]

    def test_an_older_version_is_not_shown_in_its_place(
        self, adapter: Guarded, memory: AgentMemory
    ) -> None:
        assert keys(memory) == ["a", "b", "c"]
        AgentMemory("writer", adapter=adapter).write("e", "b", 2)
        adapter.secret = {name("b", 2)}
        assert keys(memory) == ["a", "c"]

    def test_a_call_about_it_raises(self, adapter: Guarded, memory: AgentMemory) -> None:
        adapter.secret = {name("b")}
        for ask in (memory.read, memory.history, memory.delete, memory.purge):
            with pytest.raises(PermissionDeniedError) as caught:
                ask("e", "b")
            assert caught.value.object_key == name("b")
        assert memory.read("e", "a") is not None

    def test_verify_names_it_with_its_hint_and_checks_the_rest(
        self, adapter: Guarded, memory: AgentMemory
    ) -> None:
        memory.commit_outcome("o", "success", entries=[("e", "a"), ("e", "b")])
        adapter.secret = {name("b"), name("b", 2)}
        adapter.replace(name("c"), b"garbage")
        findings = {finding.object_key: finding for finding in memory.verify().findings}
        assert set(findings) == {name("b"), name("b", 2), name("c")}
        assert findings[name("b")].hint == "ask for it"

    def test_a_watch_waits_for_it_and_goes_on_with_the_others(
        self, adapter: Guarded, memory: AgentMemory, caplog: pytest.LogCaptureFixture
    ) -> None:
        adapter.secret = {name("b")}
        with memory.watch(since="beginning", interval=0.01) as watch:
            assert [next(watch).key, next(watch).key] == ["a", "c"]
            AgentMemory("writer", adapter=adapter).write("e", "d", 1)
            assert next(watch).key == "d"
            adapter.secret = set()
            assert next(watch).key == "b"
        assert caplog.text.count("a watch holds back the later versions") == 1

    def test_an_outcome_is_left_out_and_named(
        self, adapter: Guarded, memory: AgentMemory, caplog: pytest.LogCaptureFixture
    ) -> None:
        for ref in ("o1", "o2"):
            memory.commit_outcome(ref, "success", entries=[("e", "a")])
        adapter.secret = {"default/outcomes/o1.json"}
        reader = AgentMemory("reader", adapter=adapter)
        assert [outcome.ref for outcome in reader.list_outcomes()] == ["o2"]
        assert "outcomes/o1.json" in caplog.text
        assert "outcomes/o1.json" in str(reader.verify().findings)
        adapter.closed = True
        with pytest.raises(PermissionDeniedError):
            AgentMemory("reader", adapter=adapter).list_outcomes()


class TestNothingMayBeRead:
    def test_it_is_raised_and_never_absence(self, adapter: Guarded, memory: AgentMemory) -> None:
        adapter.closed = True
        for call in (
            memory.list,
            memory.search,
            memory.verify,
            lambda: memory.search("word"),
            lambda: memory.list("e"),
            lambda: next(memory.watch(since="beginning")),
        ):
            with pytest.raises(PermissionDeniedError):
                call()

    def test_an_earlier_read_does_not_hide_a_refusal(
        self, adapter: Guarded, memory: AgentMemory
    ) -> None:
        """As when credentials end between two lists: the new one is not left out."""
        assert keys(memory) == ["a", "b", "c"]
        AgentMemory("writer", adapter=adapter).write("e", "d", 1)
        adapter.closed = True
        with pytest.raises(PermissionDeniedError):
            memory.list()
        adapter.closed = False
        assert keys(memory) == ["a", "b", "c", "d"]

    def test_an_unreadable_path_raises_and_another_does_not(
        self, adapter: Guarded, memory: AgentMemory
    ) -> None:
        AgentMemory("writer", adapter=adapter).write("secret/deep", "k", 1)
        adapter.secret = {"default/entries/secret/deep/k/v1.json"}
        assert keys(memory) == ["a", "b", "c"]
        assert len(memory.list("e")) == 3
        with pytest.raises(PermissionDeniedError):
            memory.list("secret")


@given(st.sets(st.integers(0, 99)), st.sets(st.integers(0, 120)))
def test_readable_objects_are_returned_beside_unreadable_ones(
    secret: set[int], wanted: set[int]
) -> None:
    adapter = Guarded()
    for number in range(100):
        adapter.create(f"o/{number}", str(number).encode())
    adapter.secret = {f"o/{number}" for number in secret}
    refused: dict[str, PermissionDeniedError] = {}
    asked = [f"o/{number}" for number in wanted]
    bodies = dict(refusals.get_allowed(StoreClient(adapter), asked, refused.__setitem__))
    assert set(refused) == adapter.secret & set(asked)
    assert bodies == {key: ModelAdapter.get(adapter, key) for key in asked if key not in refused}
