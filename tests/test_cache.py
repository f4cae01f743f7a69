"""What a process remembers is bounded, and drops what was erased."""

from __future__ import annotations

import pytest

from amfs_core import cache as cache_module
from amfs_core.memory import AgentMemory
from amfs_core.testing import FaultyAdapter, ModelAdapter


def test_bodies_go_oldest_first_and_heads_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "MAX_BODY_BYTES", 10_000)
    store = FaultyAdapter(ModelAdapter())
    memory = AgentMemory("a", adapter=store)
    for number in range(20):
        memory.write("e", f"k{number}", "x" * 1000)
    store.calls.clear()
    memory.read("e", "k19", version=1)
    assert not store.requests()
    memory.read("e", "k0", version=1)
    assert store.requests() == {"get": 1}
    store.calls.clear()
    memory.write("e", "k1", 2)
    assert store.requests() == {"create": 1}  # its head was remembered


def test_memories_go_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "MAX_MEMORIES", 10)
    monkeypatch.setattr(cache_module, "MAX_APPENDED", 20)
    store = FaultyAdapter(ModelAdapter())
    memory = AgentMemory("a", adapter=store)
    for number in range(100):
        memory.write("e", f"k{number}", number)
    cache = memory._versions.cache
    assert len(cache._memories) <= 10
    kept = [body for one in cache._memories.values() for body in one.bodies.values()]
    assert cache._size == sum(map(len, kept))
    assert {address.key for address in cache.take_appended()} >= {"k98", "k99"}
    for number in range(100, 200):
        cache.note_appended(memory._layout.address("e", f"k{number}"), 1)
    assert len(cache.take_appended()) <= 20
    store.calls.clear()
    assert memory.write("e", "k99", "again").version == 2
    assert store.requests() == {"create": 1}
    assert memory.write("e", "k0", "again").version == 2  # forgotten, and found again
    assert memory.write("e", "k0", "once more").version == 3


def test_memories_that_are_absent_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "MAX_MEMORIES", 10)
    memory = AgentMemory("a", adapter=ModelAdapter())
    for number in range(100):
        assert memory.read("e", f"k{number}") is None
    assert len(memory._versions.cache._memories) <= 10


def test_forgetting_a_memory_that_was_never_seen_is_not_seeing_it() -> None:
    store = FaultyAdapter(ModelAdapter())
    AgentMemory("w", adapter=store).write("e", "k", 1)
    memory = AgentMemory("a", adapter=store)
    address = memory._layout.address("e", "k")
    memory._versions.cache.forget_before(address, 5)
    assert memory._versions.cache.head(address) is None
