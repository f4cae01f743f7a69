"""The records of a conversation, and their form as values of memories."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from amfs_agents.fields import record
from amfs_agents.names import unsegment
from amfs_core.format import MemoryEntry


@dataclass(frozen=True, slots=True)
class Turn:
    """One message, as it was said.

    `number` counts from 1 in the order of appending and is never used twice. `content`, `usage`,
    `tool_calls` and `metadata` are any JSON. `turn_id` is the one given to `append`, or random.
    """

    number: int
    role: str
    content: Any
    model: str | None
    usage: Any
    tool_calls: Any
    metadata: Any
    written_at: datetime
    agent_id: str
    turn_id: str

    @classmethod
    def of(cls, entry: MemoryEntry) -> Turn:
        """Return the turn that a memory holds."""
        value = record(entry, "turn", "conversations", role=str)
        return cls(
            int(entry.key),
            value["role"],
            value.get("content"),
            value.get("model"),
            value.get("usage"),
            value.get("tool_calls"),
            value.get("metadata"),
            entry.provenance.written_at,
            entry.provenance.agent_id,
            entry.provenance.write_id,
        )


@dataclass(frozen=True, slots=True)
class TurnHit:
    """A turn found by a search, its conversation, and its score."""

    turn: Turn
    user: str
    agent: str
    conversation_id: str
    score: float


@dataclass(frozen=True, slots=True)
class Chunk:
    """The replacement for the turns `first` to `last`, both included, in the compressed
    conversation.

    `number` counts from 1 in the order of compressing; of two chunks that overlap the newer counts.
    """

    number: int
    first: int
    last: int
    content: Any
    model: str | None
    metadata: Any
    written_at: datetime

    @classmethod
    def of(cls, entry: MemoryEntry) -> Chunk:
        """Return the chunk that a memory holds."""
        value = record(entry, "chunk", "conversations", first=int, last=int)
        return cls(
            int(entry.key),
            value["first"],
            value["last"],
            value.get("content"),
            value.get("model"),
            value.get("metadata"),
            entry.provenance.written_at,
        )

    def overlaps(self, first: int, last: int) -> bool:
        """True when it stands for one of these turns."""
        return self.first <= last and first <= self.last

    def contains(self, first: int, last: int) -> bool:
        """True when it stands for all of these turns."""
        return self.first <= first and last <= self.last


@dataclass(frozen=True, slots=True)
class About:
    """What is known about a conversation beside its turns."""

    user: str
    agent: str
    conversation_id: str
    title: str | None
    persona: Any
    summary: Any
    metadata: Any
    created_at: datetime
    last_activity: datetime

    @classmethod
    def of(cls, entry: MemoryEntry) -> About:
        """Return what a memory says about a conversation."""
        value = record(
            entry,
            "description of a conversation",
            "conversations",
            created_at=str,
            last_activity=str,
        )
        user, agent = entry.entity_path.split("/")[-2:]
        return cls(
            unsegment(user),
            unsegment(agent),
            unsegment(entry.key),
            value.get("title"),
            value.get("persona"),
            value.get("summary"),
            value.get("metadata"),
            datetime.fromisoformat(value["created_at"]),
            datetime.fromisoformat(value["last_activity"]),
        )
