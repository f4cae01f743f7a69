"""What a listing of a store has: each memory once, with the versions that were listed; outcomes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice

from amfs_core.errors import CorruptEntryError
from amfs_core.format import MANIFEST, OUTCOME, VERSION, Address, Layout, unescape
from amfs_core.storage import ObjectInfo, StoreClient

_LOOK = 100  # later versions that are looked for together


@dataclass(slots=True)
class ListedMemory:
    """A memory and its highest version that was listed; `infos` has all that were, if asked for."""

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
    """An object that is none of the public layout."""

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
    """Yield what a listing has, each memory once, as soon as the listing has passed it.

    In byte order the versions of a memory may stand among those of deeper entity paths, so the
    memories not passed yet are kept: as many as an object key has segments. A memory comes after
    those whose prefix begins with its own; `position` puts that order into a value.
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
    """Return what memories, by the prefix of their versions, are sorted by as `listed` has them."""
    return prefix.encode() + b"\xff"  # no UTF-8 has this byte: it comes after all deeper prefixes


def look_again(store: StoreClient, layout: Layout, address: Address, version: int) -> bytes | None:
    """Return the body of a version that was listed, or is below one that was, and was absent when
    it was read; None when no later one is there either.

    A store may list what it is still creating, and take it back when its client was killed: that
    was never acknowledged, and nothing stands on it. Raises `CorruptEntryError` when a later
    version is there: then this one is lost. Costs a listing of the memory, and 1 request for each
    version it has after this one until one is there.
    """
    later = (
        info.key
        for info in store.list(address.prefix)
        if (parsed := layout.parse(info.key)) is not None
        and parsed[0] == address
        and parsed[1] > version
    )
    while keys := list(islice(later, _LOOK)):
        if any(body is not None for _, body in store.get_many(keys)):
            # It comes before that one, so by now it is there unless it was lost.
            body = store.get(address.object_key(version))
            if body is None:
                raise missing(address.object_key(version))
            return body
    return None


def still_listed(store: StoreClient, object_key: str) -> bool:
    """True when what was listed, and was absent when it was read, still is. 2 requests."""
    before = object_key[:-1]  # whatever comes between the two is not listed: no name ends so
    info = next(store.list(f"{object_key.rpartition('/')[0]}/", before), None)
    return info is not None and info.key == object_key and store.get(object_key) is None


def missing(object_key: str) -> CorruptEntryError:
    """Return the error for an object that the source must have and has not."""
    return CorruptEntryError(
        f"{object_key} is missing in the source although a later version or its listing names it",
        hint="restore it from a copy, or purge the memory",
        object_key=object_key,
    )
