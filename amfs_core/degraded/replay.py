"""Landing what waits in the primary: each operation once, in order, whoever does it.

There is no lock: an operation is looked for before it is written, and written on top of what was
looked at. `docs/design/degraded.md` walks through every failure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from amfs_core.format import Draft, MemoryEntry, carried_on
from amfs_core.layers import Operation
from amfs_core.versions import Head, VersionLog


class Overtaken(Exception):
    """The version on which an operation was decided is not the newest any more."""

    def __init__(self, newest: int) -> None:
        self.newest = newest


def in_order(first: Collection[str], second: list[Operation], names: list[str]) -> list[Operation]:
    """Return those operations of a second listing, in order, before which none can be missing.

    These are the ones that a first listing had as well, and what comes before one of them, by the
    same writer or on the same memory: all that was there before the first listing ended is in the
    second one. `names` are the keys of `second`.
    """
    by_writer: dict[str, int] = {}
    by_memory: dict[str, int] = {}
    chosen: list[Operation] = []
    rest = list(zip(second, names, strict=True))
    while True:
        left = []
        for operation, name in rest:
            stamp, writer, memory = operation.stamp, operation.writer, operation.address.prefix
            if (
                name in first
                or stamp <= by_writer.get(writer, -1)
                or stamp <= by_memory.get(memory, -1)
            ):
                chosen.append(operation)
                by_writer[writer] = max(stamp, by_writer.get(writer, -1))
                by_memory[memory] = max(stamp, by_memory.get(memory, -1))
            else:
                left.append((operation, name))
        if len(left) == len(rest):
            return sorted(chosen, key=lambda operation: (operation.stamp, operation.name))
        rest = left


def land(
    stored: VersionLog, operation: Operation, change: Callable[[Draft], Draft] | None = None
) -> MemoryEntry:
    """Return the version that an operation has become: found, or appended now.

    `change` makes another draft of it, which is written whatever the newest version is. Raises
    `Overtaken` when the version on which it was decided is not the newest. About 3 requests.
    """
    address = operation.address
    looked = 0
    landed: MemoryEntry | None = None

    def make(head: Head) -> Draft | None:
        nonlocal looked, landed
        newest = None
        if head.version:
            newest = stored.get(address, head.version) or stored.missing(address, head.version)
        landed = _find(stored, operation, newest, looked)
        if landed is not None:
            return None
        looked = head.version
        draft = _draft(operation.entry, newest)
        if change is not None:
            return change(draft)
        if operation.conditional and not _stands(operation, newest):
            raise Overtaken(head.version)
        return draft

    newest = stored.newest(address)
    appended = stored.append(address, make, head=Head.of(newest), moment=_moment(operation, newest))
    entry = landed or appended
    assert entry is not None
    stored.cache.note_appended(address, entry.version)
    return entry


def _moment(operation: Operation, newest: MemoryEntry | None) -> datetime:
    """Return when it was written: then, but for what others have written since."""
    if newest is None:
        return operation.since
    return max(operation.since, newest.provenance.written_at)


def _find(
    stored: VersionLog, operation: Operation, newest: MemoryEntry | None, looked: int
) -> MemoryEntry | None:
    """Look for an operation among the versions after `looked`. None is older than the call that it
    stands for, and times never fall within a memory."""
    entry = newest
    while entry is not None and entry.version > looked:
        if entry.provenance.write_id in (operation.write_id, operation.merged_id):
            return entry
        if entry.provenance.written_at < operation.since or entry.version == 1:
            return None
        below = entry.version - 1
        entry = stored.get(operation.address, below) or stored.missing(operation.address, below)
    return None


def _stands(operation: Operation, newest: MemoryEntry | None) -> bool:
    """Whether the newest version is the one on which the operation was decided."""
    if operation.base is not None:
        return newest is not None and newest.provenance.write_id == operation.base
    below = operation.entry.version - 1
    if newest is None:
        return below == 0
    return newest.version == below and newest.sha256 == operation.entry.previous


def _draft(entry: MemoryEntry, newest: MemoryEntry | None) -> Draft:
    provenance, claim = entry.provenance, entry.claim
    if claim is not None and newest is not None:
        claim = newest.claimed_in  # numbers may have changed; it goes on, as it did
    return Draft(
        write_id=provenance.write_id,
        agent_id=provenance.agent_id,
        session_id=provenance.session_id,
        deleted=entry.deleted,
        **(carried_on(entry) | {"claim": claim}),
    )


def with_value(operation: Operation, value: Any) -> Callable[[Draft], Draft]:
    """Return what gives a draft another value, as a claim and a write of its own."""
    return lambda draft: replace(
        draft, value=value, write_id=operation.merged_id, deleted=False, claim=None
    )


def unchanged(draft: Draft) -> Draft:
    """Return the draft: it is to be written whatever the newest version is."""
    return draft
