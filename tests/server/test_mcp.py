"""Memories for models: the tools over stdio and over HTTP, and the public suites."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from amfs_core.memory import AgentMemory
from amfs_local import LocalAdapter
from amfs_server import keys
from amfs_server.subscriptions import WatchBus
from tests.conftest import REPOSITORY
from tests.support.node import installed
from tests.support.served import Served, serving

TOOLS = {"remember", "recall", "read", "list_memories", "history", "forget", "record_outcome"}
Work = Callable[[ClientSession], Coroutine[Any, Any, None]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def here(root: Path) -> AgentMemory:
    return AgentMemory("here", adapter=LocalAdapter(root))


@asynccontextmanager
async def over_stdio(root: Path, *options: str) -> AsyncIterator[ClientSession]:
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "amfs", "--store", str(root), "--agent", "claude", *options, "mcp"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    async with stdio_client(parameters) as streams, ClientSession(*streams) as session:
        await session.initialize()
        yield session


@asynccontextmanager
async def over_http(server: Served, key: str | None = None) -> AsyncIterator[ClientSession]:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False) as client,
        streamable_http_client(f"{server.url}/mcp", http_client=client) as streams,
        ClientSession(*streams[:2]) as session,
    ):
        await session.initialize()
        yield session


async def call(session: ClientSession, tool: str, **arguments: Any) -> Any:
    result: Any = await session.call_tool(tool, arguments)
    assert not result.is_error, result
    assert json.loads(result.content[0].text) == result.structured_content
    return result.structured_content


async def refused(session: ClientSession, tool: str, **arguments: Any) -> str:
    result: Any = await session.call_tool(tool, arguments)
    assert result.is_error, result
    text: str = result.content[0].text
    return text


async def use_all(session: ClientSession) -> None:
    """Do with the tools what a model would."""
    listed = (await session.list_tools()).tools
    assert {tool.name for tool in listed} == TOOLS
    for tool in listed:
        assert tool.description and tool.output_schema and tool.annotations is not None
        is_read = tool.name in ("recall", "read", "list_memories", "history")
        assert tool.annotations.read_only_hint is is_read
        assert tool.annotations.destructive_hint in (None, tool.name == "forget")
        for name, schema in tool.input_schema["properties"].items():
            assert "description" in schema or name in ("limit", "memory_type", "outcome_type")
    value = {"note": "a pelican fishes", "long": "x" * 30_000}
    first = await call(session, "remember", entity_path="sea/birds", key="a/b", value=value)
    assert first == {"entity_path": "sea/birds", "key": "a/b", "version": 1}
    result = await call(session, "recall", query="pelican")
    (hit,) = result["hits"]
    assert hit["key"] == "a/b" and "pelican" in hit["excerpt"] and len(hit["excerpt"]) < 300
    part = await call(session, "read", entity_path="sea/birds", key="a/b")
    rest = await call(
        session, "read", entity_path="sea/birds", key="a/b", offset=part["next_offset"]
    )
    assert json.loads(part["text"] + rest["text"]) == value and rest["next_offset"] is None
    conflict = await refused(
        session, "remember", entity_path="sea/birds", key="a/b", value=2, expected_version=7
    )
    assert "Read the memory again" in conflict
    assert "recall or list_memories" in await refused(session, "read", entity_path="e", key="no")
    assert "at least one character" in await refused(
        session, "remember", entity_path="a//b", key="k", value=1
    )
    for number in range(5):
        await call(session, "remember", entity_path="many", key=f"k{number}", value=number)
    page = await call(session, "list_memories", entity_path="many", limit=3)
    after = await call(session, "list_memories", entity_path="many", limit=3, after=page["next"])
    keys_listed = [memory["key"] for memory in (*page["memories"], *after["memories"])]
    assert keys_listed == [f"k{number}" for number in range(5)] and after["next"] is None
    used = [{"entity_path": "many", "key": "k1"}]
    outcome = await call(
        session, "record_outcome", outcome_ref="r", outcome_type="failure", memories=used
    )
    assert outcome["memories"] == [{"entity_path": "many", "key": "k1", "version": 1}]
    versions = await call(session, "history", entity_path="many", key="k1")
    assert [version["version"] for version in versions["versions"]] == [2, 1]
    deleted = await call(session, "forget", entity_path="many", key="k2")
    assert (deleted["version"], deleted["erased"]) == (2, 0)
    assert "nothing was deleted" in await refused(session, "forget", entity_path="many", key="k2")
    erased = await call(session, "forget", entity_path="sea/birds", key="a/b", erase=True)
    assert (erased["version"], erased["erased"]) == (None, 1)
    read: Any = await session.read_resource("amfs://memory/many/k3")
    assert json.loads(read.contents[0].text)["value"] == 3


def test_a_model_uses_all_tools_over_stdio(root: Path, here: AgentMemory) -> None:
    async def run() -> None:
        async with over_stdio(root) as session:
            await use_all(session)

    asyncio.run(run())
    entry = here.read("many", "k3")
    assert entry is not None and entry.provenance.agent_id == "claude"
    assert here.verify().ok


def test_ctrl_c_ends_the_command_while_it_waits_for_its_client(root: Path) -> None:
    command = [sys.executable, "-m", "amfs", "--store", str(root), "mcp"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    with subprocess.Popen(command, cwd=REPOSITORY, **pipes) as process:
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps(hello).encode() + b"\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130  # with its standard input still open
        assert process.stdout.read() == b""


def test_a_model_uses_all_tools_over_http(root: Path, here: AgentMemory) -> None:
    async def run(server: Served) -> None:
        async with over_http(server) as session:
            await use_all(session)

    with serving(root) as server:
        asyncio.run(run(server))
        assert not [line for line in server.lines if "Traceback" in line]
    assert here.verify().ok


def test_a_key_counts_for_tools_too(root: Path, here: AgentMemory, tmp_path: Path) -> None:
    here.write("mine", "k", "a pelican")
    here.write("other", "k", "xyzzyplugh pelican")
    path = tmp_path / "keys.json"
    reader = keys.add(path, "reader", "reader", entity_paths=["mine"])
    writer = keys.add(path, "writer", "writer", entity_paths=["mine"], agent_id="ann")

    async def run(server: Served) -> None:
        async with over_http(server, reader) as session:
            result = await call(session, "recall", query="pelican")
            assert [hit["entity_path"] for hit in result["hits"]] == ["mine"]
            told = [
                await refused(session, "read", entity_path="other", key="k"),
                await refused(session, "history", entity_path="other", key="k"),
                await refused(session, "list_memories", entity_path="other"),
                await refused(session, "remember", entity_path="mine", key="k", value=1),
            ]
            assert not any("xyzzyplugh" in text for text in told)
            with pytest.raises(Exception, match=r"key|memory"):
                await session.read_resource("amfs://memory/other/k")
        async with over_http(server, writer) as session:
            await call(session, "remember", entity_path="mine", key="k", value=1)
            told = await refused(session, "forget", entity_path="mine", key="k", erase=True)
            assert "needs the role eraser" in told

    with serving(root, "--keys", str(path)) as server:
        with server.client() as client:
            assert client.post("/mcp", json={}).status_code == 401
        asyncio.run(run(server))
    entry = here.read("mine", "k")
    assert entry is not None and entry.provenance.agent_id == "ann"


def test_a_page_of_another_host_reaches_no_tool(root: Path) -> None:
    with serving(root) as server, server.client() as client:
        for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}):
            answer = client.post("/mcp", json={}, headers=headers)
            assert answer.status_code in (403, 421)


# -- the public suites ----------------------------------------------------------------------------

SCENARIOS = [
    *("server-initialize", "ping", "tools-list", "resources-list", "prompts-list"),
    *("server-sse-multiple-streams", "dns-rebinding-protection"),
]
"""Those of the conformance suite that need no tools of its own on the server."""


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the suites."""
    return installed(
        tmp_path_factory.mktemp("mcp-suites"),
        "@modelcontextprotocol/conformance@0.1.11",  # later ones need a newer Node
        "@modelcontextprotocol/inspector@0.18",
    )


