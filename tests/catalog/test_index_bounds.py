"""How much of one value is searched, and what is left out of the search."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from amfs.cli import amfs as program
from amfs_core.catalog.sqlite import answers
from amfs_core.errors import InvalidValueError
from amfs_core.format import MemoryEntry
from amfs_core.memory import AgentMemory
from amfs_core.ranking.terms import MOST_CHARACTERS, terms, texts
from amfs_core.testing import ModelAdapter

DATA = base64.b64encode(random.Random(1).randbytes(3000)).decode()
LINES = base64.encodebytes(random.Random(2).randbytes(3000)).decode()
URL_SAFE = base64.urlsafe_b64encode(random.Random(3).randbytes(3000)).decode()
HEXADECIMAL = random.Random(4).randbytes(1500).hex()


@pytest.fixture
def memory() -> AgentMemory:
    return AgentMemory("a", adapter=ModelAdapter())


def found(memory: AgentMemory, query: str) -> list[str]:
    return sorted(hit.entry.key for hit in memory.search(query, limit=100))


@pytest.mark.parametrize(
    "value",
    [
        "pelican " + "word " * 100_000,
        {"first": "pelican", "then": ["word " * 1000] * 200, "last": "walrus"},
        ["pelican", *["word " * 1000] * 200],
        "pelican " + "時" * 200_000,
    ],
    ids=["text", "object", "list", "unspaced"],
)
def test_the_beginning_of_a_large_value_is_found_and_the_rest_is_bounded(
    memory: AgentMemory, value: Any
) -> None:
    content, names = texts(value)
    assert content.startswith("pelican")
    assert len(content) <= MOST_CHARACTERS + 1000 and len(names) <= MOST_CHARACTERS
    memory.write("e", "k", value)
    assert found(memory, "pelican") == ["k"]
    assert found(memory, "walrus") == []


def test_a_word_just_within_the_bound_is_found(memory: AgentMemory) -> None:
    memory.write("e", "within", "word " * 19_990 + "pelican")
    memory.write("e", "beyond", "word " * 20_000 + "pelican")
    assert found(memory, "pelican") == ["within"]


@pytest.mark.parametrize("data", [DATA, LINES, URL_SAFE, HEXADECIMAL], ids=len)
@pytest.mark.parametrize("form", ["{}", "data:image/png;base64,{}", "see\n{}\n"])
def test_encoded_data_has_no_words_and_hides_none(
    memory: AgentMemory, data: str, form: str
) -> None:
    text = f"before {form.format(data)} pelican"
    memory.write("e", "k", text)
    assert found(memory, "pelican") == ["k"]
    assert found(memory, "before") == ["k"]
    assert len(terms(texts(text)[0])) < 15
    memory.write("e", "large", f"{data * 1000} pelican")
    assert found(memory, "pelican") == ["k", "large"]


@pytest.mark.parametrize(
    "word",
    [
        "0c9d3bd2a1b94d0f8a7e6b5c4d3e2f10",  # a UUID in hexadecimal
        "2026012006075f47f2da6dcea3627d75b432ee815d7d210e5361c31eb6fdd27e",  # a SHA-256
        "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
        "some_very_long_identifier_that_somebody_really_wrote_in_a_program_of_theirs",
        "https://example.com/a/long/path/with-many-parts/and_more?query=1&other=two#fragment",
        "/usr/lib/python3/dist-packages/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/s/t/module.py",
    ],
)
def test_long_words_that_people_search_are_found(memory: AgentMemory, word: str) -> None:
    memory.write("e", "k", f"the value is {word} and no other")
    assert found(memory, word) == ["k"]


def test_a_vector_is_not_searched_and_a_short_list_of_numbers_is(memory: AgentMemory) -> None:
    numbers = [random.Random(5).random() for _ in range(1536)]
    memory.write("e", "vector", {"text": "pelican", "vector": numbers, "whole": list(range(100))})
    memory.write("e", "short", [4711, 12])
    assert found(memory, "pelican") == ["vector"]
    assert found(memory, "4711") == ["short"]
    assert found(memory, "99") == []
    assert len(terms(texts(memory.list()[1].value)[0])) < 10


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda children: st.lists(children, max_size=5) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


@given(JSON)
def test_a_small_value_is_searched_whole_and_in_its_order(value: Any) -> None:
    scalars: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            for child in node.values():
                walk(child)
        elif isinstance(node, list):
            for child in node:
                walk(child)
        elif node is not None:
            scalars.append(node if isinstance(node, str) else json.dumps(node))

    walk(value)
    if all(not isinstance(scalar, float) for scalar in scalars):
        assert terms(texts(value)[0]) == [term for scalar in scalars for term in terms(scalar)] or (
            "\n".join(scalars).casefold() != "\n".join(scalars)
        )


def test_memories_are_indexed_a_few_at_a_time(
    memory: AgentMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "_BYTES_AT_ONCE", 10_000)
    for number in range(20):
        memory.write("e", f"k{number}", "pelican " + "word " * 1000)
    memory.list()
    sizes: list[int] = []
    genuine = answers.fulltext.add

    def add(connection: Any, rows: Any) -> None:
        listed = list(rows)
        sizes.append(len(listed))
        genuine(connection, listed)

    monkeypatch.setattr(answers.fulltext, "add", add)
    assert len(found(memory, "pelican")) == 20
    assert sum(sizes) == 20 and max(sizes) <= 2


# -- index=False -----------------------------------------------------------------------------


def embedder(listed: list[str]) -> list[list[float]]:
    return [[1.0, float(len(text))] for text in listed]


def test_a_memory_without_index_is_listed_and_not_found(memory: AgentMemory) -> None:
    memory = AgentMemory("a", adapter=ModelAdapter(), embedder=embedder)
    hidden = memory.write("e", "hidden", "pelican", tags=["birds"], index=False)
    memory.write("e", "shown", "pelican")
    assert not hidden.index and memory.read("e", "hidden") == hidden
    assert found(memory, "pelican") == ["shown"]
    plain = AgentMemory("b", adapter=memory.adapter)
    assert found(plain, "hidden birds") == []
    assert [hit.entry.key for hit in memory.semantic_search("pelican")] == ["shown"]
    assert [entry.key for entry in memory.list()] == ["hidden", "shown"]
    assert {hit.entry.key for hit in memory.search()} == {"hidden", "shown"}
    assert {hit.entry.key for hit in memory.search(tags=["birds"])} == {"hidden"}


def test_a_memory_leaves_the_index_and_comes_back(memory: AgentMemory) -> None:
    memory.write("e", "k", "pelican")
    assert found(memory, "pelican") == ["k"]
    memory.write("e", "k", "pelican", index=False)
    assert found(memory, "pelican") == []
    memory.write("e", "k", "pelican")
    assert found(memory, "pelican") == ["k"]


def test_update_and_outcomes_keep_a_memory_out_of_the_index(memory: AgentMemory) -> None:
    memory.write("e", "k", ["pelican"], index=False)
    assert not memory.update("e", "k", lambda old: [*old, "walrus"]).index
    memory.read("e", "k")
    memory.commit_outcome("o", "success")
    counted = memory.read("e", "k")
    assert counted is not None and counted.version == 3 and not counted.index
    assert found(memory, "walrus") == []


def test_the_field_is_in_the_body_only_where_it_says_no(memory: AgentMemory) -> None:
    shown = memory.write("e", "shown", 1)
    hidden = memory.write("e", "hidden", 1, index=False)
    assert "index" not in shown.to_dict()
    assert hidden.to_dict()["index"] is False
    assert isinstance(memory.read("e", "hidden"), MemoryEntry)


@pytest.mark.parametrize("index", [0, None, "no"])
def test_index_is_true_or_false(memory: AgentMemory, index: Any) -> None:
    with pytest.raises(InvalidValueError, match="index must be True or False"):
        memory.write("e", "k", 1, index=index)
    with pytest.raises(InvalidValueError, match="index must be True or False"):
        memory.write_many([{"entity_path": "e", "key": "k", "value": 1, "index": index}])


def test_export_and_import_keep_it(tmp_path: Path) -> None:
    def run(store: str, *arguments: str) -> str:
        done = CliRunner().invoke(program, ["--store", str(tmp_path / store), *arguments])
        assert done.exit_code == 0, done.output
        return done.stdout

    run("one", "write", "e", "hidden", "pelican", "--no-index")
    run("one", "write", "e", "shown", "pelican")
    (tmp_path / "lines").write_text(run("one", "export"))
    run("two", "import", str(tmp_path / "lines"))
    for store in ("one", "two"):
        assert json.loads(run(store, "read", "e", "hidden", "--json"))["index"] is False
        assert "hidden" not in run(store, "search", "pelican")
