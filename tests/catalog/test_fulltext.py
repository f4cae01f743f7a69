"""The full-text index: what is found, in which order, under which filter, and what is gone."""

from __future__ import annotations

import random
import sqlite3
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amfs_core.catalog import words as word_search
from amfs_core.catalog.sqlite import fulltext
from amfs_core.ranking import terms
from tests.support.recall import connect

_LETTERS = random.Random(1)
WORDS = sorted({"".join(_LETTERS.choices("bcdfglmprt", k=5)) for _ in range(400)})


class Memories:
    """Memories in a catalog with its index, one entity path unless another is given."""

    def __init__(self, path: str = ":memory:") -> None:
        self.connection = connect(path)
        self._id = 0

    def write(
        self,
        value: Any,
        *,
        path: str = "e",
        key: str | None = None,
        tags: tuple[str, ...] = (),
        at: int | None = None,
    ) -> int:
        self._id += 1
        key = _name(self._id) if key is None else key
        second = self._id if at is None else at
        self.connection.execute(
            "INSERT INTO memory (id, prefix, entity_path, key, written_at) VALUES (?, ?, ?, ?, ?)",
            (self._id, f"{path}/{key}/", path, key, f"2026-11-21T04:27:20.{second:06}Z"),
        )
        fulltext.add(self.connection, [(self._id, path, key, tags, value)])
        return self._id

    def found(self, query: str, **options: Any) -> list[int]:
        return [id for id, _ in fulltext.search(self.connection, query, **options)]


def _name(number: int) -> str:
    """Return a word of its own for each number."""
    return "".join(string.ascii_lowercase[int(digit)] for digit in f"{number:06}") + "zq"


