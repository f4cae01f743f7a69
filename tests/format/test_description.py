"""One description of an entry: every place that names its fields is held to it.

Most places follow the description by themselves. Those that cannot, as they are parameters of a
function, options of a command or a page, are compared with it here: a field that is added to the
structs of `amfs_core.format.entry` fails for each place that forgets it.
"""

from __future__ import annotations

import inspect
import re
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import pytest

from amfs.cli.write import write as write_command
from amfs_core.catalog.sqlite import tables
from amfs_core.format import (
    Draft,
    Evidence,
    Layout,
    MemoryEntry,
    Provenance,
    carried_on,
    described,
    named,
    time_text,
)
from amfs_core.format import fields as fields_module
from amfs_core.format.fields import Field
from amfs_core.memory import WRITE_PARAMETERS, AgentMemory, AsyncAgentMemory, drafts, jsonl
from amfs_core.outcomes import apply, evidence
from amfs_core.testing import ModelAdapter
from amfs_core.versions import purge
from amfs_server import memories
from amfs_server.openapi.schemas import schemas
from tests.conftest import REPOSITORY

NOW = datetime(2026, 11, 27, 12, 0, 0, 1, tzinfo=UTC)
CLAIMED = (
    *named(MemoryEntry, lambda field: field.about == "claim"),
    *named(Provenance, lambda field: field.about == "claim"),
)
HEADERS = {"write_id", "expected_version"}  # of a request over HTTP


def marked(name: str, kind: Any) -> Any:
    """A value of a field's type that no default is."""
    special: dict[str, Any] = {
        "confidence": 0.25,
        "memory_type": "belief",
        "index": False,
        "evidence": Evidence(1, 0.5, {}, 0.75),
        "provenance": Provenance("ann", "s", NOW, "w", ("p",)),
        "deleted": False,
        "namespace": "default",
        "claim": 1,
        "version": 2,
    }
    by_type = {str: f"a {name}", datetime: NOW, int: 7, bool: True, Any: {"v": name}}
    return special[name] if name in special else by_type.get(kind, ("one", "two"))


def full_entry() -> MemoryEntry:
    """An entry in which every field of a claim has a value of its own."""
    said = {
        description.name: marked(description.name, description.type)
        for description in described(MemoryEntry)
    }
    said |= {"sha256": "", "erased": None, "purges": False, "extra": {"newer": "kept"}}
    return MemoryEntry(**said)


def test_every_field_says_what_it_is_about() -> None:
    for kind in (MemoryEntry, Provenance, Evidence):
        names = [info.name for info in msgspec.structs.fields(kind)]
        in_no_body = {"extra", "provisional"}
        assert [description.name for description in described(kind)] == [
            name for name in names if name not in in_no_body
        ]

    class Forgetful(msgspec.Struct):
        mood: str

    with pytest.raises(TypeError, match=r"Forgetful\.mood does not say what it is about"):
        described(Forgetful)


def test_a_field_that_is_added_is_written_read_and_checked_without_another_line() -> None:
    class Mood(msgspec.Struct, kw_only=True):
        depth: Annotated[float, msgspec.Meta(ge=0), Field("claim")]

    class Newer(MemoryEntry, kw_only=True, frozen=True, omit_defaults=True):
        mood: Annotated[str | None, Field("claim", given=True, compared=True)] = None

    entry = Newer(**{**msgspec.structs.asdict(full_entry()), "mood": "good", "erased": "0" * 64})
    fields = fields_module.written(entry, time_text)
    assert fields["mood"] == "good"
    again = fields_module.read(Newer, {**fields, "odd": 1}, lambda text: NOW)
    assert (again.mood, again.extra) == ("good", {"newer": "kept", "odd": 1})
    plain = msgspec.json.decode(msgspec.json.encode(fields))
    msgspec.convert(plain, fields_module.shape(Newer))
    with pytest.raises(msgspec.ValidationError, match=r"\$\.mood"):
        msgspec.convert({**plain, "mood": 7}, fields_module.shape(Newer))
    assert "mood" in named(Newer, lambda field: field.compared)


# -- what carries a claim on ---------------------------------------------------------------------


