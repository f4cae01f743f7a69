"""Putting objects of another store into this one: absent ones are created, and nothing is
overwritten except by the stub of an erased version."""

from __future__ import annotations

from amfs_core.errors import AMFSError, ConfigurationError, CorruptEntryError
from amfs_core.format import Address, Layout, MemoryEntry, decode_entry
from amfs_core.storage import StoreClient


def refuse_nested(source: StoreClient, target: StoreClient, *, same: bool = True) -> None:
    """Raise `ConfigurationError` if one store is known to be inside the other, or to be the other
    unless `same` allows that."""
    # Patiently, as an adapter may have to find its endpoint first.
    places = [store.patiently(lambda store=store: store.location) for store in (source, target)]  # type: ignore[misc]
    if None in places:
        return
    outer, inner = sorted((f"{str(location).rstrip('/')}/" for location in places), key=len)
    if not same and outer == inner:
        raise ConfigurationError(
            f"backups of the store {outer} cannot be kept in that store: they would be lost "
            "together with it",
            hint="use a place beside it",
        )
    if outer != inner and inner.startswith(outer):
        raise ConfigurationError(
            f"the store {inner} is within the store {outer}, so that one would become part of the "
            "other",
            hint="use a place beside it",
        )


def place(
    target: StoreClient, object_key: str, body: bytes, *, look_first: bool
) -> tuple[bytes, bool]:
    """Return what the target holds forever, and whether this call is known to have created it. 1
    request, or 2."""
    target_body = target.get(object_key) if look_first else None
    if target_body is not None:
        return target_body, False
    target_body = target.settle(object_key, body)
    return target_body, target_body is body


def stays(layout: Layout, address: Address, version: int, body: bytes, target_body: bytes) -> bool:
    """True if the target's object stays although its bytes differ, False if the source's stub must
    replace it; `AMFSError` if neither is an erased form of the other."""
    ours = decoded(layout, address, version, body)
    theirs = decoded(layout, address, version, target_body)
    if ours is not None and theirs is not None:
        if theirs.erased is not None and theirs.erased in (ours.sha256, ours.erased):
            return True
        if ours.erased is not None and ours.erased == theirs.sha256:
            return False
    raise different(address.object_key(version))


def decoded(layout: Layout, address: Address, version: int, body: bytes) -> MemoryEntry | None:
    """Return the entry in a body, None when it is damaged or of a newer format."""
    try:
        return decode_entry(body, layout.namespace, address, version)
    except CorruptEntryError:
        return None


def different(object_key: str) -> AMFSError:
    """Return the error for an object that the target has with different bytes."""
    return AMFSError(
        f"{object_key} is in the target with different bytes, and was not overwritten",
        hint="use another store or prefix, or find out which of the two is right",
        object_key=object_key,
    )