@pytest.fixture(params=["narrow", "wide"])
def memories(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Memories:
    """An empty catalog, searched in either of the two ways."""
    if request.param == "wide":
        monkeypatch.setattr(word_search, "_NARROW", 0)
    return Memories()


@pytest.fixture(scope="module")
def some() -> Iterator[Memories]:
    made = Memories()
    for value in ("the retry pattern", {"a": ["café", 3, True]}, "猫が好き", "to be or to be"):
        made.write(value)
    yield made
    made.connection.close()


@given(query=st.text() | st.text(alphabet="\"()*:^-+{}\0 ANDORTEX猫が'😀") | st.characters())
def test_any_text_is_a_query_that_never_fails(some: Memories, query: str) -> None:
    for _, score in fulltext.search(some.connection, query):
        assert score > 0


@pytest.mark.parametrize(
    "query",
    [
        '"',
        '"retry',
        "retry AND",
        "NEAR(",
        "retry*",
        "value:retry",
        "(retry",
        "retry OR OR",
        "\0retry",
    ],
)
def test_operators_of_other_search_engines_are_only_words(some: Memories, query: str) -> None:
    asked = terms.query_terms(query)
    expected = [1] if "retri" in asked else []
    assert [id for id, _ in fulltext.search(some.connection, query)] == expected


def test_queries_without_a_word_find_nothing(some: Memories) -> None:
    assert fulltext.search(some.connection, "") == []
    assert fulltext.search(some.connection, "!? 😀 …") == []
    assert fulltext.search(some.connection, "\ud800") == []


def test_a_query_of_a_megabyte_is_answered_by_its_first_words(some: Memories) -> None:
    assert some.found("retry pattern " + "lorem ipsum dolor 猫 " * 60_000)[0] == 1


def test_a_query_of_question_words_alone_asks_for_these(some: Memories) -> None:
    assert some.found("to be or to be") == [4]
    assert 1 in some.found("the")


@pytest.mark.parametrize("query", ["猫", "好き", "猫が好き"])
def test_a_script_without_spaces_is_found_by_a_character_and_by_words(
    some: Memories, query: str
) -> None:
    assert some.found(query) == [3]


@pytest.mark.parametrize("query", ["cafe", "3", "true", "CAFÉ"])
def test_everything_inside_a_value_is_found(some: Memories, query: str) -> None:
    assert some.found(query) == [2]


def test_key_path_tags_and_field_names_are_found(memories: Memories) -> None:
    memory_id = memories.write("x", path="checkout-service/eu", key="retry-pattern", tags=("http",))
    other = memories.write({"max_retries": 3}, path="other", key="k")
    for query in ("checkout", "checkout-service", "eu", "retry-pattern", "pattern", "http"):
        assert memories.found(query)[0] == memory_id
    assert memories.found("max") == [other]
    assert memories.found("max_retries") == [other, memory_id]  # both have to do with retries


def test_a_word_of_the_value_counts_for_more_than_one_of_the_path(memories: Memories) -> None:
    memories.write("billing of one", path="a")
    memories.write("something", path="billing")
    assert memories.found("billing") == [1, 2]


def test_more_of_the_words_and_rarer_words_come_first(memories: Memories) -> None:
    for _ in range(5):
        memories.write("timeout here", path="far")
    rare = memories.write("gateway here", path="a")
    both = memories.write("gateway timeout", path="b")
    assert memories.found("gateway timeout")[:2] == [both, rare]


def test_neighbours_lift_a_memory_that_holds_a_word_itself(memories: Memories) -> None:
    memories.write("the pottery class", path="talk", key="a")
    answer = memories.write("Melanie said seven", path="talk", key="b")
    elsewhere = memories.write("Melanie said seven", path="other", key="c")  # newer
    assert memories.found("Melanie pottery") == [1, answer, elsewhere]


def test_without_a_word_of_the_query_neighbours_alone_find_nothing(memories: Memories) -> None:
    memories.write("nothing of it", path="talk")
    memories.write("the pottery class", path="talk")
    assert memories.found("pottery") == [2]


def test_neighbours_are_the_ones_that_satisfy_the_filter(memories: Memories) -> None:
    first = memories.write("the pottery class", path="talk", key="a")
    hidden = memories.write("between", path="talk", key="b")
    last = memories.write("Melanie said seven", path="talk", key="c")
    for at in range(5):
        memories.write("Melanie again", path=f"far{at}")
    memories.connection.execute("UPDATE memory SET deleted = 1 WHERE id = ?", (hidden,))
    scores = dict(fulltext.search(memories.connection, "Melanie pottery", where="deleted = 0"))
    alone = Memories()
    alone.write("the pottery class", path="talk", key="a")
    alone.write("Melanie said seven", path="talk", key="c")
    assert set(scores) >= {first, last}
    apart = dict(fulltext.search(memories.connection, "Melanie pottery"))
    assert scores[last] > apart[last]


@pytest.mark.slow
def test_in_unrelated_facts_the_exact_one_is_first() -> None:
    facts = Memories()
    draw = random.Random(7)
    values = [" ".join(draw.sample(WORDS, draw.randrange(3, 30))) for _ in range(1500)]
    for number, value in enumerate(values):
        facts.write(f"{value} Q{_name(number)}", at=number)
    for number in draw.sample(range(1500), 100):
        assert facts.found(f"Q{_name(number)}") == [number + 1]
        three = " ".join(draw.sample(values[number].split(), 3))
        assert facts.found(f"{three} Q{_name(number)}")[0] == number + 1
        assert facts.found(values[number])[0] == number + 1


@pytest.mark.slow
def test_neighbours_do_no_harm_among_unrelated_facts() -> None:
    """Three words of a fact find it, in one path, as often as when each fact has its own path."""
    together, apart = Memories(), Memories()
    draw = random.Random(8)
    values = [" ".join(draw.sample(WORDS, 12)) for _ in range(1500)]
    for number, value in enumerate(values):
        together.write(value, at=number)
        apart.write(value, path=f"p{number}", key="k", at=number)
    right = {"together": 0, "apart": 0}
    for number in draw.sample(range(1500), 200):
        query = " ".join(draw.sample(values[number].split(), 3))
        right["together"] += together.found(query)[0] == number + 1
        right["apart"] += apart.found(query)[0] == number + 1
    assert right["apart"] >= 190
    assert right["together"] >= right["apart"] - 4


def test_equal_scores_are_newest_first_then_by_prefix(memories: Memories) -> None:
    for path, at in (("b", 5), ("a", 5), ("d", 7), ("c", 3)):
        memories.write("the same", path=path, key="k", at=at)
    assert memories.found("same") == [3, 2, 1, 4]


def test_the_order_does_not_depend_on_the_order_of_indexing(memories: Memories) -> None:
    values = [(f"{WORDS[at % 7]} {WORDS[at % 3]} common", f"p{at % 5}", at) for at in range(60)]

    def ranking(order: list[int]) -> list[str]:
        made = Memories()
        for at in order:
            value, path, when = values[at]
            made.write(value, path=path, key=f"k{at}", at=when)
        names = dict(made.connection.execute("SELECT id, prefix FROM memory").fetchall())
        return [names[id] for id in made.found(f"{WORDS[1]} common {WORDS[2]}", limit=60)]

    assert ranking(list(range(60))) == ranking(random.Random(3).sample(range(60), 60))


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1, 10, 1000])
@pytest.mark.parametrize(
    "passes", [lambda id: id % 2 == 0, lambda id: id % 97 == 0, lambda id: id > 2900, bool]
)
def test_a_filter_gives_the_same_as_a_catalog_of_only_what_it_lets_through(
    limit: int, passes: Callable[[int], bool]
) -> None:
    everything, only = Memories(), Memories()
    draw = random.Random(5)
    for id in range(1, 3001):
        value = " ".join(draw.choices(WORDS[:60], k=8))
        everything.write(value, path=f"p{id % 11}", at=id)
        if passes(id):
            only._id = id - 1
            only.write(value, path=f"p{id % 11}", at=id)
        else:
            everything.connection.execute("UPDATE memory SET deleted = 1 WHERE id = ?", (id,))
    for _ in range(5):
        query = " ".join(draw.sample(WORDS[:60], 3))
        filtered = fulltext.search(
            everything.connection, query, where="memory.deleted = ?", parameters=(0,), limit=limit
        )
        assert filtered == fulltext.search(only.connection, query, limit=limit)


