"""Verifying: every version is read and checked, and every chain followed from v1 to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from amfs_core.entry import MemoryEntry
from amfs_core.errors import CorruptEntryError
from amfs_core.layout import Address
from amfs_core.versions import Versions

_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: with which object, what, and what mends it."""

    object_key: str
    problem: str
    mend: str

    def __str__(self) -> str:
        return f"{self.object_key}: {self.problem} ({self.mend})"


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify` read and found. `ok` is True when nothing is wrong."""

    memories: int
    versions: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """True when there is no finding."""
        return not self.findings


@dataclass(frozen=True, slots=True)
class _Link:
    """What the next version's check needs of a version."""

    version: int
    sha256: str
    written_at: datetime


def verify(
    versions: Versions,
    entity_path: str | None,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Read and check every version under an entity path, from the store and not from the cache.

    `progress(done, total)` is told how many versions have been read. 1 request per 1,000 objects
    and 1 per version.
    """
    findings: list[Finding] = []
    memories = _listed(versions, entity_path, findings)
    total = sum(len(numbers) for numbers in memories.values())
    done = 0
    for batch in _batches(memories):
        bodies = _bodies(versions, batch)
        for address, numbers in batch:
            findings.extend(_check_memory(versions, address, sorted(numbers), bodies))
            done += len(numbers)
        if progress:
            progress(done, total)
    return VerifyReport(len(memories), total, tuple(findings))


def _listed(
    versions: Versions, entity_path: str | None, findings: list[Finding]
) -> dict[Address, list[int]]:
    memories: dict[Address, list[int]] = {}
    for info in versions.store.list(versions.layout.entity_prefix(entity_path)):
        parsed = versions.layout.parse(info.key)
        if parsed is None:
            mend = "move it out of the store; AMFS never reads it"
            findings.append(Finding(info.key, "it is not an object of this layout", mend))
        elif parsed[0].is_under(entity_path):
            memories.setdefault(parsed[0], []).append(parsed[1])
    return memories


def _batches(memories: dict[Address, list[int]]) -> Iterator[list[tuple[Address, list[int]]]]:
    """Yield the memories in groups of about a thousand versions; one memory is never split."""
    group: list[tuple[Address, list[int]]] = []
    size = 0
    for address, numbers in memories.items():
        group.append((address, numbers))
        size += len(numbers)
        if size >= _BATCH:
            yield group
            group, size = [], 0
    if group:
        yield group


def _bodies(versions: Versions, batch: list[tuple[Address, list[int]]]) -> dict[str, bytes | None]:
    keys = (address.object_key(number) for address, numbers in batch for number in numbers)
    return dict(versions.store.get_many(keys))


def _check_memory(
    versions: Versions, address: Address, numbers: list[int], bodies: dict[str, bytes | None]
) -> Iterator[Finding]:
    """Yield what is wrong with one memory's chain of versions."""
    present = set(numbers)
    absent = (number for number in range(1, numbers[-1]) if number not in present)
    for number in islice(absent, 10):
        key = address.object_key(number)
        yield Finding(key, f"it is missing below v{numbers[-1]}", "restore it from a copy")
    before: _Link | None = None
    kept: list[int] = []
    order: int | None = None
    for number in numbers:
        object_key = address.object_key(number)
        try:
            entry = versions.decode(address, number, bodies[object_key] or b"")
        except CorruptEntryError as error:
            problem, _, mend = str(error).removeprefix(f"{object_key}: ").partition("; ")
            yield Finding(object_key, problem, mend or "restore it from a copy")
            before = None
            continue
        yield from _check_link(object_key, entry, before)
        before = _Link(number, entry.erased or entry.sha256, entry.provenance.written_at)
        if entry.erased is None:
            kept.append(number)
        if entry.purges:
            order = number
    if order is not None:
        for number in (one for one in kept if one < order):
            problem = f"v{order} ordered its erasure, but its content is still there"
            yield Finding(address.object_key(number), problem, "purge the memory again")


def _check_link(object_key: str, entry: MemoryEntry, before: _Link | None) -> Iterator[Finding]:
    mend = "the history was rewritten; compare with a copy"
    if entry.version == 1 and entry.previous is not None:
        yield Finding(object_key, "it is version 1 but names a version before it", mend)
    if before is None or before.version != entry.version - 1:
        return
    if entry.previous != before.sha256:
        problem = f"it does not follow the v{before.version} that is there"
        yield Finding(object_key, problem, mend)
    if entry.provenance.written_at < before.written_at:
        yield Finding(object_key, f"it is older than v{before.version}", mend)
