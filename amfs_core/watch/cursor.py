"""The cursor: the position of a watch, as text from which any later process continues exactly.

It holds, for every memory under the watched path, the newest version that was delivered: a time
would miss late arrivals (`docs/design/watch.md`). The names are sorted, each is stored as its
difference from the name before, and the whole is compressed: about 4 characters for each memory
with a readable name, and 25 for one named by 128 random bits.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping

from amfs_core.errors import InvalidValueError
from amfs_core.format import MAX_VERSION

FORMAT = 1

_CHECKSUM_BYTES = 8
_TEXT = re.compile(r"([1-9][0-9]{0,3})\.([A-Za-z0-9_-]+)", re.ASCII)


def encode(namespace: str, entity_path: str | None, delivered: Mapping[str, int]) -> str:
    """Return the cursor of a watch of `entity_path` (None: of all) that has delivered so much.

    `delivered` maps names of memories, escaped and relative to the path, to versions. The text has
    only letters, digits, `-`, `_` and one `.`, so it needs no quoting in a URL or a shell.
    """
    scope = json.dumps([namespace, entity_path])
    body = "\n".join([scope, *_lines(delivered)]).encode()
    compressed = zlib.compress(body)
    packed = base64.urlsafe_b64encode(_checksum(compressed) + compressed)
    return f"{FORMAT}.{packed.decode().rstrip('=')}"


def decode(text: str, namespace: str, entity_path: str | None) -> dict[str, int]:
    """Return what the watch that made the cursor had delivered.

    Raises `InvalidValueError` when it is not a cursor, is damaged or cut off, was made by a newer
    AMFS, or belongs to another namespace or entity path.
    """
    lines = _unpacked(text).split("\n")
    made_for = json.loads(lines[0])
    if made_for != [namespace, entity_path]:
        raise InvalidValueError(
            f"the cursor belongs to {_shown(*made_for)}, not to {_shown(namespace, entity_path)}",
            hint="use it for a watch of the same namespace and entity path",
        )
    delivered: dict[str, int] = {}
    name = ""
    for line in lines[1:]:
        shared, rest, version = line.split("\t")
        name = name[: int(shared)] + rest
        delivered[name] = int(version)
    return delivered


def _lines(delivered: Mapping[str, int]) -> Iterator[str]:
    """Yield a line for each memory: what its name shares with the one before, the rest, version.

    Escaped names have no control characters, so a tab and a newline are never part of one.
    """
    before = ""
    for name in sorted(delivered):
        if not 0 < delivered[name] <= MAX_VERSION:
            raise ValueError(f"{name!r} has no version {delivered[name]}")
        shared = _shared(before, name)
        yield f"{shared}\t{name[shared:]}\t{delivered[name]}"
        before = name


def _shared(text: str, other: str) -> int:
    """Return how many characters two texts begin with in common."""
    low, high = 0, min(len(text), len(other))
    while low < high:  # by halves: many memories may be under one long path
        middle = (low + high + 1) // 2
        if other.startswith(text[:middle]):
            low = middle
        else:
            high = middle - 1
    return low


def _unpacked(text: str) -> str:
    match = _TEXT.fullmatch(text)
    if match is None:
        raise InvalidValueError(
            "this is not a cursor of a watch",
            hint=('give the text of Watch.cursor, or "beginning"'),
        )
    if int(match[1]) != FORMAT:
        raise InvalidValueError(
            f"the cursor has format {match[1]} and this AMFS reads {FORMAT}",
            hint="use a newer AMFS",
        )
    try:
        packed = base64.b64decode(match[2] + "=" * (-len(match[2]) % 4), b"-_", validate=True)
    except binascii.Error:
        packed = b""
    checksum, compressed = packed[:_CHECKSUM_BYTES], packed[_CHECKSUM_BYTES:]
    if checksum != _checksum(compressed):
        raise InvalidValueError(
            "the cursor is damaged or cut off",
            hint="give the whole text, unchanged",
        )
    return zlib.decompress(compressed).decode()


def _checksum(compressed: bytes) -> bytes:
    return hashlib.sha256(compressed).digest()[:_CHECKSUM_BYTES]


def _shown(namespace: str, entity_path: str | None) -> str:
    place = "everything" if entity_path is None else repr(entity_path)
    return f"{place} in namespace {namespace!r}"
