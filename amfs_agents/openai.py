"""`AMFSSession`: the history of a conversation, for the OpenAI Agents SDK (docs/openai-agents.md).

    session = AMFSSession("customer-17", AgentMemory("support-agent"))
    await Runner.run(agent, "Hello", session=session)

Each change of the session is one numbered memory, {"keep": k, "items": [...]}: keep the first k
earlier items (all, without `keep`), then add these. Each number is taken exactly once, so changes
by several processes have one order, and a change that depends on an earlier read, such as
`pop_item`, is made only if no other change came in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from amfs_agents.cancellation import to_its_end
from amfs_agents.extras import needed_for
from amfs_agents.names import segment
from amfs_agents.sequence import Sequence
from amfs_core import arguments
from amfs_core.errors import InvalidValueError, VersionConflictError
from amfs_core.format import MemoryEntry
from amfs_core.memory import AgentMemory, AsyncAgentMemory

with needed_for("AMFSSession", "openai-agents"):
    from agents.memory import SessionABC, SessionSettings
    from agents.memory.session_settings import coerce_session_settings, resolve_session_limit

if TYPE_CHECKING:
    from agents.items import TResponseInputItem
    from agents.memory.session import _CompactionSnapshot


class AMFSSession(SessionABC):
    """A session whose items are in AMFS, shared by every process that opens the same `session_id`.

    `session_id` is any text, up to about 250 bytes. The items are under the entity path
    `<path>/<session_id>`, one memory for each call that adds some, so `AgentMemory.search` finds
    them. `session_settings` has the default `limit` of `get_items`. The memory stays open.

    When a method that changes the session is cancelled, it raises `CancelledError` once the outcome
    of the change is known.
    """

    def __init__(
        self,
        session_id: str,
        memory: AgentMemory | AsyncAgentMemory,
        *,
        path: str = "sessions",
        session_settings: SessionSettings | dict[str, Any] | None = None,
    ) -> None:
        self.session_id = session_id
        self.session_settings = (
            SessionSettings()
            if session_settings is None
            else coerce_session_settings(session_settings)
        )
        self._changes = Sequence(
            memory.memory if isinstance(memory, AsyncAgentMemory) else memory,
            f"{path}/{segment(session_id, 'session_id')}",
        )

    @property
    def entity_path(self) -> str:
        """Where the memories of this session are."""
        return self._changes.entity_path

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """Return the newest `limit` items, oldest first; all for None without a default.

        1 request per 1,000 changes of the session, and 1 for each that this process has not seen.
        """
        most = resolve_session_limit(limit, self.session_settings)
        state = await asyncio.to_thread(self._state)
        if most is None or most < 0:  # SQLiteSession takes a negative limit as none
            return state.items
        return state.items[-most:] if most else []

    async def get_items_at(self, at: datetime) -> list[TResponseInputItem]:
        """Return the items as they were at an aware time, also those popped or cleared since.

        About 2 requests for each change of the session.
        """
        moment = arguments.moment(at, "at")

        def look() -> list[TResponseInputItem]:
            entries = self._changes.originals()
            past = [entry for entry in entries if entry.provenance.written_at <= moment]
            return _State.of(past).items

        return await asyncio.to_thread(look)

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Append items: all of them or none, next to each other, exactly once. 1 request.

        Raises `InvalidValueError` for an item that JSON cannot carry exactly.
        """
        if items:
            value = {"items": list(items)}
            await to_its_end(lambda: self._changes.append(value))

    async def pop_item(self) -> TResponseInputItem | None:
        """Remove the newest item and return it; None when there is none.

        No two callers get the same item. The cost of `get_items`, and 1 request; the same again
        when another process changed the session meanwhile.
        """
        return await to_its_end(self._pop)

    async def clear_session(self) -> None:
        """Remove all items, at once.

        The memories are deleted: search no longer finds them, their histories and `get_items_at`
        still do. The cost of `get_items`, 1 request, and 2 for each change since the last clear.
        """
        await to_its_end(self._clear)

    def _state(self) -> _State:
        return _State.of(self._changes.entries())

    def _pop(self) -> TResponseInputItem | None:
        while (state := self._state()).items:
            if self._replace(state, len(state.items) - 1, []):
                return state.items[-1]
        return None

    def _clear(self) -> None:
        entries = self._changes.entries()
        if not _State.of(entries).items:
            return
        # The change comes first: it clears the session for everybody in one step.
        cleared = self._changes.append({"keep": 0, "items": []}, index=False)
        self._changes.delete([int(entry.key) for entry in entries if entry.key < cleared.key])

    def _replace(self, state: _State, keep: int, items: list[TResponseInputItem]) -> bool:
        """Replace all items but the first `keep`, unless the session is no longer in that state."""
        value = {"keep": keep, "items": items}
        try:
            self._changes.append(value, after=state.number, index=bool(items))
        except VersionConflictError:
            return False
        return True

    async def _get_compaction_snapshot(
        self,
        limit: int,
        *,
        prune_prefix: Callable[[TResponseInputItem], bool] | None = None,
    ) -> _CompactionSnapshot | None:
        """Return the newest items, and how to replace them in one step if nothing has changed.

        `OpenAIResponsesCompactionSession` uses this, so compaction replaces exactly the items that
        the model has seen, and never loses items that another process added meanwhile.
        """
        from agents.memory.session import _CompactionSnapshot

        state = await asyncio.to_thread(self._state)
        skipped = max(0, len(state.items) - limit)

        async def replace_suffix(start: int, output: list[TResponseInputItem]) -> bool:
            keep = skipped + start
            if keep >= len(state.items):
                return False
            expired = 0
            if prune_prefix is not None:
                while expired < keep and prune_prefix(state.items[expired]):
                    expired += 1
            if expired:
                kept = [*state.items[expired:keep], *output]
                return await to_its_end(lambda: self._replace(state, 0, kept))
            return await to_its_end(lambda: self._replace(state, keep, output))

        return _CompactionSnapshot(state.items[skipped:], not skipped, replace_suffix)


@dataclass(frozen=True, slots=True)
class _State:
    """The items after some changes, and the number of the last one."""

    items: list[TResponseInputItem]
    number: int

    @classmethod
    def of(cls, entries: list[MemoryEntry]) -> _State:
        items: list[TResponseInputItem] = []
        for entry in entries:
            keep, added = _change(entry)
            if keep is not None:
                del items[keep:]
            items += added
        return cls(items, int(entries[-1].key) if entries else 0)


def _change(entry: MemoryEntry) -> tuple[int | None, list[TResponseInputItem]]:
    value = entry.value
    if not entry.has_content:  # erased since
        return None, []
    if type(value) is dict and type(value.get("items")) is list:
        keep = value.get("keep")
        if keep is None or (type(keep) is int and keep >= 0):
            return keep, cast("list[TResponseInputItem]", value["items"])
    raise InvalidValueError(
        f"{entry.entity_path}/{entry.key} is not a change of a session",
        hint="delete it, or give the session another path",
        entity_path=entry.entity_path,
        key=entry.key,
    )