@pytest.mark.slow
@pytest.mark.parametrize("share", [1, 2, 50])
def test_the_best_are_complete_under_a_filter_that_takes_most_away(
    monkeypatch: pytest.MonkeyPatch, share: int
) -> None:
    monkeypatch.setattr(word_search, "_NARROW", 0)
    made = Memories()
    draw = random.Random(6)
    words_by_id = {}
    for id in range(1, 2001):
        words = [*draw.choices(WORDS[:40], k=8), "everywhere"]
        words_by_id[made.write(" ".join(words), path=f"p{id % 7}")] = words
    for first, second in zip(WORDS[:10], WORDS[10:20], strict=True):
        query = f"{first} {second} everywhere"
        matching = {id for id in words_by_id if id % share == 0}
        every = search(made, query, share, limit=5000)
        assert {id for id, _ in every} == matching
        for limit in (1, 10, 300):
            best = search(made, query, share, limit=limit)
            assert len(best) == min(limit, len(matching))
            assert best[0] == every[0]
            assert len(set(best) & set(every[:limit])) >= 0.8 * len(best)


def search(made: Memories, query: str, share: int, *, limit: int) -> list[tuple[int, float]]:
    """Return what a search gives among every so many memories."""
    where = "memory.id % ? = 0"
    return fulltext.search(made.connection, query, where=where, parameters=(share,), limit=limit)


def test_a_memory_is_found_by_its_new_text_only_once_it_was_replaced(memories: Memories) -> None:
    id = memories.write("the old wording")
    fulltext.remove(memories.connection, [id])
    fulltext.add(memories.connection, [(id, "e", "k", (), "the new phrasing")])
    assert memories.found("wording") == []
    assert memories.found("phrasing") == [id]


def test_removing_what_is_not_there_changes_nothing(memories: Memories) -> None:
    memories.write("a word")
    before = fulltext.search(memories.connection, "word")
    fulltext.remove(memories.connection, [77, 78, 77])
    fulltext.remove(memories.connection, [])
    assert fulltext.search(memories.connection, "word") == before


@given(
    st.lists(
        st.tuples(st.integers(1, 6), st.lists(st.sampled_from(WORDS[:6]), max_size=5)), max_size=25
    )
)
def test_after_any_changes_the_index_is_as_if_built_from_what_is_left(
    changes: list[tuple[int, list[str]]],
) -> None:
    changed, rebuilt = connect(), connect()
    left: dict[int, str] = {}
    for id, words in changes:
        fulltext.remove(changed, [id])
        left.pop(id, None)
        if words:
            left[id] = " ".join(words)
            fulltext.add(changed, [(id, "e", f"k{id}", (), left[id])])
    fulltext.add(rebuilt, [(id, "e", f"k{id}", (), value) for id, value in left.items()])
    for table in ("fulltext_memory", "fulltext_total"):
        statement = f"SELECT * FROM {table} ORDER BY 1"
        assert changed.execute(statement).fetchall() == rebuilt.execute(statement).fetchall()
    assert _postings(changed) == _postings(rebuilt)


def _postings(connection: sqlite3.Connection) -> dict[tuple[str, int], list[bytes]]:
    rows = connection.execute("SELECT term, block, postings FROM fulltext_posting")
    return {
        (term, block): sorted(postings[at : at + 8] for at in range(0, len(postings), 8))
        for term, block, postings in rows
    }


def test_a_removed_word_is_nowhere_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    memories = Memories(str(path))
    secret = "xylophonesecret"
    ids = [
        memories.write(f"common words {word}", key="k" + word) for word in string.ascii_lowercase
    ]
    id = memories.write(f"common words and {secret}", key="last")
    assert secret.encode() in path.read_bytes()
    fulltext.remove(memories.connection, [id, ids[3]])
    assert secret.encode() not in path.read_bytes()
    assert not [name.name for name in tmp_path.iterdir() if secret.encode() in name.read_bytes()]
    assert memories.found(secret) == []
