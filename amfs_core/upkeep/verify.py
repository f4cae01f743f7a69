"""Verifying: every version and outcome is read and checked, every chain is followed from v1 to its
end, and every outcome is looked for in the memories that it names.

What is in the namespace but in no folder of the table of kinds (`amfs_core.format.kinds`) is not
looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from amfs_core.changes import Stored, stored
from amfs_core.errors import CorruptEntryError, PermissionDeniedError
from amfs_core.format import Address, MemoryEntry
from amfs_core.storage import refusals
from amfs_core.upkeep import manifests
from amfs_core.upkeep.finding import Finding
from amfs_core.upkeep.outcome_audit import Ledger
from amfs_core.versions import AHEAD, VersionLog, absence, reached

_BATCH = 1000

_Body = bytes | PermissionDeniedError | None
"""What an object holds, None when there is none; or why it may not be read."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify` read and found. `ok` is True when nothing is left to do.

    `repaired` are the findings that `verify` fixed itself.
    """

    memories: int
    versions: int
    findings: tuple[Finding, ...]
    outcomes: int = 0
    repaired: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        """True when there is no finding."""
        return not self.findings


@dataclass(frozen=True, slots=True)
class _Link:
    """What the check of the next version needs to know about a version."""

    version: int
    sha256: str
    written_at: datetime


def verify(
    versions: VersionLog,
    entity_path: str | None,
    progress: Callable[[int, int], None] | None = None,
    *,
    repair: bool = False,
) -> VerifyReport:
    """Read and check every version under an entity path, and every outcome, from the store itself
    and not from any cache.

    An object that may not be read is a finding; if none may, `PermissionDeniedError` is raised.
    `repair` counts outcomes into the memories where that is still to be done. `progress(done,
    total)` is told how many versions were read. 1 request per 1,000 objects, 1 per version and 1
    per outcome; 2 for the manifest; and a read for each outcome that seems not to be counted into
    a memory. Where the manifest is damaged or may not be read, that is a finding, and nothing is
    repaired; `UnknownFeatureError` is raised for a feature that whoever reads must know.

    A version that is listed, and absent when it is read, does not count if no later version is
    there: a store may list an object that it is still creating, and take it back when its client
    was killed. It is a finding if it stays listed.
    """
    findings, is_usable = manifests.check(versions)
    if not is_usable:  # all the rest is checked, and nothing is changed
        versions, repair = versions.unguarded(), False
    ledger = Ledger(versions)
    memories = _listed(versions, entity_path, findings)
    ledger.charge(memories, entity_path)
    total = sum(len(numbers) for numbers in memories.values())
    done = refused = 0
    absent: list[str] = []
    for batch in list(_batches(memories)):
        bodies = _bodies(versions, batch)
        denials = [body for body in bodies.values() if isinstance(body, PermissionDeniedError)]
        refused += len(denials)
        if refused == total:  # nothing may be read: that says nothing about what is there
            raise denials[0]
        for address, listed in batch:
            numbers = sorted(set(listed))
            while numbers and bodies[address.object_key(numbers[-1])] is None:
                absent.append(address.object_key(numbers.pop()))
                total -= 1
            if numbers:
                findings.extend(_check_memory(versions, address, numbers, bodies, ledger))
            else:
                del memories[address]
            done += len(numbers)
        if progress:
            progress(done, total)
    findings.extend(_lost(versions, [*absent, *ledger.absent]))
    ledger.find_lost()
    pending = ledger.settle(repair)
    findings = [*ledger.findings, *findings, *([] if repair else pending)]
    repaired = tuple(pending) if repair else ()
    return VerifyReport(len(memories), total, tuple(findings), len(ledger), repaired)


def _lost(versions: VersionLog, absent: list[str]) -> Iterator[Finding]:
    """Yield a finding for each object that was listed and absent, and still is."""
    store = versions.store
    suspicious = [key for key in absent if absence.still_listed(store, key)]
    if suspicious:
        time.sleep(absence.COMMIT_SECONDS)
    lost = (key for key in suspicious if absence.still_listed(store, key))
    yield from map(Finding.absent, lost)


def _listed(
    versions: VersionLog, entity_path: str | None, findings: list[Finding]
) -> dict[Address, list[int]]:
    memories: dict[Address, list[int]] = {}
    for info in stored(versions.store.origin, versions.layout, entity_path):
        if isinstance(info, Stored):
            memories.setdefault(info.address, []).append(info.version)
        else:
            findings.append(Finding.foreign(info.key))
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


def _bodies(versions: VersionLog, batch: list[tuple[Address, list[int]]]) -> dict[str, _Body]:
    keys = (address.object_key(number) for address, numbers in batch for number in numbers)
    bodies: dict[str, _Body] = {}
    for key, body in refusals.get_allowed(versions.store.origin, keys, bodies.__setitem__):
        bodies[key] = body
    return bodies


def _check_memory(
    versions: VersionLog,
    address: Address,
    numbers: list[int],
    bodies: Mapping[str, _Body],
    ledger: Ledger,
) -> Iterator[Finding]:
    """Yield the problems of one memory's chain of versions, and show the versions to the ledger."""
    present, last = set(numbers), reached(numbers)
    absent = (number for number in range(1, last) if number not in present)
    for number in islice(absent, 10):
        key = address.object_key(number)
        yield Finding(key, f"it is missing below v{last}", "restore it from a copy")
    for number in (candidate for candidate in numbers if candidate > last):
        problem = f"no writer can have reached its number: there is no v{last + 1}"
        yield Finding(address.object_key(number), problem, "move it out of the store")
    before: _Link | None = None
    kept: list[int] = []
    order: int | None = None
    newest: MemoryEntry | None = None
    unread = False
    for number in numbers:
        object_key = address.object_key(number)
        body = bodies[object_key]
        if isinstance(body, PermissionDeniedError):
            yield Finding.refused(object_key, body)
            before = newest = None
            unread = True
            continue
        try:
            entry = versions.decode(address, number, body or b"")
        except CorruptEntryError as error:
            yield Finding.damaged(object_key, error)
            before = newest = None
            continue
        newest = entry
        ledger.see(address, entry)
        yield from _check_link(object_key, entry, before)
        before = _Link(number, entry.erased or entry.sha256, entry.provenance.written_at)
        if entry.erased is None:
            kept.append(number)
        if entry.purges:
            order = number
    if order is not None:
        for number in (candidate for candidate in kept if candidate < order):
            problem = f"v{order} ordered its erasure, but its content is still there"
            yield Finding(address.object_key(number), problem, "purge the memory again")
    if newest is not None and newest.provenance.written_at - datetime.now(UTC) > AHEAD:
        when = newest.provenance.written_at.isoformat(timespec="seconds")
        yield Finding(
            address.object_key(newest.version),
            f"it is from {when}, in the future: until then every new version has that time",
            "set the clock of the machine that wrote it, or of this one; write what you know to "
            "another key if at= matters",
        )
    ledger.close(address, None if unread else newest)


def _check_link(object_key: str, entry: MemoryEntry, before: _Link | None) -> Iterator[Finding]:
    hint = "the history was rewritten; compare with a copy"
    if entry.version == 1 and entry.previous is not None:
        yield Finding(object_key, "it is version 1 but names a version before it", hint)
    if before is None or before.version != entry.version - 1:
        return
    if entry.previous != before.sha256:
        problem = f"it does not follow the v{before.version} that is there"
        yield Finding(object_key, problem, hint)
    if entry.provenance.written_at < before.written_at:
        yield Finding(object_key, f"it is older than v{before.version}", hint)
