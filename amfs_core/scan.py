"""Walking a namespace: which memories there are, their newest versions, and their sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from amfs_core.entry import MemoryEntry
from amfs_core.layout import Address
from amfs_core.versions import Versions


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


def newest(versions: Versions, entity_path: str | None) -> list[MemoryEntry]:
    """Return the newest version of every memory at or below an entity path, tombstones included,
    in the order of their names. 1 request per 1,000 objects and 1 per version not known yet.

    Raises `CorruptEntryError` when one is damaged, or listed and not there."""
    heads: dict[Address, int] = {}
    for address, version in _listed(versions, entity_path):
        heads[address] = max(version, heads.get(address, 0))
    found = dict(versions.get_each(heads.items()))
    entries = [found.get(head) or versions.missing(*head) for head in heads.items()]
    return sorted(entries, key=lambda entry: (entry.entity_path.split("/"), entry.key))


def _listed(versions: Versions, entity_path: str | None) -> Iterator[tuple[Address, int]]:
    for info in versions.store.list(versions.layout.entity_prefix(entity_path)):
        parsed = versions.layout.parse(info.key)
        if parsed is not None and parsed[0].is_under(entity_path):
            yield parsed


def stats(versions: Versions, entity_path: str | None) -> Stats:
    """Count what is stored. 1 request per 1,000 objects; no body is read."""
    depths: Counter[Address] = Counter()
    size = foreign = 0
    times: list[datetime] = []
    for info in versions.store.list(versions.layout.entity_prefix(entity_path)):
        parsed = versions.layout.parse(info.key)
        if parsed is None:
            foreign += 1
            continue
        if not parsed[0].is_under(entity_path):  # the memory e/k has its versions below e/k/ too
            continue
        depths[parsed[0]] += 1
        size += info.size
        times = [min([*times[:1], info.modified]), max([*times[1:], info.modified])]
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
