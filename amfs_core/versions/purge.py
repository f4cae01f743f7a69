"""Purging: the contents of a memory go, and its version numbers stay taken.

`docs/design/erasure.md` says what a stub keeps and why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from amfs_core.errors import CorruptEntryError, PermissionDeniedError
from amfs_core.format import (
    Address,
    Draft,
    Evidence,
    Layout,
    MemoryEntry,
    Provenance,
    decode_entry,
    encode_entry,
)
from amfs_core.versions.cache import Head
from amfs_core.versions.foreign import reached
from amfs_core.versions.log import VersionLog

_WINDOW = 64
"""How many versions are read at a time before they are erased; this bounds memory."""

_UNKNOWN_HASH = "0" * 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def purge(
    versions: VersionLog, address: Address, tombstone: Draft | Callable[[Head], Draft]
) -> tuple[int, int]:
    """Replace every version by a stub, after a tombstone that orders it; return how many were
    replaced, and the version of the tombstone, 0 where there is nothing to erase.

    `tombstone` may be a function that returns it. It is called with the head that the tombstone
    will follow; if it raises, nothing is erased.

    Safe to call again after a crash: it continues where it stopped. About 2 requests per version. A
    number that no writer can have reached (`foreign`) is erased too, and the gap below it stays.
    """
    listed = _listed(versions, address)
    order = _order(versions, address, tombstone, listed)
    if order is None:
        return 0, 0
    earlier = sorted({*range(1, order.version), *listed} - {order.version})
    versions.cache.forget_before(address, order.version)
    erased = 0
    before: MemoryEntry | None = None
    for version, entry in _read_many(versions, address, earlier):
        if entry is not None and entry.erased is not None:
            before = entry
            continue
        before = _stub(versions, address, version, entry, before)
        versions.store.replace(address.object_key(version), encode_entry(before))
        erased += 1
    versions.cache.forget_before(address, earlier[-1] + 1 if earlier else order.version)
    return erased, order.version


def stub_of(layout: Layout, address: Address, version: int, body: bytes) -> bytes:
    """Return the stub that replaces a body whose erasure was ordered.

    Raises `CorruptEntryError` when the body is not a whole version.
    """
    entry = decode_entry(body, layout.namespace, address, version)
    return encode_entry(_emptied(entry, entry.erased or entry.sha256))


def _listed(versions: VersionLog, address: Address) -> frozenset[int]:
    """Return the listed numbers; none where listing is not allowed. The newest version can be found
    without a listing, and all versions before it exist."""
    try:
        return frozenset(versions.listed(address))
    except PermissionDeniedError:
        return frozenset()


def _order(
    versions: VersionLog,
    address: Address,
    tombstone: Draft | Callable[[Head], Draft],
    listed: frozenset[int],
) -> MemoryEntry | None:
    """Return the newest version if it already orders the erasure, or else append one that does.

    None when there is nothing to erase. The order may follow a damaged version: erasing fixes that.
    The listing may lag, so this looks for later versions too.
    """
    damaged: Head | None = None
    while True:
        try:
            head = damaged
            if head is None:
                newest = versions.climb(address, reached(listed))
                if newest is None and not listed:
                    return None
                if newest is not None and newest.purges:
                    return newest
                # The cache's head may be a foreign number.
                head = Head.of(newest)
            return versions.append(address, tombstone, head=head)
        except CorruptEntryError as damage:
            if damage.version is None or (damaged and damage.version <= damaged.version):
                raise
            damaged = Head(damage.version, _UNKNOWN_HASH)


def _read_many(
    versions: VersionLog, address: Address, numbers: list[int]
) -> Iterator[tuple[int, MemoryEntry | None]]:
    """Yield the versions in the order of their numbers; None for one whose object is damaged or
    missing, which is erased all the same. The cache does not keep them: it must forget erased
    content, and must not take a foreign number for the newest."""
    for first in range(0, len(numbers), _WINDOW):
        window = numbers[first : first + _WINDOW]
        wanted = ((address, version) for version in window)
        bodies = {version: body for (_, version), body in versions.get_bodies(wanted)}
        for version in window:
            yield version, _decoded(versions, address, version, bodies[version])


def _decoded(
    versions: VersionLog, address: Address, version: int, body: bytes | None
) -> MemoryEntry | None:
    try:
        return None if body is None else versions.decode(address, version, body)
    except CorruptEntryError:
        return None


def _named_by_next(versions: VersionLog, address: Address, version: int) -> str:
    """Return the hash of a damaged version as the chain knows it."""
    ((_, following),) = _read_many(versions, address, [version + 1])
    return (following.previous if following else None) or _UNKNOWN_HASH


def _stub(
    versions: VersionLog,
    address: Address,
    version: int,
    entry: MemoryEntry | None,
    before: MemoryEntry | None,
) -> MemoryEntry:
    """Return the stub of an erased version; `before` is the stub of the version before it.

    The stub keeps the time, which `at=` searches by, and the write_id, by which a writer whose
    answer was lost still recognises its version. A damaged version has neither; times must not
    fall, so its stub gets the time of the version before.
    """
    if entry is not None:
        return _emptied(entry, entry.sha256)
    return _empty(
        versions.layout.namespace,
        address,
        version,
        content=_named_by_next(versions, address, version),
        previous=before.erased if before else None,
        written_at=before.provenance.written_at if before else _EPOCH,
        write_id="",
    )


def _emptied(entry: MemoryEntry, content: str) -> MemoryEntry:
    """Return the stub of a version whose content has this hash."""
    return _empty(
        entry.namespace,
        entry,
        entry.version,
        content=content,
        previous=entry.previous,
        written_at=entry.provenance.written_at,
        write_id=entry.provenance.write_id,
    )


def _empty(
    namespace: str,
    name: Address | MemoryEntry,
    version: int,
    *,
    content: str,
    previous: str | None,
    written_at: datetime,
    write_id: str,
) -> MemoryEntry:
    return MemoryEntry(
        namespace=namespace,
        entity_path=name.entity_path,
        key=name.key,
        version=version,
        value=None,
        confidence=0.0,
        tags=(),
        memory_type="fact",
        expires_at=None,
        deleted=True,
        provenance=Provenance("", "", written_at, write_id),
        evidence=Evidence(),
        previous=previous,
        sha256="",
        erased=content,
    )
