"""Memories of mem0: a file that its package made, and the forms of its platform's answers."""

from __future__ import annotations

import json
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amfs.importers.json_objects import objects
from amfs_core.errors import ConfigurationError
from amfs_core.memory import AgentMemory
from tests.importers.conftest import RECORDED, Import, reasons, states, values

PACKAGE = RECORDED / "mem0-2.2.1.json"
"""What `Memory.get_all` of mem0ai 2.2.1 returned for two users and an agent."""

PLATFORM: dict[str, Any] = {
    "id": "f4cbdb08-7062-4f3e-8eb2-9f5c80dfe64c",
    "memory": "Alex is planning a trip to San Francisco",
    "user_id": "alex",
    "agent_id": None,
    "app_id": "planner",
    "session_id": "trip/1",
    "metadata": None,
    "categories": ["travel", "plans"],
    "created_at": "2026-07-01T12:00:00-07:00",
    "updated_at": "2026-07-01T12:00:00-07:00",
    "expiration_date": None,
    "structured_attributes": {"year": 2026, "is_weekend": False},
}
"""A memory as the API of the platform documents it."""


def page(*memories: dict[str, Any]) -> dict[str, Any]:
    return {"count": len(memories), "next": None, "previous": None, "results": list(memories)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "export.json"


def test_records_of_the_package_become_memories(memory: AgentMemory, imported: Import) -> None:
    assert states(imported("mem0", PACKAGE)) == ["expired", "new", "new", "new"]
    exported = {record["id"]: record for record in json.loads(PACKAGE.read_text())["results"]}
    paths = {
        "80b04671-1a11-4692-a66c-705417afe458": "mem0/user/alex",
        "76f2376d-a461-4f70-81f3-0d77df5dc1f8": (
            "mem0/user/team%2Farjun-100%25/agent/planner/run/2026-11"
        ),
        "62e7c46a-2245-4407-813c-c9e361d7af51": "mem0/agent/planner",
    }
    assert values(memory) == {(path, key): exported[key] for key, path in paths.items()}
    launch = memory.read("mem0/agent/planner", "62e7c46a-2245-4407-813c-c9e361d7af51")
    assert launch is not None
    assert launch.expires_at == datetime(2099, 2, 1, tzinfo=UTC)  # its date is its last day
    assert states(imported("mem0", PACKAGE)) == ["expired", *["unchanged"] * 3]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("form", ["page", "list", "memory"])
def test_each_form_of_the_platforms_answers_is_read(
    memory: AgentMemory, imported: Import, file: Path, form: str, indent: int | None
) -> None:
    document = {"page": page(PLATFORM), "list": [PLATFORM], "memory": PLATFORM}[form]
    file.write_text(json.dumps(document, indent=indent) + "\n")
    assert states(imported("mem0", file)) == ["new"]
    path = "mem0/user/alex/app/planner/run/trip%2F1"
    assert values(memory) == {(path, PLATFORM["id"]): PLATFORM}
    entry = memory.read(path, PLATFORM["id"])
    assert entry is not None and entry.tags == ("travel", "plans")


def test_a_document_a_line_is_read_line_by_line(
    memory: AgentMemory, imported: Import, file: Path
) -> None:
    memories = [{**PLATFORM, "id": f"id-{n}"} for n in range(6)]
    lines = [
        *(json.dumps(record) for record in memories[:2]),
        "",
        json.dumps(page(*memories[2:4])),
        "{",
        json.dumps(memories[4:]),
    ]
    file.write_text("\n".join(lines))
    done = imported("mem0", file)
    assert states(done) == ["new", "new", "new", "new", "refused", "new", "new"]
    assert [result.place for result in done][2:] == [
        *("line 4, memory 1", "line 4, memory 2"),
        "line 5",
        *("line 6, memory 1", "line 6, memory 2"),
    ]
    assert len(memory.list()) == 6


def test_pages_that_overlap_and_another_file_are_the_same_memories(
    imported: Import, file: Path, tmp_path: Path
) -> None:
    other = {**PLATFORM, "id": "b"}
    file.write_text(f"{json.dumps(page(PLATFORM, other))}\n{json.dumps(page(other))}\n")
    assert states(imported("mem0", file)) == ["new", "new", "unchanged"]
    later = tmp_path / "export-of-tomorrow.json"
    later.write_text(json.dumps(page({**PLATFORM, "memory": "He went to Oslo"}, other)))
    assert states(imported("mem0", later)) == ["changed", "unchanged"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"memory": None}, "no text under 'memory'"),
        ({"id": 7}, "its id must be text"),
        ({"user_id": 7}, "its user_id must be text"),
        ({"user_id": "x" * 300}, "300 bytes"),
        ({"categories": "travel"}, "its categories must be a list"),
        ({"categories": [1]}, "its categories[0] must be text"),
        ({"expiration_date": "soon"}, "its expiration_date is not a date"),
        ({"expiration_date": "9999-12-31"}, "its expiration_date is not a date"),
        ({"metadata": "\ud800"}, "surrogate"),
    ],
)
def test_a_memory_that_cannot_be_kept_is_refused_by_number(
    imported: Import, file: Path, changed: dict[str, Any], words: str
) -> None:
    file.write_text(json.dumps(page({**PLATFORM, **changed}, PLATFORM)))
    done = imported("mem0", file)
    assert states(done) == ["refused", "new"]
    assert words in str(reasons(done)["memory 1"])


