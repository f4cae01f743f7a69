"""`AMFSMemoryTool`: the SDK's messages, no way out of /memories, versions, several processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from anthropic.lib.tools import ToolError
from anthropic.tools.memory import (
    BetaAbstractMemoryTool,
    BetaAsyncAbstractMemoryTool,
    BetaLocalFilesystemMemoryTool,
)

from amfs import AgentMemory, AsyncAgentMemory, InvalidValueError
from amfs_agents.anthropic import AMFSMemoryTool, AsyncAMFSMemoryTool
from tests.agents.counting import counted
from tests.agents.processes import at_once

Opens = Callable[[], AgentMemory]


def create(path: str, text: str) -> dict[str, Any]:
    return {"command": "create", "path": path, "file_text": text}


def view(path: str, view_range: list[int] | None = None) -> dict[str, Any]:
    return {"command": "view", "path": path, "view_range": view_range}


def replace(path: str, old: str, new: str) -> dict[str, Any]:
    return {"command": "str_replace", "path": path, "old_str": old, "new_str": new}


def insert(path: str, line: int, text: str) -> dict[str, Any]:
    return {"command": "insert", "path": path, "insert_line": line, "insert_text": text}


def delete(path: str) -> dict[str, Any]:
    return {"command": "delete", "path": path}


def rename(old: str, new: str) -> dict[str, Any]:
    return {"command": "rename", "old_path": old, "new_path": new}


COMMANDS = [
    create("/memories/a.txt", "one\ntwo\nthree\nfour\nfive\nsix\n"),
    create("/memories/a.txt", "again"),
    create("/memories", "root"),
    create("/memories/d/e/f.txt", "deep"),
    create("/memories/d", "a directory"),
    create("/memories/./d/../d//g.txt", "wörter\r\nmore"),
    create("/memories/empty.txt", ""),
    view("/memories/a.txt"),
    view("/memories/a.txt", [2, 3]),
    view("/memories/a.txt", [5, -1]),
    view("/memories/a.txt", [0, 99]),
    view("/memories/a.txt", [9, 2]),
    view("/memories/empty.txt"),
    view("/memories/d/g.txt"),
    view("/memories/none.txt"),
    view("/memories/none/deeper.txt"),
    replace("/memories/a.txt", "one", "1"),
    replace("/memories/a.txt", "six", "6\n7"),
    replace("/memories/a.txt", "nothing", "x"),
    replace("/memories/a.txt", "t", "x"),
    replace("/memories/a.txt", "two\nthree\n", ""),
    replace("/memories/none.txt", "a", "b"),
    replace("/memories/d", "a", "b"),
    replace("/memories", "a", "b"),
    insert("/memories/a.txt", 0, "first\n"),
    insert("/memories/a.txt", 3, "middle"),
    insert("/memories/a.txt", 99, "far"),
    insert("/memories/a.txt", -1, "before"),
    insert("/memories/empty.txt", 0, "text"),
    insert("/memories/none.txt", 0, "text"),
    insert("/memories/d", 0, "text"),
    view("/memories/a.txt"),
    rename("/memories/a.txt", "/memories/d/g.txt"),
    rename("/memories/a.txt", "/memories/d"),
    rename("/memories/a.txt", "/memories"),
    rename("/memories/none.txt", "/memories/x.txt"),
    rename("/memories/a.txt", "/memories/new/b.txt"),
    rename("/memories/d", "/memories/moved/d"),
    rename("/memories", "/memories/x"),
    view("/memories/new/b.txt"),
    view("/memories/moved/d/e/f.txt"),
    view("/memories/d/e/f.txt"),
    delete("/memories/none.txt"),
    delete("/memories"),
    delete("/memories/moved"),
    view("/memories/moved"),
    delete("/memories/new/b.txt"),
    view("/memories/new/b.txt"),
    create("/memories/new/b.txt", "after a deletion"),
    view("/memories/new/b.txt"),
]


def answer(tool: Any, command: dict[str, Any]) -> str:
    try:
        return str(tool.call(command))
    except ToolError as error:
        return f"error: {error}"


def test_the_file_system_of_the_sdk_answers_the_same(memory: AgentMemory, tmp_path: Path) -> None:
    ours = AMFSMemoryTool(memory)
    theirs = BetaLocalFilesystemMemoryTool(base_path=str(tmp_path / "files"))
    for command in COMMANDS:
        assert answer(ours, command) == answer(theirs, command), command


def test_a_directory_shows_two_levels_their_sizes_and_nothing_hidden(memory: AgentMemory) -> None:
    tool = AMFSMemoryTool(memory)
    for path, size in (
        ("a.txt", 13),
        ("b/c.txt", 1536),
        ("b/d/e.txt", 512),
        ("b/d/f/g.txt", 1024),
        (".hidden", 5),
        ("b/.secret/x.txt", 5),
        ("b-c", 1),
    ):
        tool.call(create(f"/memories/{path}", "x" * size))
    assert tool.call(view("/memories")) == (
        "Here're the files and directories up to 2 levels deep in /memories, "
        "excluding hidden items:\n"
        "3.0K\t/memories\n"
        "13B\t/memories/a.txt\n"
        "3K\t/memories/b/\n"
        "1.5K\t/memories/b/c.txt\n"
        "1.5K\t/memories/b/d/\n"
        "1B\t/memories/b-c"
    )
    assert tool.call(view("/memories/b/d")).splitlines()[1:] == [
        "1.5K\t/memories/b/d",
        "512B\t/memories/b/d/e.txt",
        "1K\t/memories/b/d/f/",
        "1K\t/memories/b/d/f/g.txt",
    ]


def test_memories_without_files_are_an_empty_directory(memory: AgentMemory) -> None:
    said = AMFSMemoryTool(memory).call(view("/memories"))
    assert str(said).splitlines()[1:] == ["0B\t/memories"]


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "memories/x",
        "/memoriesx/y",
        "/memories/../x",
        "/memories/a/../../x",
        "/memories/../memories2/x",
        "",
        "/",
        "/memories/a/\ud800",
        "/memories/" + "x" * 300,
    ],
)
def test_no_path_leads_out_of_memories_or_to_a_traceback(memory: AgentMemory, path: str) -> None:
    memory.write("secrets", "x", "secret")
    tool = AMFSMemoryTool(memory)
    for command in (create(path, "x"), rename("/memories/a.txt", path)):
        tool.clear_all_memory()
        tool.call(create("/memories/a.txt", "a"))
        with pytest.raises(ToolError):
            tool.call(command)
    for command in (view(path), delete(path), replace(path, "secret", "x"), insert(path, 0, "x")):
        assert answer(tool, command).startswith("error: ") or "\ud800" in path or len(path) > 300
    assert [entry.entity_path for entry in memory.list()] == ["memories", "secrets"]


@pytest.mark.parametrize(
    "name", ["x..%2f..%2f", "a\\b", "a:b", "con", "v1.json", "x\x00y", "%2e%2e"]
)
def test_odd_names_are_names_and_nothing_else(memory: AgentMemory, name: str) -> None:
    tool = AMFSMemoryTool(memory)
    tool.call(create(f"/memories/{name}", "text"))
    assert f"/memories/{name}" in str(tool.call(view("/memories")))
    assert [(entry.entity_path, entry.key) for entry in memory.list()] == [("memories", name)]


def test_a_file_cannot_have_files_in_it(memory: AgentMemory) -> None:
    tool = AMFSMemoryTool(memory)
    tool.call(create("/memories/a", "text"))
    with pytest.raises(ToolError, match="The path /memories/a is not a directory"):
        tool.call(create("/memories/a/b", "text"))
    tool.call(create("/memories/c", "text"))
    with pytest.raises(ToolError, match="The path /memories/a is not a directory"):
        tool.call(rename("/memories/c", "/memories/a/c"))


def test_a_directory_cannot_be_moved_into_itself(memory: AgentMemory) -> None:
    tool = AMFSMemoryTool(memory)
    tool.call(create("/memories/a/b", "text"))
    with pytest.raises(ToolError, match="into itself"):
        tool.call(rename("/memories/a", "/memories/a/c"))
    assert "text" in str(tool.call(view("/memories/a/b")))


def test_each_edit_is_a_version_that_can_be_taken_back(memory: AgentMemory) -> None:
    tool = AMFSMemoryTool(memory)
    path = "/memories/plan.md"
    tool.call(create(path, "one\n"))
    tool.call(insert(path, 1, "two"))
    tool.call(replace(path, "one", "1"))
    tool.call(delete(path))
    versions = tool.history(path)
    assert [entry.value for entry in versions] == ["one\n", "one\ntwo\n", "1\ntwo\n", None]
    assert tool.restore(path, 2).version == 5
    assert "two" in str(tool.call(view(path)))
    for version in (4, 9):
        with pytest.raises(InvalidValueError, match=f"no text in version {version}"):
            tool.restore(path, version)


def test_an_outcome_is_about_what_the_model_has_read(memory: AgentMemory) -> None:
    tool = AMFSMemoryTool(memory)
    tool.call(create("/memories/a.txt", "use port 80"))
    tool.call(view("/memories/a.txt"))
    memory.commit_outcome("deploy-1", "failure")
    [entry] = memory.list("memories")
    assert entry.confidence < 1


def test_it_is_the_tool_that_the_sdk_runs(memory: AgentMemory) -> None:
    tool = AMFSMemoryTool(memory, cache_control={"type": "ephemeral"})
    assert isinstance(tool, BetaAbstractMemoryTool)
    assert tool.to_dict() == {
        "type": "memory_20250818",
        "name": "memory",
        "cache_control": {"type": "ephemeral"},
    }


def test_the_asynchronous_tool_does_the_same(memory: AgentMemory) -> None:
    async def run() -> None:
        async with AsyncAgentMemory("tests", adapter=memory.adapter) as other:
            tool = AsyncAMFSMemoryTool(other)
            assert isinstance(tool, BetaAsyncAbstractMemoryTool)
            assert await tool.call(create("/memories/a.txt", "x")) == (
                "File created successfully at: /memories/a.txt"
            )
            await tool.call(replace("/memories/a.txt", "x", "y"))
            assert [entry.value for entry in await tool.history("/memories/a.txt")] == ["x", "y"]
            await tool.restore("/memories/a.txt", 1)
            assert str(await tool.call(view("/memories/a.txt"))).endswith("1\tx")
            with pytest.raises(ToolError, match="already exists"):
                await tool.call(create("/memories/a.txt", "x"))
            assert await tool.clear_all_memory() == "All memory cleared"

    asyncio.run(run())
    assert memory.list("memories") == []


def test_an_edit_is_judged_by_the_newest_text(opens: Opens) -> None:
    tool, other = AMFSMemoryTool(opens()), AMFSMemoryTool(opens())
    tool.call(create("/memories/a.txt", "old"))
    other.call(replace("/memories/a.txt", "old", "new"))
    tool.call(replace("/memories/a.txt", "new", "newest"))
    other.call(delete("/memories/a.txt"))
    assert answer(tool, create("/memories/a.txt", "fresh")).startswith("File created")
    assert answer(other, create("/memories/a.txt", "again")).endswith("already exists")


def _edit(memory: AgentMemory, number: int) -> None:
    tool = AMFSMemoryTool(memory)
    for step in range(5):
        tool.call(insert("/memories/shared.md", 0, f"{number}.{step}"))


def _create(memory: AgentMemory, number: int) -> bool:
    return answer(AMFSMemoryTool(memory), create("/memories/once.md", "x")).startswith("File cre")


def test_processes_that_edit_one_file_lose_no_edit_and_one_creates_it(
    store: Path, memory: AgentMemory
) -> None:
    AMFSMemoryTool(memory).call(create("/memories/shared.md", ""))
    at_once(_edit, store, 3)
    [entry] = memory.list("memories")
    assert sorted(entry.value.split()) == [f"{n}.{step}" for n in range(3) for step in range(5)]
    assert at_once(_create, store, 3).count(True) == 1


def test_requests_of_the_tool_are_as_documented(on_bucket: Opens) -> None:
    memory = on_bucket()
    tool = AMFSMemoryTool(memory)
    tool.call(create("/memories/a.txt", "a"))
    expected: list[tuple[dict[str, Any], dict[str, int]]] = [
        (view("/memories/a.txt"), {"get": 1}),
        (replace("/memories/a.txt", "a", "b"), {"create": 1}),
        (insert("/memories/a.txt", 0, "c"), {"create": 1}),
    ]
    for command, requests in expected:
        with counted(memory) as counts:
            tool.call(command)
        assert counts == requests, command