def test_a_draft_can_say_everything_that_a_claim_or_a_caller_says() -> None:
    names = {info.name for info in msgspec.structs.fields(Draft)}
    assert names >= {*CLAIMED, *set(drafts.GIVEN) - {"entity_path", "key"}, "ttl", "extra"}


def test_the_next_version_says_all_that_its_draft_says() -> None:
    memory = AgentMemory("ann", adapter=ModelAdapter())
    versions = memory.engine.versions
    said = carried_on(full_entry())
    draft = Draft(write_id="w", agent_id="a", session_id="s", outcome_ref="r", **said)
    entry = versions.append(versions.layout.address("e", "k"), draft)
    for name in CLAIMED:
        holder = entry if name in MemoryEntry.__struct_fields__ else entry.provenance
        assert getattr(holder, name) == said[name], name
    assert entry.extra == {"newer": "kept"}
    assert (entry.provenance.outcome_ref, entry.provenance.write_id) == ("r", "w")


def written_by_hand(memory: AgentMemory) -> MemoryEntry:
    """A version with a value of its own in every field that is about the claim."""
    versions = memory.engine.versions
    said = {**carried_on(full_entry()), "expires_at": datetime(2100, 1, 1, tzinfo=UTC)}
    draft = Draft(write_id="w", agent_id="a", session_id="s", **said)
    return versions.append(versions.layout.address("e", "k"), draft)


def claim_of(entry: MemoryEntry) -> dict[str, Any]:
    return carried_on(entry)


def test_an_update_keeps_all_of_the_claim_but_its_value() -> None:
    memory = AgentMemory("ann", adapter=ModelAdapter())
    before = claim_of(written_by_hand(memory))
    after = claim_of(memory.update("e", "k", lambda old: "another"))
    assert after == {**before, "value": "another"}


def test_an_outcome_keeps_all_of_the_claim_but_its_confidence() -> None:
    memory = AgentMemory("ann", adapter=ModelAdapter())
    entry = written_by_hand(memory)
    outcome = memory.commit_outcome("r", "failure", entries=[("e", "k")])
    confidence, counted = evidence.counted(entry, outcome.type)
    newest = memory.history("e", "k")[-1]
    assert newest.provenance.write_id == apply.write_id(
        memory.engine.layout, "r", memory.engine.layout.address("e", "k")
    )
    assert claim_of(newest) == {**claim_of(entry), "confidence": confidence, "evidence": counted}


def test_erasure_leaves_nothing_of_a_claim_or_of_its_author() -> None:
    layout = Layout("default")
    entry = full_entry()
    address = layout.address(entry.entity_path, entry.key)
    sealed = {"format": 1, **fields_module.written(entry, time_text)}
    del sealed["sha256"]
    from amfs_core.format import seal

    stub = msgspec.json.decode(purge.stub_of(layout, address, 2, seal.sealed(sealed)))
    kept = msgspec.json.encode(stub)
    for description in described(MemoryEntry):
        value = sealed.get(description.name)
        if description.field.about == "place" and description.name != "sha256":
            assert stub[description.name] == value, description.name
        elif description.field.about == "claim" and description.name not in (
            "confidence",
            "evidence",
        ):
            assert stub.get(description.name) in (None, [], "fact"), description.name
    assert stub["evidence"] == {"successes": 0, "failures": 0}
    assert stub["confidence"] == 0.0
    kept_of_write = {name: text for name, text in stub["provenance"].items() if text}
    assert set(kept_of_write) == {"written_at", "write_id"}
    for secret in (b"a session", b"ann", b"newer", b'"v"', b"one", b"belief"):
        assert secret not in kept


# -- who gives it ----------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [AgentMemory.write, AsyncAgentMemory.write])
def test_write_takes_every_field_that_can_be_given(write: Any) -> None:
    assert set(inspect.signature(write).parameters) - {"self"} == set(WRITE_PARAMETERS)


def test_a_draft_is_checked_for_every_field_that_can_be_given() -> None:
    parameters = set(inspect.signature(drafts.draft).parameters) - {"agent_id", "session_id"}
    assert parameters == set(WRITE_PARAMETERS) - {"entity_path", "key", "expected_version"}


