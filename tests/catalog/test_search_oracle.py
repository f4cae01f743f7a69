"""Lists, filters and searches beside a brute-force oracle that reads every object by itself."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amfs_core.errors import InvalidValueError
from amfs_core.format import MEMORY_TYPES, Layout, MemoryEntry, decode_entry
from amfs_core.memory import AgentMemory
from amfs_core.storage import StorageAdapter
from amfs_core.testing import ModelAdapter
from amfs_local import LocalAdapter
from tests.support.s3_store import Place

if TYPE_CHECKING:
    from tests.support.servers import Server

WORDS = ["apple", "river", "stone", "cloud", "tiger", "piano"]
PATHS = ["a", "a/b", "a/b/c", "ab", "b"]
TAGS = ["red", "green", "blue"]
AGENTS = ["ann", "bob"]
Address = tuple[str, str]


@dataclass(frozen=True)
class Wanted:
    """Arguments of a search, and the same question as plain Python."""

    entity_path: str | None = None
    tags: tuple[str, ...] = ()
    memory_type: str | None = None
    agent_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    min_confidence: float = 0.0
    word: str | None = field(default=None, kw_only=True)

    def arguments(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value and name != "word"}

    def fits(self, entry: MemoryEntry, now: datetime) -> bool:
        path = self.entity_path
        written = entry.provenance.written_at
        return (
            not entry.deleted
            and (entry.expires_at is None or entry.expires_at > now)
            and (
                path is None
                or entry.entity_path == path
                or entry.entity_path.startswith(path + "/")
            )
            and set(self.tags) <= set(entry.tags)
            and self.memory_type in (None, entry.memory_type)
            and self.agent_id in (None, entry.provenance.agent_id)
            and (self.since is None or written >= self.since)
            and (self.until is None or written < self.until)
            and entry.confidence >= self.min_confidence
            and (self.word is None or self.word in str(entry.value).split())
        )


def newest_of_all(adapter: StorageAdapter) -> dict[Address, MemoryEntry]:
    """Read every object, without any of what is tested here."""
    newest: dict[Address, MemoryEntry] = {}
    for info in list(adapter.list("default/entries/")):
        parsed = Layout("default").parse(info.key)
        body = adapter.get(info.key)
        assert parsed is not None
        assert body is not None
        (address, version) = parsed
        entry = decode_entry(body, "default", address, version)
        known_entry = newest.get((entry.entity_path, entry.key))
        if known_entry is None or known_entry.version < version:
            newest[entry.entity_path, entry.key] = entry
    return newest


# -- one process, every filter ---------------------------------------------------------------

texts = st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join)
writes = st.fixed_dictionaries(
    {
        "agent": st.sampled_from(AGENTS),
        "entity_path": st.sampled_from(PATHS),
        "key": st.sampled_from(["k1", "k2", "c"]),
        "value": texts,
        "tags": st.lists(st.sampled_from(TAGS), max_size=3),
        "memory_type": st.sampled_from(MEMORY_TYPES),
        "confidence": st.sampled_from([0.0, 0.25, 0.5, 1.0]),
        "ttl": st.sampled_from([None, None, 1e-6, 3600]),
    }
)
deletes = st.tuples(st.sampled_from(PATHS), st.sampled_from(["k1", "k2"]))
wanted = st.builds(
    Wanted,
    entity_path=st.sampled_from([None, *PATHS, "zzz"]),
    tags=st.lists(st.sampled_from(TAGS), max_size=2).map(tuple),
    memory_type=st.sampled_from([None, *MEMORY_TYPES]),
    agent_id=st.sampled_from([None, *AGENTS, "nobody"]),
    min_confidence=st.sampled_from([0.0, 0.25, 0.6]),
    word=st.sampled_from([None, *WORDS]),
)


@given(
    st.lists(
        writes | st.tuples(st.sampled_from(PATHS), st.sampled_from(["k1", "k2"])), max_size=25
    ),
    st.lists(st.tuples(wanted, st.integers(0, 25), st.integers(0, 25)), min_size=1, max_size=4),
)
@settings(max_examples=150)
def test_every_filter_gives_what_brute_force_gives(
    steps: list[Any], questions: list[tuple[Wanted, int, int]]
) -> None:
    adapter = ModelAdapter()
    agents = {name: AgentMemory(name, adapter=adapter) for name in AGENTS}
    reader = AgentMemory("reader", adapter=adapter)
    times: list[datetime] = []
    for step in steps:
        if isinstance(step, tuple):
            agents["ann"].delete(*step)
            continue
        fields = dict(step)
        times.append(agents[fields.pop("agent")].write(**fields).provenance.written_at)
        if len(times) % 7 == 0:
            reader.search("apple")  # so that later versions replace what is indexed already
    there = newest_of_all(adapter).values()
    for question, first, last in questions:
        since = times[first] if first < len(times) else None
        until = times[last] if last < len(times) else None
        asked = Wanted(**{**vars(question), "since": since, "until": until})
        expected = [entry for entry in there if asked.fits(entry, datetime.now(UTC))]
        hits = reader.search(asked.word, limit=1000, **asked.arguments())
        order = [(-hit.score, -hit.entry.provenance.written_at.timestamp()) for hit in hits]
        assert order == sorted(order)
        assert by_name([hit.entry for hit in hits]) == by_name(expected)
        few = reader.search(asked.word, limit=2, **asked.arguments())
        assert few == hits[:2]
        assert (asked.word is None) or all(hit.score > 0 for hit in hits)
    expected = [entry for entry in there if Wanted().fits(entry, datetime.now(UTC))]
    assert by_name(reader.list()) == by_name(expected)
    for agent in agents.values():
        agent.close()
    reader.close()


def by_name(entries: list[MemoryEntry]) -> list[tuple[str, str, int]]:
    return sorted((entry.entity_path, entry.key, entry.version) for entry in entries)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 2.5}, "limit"),
        ({"memory_type": "rumour"}, "memory_type"),
        ({"since": datetime(2026, 1, 1)}, "since"),
        ({"min_confidence": 2}, "min_confidence"),
        ({"tags": [1]}, "tags"),
        ({"query": 7}, "query"),
        ({"max_age": -1}, "max_age"),
        ({"agent_id": ""}, "agent_id"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], named: str) -> None:
    memory = AgentMemory("a", adapter=ModelAdapter())
    with pytest.raises(InvalidValueError, match=named):
        memory.search(**{"query": "x", **arguments})


def test_an_expired_memory_is_found_by_nobody() -> None:
    memory = AgentMemory("a", adapter=ModelAdapter())
    entry = memory.write("e", "k", "apple", ttl=timedelta(hours=1))
    memory.write("e", "gone", "apple", ttl=timedelta(microseconds=1))
    assert [hit.entry for hit in memory.search("apple")] == [entry]
    assert [hit.entry for hit in memory.search()] == [entry]
    assert memory.list() == [entry]


# -- while other processes write -------------------------------------------------------------


def _write_and_delete(open_adapter: Callable[[], StorageAdapter], seed: int, turns: int) -> None:
    dice = random.Random(seed)
    with AgentMemory(f"w{seed}", adapter=open_adapter()) as memory:
        for _ in range(turns):
            path, key = dice.choice(PATHS), f"k{dice.randrange(8)}"
            if dice.random() < 0.25:
                memory.delete(path, key)
            else:
                memory.write(
                    path,
                    key,
                    " ".join(dice.choices(WORDS, k=3)),
                    tags=dice.sample(TAGS, k=dice.randrange(3)),
                    confidence=dice.choice([0.2, 0.9]),
                )


def _compare_while_others_write(open_adapter: Callable[[], StorageAdapter], turns: int) -> int:
    """Compare until the writers are done; return how often."""
    spawning = multiprocessing.get_context("spawn")
    writers = [
        spawning.Process(target=_write_and_delete, args=(open_adapter, seed, turns))
        for seed in range(3)
    ]
    adapter = open_adapter()
    memory = AgentMemory("reader", adapter=adapter)
    dice = random.Random(7)
    compared = 0
    for writer in writers:
        writer.start()
    try:
        while any(writer.is_alive() for writer in writers):
            compared += 1
            asked = Wanted(
                entity_path=dice.choice([None, *PATHS]),
                tags=tuple(dice.sample(TAGS, k=dice.randrange(2))),
                min_confidence=dice.choice([0.0, 0.5]),
                word=dice.choice([None, *WORDS]),
            )
            before = newest_of_all(adapter)
            hits = memory.search(asked.word, limit=1000, **asked.arguments())
            after = newest_of_all(adapter)
            _check(memory, asked, before, {_name(hit.entry): hit.entry for hit in hits}, after)
    finally:
        for writer in writers:
            writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    there = newest_of_all(adapter)
    alive = [entry for entry in there.values() if not entry.deleted]
    assert by_name(memory.list()) == by_name(alive)
    memory.close()
    return compared


def _name(entry: MemoryEntry) -> Address:
    return entry.entity_path, entry.key


def _check(
    memory: AgentMemory,
    asked: Wanted,
    before: dict[Address, MemoryEntry],
    answers: dict[Address, MemoryEntry],
    after: dict[Address, MemoryEntry],
) -> None:
    """Each memory was answered as it stood at some moment between the two scans."""
    now = datetime.now(UTC)
    for name, last in after.items():
        first = before[name].version if name in before else 0
        if name in answers:
            assert first <= answers[name].version <= last.version
            assert asked.fits(answers[name], now)
            assert memory.read(*name, version=answers[name].version) == answers[name]
            continue
        between = range(max(first, 1), last.version + 1)
        versions = [memory.read(*name, version=version) for version in between]
        assert first == 0 or not all(entry and asked.fits(entry, now) for entry in versions)
    assert set(answers) <= set(after)


class OnDisk:
    """Opens an adapter in any process."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self) -> StorageAdapter:
        return LocalAdapter(self.root, durability="none")


class InBucket:
    """Opens an adapter in any process."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def __call__(self) -> StorageAdapter:
        return self.place.adapter()


def test_searches_while_processes_write_on_disk(tmp_path: Path) -> None:
    assert _compare_while_others_write(OnDisk(tmp_path), 800) >= 3


def test_searches_while_processes_write_to_a_bucket(s3_server: Server, bucket: str) -> None:
    assert _compare_while_others_write(InBucket(Place.on(s3_server, bucket)), 200) >= 3


def test_a_query_may_be_any_text(tmp_path: Path) -> None:
    memory = AgentMemory("a", adapter=LocalAdapter(tmp_path))
    memory.write("e", "k", "needle")
    assert [hit.entry.key for hit in memory.search("\ud800 needle")] == ["k"]
    assert memory.search("\ud800") == []
