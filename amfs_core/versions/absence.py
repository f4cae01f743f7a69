"""What is listed, or below a version that is there, and absent when it is read.

MinIO lists an object while it creates it, and takes it back when its client was killed: such an
object was never acknowledged, and nothing stands on it. So it counts as lost only after another
look, or when a later version of its memory is there.
"""

from __future__ import annotations

from itertools import islice

from amfs_core.errors import CorruptEntryError
from amfs_core.format import Address, Layout
from amfs_core.storage import StoreClient

LOOKS = 4
"""Times that a reader looks at a version that is listed and absent."""

COMMIT_SECONDS = 0.5
"""Seconds that a store may take to create an object that it lists, or to take it back."""

_TOGETHER = 100  # later versions that are looked for at once


def look_again(store: StoreClient, layout: Layout, address: Address, version: int) -> bytes | None:
    """Return the body of a version that was absent when it was read; None when no later version is
    there either.

    Raises `CorruptEntryError` when a later version is there: then this one is lost. Costs a listing
    of the memory, and 1 request for each version after this one until one is there.
    """
    later = (
        info.key
        for info in store.list(address.prefix)
        if (parsed := layout.parse(info.key)) is not None
        and parsed[0] == address
        and parsed[1] > version
    )
    while keys := list(islice(later, _TOGETHER)):
        if any(body is not None for _, body in store.get_many(keys)):
            # It comes before that one, so by now it is there unless it was lost.
            object_key = address.object_key(version)
            body = store.get(object_key)
            if body is None:
                raise missing(object_key, where=" in the source")
            return body
    return None


def still_listed(store: StoreClient, object_key: str) -> bool:
    """True when an object that was listed, and absent when it was read, still is both. 2
    requests."""
    before = object_key[:-1]  # nothing that is listed comes between the two: no name ends so
    info = next(store.list(f"{object_key.rpartition('/')[0]}/", before), None)
    return info is not None and info.key == object_key and store.get(object_key) is None


def missing(
    object_key: str,
    *,
    where: str = "",
    address: Address | None = None,
    version: int | None = None,
) -> CorruptEntryError:
    """Return the error for an object that must be there and is not."""
    return CorruptEntryError(
        f"{object_key} is missing{where} although a later version or a listing names it",
        hint="restore it from a copy, or move the later one away if another tool put it there",
        entity_path=None if address is None else address.entity_path,
        key=None if address is None else address.key,
        version=version,
        object_key=object_key,
    )
