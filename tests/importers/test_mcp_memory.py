"""The knowledge graph of the MCP memory server: a file that it made, and the server itself."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from mcp import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client

from amfs.importers import mcp_memory
from amfs_core.arguments import unsegment
from amfs_core.errors import ConfigurationError, InvalidKeyError
from amfs_core.memory import AgentMemory
from tests.importers.conftest import RECORDED, Import, reasons, states, values
from tests.support.node import installed

SERVER = "@modelcontextprotocol/server-memory@2026.8.31"
FILE = RECORDED / "server-memory-2026.8.31.jsonl"


def test_entities_and_relations_become_memories(memory: AgentMemory, imported: Import) -> None:
    assert states(imported("mcp-memory", FILE)) == ["new"] * 5
    assert values(memory) == {
        ("mcp-memory/Alice", "observations"): {
            "name": "Alice",
            "entityType": "person",
            "observations": ["likes green tea", "works from Oslo"],
        },
        ("mcp-memory/Acme 100%25%2FEU", "observations"): {
            "name": "Acme 100%/EU",
            "entityType": "organisation",
            "observations": [],
        },
        ("mcp-memory/.hidden", "observations"): {
            "name": ".hidden",
            "entityType": "file",
            "observations": ["日本語 🍵"],
        },
        ("mcp-memory/Alice/works_at", "Acme 100%/EU"): {
            "from": "Alice",
            "to": "Acme 100%/EU",
            "relationType": "works_at",
        },
        ("mcp-memory/Acme 100%25%2FEU/employs%2Fpays", "Alice"): {
            "from": "Acme 100%/EU",
            "to": "Alice",
            "relationType": "employs/pays",
        },
    }
    (hit,) = memory.search(tags=["person"])
    assert hit.entry.entity_path == "mcp-memory/Alice"
    assert memory.search("green tea")[0].entry.entity_path == "mcp-memory/Alice"
    assert states(imported("mcp-memory", FILE)) == ["unchanged"] * 5


def test_the_path_can_be_named(memory: AgentMemory, imported: Import) -> None:
    imported("mcp-memory", FILE, into="team/graph")
    imported("mcp-memory", FILE, into="")
    paths = {entry.entity_path for entry in memory.list()}
    assert {"team/graph/Alice", "team/graph/Alice/works_at", "Alice"} <= paths
    with pytest.raises(InvalidKeyError):
        imported("mcp-memory", FILE, into="team//graph")


def test_lines_that_cannot_be_memories_are_refused_by_number(
    memory: AgentMemory, imported: Import, tmp_path: Path
) -> None:
    entity = '{"type": "entity", "name": %s, "entityType": "x", "observations": []}'
    lines = [
        "\ufeff" + entity % '"first"',
        "",
        "{",
        '{"type": "note"}',
        "[]",
        entity % '""',
        entity % "7",
        entity % '"\\ud800"',
        '{"type": "entity", "name": "a", "name": "b"}',
        entity % json.dumps("é" * 128),
        '{"type": "relation", "from": "a", "relationType": "b"}',
        entity % '"first "',
    ]
    file = tmp_path / "memory.jsonl"
    file.write_bytes("\r\n".join(lines).encode() + b"\n\xff")
    done = imported("mcp-memory", file)
    assert {result.place for result in done if result.state == "new"} == {"line 1", "line 12"}
    refused = reasons(done)
    said = {
        3: "not JSON",
        4: "neither",
        5: "neither",
        6: "its name is empty",
        7: "its name must be text",
        8: "surrogate",
        9: "twice",
        10: "256 bytes",
        11: "its to must be text",
        13: "byte 1 is not UTF-8",
    }
    assert set(refused) == {f"line {number}" for number in said}
    for number, words in said.items():
        assert words in str(refused[f"line {number}"])


def test_a_line_without_an_end_is_refused_and_never_read_as_a_whole(
    imported: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp_memory, "MAX_LINE_BYTES", 200)
    file = tmp_path / "memory.jsonl"
    good = '{"type": "entity", "name": "%s", "entityType": "x", "observations": []}'
    file.write_text(f"{good % 'a'}\n{good % ('b' * 1000)}\n{good % 'c'}\n{good % ('d' * 1000)}")
    done = imported("mcp-memory", file)
    assert states(done) == ["new", "refused", "new", "refused"]
    assert reasons(done)["line 2"] == "it is longer than 200 bytes"


def test_two_files_with_one_name_do_not_overwrite_each_other(
    memory: AgentMemory, imported: Import, tmp_path: Path
) -> None:
    line = '{"type": "entity", "name": "us", "entityType": "team", "observations": ["%s"]}'
    files = [tmp_path / "alice.jsonl", tmp_path / "bob.jsonl"]
    for file in files:
        file.write_text(line % file.stem)
    assert [states(imported("mcp-memory", file)) for file in files] == [["new"], ["kept"]]
    files[0].write_text(line % "alice again")
    assert [states(imported("mcp-memory", file)) for file in files] == [["changed"], ["kept"]]
    moved = files[0].rename(tmp_path / "elsewhere.jsonl")
    moved.write_text(line % "moved")
    assert states(imported("mcp-memory", moved)) == ["kept"]
    assert states(imported("mcp-memory", moved, origin=str(files[0]))) == ["changed"]


def test_what_is_not_a_file_is_an_error(imported: Import, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not a file"):
        imported("mcp-memory", tmp_path)
    with pytest.raises(FileNotFoundError):
        imported("mcp-memory", tmp_path / "absent")
    with pytest.raises(ConfigurationError, match="did you mean 'mcp-memory'"):
        imported("mcp-memry", FILE)


# -- the server itself -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = installed(tmp_path_factory.mktemp("server-memory"), SERVER)
    return directory / "node_modules/@modelcontextprotocol/server-memory/dist/index.js"


Call = Callable[[str, str, list[dict[str, Any]]], Coroutine[Any, Any, None]]


def talk(server: Path, file: Path, work: Callable[[Call], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        parameters = StdioServerParameters(
            command="node", args=[str(server)], env={**os.environ, "MEMORY_FILE_PATH": str(file)}
        )
        with open(os.devnull, "w") as nowhere:
            async with (
                stdio_client(parameters, errlog=nowhere) as streams,
                ClientSession(*streams) as session,
            ):
                await session.initialize()

                async def call(tool: str, name: str, items: list[dict[str, Any]]) -> None:
                    assert not (await session.call_tool(tool, {name: items})).is_error

                await work(call)

    asyncio.run(run())


@pytest.mark.slow
def test_the_servers_own_file_is_imported_as_it_changes(
    server: Path, memory: AgentMemory, imported: Import, tmp_path: Path
) -> None:
    file = tmp_path / "memory.jsonl"
    names = ["Ada", "a/b", "100%", "..", ".dot", "v1.json", "名前", "%2F", 'q"uote\n', "é"]

    async def first(call: Call) -> None:
        await call(
            "create_entities",
            "entities",
            [{"name": name, "entityType": "t", "observations": [name]} for name in names],
        )
        await call(
            "create_relations",
            "relations",
            [{"from": name, "to": name, "relationType": name} for name in names],
        )

    talk(server, file, first)
    assert states(imported("mcp-memory", file)) == ["new"] * 20
    kept = values(memory)
    for name in names:
        entities = [
            value
            for (path, key), value in kept.items()
            if key == "observations" and unsegment(path.split("/")[1]) == name
        ]
        assert entities == [{"name": name, "entityType": "t", "observations": [name]}]
        relations = [
            value
            for (path, key), value in kept.items()
            if key == name and [unsegment(part) for part in path.split("/")[1:]] == [name, name]
        ]
        assert relations == [{"from": name, "to": name, "relationType": name}]

    async def then(call: Call) -> None:
        said = [{"entityName": "Ada", "contents": ["plays chess"]}]
        await call("add_observations", "observations", said)
        await call(
            "create_entities",
            "entities",
            [{"name": "Bob", "entityType": "person", "observations": []}],
        )

    talk(server, file, then)
    done = imported("mcp-memory", file)
    assert sorted(states(done)) == ["changed", "new", *["unchanged"] * 19]
    entry = memory.read("mcp-memory/Ada", "observations")
    assert entry is not None
    assert (entry.version, entry.value["observations"]) == (2, ["Ada", "plays chess"])