def test_a_number_that_would_be_rounded_is_refused(imported: Import, file: Path) -> None:
    text = json.dumps(page({**PLATFORM, "metadata": 0}))
    file.write_text(text.replace('"metadata": 0', '"metadata": 0.1234567890123456789'))
    assert "would be rounded" in str(reasons(imported("mem0", file))["memory 1"])


def test_a_memory_about_nobody_needs_a_path(imported: Import, file: Path) -> None:
    file.write_text(json.dumps([{"id": "a", "memory": "text"}]))
    assert "--into" in str(reasons(imported("mem0", file, into=""))["memory 1"])
    assert states(imported("mem0", file)) == ["new"]


@pytest.mark.parametrize("text", ['{"full_name": "Dev"}', '{"results": 5}', "5", "nonsense"])
def test_an_argument_that_is_not_a_memory_is_refused(
    imported: Import, file: Path, text: str
) -> None:
    file.write_text(text)
    assert set(reasons(imported("mem0", file))) == {"memory 1"}


def test_an_export_with_a_schema_of_ones_own_is_told_from_memories(
    imported: Import, file: Path
) -> None:
    file.write_text('{"full_name": "Dev", "current_role": "senior engineer"}')
    assert "get_all" in str(reasons(imported("mem0", file))["memory 1"])


MEMORY = json.dumps(PLATFORM)


@pytest.mark.parametrize(
    "text",
    [
        f'{{"results": [{MEMORY}, {MEMORY[:-40]}',
        f'{{"results": [{MEMORY} {MEMORY}]}}',
        f'{{"results": [, {MEMORY}]}}',
        f'{{"results": [{MEMORY},]}}',
        f'{{"results": [{MEMORY}, 5]}}',
        f'{{"results": [{MEMORY}]',
        f'{{"results": [{MEMORY}], "count": }}',
        f'{{"results": [{MEMORY}]}} more',
        f"[{MEMORY}}}",
        f"more [{MEMORY}]",
        f'{{"results": [{MEMORY}, {{"id": "{"[" * 2_000_000}',
    ],
)
@pytest.mark.parametrize("indent", ["", "\n"])
def test_a_document_that_is_cut_or_no_json_is_an_error_and_writes_nothing(
    memory: AgentMemory, imported: Import, file: Path, text: str, indent: str
) -> None:
    file.write_text(text.replace("[", f"[{indent}", 1))
    with pytest.raises(ConfigurationError, match=r"export\.json is not a file of mem0 memories"):
        imported("mem0", file)
    assert memory.list() == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=40)
@given(
    memories=st.lists(st.dictionaries(st.text(), JSON, max_size=4), max_size=4),
    around=st.dictionaries(st.text().filter(lambda name: name != "results"), JSON, max_size=3),
    indent=st.sampled_from([None, 0, 2]),
    is_page=st.booleans(),
)
def test_any_list_of_objects_is_cut_where_its_objects_are(
    memories: list[Any], around: dict[str, Any], indent: int | None, is_page: bool
) -> None:
    document = {**around, "results": memories, "more": around} if is_page else memories
    text = json.dumps(document, indent=indent).encode()
    assert [json.loads(object_text) for object_text in objects(text, b"results")] == memories


def test_an_empty_file_is_nothing(imported: Import, file: Path) -> None:
    file.write_text("")
    assert imported("mem0", file) == []
    file.write_text('{"results": []}')
    assert imported("mem0", file) == []


def test_a_large_document_is_never_in_memory_as_a_whole(imported: Import, file: Path) -> None:
    text = "x" * 1_000_000
    with file.open("w") as whole:
        whole.write('{"results": [\n')
        for n in range(40):
            comma = "," if n else ""
            whole.write(comma + json.dumps({**PLATFORM, "id": str(n), "memory": text}))
        whole.write("]}")
    tracemalloc.start()
    try:
        assert states(imported("mem0", file, dry_run=True)) == ["new"] * 40
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 30_000_000  # of 40,000,000
