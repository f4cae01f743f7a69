"""An index in PostgreSQL beside the catalog of SQLite: the same hits, in order, to the digit."""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from amfs_core.catalog import words as word_search
from amfs_core.errors import ConfigurationError
from amfs_core.format import MEMORY_TYPES
from amfs_core.memory import AgentMemory
from amfs_core.testing import ModelAdapter
from amfs_local import LocalAdapter
from amfs_postgres.index import PostgresIndex, vectors
from tests.support.postgres import Postgres
from tests.support.recall import Conversation, dated, load, mean

WORDS = [
    *("apple", "rivers", "river", "went", "going", "children", "child", "2023-05-07", "May"),
    *("retry-pattern", "retryPattern", "naïve", "größe", "日本語", "東京", "тигр", "42", "042"),
    *("the", "when", "did"),
]
PATHS = ["a", "a/b", "a/b/c", "ab", "b", "\0x/y", 'quo"te', "back\\slash"]
KEYS = ["k1", "k2", "c", "retry-pattern", "b", "e\0"]
TAGS = ["red", "green", 'a "quoted" one', "back\\slash", "nul\0", "größe"]
AGENTS = ["ann", "bob", "o'neil\0"]
_BOTH = tuple[AgentMemory, AgentMemory]


def _value(dice: random.Random) -> Any:
    text = " ".join(dice.choices(WORDS, k=dice.randrange(12)))
    kind = dice.randrange(4)
    if kind == 0:
        return {"note": text, dice.choice(WORDS): [dice.randrange(100), None, True]}
    return text if kind < 3 else [text, dice.random()]


def _change(dice: random.Random, writers: list[AgentMemory]) -> None:
    path, key = dice.choice(PATHS), f"{dice.choice(KEYS)}{dice.randrange(4)}"
    match dice.randrange(12):
        case 0:
            writers[0].delete(path, key)
        case 1:
            writers[0].purge(path, key)
        case _:
            dice.choice(writers).write(
                path,
                key,
                _value(dice),
                tags=dice.sample(TAGS, k=dice.randrange(3)),
                memory_type=dice.choice(MEMORY_TYPES),
                confidence=dice.choice([0.0, 0.25, 1 / 3, 1.0]),
                ttl=dice.choice([None, None, None, 1e-6, 3600]),
                index=dice.random() < 0.9,
            )


def _filters(dice: random.Random, times: list[datetime]) -> dict[str, Any]:
    wanted = {
        "entity_path": dice.choice([None, None, *PATHS, "zzz"]),
        "tags": dice.sample(TAGS, k=dice.choice([0, 0, 1, 2])),
        "memory_type": dice.choice([None, None, *MEMORY_TYPES]),
        "agent_id": dice.choice([None, None, *AGENTS]),
        "since": dice.choice([None, None, *times]),
        "until": dice.choice([None, None, *times]),
        "min_confidence": dice.choice([0.0, 0.0, 1 / 3]),
    }
    return {name: value for name, value in wanted.items() if value and dice.random() < 0.4}


@pytest.mark.parametrize(("seed", "narrow"), [(1, 4096), (2, 4096), (3, 0), (4, 0)])
def test_both_rank_alike_to_the_digit_whatever_happens(
    index: PostgresIndex, seed: int, narrow: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word_search, "_NARROW", narrow)
    monkeypatch.setattr(word_search, "_SEEDS", 3)  # so that most are not looked at again
    dice = random.Random(seed)
    adapter = ModelAdapter()
    named = PostgresIndex(index._dsn.text, index.schema, name="model")
    with ExitStack() as opened:
        writers = [opened.enter_context(AgentMemory(agent, adapter=adapter)) for agent in AGENTS]
        ours = opened.enter_context(AgentMemory("reader", adapter=adapter, index=named))
        theirs = opened.enter_context(AgentMemory("reader", adapter=adapter))
        opened.enter_context(closing(named))
        hits = 0
        for size in (100, *(dice.randrange(25) for _ in range(10))):
            for _ in range(size):
                _change(dice, writers)
            # Under a path as among many, statistics are of all that a catalog has heard of.
            times = [entry.provenance.written_at for entry in theirs.list()][:5]
            ours.list()
            for _ in range(6):
                filters = _filters(dice, times)
                query = " ".join(dice.choices([*WORDS, "k1", "red"], k=dice.randrange(1, 5)))
                limit = dice.choice([1, 3, 1000])
                expected = theirs.search(query, limit=limit, **filters)
                assert ours.search(query, limit=limit, **filters) == expected
                assert ours.search(limit=limit, **filters) == theirs.search(limit=limit, **filters)
                hits += len(expected)
            assert ours.list() == theirs.list()
            assert ours.list("a") == theirs.list("a")
            assert ours.list_entity_paths() == theirs.list_entity_paths()
        assert hits > 200


