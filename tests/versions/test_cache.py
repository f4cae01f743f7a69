"""What a process remembers is bounded, and drops what was erased."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from amfs_core.format import Address, MemoryEntry, encode_entry
from amfs_core.memory import AgentMemory
from amfs_core.testing import FaultyAdapter, ModelAdapter
from amfs_core.versions import cache as cache_module
from amfs_core.versions.cache import Cache


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
    kept = [body for slot in cache._memories.values() for body in slot.bodies.values()]
    assert cache._size == sum(map(len, kept))
    appended: dict[Address, int] = {}
    assert not cache.take_appended(appended)  # so that whoever asks looks at everything
    assert {address.key for address in appended} >= {"k98", "k99"}
    appended.clear()
    for number in range(100, 200):
        cache.note_appended(memory._layout.address("e", f"k{number}"), 1)
    assert not cache.take_appended(appended)
    assert len(appended) <= 20
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


def versions_of(
    writer: AgentMemory, key: str, count: int
) -> tuple[Address, list[tuple[MemoryEntry, bytes]]]:
    entries = [writer.write("e", key, number) for number in range(count)]
    return writer._layout.address("e", key), [(entry, encode_entry(entry)) for entry in entries]


def kept_at_once(
    pool: ThreadPoolExecutor, address: Address, versions: list[tuple[MemoryEntry, bytes]]
) -> Cache:
    """Return a cache to which a thread for each version came at the same moment."""
    cache, start = Cache(), threading.Barrier(len(versions))

    def keep(entry: MemoryEntry, body: bytes) -> None:
        start.wait()
        cache.keep(address, entry, body)

    list(pool.map(keep, *zip(*versions, strict=True)))
    return cache


@pytest.mark.usefixtures("eager_threads")
def test_whoever_comes_first_of_many_threads_the_newest_version_is_the_head() -> None:
    writer = AgentMemory("w", adapter=ModelAdapter())
    with ThreadPoolExecutor(8) as pool:
        for number in range(60):
            address, kept = versions_of(writer, f"k{number}", 8)
            cache = kept_at_once(pool, address, kept)
            head = cache.head(address)
            assert head is not None
            assert (head.version, head.sha256) == (8, kept[-1][0].sha256)
            bodies = cache._memories[address.prefix].bodies
            assert all(bodies[entry.version] == body for entry, body in kept[-1:])
            assert all(body == kept[version - 1][1] for version, body in bodies.items())
            assert cache._size == sum(map(len, bodies.values()))


@pytest.mark.usefixtures("eager_threads")
def test_purged_content_is_not_kept_whichever_comes_first() -> None:
    store = ModelAdapter()
    writer = AgentMemory("w", adapter=store)
    with ThreadPoolExecutor(4) as pool:
        for number in range(60):
            address, kept = versions_of(writer, f"k{number}", 3)
            assert writer.purge("e", f"k{number}") == 3
            tombstone = AgentMemory("r", adapter=store).read("e", f"k{number}", version=4)
            assert tombstone is not None
            assert tombstone.purges
            cache = kept_at_once(pool, address, [(tombstone, encode_entry(tombstone)), *kept])
            assert list(cache._memories[address.prefix].bodies) == [4]


@pytest.mark.usefixtures("eager_threads")
def test_threads_that_read_much_keep_to_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "MAX_BODY_BYTES", 20_000)
    monkeypatch.setattr(cache_module, "MAX_MEMORIES", 50)
    store = ModelAdapter()
    writer = AgentMemory("w", adapter=store)
    for number in range(400):
        writer.write("e", f"k{number}", "x" * 500)
    memory = AgentMemory("a", adapter=store)

    def read(number: int) -> bool:
        return memory.read("e", f"k{number % 400}", version=1) is not None

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(2_000)))

    cache = memory._versions.cache
    bodies = [body for slot in cache._memories.values() for body in slot.bodies.values()]
    assert len(cache._memories) <= 50
    assert sum(map(len, bodies)) <= 20_000


def test_no_thread_s_appends_are_lost_to_a_thread_that_takes_them() -> None:
    memory = AgentMemory("a", adapter=ModelAdapter())
    cache = memory._versions.cache
    taken: dict[Address, int] = {}

    def write(number: int) -> None:
        memory.write("e", f"k{number % 50}", number)

    with ThreadPoolExecutor(8) as pool:
        writes = [pool.submit(write, number) for number in range(400)]
        while not all(future.done() for future in writes):
            assert cache.take_appended(taken)
    assert cache.take_appended(taken)
    newest = {(address.key, version) for address, version in taken.items()}
    assert {(entry.key, entry.version) for entry in memory.list()} == newest
    assert not cache.has_appended
