"""`AMFSConversationStore`: what Pydantic AI's own store in memory does, for every process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic_ai import Agent, BinaryImage
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationRecord,
    ConversationStore,
    InMemoryConversationStore,
)
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from amfs import AgentMemory, InvalidValueError
from amfs_agents.pydantic_ai import AMFSConversationStore
from tests.agents.counting import counted
from tests.agents.processes import at_once

T = TypeVar("T")
Opens = Callable[[], AgentMemory]
Program = Callable[[ConversationStore], Awaitable[Any]]


def _answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    return ModelResponse(parts=[TextPart(f"{len(messages)} messages")])


AGENT = Agent(FunctionModel(_answer))


async def turn(store: ConversationStore, name: str, text: Any, **which: Any) -> Conversation:
    """One question and its answer, saved."""
    conversation = await store.load(name, **which) or Conversation(conversation_id=name)
    result = await AGENT.run(text, conversation=conversation)
    await store.save(result, **{k: v for k, v in which.items() if k == "scope"})
    return result.conversation


def texts(messages: list[ModelMessage]) -> list[Any]:
    return [
        part.content for message in messages for part in message.parts if hasattr(part, "content")
    ]


def said(count: int) -> list[ModelMessage]:
    return [ModelRequest(parts=[UserPromptPart(f"message {number}")]) for number in range(count)]


async def told(store: ConversationStore, name: str, **which: Any) -> list[Any] | None:
    loaded = await store.load(name, **which)
    return None if loaded is None else texts(loaded.messages)


async def talk(store: ConversationStore) -> list[Any]:
    await turn(store, "c1", "one")
    await turn(store, "c1", ["look", BinaryImage(b"\xff\x00", media_type="image/png")])
    loaded = await store.load("c1")
    assert loaded is not None
    return [*texts(loaded.messages), loaded.usage.requests, await told(store, "c2")]


async def windows(store: ConversationStore) -> list[Any]:
    await store.save(Conversation(messages=said(150), conversation_id="c1"))
    await turn(store, "c1", "on", limit=3)
    limits = (0, 1, 2, 63, 64, 65, 66, 100, 129, 152, 999, None)
    return [await told(store, "c1", limit=limit) for limit in limits]


async def branches(store: ConversationStore) -> list[Any]:
    await turn(store, "c1", "one")
    second = await turn(store, "c1", "two")
    entries = await store.load_entries("c1")
    assert entries is not None
    branch = await store.branch("c1", at=2, expected_revision=second.revision)
    result = await AGENT.run("otherwise", conversation=branch)
    await store.save(result)
    [record] = await store.list_conversations()
    back = await store.branch(
        "c1", from_entry=entries[-1].id, expected_revision=result.conversation.revision
    )
    return [texts(result.conversation.messages), len(record.branches), texts(back.messages)]


async def forks(store: ConversationStore) -> list[Any]:
    await turn(store, "c1", "one")
    await store.fork("c1", at=1, new_conversation_id="c2")
    await turn(store, "c2", "forked")
    await store.delete("c1")
    with pytest.raises(ConversationConflict):
        await store.fork("c2", new_conversation_id="c2")
    return [await told(store, "c1"), await told(store, "c2")]


async def scopes(store: ConversationStore) -> list[Any]:
    await turn(store, "c1", "one", scope="ada")
    await turn(store, "c2", "two", scope="bob")
    await turn(store, "c1", "three", scope="ada")
    await store.delete("c2", scope="ada")
    listed = [
        [conversation.conversation_id for conversation in await store.list_conversations(**which)]
        for which in ({}, {"scope": "ada"}, {"limit": 1}, {"scope": "nobody"})
    ]
    return [*listed, await told(store, "c1", scope="bob")]


async def conflicts(store: ConversationStore) -> list[Any]:
    first = await turn(store, "c1", "one")
    stale = replace(first)
    await turn(store, "c1", "two")
    for late in (stale, Conversation(messages=said(1), conversation_id="c1")):
        with pytest.raises(ConversationConflict):
            await store.save(late)
    await store.delete("c1")
    await store.delete("c1")
    with pytest.raises(ConversationConflict):
        await store.save(stale)
    missing = ConversationRecord(conversation_id="c2", head_id="nobody")
    with pytest.raises(ConversationConflict):
        await store.write_record(missing, expected_revision=None)
    with pytest.raises(LookupError):
        await store.read_entry("nobody")
    await turn(store, "c1", "again")
    return [await told(store, "c1"), await told(store, "c2")]


async def rewrites(store: ConversationStore) -> list[Any]:
    messages = said(4)
    await store.save(Conversation(messages=messages, conversation_id="c1"))
    record = await store.read_record("c1")
    assert record is not None
    rewritten = [*messages[:2], *said(6)[5:]]
    await store.save(
        Conversation(messages=rewritten, conversation_id="c1", revision=record.revision)
    )
    return [await told(store, "c1"), len((await store.list_conversations())[0].branches)]


@pytest.mark.parametrize(
    "program",
    [talk, windows, branches, forks, scopes, conflicts, rewrites],
    ids=lambda p: p.__name__,
)
def test_it_does_what_the_store_in_memory_does(
    opens: Opens, memory: AgentMemory, program: Program
) -> None:
    async def both() -> None:
        here = AMFSConversationStore(memory)
        expected = await program(InMemoryConversationStore())
        assert await program(here) == expected
        # and so it is for another process
        there = AMFSConversationStore(opens())
        listed = await there.list_conversations()
        assert listed == await here.list_conversations()
        for record in listed:
            name = record.conversation_id
            assert await there.load_entries(name) == await here.load_entries(name)

    asyncio.run(both())
    assert memory.verify().ok


def _ask(memory: AgentMemory, number: int) -> int:
    """Append turns, and say how often another process came first."""
    store = AMFSConversationStore(memory)

    async def ask() -> int:
        conflicts = 0
        for step in range(3):
            while True:
                try:
                    await turn(store, "c1", f"{number}.{step}")
                    break
                except ConversationConflict:
                    conflicts += 1
        return conflicts

    return asyncio.run(ask())


def test_no_turn_of_several_processes_is_lost_and_no_conflict_leaves_one(
    store: Path, opens: Opens
) -> None:
    at_once(_ask, store, 2)
    memory = opens()
    conversation = asyncio.run(AMFSConversationStore(memory).load("c1"))
    assert conversation is not None
    asked = texts(conversation.messages)[::2]
    for number in range(2):
        own = [text for text in asked if text.startswith(f"{number}.")]
        assert own == [f"{number}.{step}" for step in range(3)]
    assert len(memory.list("pydantic-ai/messages")) == len(conversation.messages) == 12


class TestSweep:
    def test_a_deleted_conversation_is_erased_and_its_fork_stays(
        self, store: Path, memory: AgentMemory
    ) -> None:
        here = AMFSConversationStore(memory)

        async def program() -> None:
            await turn(here, "c1", "shared")
            await here.fork("c1", new_conversation_id="c2")
            await turn(here, "c1", "Rumpelstiltskin")
            await turn(here, "c3", "Rumpelstiltskin too")
            await here.delete("c1")
            await here.delete("c3")
            assert await here.sweep() == 0  # a fork may be under way
            assert await here.sweep(older_than=timedelta(0)) == 4
            assert await told(here, "c2") == ["shared", "1 messages"]
            assert await told(here, "c1") is None
            await turn(here, "c1", "new")  # under a record that was erased
            assert await told(here, "c1") == ["new", "1 messages"]

        asyncio.run(program())
        assert memory.verify().ok
        memory.close()
        stored = b"".join(path.read_bytes() for path in store.parent.glob("store.db*"))
        assert b"Rumpelstiltskin" not in stored
        assert b"shared" in stored

    def test_a_branch_that_was_left_stays(self, memory: AgentMemory) -> None:
        here = AMFSConversationStore(memory)

        async def program() -> None:
            await branches(here)
            before = len(memory.list("pydantic-ai/messages"))
            assert await here.sweep(older_than=0) == 0
            assert len(memory.list("pydantic-ai/messages")) == before == 6

        asyncio.run(program())


def test_a_search_finds_messages(memory: AgentMemory) -> None:
    asyncio.run(turn(AMFSConversationStore(memory), "c1", "My parcel is lost."))
    hits = memory.search("lost parcel", entity_path="pydantic-ai/messages")
    assert hits[0].entry.value["message"]["parts"][0]["content"] == "My parcel is lost."


def test_an_invalid_record_is_named(memory: AgentMemory) -> None:
    memory.write("pydantic-ai/records/c1", "record", {"mine": 1})
    with pytest.raises(InvalidValueError, match="is not the record of a conversation"):
        asyncio.run(AMFSConversationStore(memory).load("c1"))


def test_a_cancelled_save_has_ended_when_the_cancellation_is_raised(memory: AgentMemory) -> None:
    here = AMFSConversationStore(memory)

    async def program() -> None:
        task = asyncio.ensure_future(
            here.save(Conversation(messages=said(3), conversation_id="c1"))
        )
        await asyncio.sleep(0)
        while not task.done() and not memory.metrics.requests.get("create"):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        before = memory.metrics.requests
        assert await told(here, "c1") in (None, ["message 0", "message 1", "message 2"])
        assert memory.metrics.requests.get("create") == before.get("create")

    asyncio.run(program())


def test_a_turn_is_6_requests_in_a_process_that_goes_on(on_bucket: Opens) -> None:
    memory = on_bucket()
    here = AMFSConversationStore(memory)

    async def program() -> None:
        for number in range(3):
            await turn(here, "c1", f"{number}")
        with counted(memory) as counts:
            await turn(here, "c1", "on")
        assert counts == {"list": 3, "create": 3}, counts
        fresh = on_bucket()
        with counted(fresh) as first:
            assert len(await told(AMFSConversationStore(fresh), "c1") or []) == 8
        assert first == {"list": 1, "get": 9}, first

    asyncio.run(program())
