"""The records of a chain, and their form as values of memories."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from amfs_agents.fields import record
from amfs_agents.names import unsegment
from amfs_core.errors import AMFSError
from amfs_core.format import MemoryEntry


class ChainClosedError(AMFSError):
    """The chain has its result, so no step can follow. Nothing was written."""

    code = "chain_closed"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a chain.

    `number` counts from 1 in the order of appending, in a branch on from the step that it branched
    from. `kind` is any text, such as "thought", "action" or "observation"; `content` and `metadata`
    are any JSON. `agent_id` is its writer; `step_id` is the one given to `append`, or random.
    """

    number: int
    kind: str
    content: Any
    metadata: Any
    written_at: datetime
    agent_id: str
    step_id: str

    @classmethod
    def of(cls, entry: MemoryEntry, after: int = 0) -> Step:
        """Return the step that a memory holds, in a branch from the step `after`."""
        value = record(entry, "step", "chains", kind=str)
        return cls(
            after + int(entry.key),
            value["kind"],
            value.get("content"),
            value.get("metadata"),
            entry.provenance.written_at,
            entry.provenance.agent_id,
            entry.provenance.write_id,
        )


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a chain: `value` and `metadata` are any JSON."""

    value: Any
    metadata: Any
    written_at: datetime
    agent_id: str

    @classmethod
    def of(cls, entry: MemoryEntry) -> Result:
        """Return the result that a memory holds."""
        value = record(entry, "result", "chains", closed=bool)
        return cls(
            value.get("result"),
            value.get("metadata"),
            entry.provenance.written_at,
            entry.provenance.agent_id,
        )


@dataclass(frozen=True, slots=True)
class Branching:
    """The origin of a branch: after the step `number` of another chain."""

    agent: str
    chain_id: str
    number: int


@dataclass(frozen=True, slots=True)
class About:
    """What is known about a chain beside its steps; `closed_at` is None while it goes on."""

    agent: str
    chain_id: str
    goal: str | None
    metadata: Any
    branched_from: Branching | None
    created_at: datetime
    closed_at: datetime | None

    @classmethod
    def of(cls, entry: MemoryEntry) -> About:
        """Return what a memory says about a chain."""
        value = record(entry, "description of a chain", "chains", created_at=str)
        start = value.get("branched_from")
        closed_at = value.get("closed_at")
        return cls(
            unsegment(entry.entity_path.split("/")[-1]),
            unsegment(entry.key),
            value.get("goal"),
            value.get("metadata"),
            None if start is None else Branching(**start),
            datetime.fromisoformat(value["created_at"]),
            None if closed_at is None else datetime.fromisoformat(closed_at),
        )


def is_result(entry: MemoryEntry) -> bool:
    """True for the memory that closes a chain."""
    return type(entry.value) is dict and entry.value.get("closed") is True
