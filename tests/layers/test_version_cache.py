"""A cache before a store: it saves requests, and never says what the store would not say."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from amfs_core.errors import ConfigurationError, StorageFullError
from amfs_core.layers import Layered, version_cache
from amfs_core.memory import AgentMemory
from amfs_core.storage import ObjectInfo, StorageAdapter, WrappedAdapter
from amfs_core.testing import Fault, FaultyAdapter, ModelAdapter
from amfs_core.upkeep.copy import copy
from amfs_local import LocalAdapter
from amfs_sqlite import SqliteAdapter
from tests.support.known import known

SECRET = b"xyzzy"


class Place:
    """A primary whose requests are counted, and a cache beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.plain = LocalAdapter(root / "primary", durability="none")
        self.primary = FaultyAdapter(self.plain)
        self.directory = root / "cache"

    def store(self, cache: StorageAdapter | None = None) -> Layered:
        """The store as a new process opens it."""
        return Layered(self.primary, cache or LocalAdapter(self.directory, durability="none"))

    def memory(self, cache: StorageAdapter | None = None) -> AgentMemory:
        return AgentMemory("reader", adapter=self.store(cache), patience=1)

    def writer(self) -> AgentMemory:
        return AgentMemory("writer", adapter=LocalAdapter(self.root / "primary", durability="none"))

    def gets(self, look: Callable[[AgentMemory], Any]) -> tuple[Any, int]:
        """What a new process sees, and how many versions of the primary it got for that."""
        with known(self.memory()) as memory:
            self.primary.calls.clear()
            return look(memory), self.primary.requests()["get"]

    def kept(self) -> list[str]:
        """The names of what is in the cache, without times and sizes."""
        paths = self.directory.rglob("*-*")
        return sorted(str(path.parent.relative_to(self.directory)) for path in paths)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def values(memory: AgentMemory) -> list[Any]:
    return [entry.value for entry in memory.list()]


def history(memory: AgentMemory) -> list[tuple[int, Any, bool]]:
    entries = memory.history("e", "k")
    return [(entry.version, entry.value, entry.erased is not None) for entry in entries]


def test_a_new_process_gets_what_is_new_and_the_rest_from_the_cache(place: Place) -> None:
    with place.writer() as writer:
        for number in range(20):
            writer.write("e", f"k{number:02}", number)
        assert place.gets(values) == (list(range(20)), 20)
        assert place.gets(values) == (list(range(20)), 0)
        writer.write("e", "k00", 100)
        assert place.gets(values) == ([100, *range(1, 20)], 1)
        writer.write("e", "k", 1)
        writer.write("e", "k", 2)
        assert place.gets(history) == ([(1, 1, False), (2, 2, False)], 2)
        assert place.gets(history) == ([(1, 1, False), (2, 2, False)], 0)
    assert "default/entries/e/k/v2.json" in place.kept()


def test_outcomes_and_what_was_not_listed_are_not_kept(place: Place) -> None:
    with place.memory() as memory:
        memory.write("e", "k", 1)
        memory.commit_outcome("ref", "success", entries=[("e", "k")])
    with place.memory() as memory:
        assert memory.read("e", "k", version=1) is not None
        assert memory.read_outcome("ref") is not None
    assert place.kept() == []


@pytest.mark.parametrize("by", ["another process", "this one"])
def test_purged_content_is_neither_served_nor_kept(place: Place, by: str) -> None:
    with place.writer() as writer:
        for number in range(3):
            writer.write("e", "k", f"xyzzy {number}")
        assert place.gets(history)[0][0] == (1, "xyzzy 0", False)
        assert SECRET in b"".join(path.read_bytes() for path in place.directory.rglob("*-*"))
        with place.memory() if by == "this one" else place.writer() as eraser:
            assert eraser.purge("e", "k") == 3
        # A process that has not seen the purge, and reads nothing but the version.
        with place.memory() as memory:
            entry = memory.read("e", "k", version=1)
            assert entry is None or entry.value is None
        for _ in range(2):  # the order to erase, which is read last, takes the stubs along
            assert [row[1] for row in place.gets(history)[0]] == [None] * 4
        assert place.gets(history)[1] == 0
        writer.write("e", "k", "new")
        assert [row[1] for row in place.gets(history)[0]] == [*[None] * 4, "new"]
    assert SECRET not in b"".join(path.read_bytes() for path in place.directory.rglob("*-*"))


def test_reading_the_order_alone_removes_what_it_is_about(place: Place) -> None:
    with place.writer() as writer:
        writer.write("e", "k", "xyzzy")
        writer.write("e/k", "v1", "another memory, whose names begin the same")
        place.gets(lambda memory: memory.list())
        writer.purge("e", "k")
    with place.memory() as memory:
        memory.read("e", "k", version=2)
    assert place.kept() == ["default/entries/e/k/v1/v1.json"]