def test_real_conversations_have_the_recall_that_they_have_in_sqlite(
    index: PostgresIndex, locomo: Path, tmp_path: Path
) -> None:
    conversations = load(locomo)
    adapter = LocalAdapter(tmp_path, durability="none")
    with AgentMemory("a", adapter=adapter, index=index) as memory:
        for conversation in conversations:
            memory.write_many(
                {"entity_path": conversation.name, "key": turn["id"], "value": dated(turn)}
                for turn in conversation.turns
            )
        with AgentMemory("b", adapter=adapter) as other:
            shares = [_recall(conversation, memory, other) for conversation in conversations]
    assert mean(map(mean, shares)) >= 0.77
    assert min(map(mean, shares)) >= 0.70


def _recall(conversation: Conversation, memory: AgentMemory, other: AgentMemory) -> list[float]:
    shares = []
    for number, (question, evidence) in enumerate(conversation.questions):
        hits = memory.search(question, entity_path=conversation.name, max_age=1000)
        if number % 20 == 0:
            assert hits == other.search(question, entity_path=conversation.name, max_age=1000)
            assert memory.search(question, max_age=1000) == other.search(question, max_age=1000)
        top = {hit.entry.key for hit in hits}
        shares.append(len(top & evidence) / len(evidence))
    return shares


# -- by meaning ------------------------------------------------------------------------------


class Hashing:
    """Gives the words of a text directions that depend on nothing else."""

    def __init__(self, dimensions: int = 32, name: str = "hashing") -> None:
        self.dimensions, self.name = dimensions, name
        self.texts = 0

    def __call__(self, texts: list[str]) -> list[list[float]]:
        self.texts += len(texts)
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> list[float]:
        parts = [_direction(word, self.dimensions) for word in text.split()]
        return [sum(numbers) for numbers in zip(*parts, strict=True)] or [0.0] * self.dimensions


@functools.cache
def _direction(word: str, dimensions: int) -> list[float]:
    dice = random.Random(hashlib.sha256(word.encode()).digest())
    return [dice.gauss(0, 1) for _ in range(dimensions)]


