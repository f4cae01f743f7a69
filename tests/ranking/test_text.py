"""What text can be found by, and what a query asks for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amfs_core.ranking.stems import stem
from amfs_core.ranking.terms import query_terms, terms, texts

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


@pytest.mark.parametrize(
    "group",
    [
        "hike hikes hiked hiking",
        "study studies studied studying",
        "go goes went gone going",
        "child children",
        "relate relational relation relations",
        "hop hops hopped hopping",
        "plan plans planned planning",
        "run ran runs running",
    ],
)
def test_forms_of_a_word_have_one_stem(group: str) -> None:
    assert len({stem(word) for word in group.split()}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [("university", "universe"), ("new", "news"), ("sing", "sin"), ("hop", "hope")],
)
def test_other_words_stay_apart(one: str, other: str) -> None:
    assert stem(one) != stem(other)


def test_threads_do_not_disturb_each_other_s_stems(eager_threads: None) -> None:
    words = ["hiking", "universities", "relational", "studies", "went", "happily"] * 200
    alone = [stem(word) for word in words]
    with ThreadPoolExecutor(8) as pool:
        for together in pool.map(lambda _: [stem(word) for word in words], range(8)):
            assert together == alone


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("the Café on the corner", "cafe"),
        ("the cafe\u0301 on the corner", "CAFÉ"),
        ("Große Straße", "strasse"),
        ("Smørrebrød", "smorrebrod"),
        ("les élèves étudient", "eleves"),
        ("Привет, мир", "привет"),
        ("Ἀθῆναι", "αθηναι"),
        ("हिन्दी भाषा", "भाषा"),
        ("it is 2023-05-07 today", "7 May 2023"),
        ("it is 2023-05-07T13:56:00Z", "May 7th, 2023"),
        ("on 7 May, 2023", "2023-05-07"),
        ("on Sept 3", "September 3rd"),
        ("key 0003", "3"),
        ("ﬁle", "file"),
        ("ｗｉｄｅ", "wide"),
        ("Caroline’s party", "caroline"),
        ("the YouTube channel", "youtube"),
        ("let us use gpt4", "gpt-4"),
        ("let us use GPT-4", "gpt4"),
    ],
)
def test_a_query_in_other_spelling_asks_for_terms_of_the_text(text: str, query: str) -> None:
    assert query_terms(query)
    assert set(query_terms(query)) <= set(terms(text))


@pytest.mark.parametrize(
    ("identifier", "parts"),
    [
        ("retry-pattern", ["retry", "pattern"]),
        ("snake_case", ["snake", "case"]),
        ("camelCase", ["camel", "case"]),
        ("HTTPServer", ["http", "server"]),
        ("v1.2.3", ["v", "1", "2", "3"]),
        ("checkout-service", ["checkout", "service"]),
        ("2023-05-07-notes", ["7", "may", "2023", "notes"]),
    ],
)
def test_an_identifier_is_found_by_its_parts_and_as_a_whole(
    identifier: str, parts: list[str]
) -> None:
    text_terms = terms(f"see {identifier}.")
    for part in parts:
        assert set(terms(part)) <= set(text_terms)
    assert set(query_terms(identifier)) <= set(text_terms)


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("我喜欢喝咖啡", "咖啡"),
        ("我有一只猫", "猫"),
        ("東京タワーに行った", "東京タワー"),
        ("ฉันชอบกินข้าวผัด", "ข้าวผัด"),
        ("학교에서 공부했다", "학교"),
        ("新しいiPhoneを買った", "iPhone"),
    ],
)
def test_words_in_scripts_without_spaces_are_found_inside_a_sentence(text: str, query: str) -> None:
    asked = query_terms(query)
    assert asked
    assert set(asked) <= set(terms(text))


def test_question_words_are_left_out_unless_there_are_no_others() -> None:
    assert query_terms("When did Caroline go to the museum?") == ["carolin", "go", "museum"]
    assert query_terms("what is that") == ["what", "is", "that"]


def test_a_word_longer_than_any_word_is_one_term() -> None:
    assert len(terms("aB1" * 100_000)) == 1


@given(st.text())
def test_any_text_gives_terms_without_spaces_and_queries_ask_for_some(text: str) -> None:
    text_terms = terms(text)
    assert all(term and not any(letter.isspace() for letter in term) for term in text_terms)
    assert set(query_terms(text)) <= set(text_terms)
    assert bool(query_terms(text)) == bool(text_terms)


@given(JSON)
def test_any_json_value_has_text(value: Any) -> None:
    content, names = texts(value)
    assert isinstance(terms(content) + terms(names), list)


def test_all_text_inside_a_value_is_found_and_field_names_are_kept_apart() -> None:
    content, names = texts({"name": ["Ada", {"born": 1815}], "living": False, "note": None})
    assert sorted(content.split("\n")) == ["1815", "Ada", "false"]
    assert sorted(names.split("\n")) == ["born", "living", "name", "note"]


def test_a_deeply_nested_value_is_kept() -> None:
    value: Any = "bottom"
    for _ in range(100_000):
        value = [value]
    assert texts(value) == ("bottom", "")
