"""`AMFSHistoryProvider` in Microsoft's Agent Framework."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agent_framework import (
    Agent,
    AgentSession,
    BaseChatClient,
    ChatResponse,
    Content,
    HistoryProvider,
    InMemoryHistoryProvider,
    Message,
)

from amfs import AgentMemory, InvalidValueError
from amfs_agents.agent_framework import AMFSHistoryProvider
from tests.agents.counting import counted
from tests.agents.processes import at_once

Opens = Callable[[], AgentMemory]


class Counting(BaseChatClient[Any]):
    """A model that says how many messages it was sent."""

    async def _inner_get_response(self, *, messages: Any, **options: Any) -> ChatResponse:  # type: ignore[override]
        return ChatResponse(messages=[Message("assistant", [f"{len(messages)} messages"])])


def agent(history: HistoryProvider) -> Agent[Any]:
    return Agent(Counting(), context_providers=[history])


def texts(messages: list[Message]) -> list[str]:
    return [message.text for message in messages]


def test_a_session_goes_on_in_another_process(opens: Opens) -> None:
    async def program() -> None:
        here, there = AMFSHistoryProvider(opens()), AMFSHistoryProvider(opens())
        first = await agent(here).run("I am Ada.", session=AgentSession(session_id="a/1"))
        second = await agent(there).run("Who am I?", session=AgentSession(session_id="a/1"))
        assert (first.text, second.text) == ("1 messages", "3 messages")
        await agent(there).run("Hello", session=AgentSession(session_id="b"))
        history = await here.get_messages("a/1")
        assert texts(history) == ["I am Ada.", "1 messages", "Who am I?", "3 messages"]
        assert [message.role for message in history] == ["user", "assistant"] * 2

    asyncio.run(program())


def test_messages_are_kept_as_the_provider_in_memory_keeps_them(memory: AgentMemory) -> None:
    calls = [
        Message("user", ["Where is it?"], message_id="m-1", author_name="ada"),
        Message(
            "assistant",
            [
                Content.from_function_call("call-1", "track", arguments={"parcel": 7}),
                Content.from_text("Wait."),
            ],
            additional_properties={"trace": "t-1"},
        ),
        Message("tool", [Content.from_function_result("call-1", result="Lisbon")]),
        Message("user", [Content.from_data(b"\xff\x00", "image/png")]),
    ]
    more = [Message("user", ["yes"]), Message("assistant", ["yes"])]

    async def kept(history: HistoryProvider) -> list[Any]:
        state: dict[str, Any] = {}
        await history.save_messages("s", calls, state=state)
        await history.save_messages("s", [], state=state)
        await history.save_messages("s", [*calls, *more], state=state)  # the whole transcript
        await history.save_messages("s", more, state=state)  # a run that was saved before
        return [message.to_dict() for message in await history.get_messages("s", state=state)]

    async def program() -> None:
        expected = await kept(InMemoryHistoryProvider())
        assert await kept(AMFSHistoryProvider(memory)) == expected
        assert len(expected) == 6

    asyncio.run(program())


def test_a_history_needs_the_name_of_its_session(memory: AgentMemory) -> None:
    history = AMFSHistoryProvider(memory)
    for work in (history.get_messages(None), history.save_messages(None, [])):
        with pytest.raises(InvalidValueError, match="without an id"):
            asyncio.run(work)


def test_an_invalid_message_is_named(memory: AgentMemory) -> None:
    memory.write("agent-framework/s", "0000000001", "mine")
    with pytest.raises(InvalidValueError, match="agent-framework/s/0000000001 has no messages"):
        asyncio.run(AMFSHistoryProvider(memory).get_messages("s"))


def _ask(memory: AgentMemory, number: int) -> None:
    host = agent(AMFSHistoryProvider(memory))

    async def ask() -> None:
        for step in range(5):
            await host.run(f"{number}.{step}", session=AgentSession(session_id="s"))

    asyncio.run(ask())


def test_runs_of_several_processes_are_all_there_each_with_its_answer(
    store: Path, opens: Opens
) -> None:
    at_once(_ask, store, 2)
    history = texts(asyncio.run(AMFSHistoryProvider(opens()).get_messages("s")))
    assert len(history) == 20
    assert all(answer.endswith("messages") for answer in history[1::2])
    for number in range(2):
        own = [text for text in history[::2] if text.startswith(f"{number}.")]
        assert own == [f"{number}.{step}" for step in range(5)]


def test_a_cleared_session_is_erased_and_may_begin_again(store: Path, memory: AgentMemory) -> None:
    history = AMFSHistoryProvider(memory)

    async def program() -> None:
        await history.save_messages("s", [Message("user", ["Rumpelstiltskin"])])
        await history.save_messages("t", [Message("user", ["mine"])])
        assert await history.clear("s") > 0
        assert await history.get_messages("s") == []
        await history.save_messages("s", [Message("user", ["new"])])
        assert texts(await history.get_messages("s")) == ["new"]

    asyncio.run(program())
    assert memory.verify().ok
    memory.close()
    stored = b"".join(path.read_bytes() for path in store.parent.glob("store.db*"))
    assert b"Rumpelstiltskin" not in stored
    assert b"mine" in stored


def test_a_search_finds_messages(memory: AgentMemory) -> None:
    history = AMFSHistoryProvider(memory)
    asyncio.run(history.save_messages("s", [Message("user", ["My parcel is lost."])]))
    [hit] = memory.search("lost parcel", entity_path="agent-framework")
    assert hit.entry.entity_path == "agent-framework/s"


def test_a_run_is_3_requests_in_a_process_that_goes_on(on_bucket: Opens) -> None:
    memory = on_bucket()
    host, session = agent(AMFSHistoryProvider(memory)), AgentSession(session_id="s")

    async def program() -> None:
        await host.run("one", session=session)
        with counted(memory) as counts:
            await host.run("two", session=session)
        assert counts == {"list": 2, "create": 1}

    asyncio.run(program())
