"""Purging: the contents of a memory are gone, its version numbers stay taken.

`docs/design/erasure.md` says what a stub keeps and why.
"""

from __future__ import annotations

from amfs_core.entry import Draft, Evidence, MemoryEntry, Provenance, encode
from amfs_core.errors import CorruptEntryError
from amfs_core.layout import Address
from amfs_core.versions import Versions


def purge(versions: Versions, address: Address, tombstone: Draft) -> int:
    """Replace every version by a stub, after a tombstone that says so; return how many.

    Safe to call again after a crash: it goes on where it stopped. About 2 requests per version.
    """
    newest = versions.newest(address)
    if newest is None:
        return 0
    order = newest if newest.purges else versions.append(address, lambda _: tombstone)
    assert order is not None  # the draft above is never None
    earlier = range(1, order.version)
    versions.cache.forget_bodies(address, earlier)
    erased = 0
    previous: str | None = None
    for version in earlier:
        entry = _read(versions, address, version)
        if entry is None or entry.erased is None:
            content = entry.sha256 if entry else _named_by_next(versions, address, version)
            stub = _stub(versions, address, version, entry, previous, content)
            versions.store.replace(address.object_key(version), encode(stub))
            previous, erased = content, erased + 1
        else:
            previous = entry.erased
    versions.cache.forget_bodies(address, earlier)
    return erased


def _read(versions: Versions, address: Address, version: int) -> MemoryEntry | None:
    """Return the version, or None when its object is damaged or missing: it is erased all the
    same."""
    try:
        return versions.get(address, version)
    except CorruptEntryError:
        return None


def _named_by_next(versions: Versions, address: Address, version: int) -> str:
    """Return the hash of a damaged version as the chain knows it."""
    following = _read(versions, address, version + 1)
    return (following.previous if following else None) or "0" * 64


def _stub(
    versions: Versions,
    address: Address,
    version: int,
    entry: MemoryEntry | None,
    previous: str | None,
    content: str,
) -> MemoryEntry:
    """Return what stands in for an erased version.

    It keeps the time, which `at=` searches by, and the write_id, by which a writer whose answer
    was lost still recognises its version.
    """
    if entry is None:
        order = versions.newest(address)
        assert order is not None  # the tombstone was just written
        written_at, write_id = order.provenance.written_at, ""
    else:
        written_at, write_id = entry.provenance.written_at, entry.provenance.write_id
    return MemoryEntry(
        namespace=versions.layout.namespace,
        entity_path=address.entity_path,
        key=address.key,
        version=version,
        value=None,
        confidence=0.0,
        tags=(),
        memory_type="fact",
        expires_at=None,
        deleted=True,
        provenance=Provenance("", "", written_at, write_id),
        evidence=Evidence(),
        previous=entry.previous if entry else previous,
        sha256="",
        erased=content,
    )
