"""The content of a store by its listing: each memory once, with its listed versions; outcomes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from amfs_core.format import MANIFEST, OUTCOME, VERSION, Address, Layout, unescape
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


@dataclass(frozen=True, slots=True)
class ListedManifest:
    """A version of a namespace's manifest that was listed."""

    layout: Layout


Listed = ListedMemory | ListedOutcome | ListedManifest | ListedForeign


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
        parsed = layout.parse_any(info.key) if layout else None
        if layout is None or parsed is None:
            yield ListedForeign(info.key)
            continue
        if parsed.kind is OUTCOME:
            yield ListedOutcome(layout, parsed.reference or "", info)
            continue
        if parsed.kind is MANIFEST:
            yield ListedManifest(layout)
            continue
        assert parsed.kind is VERSION, "a kind that this does not list"
        assert parsed.address is not None
        address, version = parsed.address, parsed.number
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
