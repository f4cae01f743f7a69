"""The page of costs: its tables against requests that were counted."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from amfs_core.memory import AgentMemory
from amfs_core.testing.model import ModelAdapter
from amfs_core.versions import manifest as manifest_module
from tests.docs.test_docs import DOCS, Block, sections_of
from tests.support.known import known

PAGE = DOCS / "cost.md"
KINDS = {"list": "LIST", "get": "GET", "create": "PUT"}
KEYS = 100
"""Memories in a store; with more objects they have several versions."""


def rows_of(title: str) -> dict[str, list[str]]:
    """The table of a section: its rows by their first cell, without the rule."""
    lines = re.findall(r"^\|(.+)\|$", sections_of(PAGE)[title], re.MULTILINE)
    cells = [[cell.strip() for cell in line.split("|")] for line in lines]
    return {first: others for first, *others in cells if first != "---"}


@pytest.fixture(scope="module")
def program() -> dict[str, Any]:
    """What the page's program defines."""
    (source,) = (block.text for block in Block.all_of(PAGE) if "def watching" in block.text)
    names: dict[str, Any] = {}
    exec(source, names)
    return names


@pytest.fixture
def adapter() -> ModelAdapter:
    return ModelAdapter()


def filled(adapter: ModelAdapter, objects: int) -> AgentMemory:
    memory = AgentMemory("writer", adapter=adapter)
    for number in range(objects):
        memory.write("e", f"k{number % KEYS}", number)
    return memory


def stranger(adapter: ModelAdapter) -> AgentMemory:
    """A memory that has seen nothing yet but that there is no manifest."""
    return known(beginner(adapter))


def beginner(adapter: ModelAdapter) -> AgentMemory:
    """A memory that has asked for nothing yet."""
    return AgentMemory("reader", adapter=adapter)


def idle(adapter: ModelAdapter) -> AgentMemory:
    """A memory that looked at the manifest a minute ago."""
    memory = acquainted(adapter)
    memory.engine.versions.manifests.writes_until = manifest_module.running()
    return memory


def acquainted(adapter: ModelAdapter) -> AgentMemory:
    """A memory that has seen everything."""
    memory = stranger(adapter)
    memory.list()
    for key in ("k1", "k2", "k3"):
        memory.read("e", key)
    return memory


def spent(memory: AgentMemory, work: Callable[[AgentMemory], object]) -> dict[str, int]:
    """The requests that some work takes, by what the bill calls them."""
    before = memory.metrics.requests
    work(memory)
    after = memory.metrics.requests
    return {KINDS[kind]: after[kind] - before[kind] for kind in after if after[kind] > before[kind]}


# -- requests --------------------------------------------------------------------------------

NUMBERS = {
    "": 0,
    "n / 1,000": 1,  # all fit into one page
    "1 per memory that is new or changed": 0,
    "1 + k": 1 + 3,
}


@pytest.mark.parametrize(
    ("row", "who", "work"),
    [
        ("in addition, once: the first operation of a process", beginner, known),
        ("in addition: a write more than a minute after this was last done", idle, known),
        (
            "write, memory known to this process, or new",
            acquainted,
            lambda memory: memory.write("e", "k1", 1),
        ),
        (
            "write, memory known to this process, or new",
            stranger,
            lambda memory: memory.write("e", "new", 1),
        ),
        (
            "write, memory there and not known",
            stranger,
            lambda memory: memory.write("e", "k1", 1),
        ),
        ("read, memory known", acquainted, lambda memory: memory.read("e", "k1")),
        ("read, memory not known", stranger, lambda memory: memory.read("e", "k1")),
        (
            "read within `max_age` of the last check",
            acquainted,
            lambda memory: memory.read("e", "k1", max_age=60),
        ),
        ("list or search over n objects", acquainted, lambda memory: memory.search("5")),
        (
            "list or search within `max_age` of the last one",
            acquainted,
            lambda memory: memory.list(max_age=60),
        ),
        ("stats over n objects", stranger, lambda memory: memory.stats()),
        (
            "outcome about k memories",
            acquainted,
            lambda memory: memory.commit_outcome("deploy-1", "success"),
        ),
    ],
)
def test_an_operation_takes_the_requests_of_its_row(
    row: str,
    who: Callable[[ModelAdapter], AgentMemory],
    work: Callable[[AgentMemory], object],
    adapter: ModelAdapter,
) -> None:
    filled(adapter, 2 * KEYS)
    rows = rows_of("Requests")
    said = zip(rows["operation"], rows[row], strict=True)
    wanted = {kind: NUMBERS.get(cell) or int(cell) for kind, cell in said if NUMBERS.get(cell) != 0}
    assert spent(who(adapter), work) == wanted


def test_a_history_lists_its_versions_and_gets_each(adapter: ModelAdapter) -> None:
    assert rows_of("Requests")["history of v versions"][0] == "v / 1,000"
    with AgentMemory("writer", adapter=adapter) as memory:
        for number in range(1001):
            memory.write("e", "k", number)
    work: Callable[[AgentMemory], object] = lambda memory: memory.history("e", "k")  # noqa: E731
    assert spent(stranger(adapter), work) == {"LIST": 2, "GET": 1001}


# -- dollars ---------------------------------------------------------------------------------


@pytest.mark.parametrize("objects", [0, 1, 1000, 1001, 2500, 5000])
def test_a_look_costs_what_the_program_says(
    objects: int, adapter: ModelAdapter, program: dict[str, Any]
) -> None:
    writer = filled(adapter, objects)
    memory = stranger(adapter)
    with memory.watch() as watch:
        cursor = watch.cursor

    def dollars(work: Callable[[AgentMemory], object]) -> float:
        requests = spent(memory, work)
        return float(sum(program[kind] * number for kind, number in requests.items()))

    def poll(memory: AgentMemory) -> None:
        with memory.watch(since=cursor, interval=3600) as watch:
            assert next(watch).key == "new"

    look, seen = program["look"], min(objects, KEYS)
    assert dollars(lambda reader: reader.list()) == pytest.approx(look(objects, new=seen))
    assert dollars(lambda reader: reader.list()) == pytest.approx(look(objects))
    writer.write("e", "new", "word")
    assert dollars(poll) == pytest.approx(look(objects + 1, new=1))
    writer.write("e", "newer", "word")
    assert dollars(lambda reader: reader.search("word")) == pytest.approx(look(objects + 2, new=1))


def test_the_table_of_dollars_is_what_the_program_computes(program: dict[str, Any]) -> None:
    rows = rows_of("Dollars")
    sizes = [int(cell.split()[0].replace(",", "")) for cell in rows.pop("interval")]
    intervals = {"1 s": 1, "5 s": 5, "30 s": 30, "5 min": 300}
    assert sizes == [1_000, 10_000, 100_000] and list(rows) == list(intervals)
    for name, cells in rows.items():
        assert cells == [f"{program['watching'](size, intervals[name]):,.2f}" for size in sizes]
