"""`AMFSHistoryProvider`, for Microsoft's Agent Framework (docs/agent-framework.md).

    history = AMFSHistoryProvider(AgentMemory("support-agent"))
    agent = Agent(client, context_providers=[history])
    await agent.run("Hello", session=agent.create_session(session_id="customer-17"))

The messages that a run adds to a session are one numbered memory, so they come next to each other
and in one order, whatever other processes add.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence as Messages
from functools import lru_cache
from typing import Any

from amfs_agents.cancellation import to_its_end
from amfs_agents.extras import needed_for
from amfs_agents.names import segment
from amfs_agents.sequence import Sequence
from amfs_core.errors import InvalidValueError
from amfs_core.format import MemoryEntry
from amfs_core.memory import AgentMemory, AsyncAgentMemory

with needed_for("AMFSHistoryProvider", "agent-framework"):
    from agent_framework import HistoryProvider, Message

    # The framework's own providers leave these out when a transcript is passed again.
    from agent_framework._sessions import filter_new_messages

_OPEN_SESSIONS = 1000


class AMFSHistoryProvider(HistoryProvider):
    """The messages of sessions, shared by every process that has the same store.

    The messages of a session are under the entity path `<path>/<session_id>`, one memory for each
    run that adds some, so `AgentMemory.search` finds
    them. `session_id` is any text, up to about 250 bytes.
    `source_id` and the flags are those of `HistoryProvider`. The memory stays open.

    When a method that changes a session is cancelled, it raises `CancelledError` once the outcome
    of the change is known.
    """

    def __init__(
        self,
        memory: AgentMemory | AsyncAgentMemory,
        *,
        path: str = "agent-framework",
        source_id: str = "amfs_history",
        load_messages: bool = True,
        store_inputs: bool = True,
        store_context_messages: bool = False,
        store_context_from: set[str] | None = None,
        store_outputs: bool = True,
    ) -> None:
        super().__init__(
            source_id,
            load_messages=load_messages,
            store_inputs=store_inputs,
            store_context_messages=store_context_messages,
            store_context_from=store_context_from,
            store_outputs=store_outputs,
        )
        own = memory.memory if isinstance(memory, AsyncAgentMemory) else memory

        @lru_cache(maxsize=_OPEN_SESSIONS)  # each one knows the end of its session
        def additions(session_id: str) -> Sequence:
            return Sequence(own, f"{path}/{segment(session_id, 'session_id')}")

        self._additions = additions

    async def get_messages(
        self, session_id: str | None, *, state: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[Message]:
        """Return the messages of a session, oldest first.

        1 request per 1,000 runs, and 1 for each that this process has not seen.
        """
        additions = self._additions(_named(session_id))
        return await asyncio.to_thread(lambda: _messages(additions.entries()))

    async def save_messages(
        self,
        session_id: str | None,
        messages: Messages[Message],
        *,
        state: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add messages to a session: all of them or none, next to each other, exactly once.

        Messages with which the session already ends, as when a whole transcript is passed again,
        are left out. The cost of `get_messages`, and 1 request. Raises `InvalidValueError` for a
        message that JSON cannot carry exactly.
        """
        additions = self._additions(_named(session_id))

        def save() -> None:
            new = filter_new_messages(_messages(additions.entries()), messages)
            if new:
                additions.append({"messages": [message.to_dict() for message in new]})

        if messages:
            await to_its_end(save)

    async def clear(self, session_id: str) -> int:
        """Erase the messages of a session permanently; return how many versions were erased.

        About 7 requests for each run. After a crash, call it again: it goes on.
        """
        return await to_its_end(self._additions(_named(session_id)).purge_all)


def _named(session_id: str | None) -> str:
    # One name for all sessions without an id would mix them up.
    if session_id is None:
        raise InvalidValueError("a session without an id has no history", hint="give it one")
    return session_id


def _messages(entries: list[MemoryEntry]) -> list[Message]:
    return [Message.from_dict(message) for entry in entries for message in _added(entry)]


def _added(entry: MemoryEntry) -> list[dict[str, Any]]:
    value = entry.value
    if type(value) is dict and type(value.get("messages")) is list:
        messages: list[dict[str, Any]] = value["messages"]
        return messages
    raise InvalidValueError(
        f"{entry.entity_path}/{entry.key} has no messages of a session",
        hint="delete it, or give the provider another path",
        entity_path=entry.entity_path,
        key=entry.key,
    )
