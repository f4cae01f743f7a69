"""Counting what is stored, from a listing alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from amfs_core.format import Address, Layout
from amfs_core.storage import StoreClient
from amfs_core.versions import VersionLog


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts and sizes of what is stored under an entity path or in a namespace.

    Tombstones and erased versions count as versions. `bytes` is the size of all version objects,
    `deepest` the most versions that one memory has, `foreign` how many objects are not versions.
    """

    namespace: str
    entity_paths: int
    memories: int
    versions: int
    bytes: int
    deepest: int
    oldest: datetime | None
    newest: datetime | None
    foreign: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A version as a listing has it: its size in bytes, and since when the store has it."""

    address: Address
    version: int
    size: int
    modified: datetime


def stored(store: StoreClient, layout: Layout, entity_path: str | None) -> Iterator[Stored | None]:
    """Yield every version under an entity path or in the namespace, and None for each object that
    is not a version. 1 request per 1,000 objects; no body is read."""
    for info in store.list(layout.entity_prefix(entity_path)):
        parsed = layout.parse(info.key)
        if parsed is None:
            yield None
        elif parsed[0].is_under(entity_path):  # the memory e/k has its versions below e/k/ too
            yield Stored(*parsed, info.size, info.modified)


def stats(versions: VersionLog, entity_path: str | None) -> Stats:
    """Count what is stored. 1 request per 1,000 objects; no body is read."""
    depths: Counter[Address] = Counter()
    size = foreign = 0
    times: list[datetime] = []
    for one in stored(versions.store, versions.layout, entity_path):
        if one is None:
            foreign += 1
            continue
        depths[one.address] += 1
        size += one.size
        times = [min([*times[:1], one.modified]), max([*times[1:], one.modified])]
    return Stats(
        namespace=versions.layout.namespace,
        entity_paths=len({address.entity_path for address in depths}),
        memories=len(depths),
        versions=depths.total(),
        bytes=size,
        deepest=max(depths.values(), default=0),
        oldest=times[0] if times else None,
        newest=times[1] if times else None,
        foreign=foreign,
    )
