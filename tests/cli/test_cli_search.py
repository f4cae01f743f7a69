"""The command `amfs search`, and what people see while a list or a search takes long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from amfs import AgentMemory
from amfs.cli import options
from amfs.cli.excerpt import Matches
from tests.cli.test_cli import (
    HOSTILE,
    documents,
    empty_surroundings,  # noqa: F401
    ok,
    on_a_terminal,
    refused,
    run,
)


def names(*arguments: str) -> list[str]:
    """The keys of what a search finds, in its order."""
    return [hit["key"] for hit in documents("search", *arguments, "--json")]


@pytest.fixture
def memories(empty_surroundings: None) -> None:  # noqa: F811
    with AgentMemory("planner") as memory:
        memory.write("checkout-service", "retry", "retry the gateway twice", tags=["http"])
        memory.write("checkout-service/eu", "slow", "the gateway is slow", tags=["http", "eu"])
    with AgentMemory("tester") as memory:
        memory.write("notes", "belief", "the gateway lies", memory_type="belief", confidence=0.4)
        memory.write("notes", "gone", "gateway")
        memory.delete("notes", "gone")


@pytest.mark.usefixtures("memories")
def test_words_need_no_quotes_and_the_best_answer_comes_first() -> None:
    assert names("retry", "gateway")[0] == "retry"
    assert names("retry gateway") == names("retry", "gateway")
    assert set(names("gateway")) == {"retry", "slow", "belief"}


@pytest.mark.usefixtures("memories")
def test_without_a_query_the_newest_comes_first() -> None:
    assert names() == ["belief", "slow", "retry"]
    assert names("-n", "1") == ["belief"]


@pytest.mark.usefixtures("memories")
@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["--entity", "checkout-service"], ["slow", "retry"]),
        (["--tag", "http"], ["slow", "retry"]),
        (["--tag", "http", "--tag", "eu"], ["slow"]),
        (["--type", "belief"], ["belief"]),
        (["--by", "planner"], ["slow", "retry"]),
        (["--min-confidence", "0.5"], ["slow", "retry"]),
        (["--since", "1h"], ["belief", "slow", "retry"]),
        (["--since", "2026-01-01"], ["belief", "slow", "retry"]),
    ],
)
def test_each_filter_holds(filters: list[str], found: list[str]) -> None:
    assert names(*filters) == found


@pytest.mark.usefixtures("memories")
@pytest.mark.parametrize("filters", [("--until", "1h"), ("--since", "2999-01-01"), ("zebra",)])
def test_a_search_that_finds_nothing_exits_1(filters: tuple[str, ...]) -> None:
    result = run("search", *filters)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "amfs: nothing found\n"
    result = run("search", *filters, "--json")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "")


@pytest.mark.usefixtures("memories")
def test_a_document_is_the_entry_and_its_score() -> None:
    first, *others = documents("search", "retry", "gateway", "--json")
    (entry,) = documents("read", "checkout-service", "retry", "--json")
    assert first.pop("score") > others[0]["score"] > 0
    assert first == entry
    assert [hit["score"] for hit in documents("search", "--json")] == [0, 0, 0]


@pytest.mark.usefixtures("memories")
def test_a_line_has_score_name_time_agent_and_the_part_that_matches() -> None:
    (line,) = ok("search", "twice").splitlines()
    score, name, written, agent, value = line.split("\t")
    assert float(score) > 0
    assert (name, agent) == ("checkout-service/retry", "planner")
    assert datetime.fromisoformat(written) <= datetime.now(UTC)
    assert value == "retry the gateway twice"


@pytest.mark.parametrize(
    "wrong",
    [
        ("--since", "soon"),
        ("--until", "9x"),
        ("--since", "999999999w"),
        ("-n", "0"),
        ("--min-confidence", "2"),
        ("--type", "rumour"),
        ("--entity", "a//b"),
    ],
)
def test_a_wrong_filter_is_one_line(wrong: tuple[str, ...]) -> None:
    refused("search", "x", *wrong)


def test_a_time_may_be_so_long_ago() -> None:
    ok("write", "e", "k", "1")
    assert run("read", "e", "k", "--at", "1d").exit_code == 1
    later = datetime.now(UTC) + timedelta(minutes=1)
    assert ok("read", "e", "k", "--at", later.isoformat()) == "1\n"


# -- excerpts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "line", "found"),
    [
        ("retry", "we retried, retrying: Retry-pattern.", ["retried", "retrying", "Retry-pattern"]),
        ("what is the pattern", "the pattern is this", ["pattern"]),
        ("größe", "Die GRÖSSE zählt", ["GRÖSSE"]),
        ("重试", "这是重试模式，重试", ["重试", "重试"]),
        ("max_retries", '{"max_retries": 3}', ["max_retries"]),
        ("", "nothing is asked for", []),
    ],
)
def test_the_words_that_the_search_means_are_marked(
    query: str, line: str, found: list[str]
) -> None:
    assert [line[start:end] for start, end in Matches(query).spans(line)] == found


@pytest.mark.parametrize(
    ("value", "excerpt"),
    [
        ("short and retry", "short and retry"),
        ("word " * 50 + "then\nretry it", "…word word word then retry it"),
        ("x" * 300 + " retry", "…retry"),
        ({"a": ["one\ntwo", "retry"]}, '{"a": ["one two", "retry"]}'),
        ("nothing of it " * 30, ("nothing of it " * 30)[:199] + "…"),
        (HOSTILE[:8] + " retry", r"\u001b]0;owne retry"),
    ],
)
def test_the_excerpt_begins_shortly_before_the_first_match(value: Any, excerpt: str) -> None:
    assert Matches("retry").excerpt(value) == excerpt


# -- terminals -------------------------------------------------------------------------------


def test_people_get_a_table_with_the_matches_in_colour() -> None:
    with AgentMemory(f"agent{HOSTILE}") as memory:
        memory.write("e", f"k{HOSTILE}", f"{HOSTILE} we retry {'and wait ' * 40}")
    seen = on_a_terminal("search", "retry")
    assert "score" in seen and "age" in seen
    assert "\x1b[1;33mretry\x1b[0m" in seen
    for sequence in ("\x1b]0", "\x1b[2J", "\x9b", "\u202e", "\x7f", "\x07"):
        assert sequence not in seen


@pytest.mark.slow
@pytest.mark.parametrize("command", ["ls", "search"])
def test_a_slow_search_suggests_the_catalog_once_it_would_help(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with AgentMemory() as memory:
        items = [{"entity_path": "e", "key": f"k{n}", "value": n} for n in range(options.MANY + 1)]
        memory.write_many(items)
    seen = on_a_terminal("--no-cache", command)
    assert f"fetched {options.MANY + 2} objects; without --no-cache" in seen  # with the manifest
    assert ("Reading" in seen) == (command == "ls")
    assert "AMFS_CACHE_DIR" not in run("--no-cache", command).stderr
    monkeypatch.setenv("AMFS_CACHE_DIR", str(tmp_path / "cache"))
    first, second = on_a_terminal(command), on_a_terminal(command)
    assert "AMFS_CACHE_DIR" not in first + second
    assert "Reading" not in second


def test_with_store_too_the_catalog_is_kept_where_the_configuration_says(tmp_path: Path) -> None:
    ok("--store", "here", "write", "e", "k", "1")
    (tmp_path / "amfs.yaml").write_text("cache_dir: kept\n")
    ok("--store", "here", "ls")
    assert list((tmp_path / "kept").glob("*.sqlite"))


def test_a_catalog_is_kept_between_commands_where_nobody_else_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    ok("write", "people", "ann", "xyzzyplugh")
    assert "ann" in ok("search", "xyzzyplugh")
    (path,) = (tmp_path / "user-cache").rglob("*.sqlite")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert b"xyzzyplugh" in path.read_bytes()
    kept = path.stat().st_mtime_ns
    assert "ann" in ok("search", "xyzzyplugh")
    assert path.stat().st_mtime_ns == kept  # nothing was new
    ok("purge", "people", "ann", "--yes")
    files = [file for file in (tmp_path / "user-cache").rglob("*") if file.is_file()]
    assert not any(b"xyzzyplugh" in file.read_bytes() for file in files)


def test_without_a_cache_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    monkeypatch.setenv("AMFS_CACHE_DIR", str(tmp_path / "named"))
    ok("write", "e", "k", "pelican")
    assert "k" in ok("--no-cache", "search", "pelican")
    assert not (tmp_path / "user-cache").exists() and not (tmp_path / "named").exists()


@pytest.mark.parametrize("place", ["a file", "nowhere"])
def test_search_works_without_a_cache_directory(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file") if place == "a file" else "~")
    ok("write", "e", "k", "pelican")
    assert "k" in ok("search", "pelican")
    assert not (tmp_path / "~").exists()
