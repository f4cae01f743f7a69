"""Records of another system as memories: written once, again when they change there, and never over
what somebody wrote here (docs/import.md).

An import recognises the versions that it wrote by their `write_id`, which updates and outcomes do
not carry on: it names the kind of source and, hashed, which source it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import structs

from amfs_core.errors import (
    AMFSError,
    CorruptEntryError,
    InvalidValueError,
    VersionConflictError,
    WriteManyError,
)
from amfs_core.format import Address, Draft, MemoryEntry, is_over, time_text
from amfs_core.memory import drafts
from amfs_core.memory.agent_memory import AgentMemory
from amfs_core.memory.session import THREADS
from amfs_core.parallel import mapped
from amfs_core.storage import one_call
from amfs_core.versions import batch

BATCH = 500
"""Records looked up and written at a time, at most."""

BATCH_BYTES = 4 * 1024 * 1024
"""The most bytes that their content may take as JSON together, unless one alone takes more."""

State = Literal["new", "changed", "unchanged", "kept", "expired", "refused"]


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a source, and the memory that it is to be.

    `place` is where the source has it, such as "line 7".
    """

    place: str
    entity_path: str
    key: str
    value: Any
    tags: tuple[str, ...] = ()
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record that cannot be a memory, where it is, and why."""

    place: str
    reason: str


@dataclass(frozen=True, slots=True)
class Imported:
    """The result of importing one record.

    `state` is "new" or "changed" for one that was written, "unchanged" for one that is there
    already, "kept" where the memory was written or deleted by somebody else, "expired" for one
    whose time is over, "refused" for one that cannot be a memory. `reason` says why it was kept or
    refused. The names are None for a record that has none.
    """

    place: str
    state: State
    entity_path: str | None = None
    key: str | None = None
    reason: str | None = None


class _Candidate(NamedTuple):
    """A record that could be a version, and its content as canonical JSON."""

    record: Record
    address: Address
    draft: Draft
    content: bytes

    def became(self, state: State, reason: str | None = None) -> Imported:
        return _became(self.record, state, reason)


class _Write(NamedTuple):
    """A record that is to be a version, and what it then became."""

    item: batch.Item
    imported: Imported


def import_records(
    memory: AgentMemory,
    records: Iterable[Record | Unreadable],
    *,
    kind: str,
    origin: str,
    dry_run: bool = False,
    overwrite: bool = False,
) -> Iterator[Imported]:
    """Write new and changed records, and yield the result of each, in their order.

    `kind` and `origin` name the source: a memory is changed only if its newest version came from
    the same source, whatever outcomes did to its confidence since. A memory that somebody else
    wrote or deleted is kept, unless `overwrite` lets the source win. If two records claim one
    memory, the first has it. With `dry_run` nothing is written.

    Records are written while the caller iterates, up to 500 at a time, so memory is bounded by that
    and by the largest record. 3 requests for each record in two round trips, 1 once the process
    knows its memory, and 1 more for each that is written. `AMFSError` names the record at which a
    failing store stopped the import; to import again continues there.
    """
    run = _Run(memory, kind, origin, dry_run=dry_run, overwrite=overwrite)
    with closing(_Claims()) as claims:
        waiting: list[_Candidate | Imported] = []
        size = 0
        for record in records:
            checked = run.checked(record)
            if isinstance(checked, _Candidate):
                size += len(checked.content)
                checked = claims.claimed(checked)
            waiting.append(checked)
            if len(waiting) == BATCH or size >= BATCH_BYTES:
                yield from run.settled(waiting)
                waiting, size = [], 0
        yield from run.settled(waiting)


class _Claims:
    """Which memories the records so far claim: in a file of SQLite's, which is gone when closed, as
    a source may have any number."""

    def __init__(self) -> None:
        import sqlite3  # which takes long to import

        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute("BEGIN")
        self._database.execute(
            "CREATE TABLE claims (name BLOB PRIMARY KEY, content BLOB, place TEXT) WITHOUT ROWID"
        )

    def claimed(self, candidate: _Candidate) -> _Candidate | Imported:
        """Return the candidate, or what becomes of it when an earlier record has its memory."""
        name, content = _hash(candidate.address.prefix.encode()), _hash(candidate.content)
        done = self._database.execute(
            "INSERT INTO claims VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (name, content, candidate.record.place),
        )
        if done.rowcount:
            return candidate
        first, place = self._database.execute(
            "SELECT content, place FROM claims WHERE name = ?", (name,)
        ).fetchone()
        if first == content:
            return candidate.became("unchanged")
        return candidate.became("refused", f"{place} is another record of the same memory")

    def close(self) -> None:
        self._database.close()


class _Run:
    """One import: decides what becomes of records, and writes them."""

    def __init__(
        self, memory: AgentMemory, kind: str, origin: str, *, dry_run: bool, overwrite: bool
    ) -> None:
        self._memory = memory
        self._patience = memory._patience
        self._versions = memory._versions
        self._mark = f"import:{kind}:{_hash(origin.encode(errors='surrogatepass')).hex()}:"
        self._dry_run = dry_run
        self._overwrite = overwrite

    def checked(self, record: Record | Unreadable) -> _Candidate | Imported:
        """Check a record as `write` would check it."""
        if isinstance(record, Unreadable):
            return Imported(record.place, "refused", reason=record.reason)
        try:
            address = self._memory._layout.address(record.entity_path, record.key)
            draft = drafts.draft(
                self._memory.agent_id,
                self._memory.session_id,
                record.value,
                tags=record.tags,
                expires_at=record.expires_at,
            )
        except AMFSError as error:
            return _became(record, "refused", error.reason)
        if draft.expires_at is not None and is_over(draft.expires_at):
            return _became(record, "expired")
        return _Candidate(record, address, draft, _content(draft))

    def settled(self, waiting: list[_Candidate | Imported]) -> Iterator[Imported]:
        """Look up the memories of a batch, write what is to be written, and yield what became of
        each record. Raises the first failure of the store after what was written all the same."""
        candidates = [candidate for candidate in waiting if isinstance(candidate, _Candidate)]
        decisions = iter(mapped(self._decision, candidates, THREADS))
        decided = [
            next(decisions) if isinstance(candidate, _Candidate) else candidate
            for candidate in waiting
        ]
        writes = [write for write in decided if isinstance(write, _Write)]
        errors = {} if self._dry_run else self._written([write.item for write in writes])
        failures = iter([errors.get(index) for index in range(len(writes))])
        failure: AMFSError | None = None
        for decision in decided:
            if isinstance(decision, Imported):
                yield decision
            elif (error := next(failures)) is None:
                yield decision.imported
            elif isinstance(error, VersionConflictError):
                yield replace(decision.imported, state="kept", reason="somebody wrote it meanwhile")
            else:
                place = f"{decision.imported.place} was not written"
                failure = failure or error.at(place, says_written=False)
        if failure is not None:
            raise failure

    def _decision(self, candidate: _Candidate) -> _Write | Imported:
        """Compare a record with the newest version of its memory."""
        record, address = candidate.record, candidate.address
        try:
            newest = self._newest(record.entity_path, record.key, address)
            if newest is not None and newest.has_content and _content(newest) == candidate.content:
                return candidate.became("unchanged")
            kept = None if self._overwrite else self._kept_for(address, newest)
        except CorruptEntryError as error:
            return candidate.became("refused", error.reason)
        except AMFSError as error:
            raise error.at(record.place) from error.__cause__
        if kept is not None:
            return candidate.became("kept", kept)
        version = 0 if newest is None else newest.version
        name = _hash(b"\n".join((address.prefix.encode(), b"%d" % version, candidate.content)))
        # Two imports of one source at a time write the same version with the same `write_id`, and
        # so only once.
        draft = structs.replace(candidate.draft, write_id=f"{self._mark}{name.hex()}")
        moment = self._versions.clock.now()
        try:
            prepared = self._versions.prepare(address, draft, moment)
        except InvalidValueError as error:  # it is too large
            return candidate.became("refused", error.reason)
        item = batch.Item(address, draft, version, moment, *prepared)
        return _Write(item, candidate.became("new" if newest is None else "changed"))

    @one_call
    def _newest(self, entity_path: str, key: str, address: Address) -> MemoryEntry | None:
        return self._versions.newest(address)

    def _kept_for(self, address: Address, newest: MemoryEntry | None) -> str | None:
        """Say why the memory is not the source's to change; None when it is."""
        if newest is None:
            return None
        by = newest.provenance.agent_id
        if not newest.has_content:
            return f"{by} deleted it (version {newest.version})"
        claim = newest
        if newest.claim is not None:  # an outcome or an update carries an earlier version on
            claim = self._versions.get(address, newest.claim) or newest
        if not claim.provenance.write_id.startswith(self._mark):
            if claim.provenance.write_id.startswith("import:"):
                return f"version {claim.version} was imported from another source"
            return f"{by} wrote version {newest.version}"
        if _content(claim) != _content(newest):
            return f"{by} updated it (version {newest.version})"
        return None

    def _written(self, items: list[batch.Item]) -> dict[int, AMFSError]:
        """Write versions; return the errors of those that were not, by their index."""
        try:
            batch.Batch(self._versions, items).write(self._memory._append_item, THREADS)
        except WriteManyError as error:
            return error.errors
        return {}


def _became(record: Record, state: State, reason: str | None = None) -> Imported:
    return Imported(record.place, state, record.entity_path, record.key, reason)


def _content(version: Draft | MemoryEntry) -> bytes:
    """Return what a source says about a memory, independent of the order of names."""
    expires_at = version.expires_at and time_text(version.expires_at)
    said = (version.value, version.tags, expires_at)
    return msgspec.json.encode(said, order="deterministic")


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:16]
