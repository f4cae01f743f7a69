"""Names in paths: each segment of a path is one name, percent-encoded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, unquote_to_bytes

from amfs_core.errors import InvalidKeyError
from amfs_core.format import MAX_OBJECT_KEY_BYTES, MAX_SEGMENT_BYTES

_MAX_PATH_BYTES = 8 * 1024
_NO_SEGMENTS = ("", ".", "..")
_IN_NO_SEGMENT = re.compile("[\x00-\x1f\x7f/]")


def segments(raw_path: bytes) -> list[str]:
    """Return the segments of a path, each decoded separately.

    A framework decodes the whole path at once, so that `a%2Fb` and `a/b` look the same. Raises
    `InvalidKeyError` for a path that is too long, or not UTF-8 after decoding.
    """
    if len(raw_path) > _MAX_PATH_BYTES:
        raise InvalidKeyError(f"the path is longer than {_MAX_PATH_BYTES} bytes")
    parts = raw_path.partition(b"?")[0].split(b"/")[1:]
    try:
        return [unquote_to_bytes(part).decode() for part in parts]
    except UnicodeDecodeError as error:
        raise InvalidKeyError(
            "a name in the path is not UTF-8", hint="encode it as UTF-8, then percent-encode it"
        ) from error


def raw_path(scope: Mapping[str, Any]) -> bytes:
    """Return the undecoded path of a request."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    return raw


def memory_name(names: list[str]) -> tuple[str, str]:
    """Return the entity path and the key from the last segments of a path."""
    if len(names) < 2 or not all(names):
        raise InvalidKeyError(
            "the path does not name a memory",
            hint="the last segment is the key, the segments before it are the entity path",
        )
    for name in names[:-1]:
        if "/" in name:  # slashes separate the segments of an entity path
            raise InvalidKeyError(
                "a segment of the entity path has a slash, %2F",
                hint="send it as / between segments; only the key may have an encoded slash",
            )
    return "/".join(names[:-1]), names[-1]


def require_object_key(names: list[str], *, writes: bool) -> None:
    """Raise unless these segments are a valid object key without special meaning to a file system.

    Other tools may keep objects under names that do not follow AMFS's layout; clients may read
    them. Names that begin with a dot may be files of the store itself; clients may not write them.
    """
    require_segments(names)
    if writes and any(name.startswith(".") for name in names):
        raise InvalidKeyError("a segment of an object's key must not begin with a dot")
    if len("/".join(names).encode()) > MAX_OBJECT_KEY_BYTES:
        raise InvalidKeyError(f"an object's key must be at most {MAX_OBJECT_KEY_BYTES} bytes long")


def require_segments(names: list[str]) -> None:
    """Raise unless each of these is a valid segment of an object's key."""
    for name in names:
        too_long = len(name.encode()) > MAX_SEGMENT_BYTES
        if name in _NO_SEGMENTS or _IN_NO_SEGMENT.search(name) or too_long:
            raise InvalidKeyError(
                f"{name!r:.100} cannot be a segment of an object's key",
                hint="docs/layout.md says how names are escaped",
            )


def encoded(*names: str) -> str:
    """Return names as the segments of a path, percent-encoded."""
    return "/".join(quote(name, safe="~") for name in names)


def path_of(namespace: str, resource: str, entity_path: str, key: str) -> str:
    """Return the path of a memory, percent-encoded."""
    return "/v1/" + encoded(namespace, resource, *entity_path.split("/"), key)


def position_behind(entity_path: str, key: str) -> str:
    """Return the position in a list just after a memory: its name, with the key encoded."""
    return f"{entity_path}/{quote(key, safe='')}"


def name_before(position: str) -> tuple[str, str]:
    """Return the entity path and the key of the memory just before a position in a list."""
    entity_path, _, key = position.rpartition("/")
    return entity_path, unquote(key)
