"""`AMFSConversationStore`: the conversations of Pydantic AI agents (docs/pydantic-ai.md).

    store = AMFSConversationStore(AgentMemory("support-agent"))
    conversation = await store.load("ticket-17") or Conversation(conversation_id="ticket-17")
    await store.save(await agent.run("Hello", conversation=conversation))

A message is one memory, which never changes and knows the message before it. A conversation is one
memory too, the record, which names the last message. A save writes the messages first, and then the
record, if it is still at the version that was read. So a loader sees all of a save or nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from amfs_agents.cancellation import to_its_end
from amfs_agents.extras import needed_for
from amfs_agents.names import segment, unsegment
from amfs_core import arguments
from amfs_core.errors import InvalidValueError, VersionConflictError
from amfs_core.format import MemoryEntry
from amfs_core.memory import AgentMemory, AsyncAgentMemory
from amfs_core.parallel import mapped

with needed_for("AMFSConversationStore", "pydantic-ai"):
    from pydantic import TypeAdapter
    from pydantic_ai.conversation_store import (
        ConversationConflict,
        ConversationEntry,
        ConversationRecord,
        ConversationStore,
    )
    from pydantic_ai.messages import ModelMessagesTypeAdapter

_RECORD = "record"
_TRAIL = 63
_THREADS = 32
_record_type = TypeAdapter(ConversationRecord)


class AMFSConversationStore(ConversationStore):
    """Conversations that are in AMFS, shared by every process that has the same store.

    A message is the memory `<path>/messages/<entry id>`, so `AgentMemory.search` finds it; a record
    is `<path>/records/<conversation id>/record`. `conversation_id` is any text, up to about 250
    bytes. Deleting removes a conversation for everybody; `sweep` erases its messages. The
    memory stays open.

    When a method that changes something is cancelled, it raises `CancelledError` once the outcome
    is known.
    """

    def __init__(
        self, memory: AgentMemory | AsyncAgentMemory, *, path: str = "pydantic-ai"
    ) -> None:
        self._memory = memory.memory if isinstance(memory, AsyncAgentMemory) else memory
        self._messages = f"{path}/messages"
        self._records = f"{path}/records"

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        """Return the record of a conversation. 1 request, and 1 if it has changed."""
        return await asyncio.to_thread(lambda: _record(self._newest(conversation_id)))

    async def read_records(
        self, *, scope: str | None = None, limit: int | None = None
    ) -> Sequence[ConversationRecord]:
        """Return the records of a scope, or all, the last saved first.

        1 request per 1,000 versions of all records, and 1 for each that has changed.
        """
        entries = await asyncio.to_thread(self._memory.list, self._records)
        records = [record for record in map(_record, entries) if record is not None]
        records = [record for record in records if scope is None or record.scope == scope]
        return sorted(records, key=lambda record: record.updated_at, reverse=True)[:limit]

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        """Store a record and the messages that it adds: 1 request for each, and 1 or 2.

        Raises `ConversationConflict` as the base class does, and then leaves no message.
        """
        await to_its_end(lambda: self._write(record, new_entries, expected_revision))

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Delete a record. 2 requests. The messages stay until `sweep`, because another process may
        be about to save a fork that has them."""
        await to_its_end(lambda: self._delete(conversation_id, expected_revision))

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """Return a message. 1 request, 0 once it is known. Raises `LookupError`."""
        return await asyncio.to_thread(lambda: _entry(entry_id, self._message(entry_id)))

    async def read_history(
        self, head_id: str | None, *, limit: int | None = None
    ) -> list[ConversationEntry]:
        """Return the messages up to one, or the last `limit` of them.

        1 request for each that this process has not seen, up to 32 at a time. Raises `LookupError`.
        """
        return await asyncio.to_thread(self._history, head_id, limit)

    async def sweep(self, *, older_than: float | timedelta = 3600.0) -> int:
        """Erase permanently everything deleted longer ago than `older_than` (seconds or
        `timedelta`), and messages of saves that failed; return how many messages were erased.

        `older_than` protects saves and forks that are under way: make it longer than these ever
        take.
        Until then do not use the `conversation_id` of a deleted conversation again. A list of all
        records and messages, and about 7 requests for each that is erased.
        """
        age = timedelta(seconds=arguments.seconds(older_than, "older_than"))
        return await to_its_end(lambda: self._sweep(datetime.now(UTC) - age))

    def _newest(self, conversation_id: str) -> MemoryEntry | None:
        # Not `read`, because the agent did not rely on it (`commit_outcome`).
        entries = self._memory.list(self._place(conversation_id))
        return entries[0] if entries else None

    def _place(self, conversation_id: str) -> str:
        return f"{self._records}/{segment(conversation_id, 'conversation_id')}"

    def _write(
        self,
        record: ConversationRecord,
        new_entries: Sequence[ConversationEntry],
        expected_revision: str | None,
    ) -> None:
        conversation_id = record.conversation_id
        _, version = self._expected(conversation_id, expected_revision)
        if record.head_id is not None and record.head_id not in {entry.id for entry in new_entries}:
            try:
                self._message(record.head_id)
            except LookupError as error:
                raise ConversationConflict(conversation_id) from error
        self._memory.write_many(self._items(new_entries))
        value = _record_type.dump_python(record, mode="json")
        try:
            self._write_record(conversation_id, value, version)
        except ConversationConflict:
            self._erase([entry.id for entry in new_entries])
            raise

    def _items(self, new_entries: Sequence[ConversationEntry]) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        trails: dict[str, list[str]] = {}
        for entry in new_entries:
            trail: list[str] = []
            if (parent := entry.parent_id) is not None:
                before = trails[parent] if parent in trails else self._message(parent)["trail"]
                # The ids before it, so that they can be read at the same time. The list begins
                # again now and then, or it would outgrow the messages.
                trail = [*before, parent] if len(before) < _TRAIL else []
            trails[entry.id] = trail
            [message] = ModelMessagesTypeAdapter.dump_python([entry.message], mode="json")
            items.append(
                {
                    "entity_path": self._messages,
                    "key": segment(entry.id, "entry id"),
                    "value": {"parent_id": parent, "trail": trail, "message": message},
                    "write_id": entry.id,
                    "memory_type": "experience",
                    "expected_version": 0,
                }
            )
        return items

    def _expected(
        self, conversation_id: str, revision: str | None
    ) -> tuple[ConversationRecord | None, int]:
        """Return the record that a new version builds on, and its version number; raise
        `ConversationConflict` unless it has this revision."""
        newest = self._newest(conversation_id)
        record = _record(newest)
        if (None if record is None else record.revision) != revision:
            raise ConversationConflict(conversation_id)
        if newest is not None:
            return record, newest.version
        swept = self._memory.history(self._place(conversation_id), _RECORD)
        return None, swept[-1].version if swept else 0

    def _delete(self, conversation_id: str, expected_revision: str) -> None:
        record, version = self._expected(conversation_id, expected_revision)
        tips = [] if record is None else [record.head_id, *record.branches]
        deleted = {"deleted": [tip for tip in tips if tip is not None]}
        self._write_record(conversation_id, deleted, version)

    def _write_record(self, conversation_id: str, value: dict[str, Any], version: int) -> None:
        try:
            self._memory.write(
                self._place(conversation_id),
                _RECORD,
                value,
                expected_version=version,
                index=False,
            )
        except VersionConflictError as error:
            raise ConversationConflict(conversation_id) from error

    def _message(self, entry_id: str) -> dict[str, Any]:
        """Return what is stored of a message."""
        # Not `read`, likewise; and a message never has a second version but for an outcome's.
        key = segment(entry_id, "entry id")
        entry = self._memory.find_write(self._messages, key, entry_id, version=1)
        if entry is None or not entry.has_content:
            raise LookupError(f"there is no message {entry_id!r}")
        stored: dict[str, Any] = entry.value
        return stored

    def _history(self, head_id: str | None, limit: int | None) -> list[ConversationEntry]:
        history: list[ConversationEntry] = []
        entry_id = head_id
        while entry_id is not None and (limit is None or len(history) < limit):
            last = self._message(entry_id)
            before: list[str] = last["trail"]
            if limit is not None:
                missing = limit - len(history) - 1
                before = before[-missing:] if missing else []
            known = [*mapped(self._message, before, _THREADS), last]
            history[:0] = map(_entry, [*before, entry_id], known)
            entry_id = known[0]["parent_id"]
        return history

    def _sweep(self, before: datetime) -> int:
        # Messages first: those of a save under way are not among them, or are young.
        messages = {unsegment(entry.key): entry for entry in self._memory.list(self._messages)}
        records = self._memory.list(self._records)
        over = [entry for entry in records if "deleted" in entry.value and _is_old(entry, before)]
        tips = [tip for entry in records if entry not in over for tip in _tips(entry)]
        used: set[str] = set()
        for tip in tips:
            message: str | None = tip
            while message is not None and message not in used:
                used.add(message)
                message = self._before(message, messages)
        unused = [
            name for name, entry in messages.items() if name not in used and _is_old(entry, before)
        ]
        self._erase(unused)
        for entry in over:
            self._memory.purge(entry.entity_path, entry.key)
        return len(unused)

    def _before(self, entry_id: str, messages: dict[str, MemoryEntry]) -> str | None:
        """Return the message before one, which a list leaves out if it is damaged."""
        try:
            entry = messages.get(entry_id)
            stored = self._message(entry_id) if entry is None else entry.value
        except LookupError:  # erased before
            return None
        before: str | None = stored["parent_id"]
        return before

    def _erase(self, entry_ids: list[str]) -> None:
        mapped(
            lambda name: self._memory.purge(self._messages, segment(name, "entry id")),
            entry_ids,
            _THREADS,
        )


def _record(entry: MemoryEntry | None) -> ConversationRecord | None:
    if entry is None or (isinstance(entry.value, dict) and "deleted" in entry.value):
        return None
    try:
        return _record_type.validate_json(msgspec.json.encode(entry.value))
    except ValueError as error:
        raise InvalidValueError(
            f"{entry.entity_path}/{entry.key} is not the record of a conversation: {error}",
            hint="delete it, or give the store another path",
            entity_path=entry.entity_path,
            key=entry.key,
        ) from error


def _entry(entry_id: str, stored: dict[str, Any]) -> ConversationEntry:
    [message] = ModelMessagesTypeAdapter.validate_json(msgspec.json.encode([stored["message"]]))
    return ConversationEntry(id=entry_id, parent_id=stored["parent_id"], message=message)


def _tips(entry: MemoryEntry) -> list[str]:
    """Return the last messages of a conversation and of the branches it has left."""
    value = entry.value
    if "deleted" in value:
        return list(value["deleted"])
    return [tip for tip in (value["head_id"], *value["branches"]) if tip is not None]


def _is_old(entry: MemoryEntry, before: datetime) -> bool:
    return entry.provenance.written_at < before