@pytest.fixture(params=["with pgvector", "without"])
def extension(
    request: pytest.FixtureRequest, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> bool:
    """Whether pgvector is used; where it is not installed, only "without" is tested."""
    if request.param == "without":
        monkeypatch.setattr(vectors, "_extension", lambda *_: None)
        return False
    require_pgvector(postgres)
    return True


def require_pgvector(postgres: Postgres) -> None:
    if not postgres.sql("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'")[0]:
        pytest.skip("NOT COVERED: pgvector is not installed: vectors are tested without it only")


@pytest.fixture
def both(index: PostgresIndex, tmp_path: Path) -> Iterator[_BOTH]:
    adapter = LocalAdapter(tmp_path, durability="none")
    with (
        AgentMemory("a", adapter=adapter, index=index, embedder=Hashing()) as ours,
        AgentMemory("b", adapter=adapter, embedder=Hashing()) as theirs,
    ):
        yield ours, theirs


def _write(memory: AgentMemory, count: int, dice: random.Random) -> None:
    names = [f"w{number}" for number in range(60)]
    memory.write_many(
        {
            "entity_path": dice.choice(["a", "a/b", "c"]),
            "key": f"k{number}",
            "value": " ".join(dice.choices(names, k=6)),
            "tags": dice.sample(["red", "green"], k=1),
        }
        for number in range(count)
    )


def test_both_find_the_same_by_meaning_and_by_both(both: _BOTH, extension: bool) -> None:
    ours, theirs = both
    dice = random.Random(5)
    for _ in range(3):
        _write(ours, 150, dice)
        for filters in ({}, {"tags": "red"}, {"entity_path": "a"}, {"entity_path": "nowhere"}):
            for search in ("search", "semantic_search"):
                query = " ".join(f"w{dice.randrange(60)}" for _ in range(3))
                hits = getattr(ours, search)(query, limit=15, **filters)
                expected = getattr(theirs, search)(query, limit=15, **filters)
                assert [hit.entry for hit in hits] == [hit.entry for hit in expected]
                assert [hit.score for hit in hits] == pytest.approx(
                    [hit.score for hit in expected], abs=1e-5
                )


def test_a_text_that_one_process_embedded_is_not_embedded_again(
    both: _BOTH, index: PostgresIndex, extension: bool
) -> None:
    ours, _ = both
    _write(ours, 20, random.Random(1))
    ours.semantic_search("w1")
    embedder = Hashing()
    with AgentMemory("c", adapter=ours.adapter, index=index, embedder=embedder) as other:
        assert len(other.semantic_search("w1", limit=50)) == 20
        assert embedder.texts == 1  # the question
        other.write("a", "new", "w1")
        assert other.semantic_search("w1")[0].entry.key == "new"
        assert embedder.texts == 3
    longer = Hashing(dimensions=33)
    with (
        AgentMemory("d", adapter=ours.adapter, index=index, embedder=longer) as other,
        pytest.raises(ConfigurationError, match="33 numbers, and 32 before"),
    ):
        other.semantic_search("w1")


def test_an_embedder_needs_a_name_that_others_know(both: _BOTH, index: PostgresIndex) -> None:
    memory = AgentMemory("c", adapter=both[0].adapter, index=index, embedder=lambda texts: [[1.0]])
    with pytest.raises(ConfigurationError, match="has no name by which other processes would know"):
        memory.search("w1")


def test_among_many_the_nearest_are_found_by_an_index_that_tending_makes(
    both: _BOTH, index: PostgresIndex, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_pgvector(postgres)
    monkeypatch.setattr(vectors, "EXACT_UP_TO", 400)
    ours, theirs = both
    dice = random.Random(9)
    _write(ours, 1200, dice)
    ours.semantic_search("w1")
    assert ours.tend().indexed
    made = postgres.sql(
        f"SELECT indexname FROM pg_indexes WHERE schemaname = '{index.schema}' "
        "AND indexdef LIKE '%hnsw%'"
    )
    assert len(made[0]) == 1
    assert ours.tend().indexed  # nothing to be done again
    before = _scans(postgres, index)
    hits = 0
    for number in range(12):
        query = " ".join(f"w{dice.randrange(60)}" for _ in range(4))
        filters = {"tags": "red"} if number % 2 else {}
        neighbors = ours.semantic_search(query, max_age=1000, **filters)  # type: ignore[arg-type]
        expected = theirs.semantic_search(query, max_age=1000, **filters)  # type: ignore[arg-type]
        assert len(neighbors) == 10
        hits += len({hit.entry.key for hit in neighbors} & {hit.entry.key for hit in expected})
        assert ours.search(query, max_age=1000)[0].score > 0
    assert hits >= 0.95 * 120
    assert _scans(postgres, index) > before


def _scans(postgres: Postgres, index: PostgresIndex) -> int:
    """How often an HNSW index was read, once the server has counted it."""
    ((counted,),) = postgres.sql(
        "SELECT pg_stat_force_next_flush()",
        "SELECT coalesce(sum(idx_scan), 0)::int FROM pg_stat_user_indexes "
        f"WHERE schemaname = '{index.schema}' AND indexrelname LIKE 'hnsw%'",
    )[1]
    return int(counted)


def test_vectors_of_what_is_purged_are_gone(
    both: _BOTH, index: PostgresIndex, postgres: Postgres
) -> None:
    ours, _ = both
    _write(ours, 5, random.Random(2))
    ours.semantic_search("w1")
    for entry in ours.list():
        ours.purge(entry.entity_path, entry.key)
    for table in ("vector_1", "posting_1"):
        assert postgres.sql(f"SELECT count(*) FROM {index.schema}.{table}") == [[(0,)]]
    assert ours.semantic_search("w1") == []
