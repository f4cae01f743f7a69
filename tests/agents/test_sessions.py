"""`AMFSSession`: what the SDK promises of a session, and what only AMFS does."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, Runner, SQLiteSession
from agents.memory import Session
from agents.testing import ScriptedModel, assistant_message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amfs import AgentMemory, AsyncAgentMemory, InvalidValueError
from amfs_agents.openai import AMFSSession
from tests.agents.counting import counted
from tests.agents.processes import at_once

Opens = Callable[[], AgentMemory]


def message(text: str) -> Any:
    return {"role": "user", "content": text}


def texts(items: list[Any]) -> list[str]:
    return [item["content"] for item in items]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(st.text(max_size=3), max_size=3)),
        st.tuples(st.just("pop"), st.none()),
        st.tuples(st.just("clear"), st.none()),
        st.tuples(st.just("get"), st.none() | st.integers(-1, 5)),
    ),
    max_size=12,
)


async def done(session: Any, steps: list[tuple[str, Any]]) -> list[Any]:
    """What a session answers to each step."""
    answers: list[Any] = []
    for name, argument in steps:
        match name:
            case "add":
                answers.append(await session.add_items([message(text) for text in argument]))
            case "pop":
                answers.append(await session.pop_item())
            case "clear":
                answers.append(await session.clear_session())
            case _:
                answers.append(await session.get_items(argument))
    answers.append(await session.get_items())
    return answers


@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(steps=STEPS)
def test_the_oracle_of_the_sdk_answers_the_same(steps: list[tuple[str, Any]], memory: Any) -> None:
    theirs = SQLiteSession("oracle")
    with closing(theirs):
        expected = asyncio.run(done(theirs, steps))
    session = AMFSSession("oracle", memory)
    asyncio.run(session.clear_session())
    assert asyncio.run(done(session, steps)) == expected


def test_it_is_a_session_for_the_sdk_and_an_agent_remembers_with_it(opens: Opens) -> None:
    assert isinstance(AMFSSession("s", opens()), Session)
    model = ScriptedModel(
        steps=[[assistant_message("Hello Ada.")], [assistant_message("You are Ada.")]]
    )
    agent = Agent(name="host", model=model)

    async def talk() -> None:
        await Runner.run(agent, "I am Ada.", session=AMFSSession("s", opens()))
        await Runner.run(agent, "Who am I?", session=AMFSSession("s", opens()))

    asyncio.run(talk())
    seen = [item.get("content") for item in model.calls[-1].input]
    assert seen[0] == "I am Ada."
    assert seen[-1] == "Who am I?"
    assert len(seen) == 3


def test_sessions_of_any_name_are_apart(memory: AgentMemory) -> None:
    names = ["a", "a/b", "a%2Fb", "..", "A", " a", "é\n"]

    async def run() -> None:
        for name in names:
            await AMFSSession(name, memory).add_items([message(name)])
        for name in names:
            assert texts(await AMFSSession(name, memory).get_items()) == [name]

    asyncio.run(run())


def test_an_asynchronous_memory_will_do(memory: AgentMemory) -> None:
    async def run() -> None:
        async with AsyncAgentMemory("tests", adapter=memory.adapter) as other:
            await AMFSSession("s", other).add_items([message("x")])
        assert texts(await AMFSSession("s", memory).get_items()) == ["x"]

    asyncio.run(run())


def test_an_item_that_json_cannot_carry_is_refused_with_all_others(memory: AgentMemory) -> None:
    session = AMFSSession("s", memory)
    with pytest.raises(InvalidValueError, match=r"items'\]\[1\]"):
        asyncio.run(session.add_items([message("good"), {"role": "user", "content": b"bad"}]))  # type: ignore[typeddict-item,list-item]
    assert asyncio.run(session.get_items()) == []


def test_items_that_the_caller_changes_later_are_stored_as_they_were(memory: AgentMemory) -> None:
    session = AMFSSession("s", memory)

    async def run() -> None:
        await session.add_items([message("x")])
        items: list[Any] = await session.get_items()
        items[0]["content"] = "changed"
        assert texts(await session.get_items()) == ["x"]

    asyncio.run(run())


def test_a_session_can_be_read_as_it_was(memory: AgentMemory) -> None:
    session = AMFSSession("s", memory)

    async def run() -> None:
        await session.add_items([message("1"), message("2")])
        full = datetime.now(UTC)
        await session.pop_item()
        popped = datetime.now(UTC)
        await session.clear_session()
        await session.add_items([message("3")])
        assert texts(await session.get_items()) == ["3"]
        assert texts(await session.get_items_at(popped)) == ["1"]
        assert texts(await session.get_items_at(full)) == ["1", "2"]

    asyncio.run(run())


def test_a_search_finds_items_until_the_session_is_cleared(memory: AgentMemory) -> None:
    session = AMFSSession("s", memory)
    asyncio.run(session.add_items([message("the parcel is in Lisbon")]))
    assert [hit.entry.entity_path for hit in memory.search("Lisbon")] == [session.entity_path]
    asyncio.run(session.clear_session())
    assert memory.search("Lisbon") == []


def test_a_foreign_memory_under_the_session_is_refused_by_name(memory: AgentMemory) -> None:
    session = AMFSSession("s", memory)
    memory.write(session.entity_path, "0000000001", "foreign")
    with pytest.raises(InvalidValueError, match="sessions/s/0000000001 is not a change"):
        asyncio.run(session.get_items())


def test_a_cancelled_append_ends_when_it_is_known_to_be_there(memory: AgentMemory) -> None:
    session = AMFSSession("s", memory)

    async def run() -> None:
        task = asyncio.create_task(session.add_items([message("x")]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert texts(await session.get_items()) in ([], ["x"])
        await session.add_items([message("y")])
        assert texts(await session.get_items())[-1] == "y"

    asyncio.run(run())


def test_compaction_replaces_only_what_nobody_changed(opens: Opens) -> None:
    session, other = AMFSSession("s", opens()), AMFSSession("s", opens())

    async def run() -> None:
        await session.add_items([message("1"), message("2"), message("3")])
        stale = await session._get_compaction_snapshot(2)
        assert stale is not None
        assert (texts(stale.items), stale.complete) == (["2", "3"], False)
        await other.add_items([message("4")])
        assert not await stale.replace_suffix(0, [message("short")])
        assert texts(await session.get_items()) == ["1", "2", "3", "4"]
        fresh = await session._get_compaction_snapshot(3)
        assert fresh is not None
        assert await fresh.replace_suffix(1, [message("short")])
        assert texts(await other.get_items()) == ["1", "2", "short"]

    asyncio.run(run())


def _add(memory: AgentMemory, number: int) -> None:
    session = AMFSSession("shared", memory)
    for step in range(6):
        batch = [message(f"{number}.{step}.{part}") for part in range(3)]
        asyncio.run(session.add_items(batch))


def _pop(memory: AgentMemory, number: int) -> list[str]:
    session = AMFSSession("shared", memory)
    items = [asyncio.run(session.pop_item()) for _ in range(5)]
    return texts([item for item in items if item is not None])


def test_processes_add_each_item_once_in_their_order_and_take_each_once(
    store: Path, opens: Opens
) -> None:
    at_once(_add, store, 4)
    session = AMFSSession("shared", opens())
    before = texts(asyncio.run(session.get_items()))
    assert sorted(before) == sorted(
        f"{number}.{step}.{part}" for number in range(4) for step in range(6) for part in range(3)
    )
    for number in range(4):
        own = [text for text in before if text.startswith(f"{number}.")]
        assert own == [f"{number}.{step}.{part}" for step in range(6) for part in range(3)]
    starts = [text.rpartition(".")[0] for text in before[::3]]
    assert before == [f"{start}.{part}" for start in starts for part in range(3)]

    taken = [text for texts in at_once(_pop, store, 4) for text in texts]
    assert sorted(taken) == sorted(before[-20:])
    assert texts(asyncio.run(session.get_items())) == before[:-20]


def test_requests_of_a_session_are_as_documented(on_bucket: Opens) -> None:
    memory = on_bucket()
    session = AMFSSession("s", memory)

    async def run() -> None:
        with counted(memory) as first:
            await session.add_items([message("1"), message("2")])
        assert first == {"create": 1}
        await session.add_items([message("3")])
        with counted(memory) as own:
            await session.get_items()
        assert own == {"list": 1}
        with counted(memory) as popping:
            await session.pop_item()
        assert popping == {"list": 1, "create": 1}
        fresh = on_bucket()
        with counted(fresh) as reading:
            await AMFSSession("s", fresh).get_items()
        assert reading == {"list": 1, "get": 3}

    asyncio.run(run())


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("amfs_agents.openai", "agents", "openai-agents"),
        ("amfs_agents.anthropic", "anthropic", "anthropic"),
        ("amfs_agents.langgraph", "langgraph", "langgraph"),
    ],
)
def test_without_its_extra_a_module_says_what_to_install(
    module: str, package: str, extra: str
) -> None:
    program = f"import sys; sys.modules[{package!r}] = None; import {module}"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert f"pip install 'amfs[{extra}]'" in said.stderr