def test_a_memory_is_read_with_every_field_as_it_was_given() -> None:
    arguments = {
        **{name: marked(name, str) for name in drafts.GIVEN if name not in ("value", "tags")},
        "value": {"v": 1},
        "tags": ["one", "two"],
        "pattern_refs": ["p"],
        "expires_at": datetime(2100, 1, 1, tzinfo=UTC),
    }
    memory = AgentMemory("ann", adapter=ModelAdapter())
    memory.write(**arguments)
    entry = memory.read(arguments["entity_path"], arguments["key"])
    assert entry is not None
    for name in drafts.GIVEN:
        holder = entry if name in MemoryEntry.__struct_fields__ else entry.provenance
        value = getattr(holder, name)
        assert (list(value) if isinstance(value, tuple) else value) == arguments[name], name


def test_the_command_has_an_option_for_every_field_that_can_be_given() -> None:
    instead = {"entity_path": "entity", "expected_version": "expect", "index": "no_index"}
    not_there = {"expires_at", "write_id"}  # --ttl does it; a command is not repeated by its id
    options = {parameter.name for parameter in write_command.params}
    wanted = {instead.get(name, name) for name in set(WRITE_PARAMETERS) - not_there}
    assert options >= wanted


def test_http_takes_every_field_that_can_be_given() -> None:
    body = set(WRITE_PARAMETERS) - {"entity_path", "key"} - HEADERS
    assert body == memories._BODY
    assert set(schemas()["Write"]["properties"]) == body


def test_a_line_of_an_export_has_what_can_be_given_and_is_taken_back() -> None:
    memory, other = (AgentMemory("ann", adapter=ModelAdapter()) for _ in range(2))
    written_by_hand(memory)
    (line,) = jsonl.export_entries(memory)
    assert set(line) == set(drafts.GIVEN) - {"write_id"} | {"version", "agent_id", "written_at"}
    import io

    jsonl.import_lines(other, io.BytesIO(msgspec.json.encode(line)))
    (again,) = jsonl.export_entries(other)
    ignored = {"version", "agent_id", "written_at"}
    assert {name: line[name] for name in line.keys() - ignored} == {
        name: again[name] for name in again.keys() - ignored
    }


def test_a_line_of_an_export_is_in_the_order_that_it_always_had() -> None:
    memory = AgentMemory("ann", adapter=ModelAdapter())
    written_by_hand(memory)
    (line,) = jsonl.export_entries(memory)
    assert list(line) == [
        *("entity_path", "key", "value", "confidence", "tags", "memory_type", "expires_at"),
        *("pattern_refs", "index", "version", "agent_id", "written_at"),
    ]


# -- who shows it ----------------------------------------------------------------------------------


def test_the_document_of_an_entry_has_every_field() -> None:
    document = full_entry().to_dict()
    left_out = {"erased", "purges"}  # which have their defaults here
    names = [
        description.name
        for description in described(MemoryEntry)
        if description.name not in left_out
    ]
    assert list(document) == ["format", *names[:-1], "newer", "sha256"]


def test_the_schema_of_an_answer_has_every_field_that_is_always_there() -> None:
    always = [
        description.name for description in described(MemoryEntry) if not description.is_optional
    ]
    assert list(schemas()["Entry"]["properties"]) == always


def test_the_page_of_the_layout_describes_every_field() -> None:
    page = (REPOSITORY / "docs/layout.md").read_text()
    section = page.partition("## What is in a version")[2].partition("## How to check a version")[0]
    named_there = set(re.findall(r"`([a-z_0-9]+)`", section))
    for kind in (MemoryEntry, Provenance, Evidence):
        assert {description.name for description in described(kind)} <= named_there


def test_a_row_of_the_catalog_holds_each_of_its_columns() -> None:
    layout = Layout("default")
    entry = full_entry()
    row = dict(zip(tables._NAMES, tables.row(layout.address("e", "k"), entry, 9, 1.5), strict=True))
    columns = {
        description.name for kind in (MemoryEntry, Provenance) for description in described(kind)
    }
    for name in columns & set(row):
        value = getattr(entry if hasattr(entry, name) else entry.provenance, name)
        if isinstance(value, datetime):
            value = time_text(value)
        assert row[name] == (
            msgspec.json.encode(value).decode().replace('","', '", "')
            if isinstance(value, tuple)
            else value
        ), name
