"""The index: a line for each object of a backup, in the order that listings of memories have."""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import groupby
from typing import Any, Literal

import msgspec

from amfs_core.format import Layout
from amfs_core.storage import ObjectInfo
from amfs_core.upkeep.listing import position

Place = tuple[bytes, int]
"""What objects are sorted by: memories as `listed` has them, each with its versions by number, then
outcomes."""

_encode = msgspec.json.Encoder().encode


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """An object: its key, size and SHA-256, and when the store last changed it.

    `kind` is "stub" for an erased version, "order" for a tombstone that orders erasure.
    """

    key: str
    size: int
    sha256: str
    modified: datetime | None = None
    kind: Literal["", "stub", "order"] = ""

    def is_as_listed(self, info: ObjectInfo | None) -> bool:
        """True unless a listing shows the object changed. What the source has lost since, the chain
        has."""
        return info is None or (self.size == info.size and self.modified == info.modified)


def place_of(layout: Layout, object_key: str) -> Place:
    """Return where an object of the namespace stands in the order."""
    version = layout.split(object_key) if object_key.startswith(layout.entries) else None
    if version is None:
        return b"\xff" + object_key.encode(), 0  # after every memory, as no UTF-8 has this byte
    return position(version[0]), version[1]


def packed(line: Line) -> bytes:
    """Return the bytes of a line."""
    return _encode(line) + b"\n"


def unpacked(data: bytes) -> list[Line]:
    """Return the lines of a part of an index."""
    text = zlib.decompress(data, wbits=31)
    return msgspec.json.Decoder(list[Line]).decode(b"[" + b",".join(text.splitlines()) + b"]")


def merged(
    layout: Layout, runs: Iterable[Iterable[tuple[Line, Any]]]
) -> Iterator[tuple[Place, Line, Any]]:
    """Yield what several runs have in one order, each object once, as the last of the runs has it.

    An item of a run is a line and whatever comes with it.
    """

    def placed(run: Iterable[tuple[Line, Any]], age: int) -> Iterator[tuple[Place, int, Line, Any]]:
        for line, more in run:
            yield place_of(layout, line.key), age, line, more

    # The last run first, and the first of each place counts.
    ordered = [placed(run, -number) for number, run in enumerate(runs)]
    together = heapq.merge(*ordered, key=lambda row: row[:2])
    for place, same in groupby(together, key=lambda row: row[0]):
        _, _, line, more = next(same)
        yield place, line, more
