"""The content of a store by its listing: each memory once, with its listed versions; outcomes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from amfs_core.format import Address, Layout, unescape
from amfs_core.storage import ObjectInfo


@dataclass(slots=True)
class ListedMemory:
    """A memory and its highest listed version; `infos` has all listed ones, if asked for."""

    layout: Layout
    address: Address
    last: int
    infos: dict[int, ObjectInfo] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ListedOutcome:
    """An outcome that was listed."""

    layout: Layout
    ref: str
    info: ObjectInfo


@dataclass(frozen=True, slots=True)
class ListedForeign:
    """An object that is not part of the public layout."""

    object_key: str


Listed = ListedMemory | ListedOutcome | ListedForeign


@lru_cache(maxsize=256)
def _layout(segment: str) -> Layout | None:
    name = unescape(segment)
    return None if name is None else Layout(name)


def listed(infos: Iterable[ObjectInfo], *, with_infos: bool = False) -> Iterator[Listed]:
    """Yield each memory of a listing once, as soon as the listing has passed it.

    In byte order the versions of a memory may stand among those of deeper entity paths, so this
    keeps the memories that are not passed yet: as many as an object key has segments. A memory
    comes after those whose prefix begins with its own; `position` expresses that order as a
    value.
    """
    unfinished: list[ListedMemory] = []
    for info in infos:
        while unfinished and not info.key.startswith(unfinished[-1].address.prefix):
            yield unfinished.pop()
        layout = _layout(info.key.partition("/")[0])
        parsed = layout.parse(info.key) if layout else None
        if layout is None or parsed is None:
            ref = layout.parse_outcome(info.key) if layout else None
            if layout is None or ref is None:
                yield ListedForeign(info.key)
            else:
                yield ListedOutcome(layout, ref, info)
            continue
        address, version = parsed
        if unfinished and unfinished[-1].address.prefix == address.prefix:
            memory = unfinished[-1]
            memory.last = max(memory.last, version)
        else:
            memory = ListedMemory(layout, address, version)
            unfinished.append(memory)
        if with_infos:
            memory.infos[version] = info
    yield from reversed(unfinished)


def position(prefix: str) -> bytes:
    """Return the sort key of a memory, by the prefix of its versions, in the order of `listed`."""
    return prefix.encode() + b"\xff"  # no UTF-8 has this byte: it comes after all deeper prefixes