def test_verify_and_copy_read_the_store_itself(place: Place) -> None:
    with place.writer() as writer:
        writer.write("e", "k", "sound")
    place.gets(history)
    path = place.root / "primary/default/entries/e/k/v1.json"
    times = path.stat()
    path.write_bytes(path.read_bytes().replace(b"sound", b"SOUND"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert place.gets(history) == ([(1, "sound", False)], 0)
    report, gets = place.gets(lambda memory: memory.verify())
    assert (len(report.findings), gets) == (1, 1 + 1)  # and the manifest
    target = ModelAdapter()
    copy(place.store(), target)
    assert b"SOUND" in (target.get("default/entries/e/k/v1.json") or b"")


def damage(directory: Path) -> None:
    for path in directory.rglob("*-*"):
        path.write_bytes(path.read_bytes()[:-1])


def swap(directory: Path) -> None:
    path, other = sorted(directory.rglob("*-*"))
    body = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(body)


@pytest.mark.parametrize("harm", [damage, swap, shutil.rmtree])
def test_a_damaged_cache_costs_requests_and_no_error(
    place: Place, harm: Callable[[Path], None]
) -> None:
    with place.writer() as writer:
        writer.write("e", "k", 1)
        writer.write("e", "k", 2)
    place.gets(history)
    harm(place.directory)
    assert place.gets(history) == ([(1, 1, False), (2, 2, False)], 2)


class Full(ModelAdapter):
    def create(self, key: str, data: bytes) -> bool:
        raise StorageFullError("no space left")

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        raise StorageFullError("no space left")


def test_a_cache_that_fails_is_passed_by(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    down = FaultyAdapter(ModelAdapter())
    for verb in ("create", "get", "list", "delete"):
        down.inject(Fault.UNAVAILABLE, on=verb, times=100)
    for cache in (down, Full()):
        with place.memory(cache) as memory:  # type: ignore[arg-type]
            memory.write("e", "k", "xyzzy")
            assert history(memory)[-1][1] == "xyzzy"
        with place.memory(cache) as memory:  # type: ignore[arg-type]
            assert history(memory)[-1][1] == "xyzzy"
            assert memory.purge("e", "k")
    assert "may still be in the cache" in caplog.text


class Coarse(WrappedAdapter):
    """A store that says whole seconds, as S3 does."""

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        for info in super().list(prefix, start_after):
            yield ObjectInfo(info.key, info.size, info.modified.replace(microsecond=0))


def test_an_object_is_kept_once_its_time_tells_it_from_a_change(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.primary = FaultyAdapter(Coarse(place.plain))
    with place.writer() as writer:
        writer.write("e", "k", 1)
    assert [place.gets(history)[1] for _ in range(2)] == [1, 1]
    monkeypatch.setattr(version_cache, "_SETTLED", -version_cache._SETTLED)
    assert [place.gets(history)[1] for _ in range(2)] == [1, 0]


def test_a_listing_counts_for_seconds(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with place.writer() as writer:
        writer.write("e", "k", 1)
    place.gets(history)
    key = "default/entries/e/k/v1.json"
    store = place.store()
    place.primary.calls.clear()
    list(store.list(""))
    assert store.get(key)
    assert place.primary.requests()["get"] == 0
    monkeypatch.setattr(version_cache, "LISTED_SECONDS", -1.0)
    assert store.get(key)
    assert place.primary.requests()["get"] == 1


def test_memory_for_listings_is_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version_cache, "_MOST_LISTED", 10)
    with place.writer() as writer:
        for number in range(50):
            writer.write("e", f"k{number:02}", number)
    store = place.store()
    keys = [info.key for info in store.list("")]
    for gets in (50, 30):  # the newest two generations, the second one full
        place.primary.calls.clear()
        assert len(dict(store.get_many(keys))) == 50
        assert place.primary.requests()["get"] == gets


@pytest.mark.parametrize("cache", ["primary", "primary/inside", "."])
def test_a_cache_within_the_primary_is_refused(place: Place, cache: str) -> None:
    with pytest.raises(ConfigurationError, match="one is within the other"):
        Layered(place.plain, LocalAdapter(place.root / cache))
    with pytest.raises(ConfigurationError, match="one is within the other"):
        Layered(LocalAdapter(place.root / cache), place.plain)


class CachedReader(RuleBasedStateMachine):
    """Others write and purge; a new process with the cache sees what one without it does."""

    names = st.sampled_from([("e", "k"), ("e", "k2"), ("e/k", "v1")])

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="amfs-machine-"))
        self.primary = SqliteAdapter(self.root / "p.db", durability="none")
        self.cache = SqliteAdapter(self.root / "c.db", durability="none")
        self.number = 0

    @rule(name=names)
    def write(self, name: tuple[str, str]) -> None:
        self.number += 1
        with AgentMemory("w", adapter=self.primary) as memory:
            memory.write(*name, f"value {self.number}")

    @rule(name=names, cached=st.booleans())
    def purge(self, name: tuple[str, str], cached: bool) -> None:
        with self.reader(cached) as memory:
            memory.purge(*name)

    @rule(name=names)
    def look_at_one(self, name: tuple[str, str]) -> None:
        with self.reader(True) as memory, self.reader(False) as other:
            assert memory.history(*name) == other.history(*name)
            assert memory.read(*name) == other.read(*name)

    @rule()
    def look_at_all(self) -> None:
        with self.reader(True) as memory, self.reader(False) as other:
            assert memory.list() == other.list()
            assert memory.verify().ok

    def reader(self, cached: bool) -> AgentMemory:
        store = Layered(self.primary, self.cache) if cached else self.primary
        return AgentMemory("r", adapter=store)

    def teardown(self) -> None:
        self.primary.close()
        self.cache.close()
        shutil.rmtree(self.root)


TestCachedReader = CachedReader.TestCase
TestCachedReader.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