@pytest.fixture
def served(root: Path) -> Iterator[Served]:
    with serving(root) as server:
        yield server


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_conformance_suite(served: Served, node: Path, scenario: str) -> None:
    done = subprocess.run(
        ["npx", "conformance", "server", "--url", f"{served.url}/mcp", "--scenario", scenario],
        cwd=node,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert "0 failed" in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["http", "stdio"])
def test_the_inspector(
    root: Path, node: Path, request: pytest.FixtureRequest, transport: str
) -> None:
    if transport == "http":
        served: Served = request.getfixturevalue("served")
        target = [f"{served.url}/mcp", "--transport", "http"]
    else:
        target = [sys.executable, "-m", "amfs", "--store", str(root), "mcp"]
    command = ["npx", "mcp-inspector", "--cli", *target, "--method", "tools/list"]
    done = subprocess.run(
        command,
        cwd=node,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert {tool["name"] for tool in json.loads(done.stdout)["tools"]} == TOOLS


def test_subscribers_hear_of_changed_memories_while_somebody_listens(here: AgentMemory) -> None:
    async def run() -> None:
        bus = WatchBus(here.watch)
        heard: asyncio.Queue[Any] = asyncio.Queue()
        leave = bus.subscribe(heard.put_nowait)
        while bus._watch is None:
            await asyncio.sleep(0.01)  # until the watch has begun
        here.write("a b", "k/1", 1)
        event = await asyncio.wait_for(heard.get(), 30)
        assert event.uri == "amfs://memory/a%20b/k%2F1"
        watch = bus._watch
        leave()
        assert bus._watch is None and watch._poller.over.is_set()

    asyncio.run(run())


def test_a_subscriber_with_a_key_hears_of_what_it_sees_and_of_nothing_else(
    root: Path, tmp_path: Path
) -> None:
    file = tmp_path / "keys.json"
    token = keys.add(file, "ann", "reader", namespaces=["team"], entity_paths=["mine"])
    seen, hidden = "amfs://memory/mine/k", "amfs://memory/other/k"

    async def run(url: str) -> None:
        headers = {"authorization": f"Bearer {token}"}
        async with (
            httpx2.AsyncClient(headers=headers, trust_env=False, timeout=60) as http,
            Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client,
            client.listen(resource_subscriptions=[seen, hidden]) as heard,
        ):
            with AgentMemory("here", adapter=LocalAdapter(root), namespace="team") as memory:
                events: list[str] = []

                async def write() -> None:
                    while True:  # until the server's watch has begun
                        await asyncio.to_thread(memory.write, "other", "k", 1)
                        await asyncio.to_thread(memory.write, "mine", "k", 1)
                        await asyncio.sleep(0.05)

                writing = asyncio.create_task(write())
                async for event in heard:
                    events.append(event.uri)
                    if len(events) == 2:
                        break
                writing.cancel()
                assert set(events) == {seen}

    with serving(root, "--keys", str(file)) as served:
        asyncio.run(run(served.url))


def test_a_namespace_that_a_key_does_not_see_is_refused_before_any_tool(
    root: Path, tmp_path: Path
) -> None:
    file = tmp_path / "keys.json"
    token = keys.add(file, "ann", "reader", namespaces=["team"])
    with serving(root, "--keys", str(file)) as served, served.client(token) as client:
        answer = client.post("/mcp", json={}, headers={"amfs-namespace": "other"})
        assert answer.status_code == 403
        assert answer.json()["type"] == "urn:amfs:problem:forbidden"
        assert not [line for line in served.lines if "Traceback" in line]
