"""What a memory is as a file, and which directories there are: the rules of all that shows memories
as files."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Any

import msgspec

from amfs import MemoryEntry

_BINARY = "base64"


def content(value: Any) -> bytes:
    """Return the bytes of the file that a value is."""
    if isinstance(value, str):
        return value.encode()
    if is_binary(value):
        try:
            return base64.b64decode(value[_BINARY], validate=True)
        except binascii.Error:
            pass  # somebody's own value, which only looks like it
    return msgspec.json.encode(value)


def value_of(data: bytes) -> Any:
    """Return the value that the bytes of a file become."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {_BINARY: base64.b64encode(data).decode()}


def is_binary(value: Any) -> bool:
    """True for the value that bytes become which are not text: no search should find its words."""
    return isinstance(value, dict) and set(value) == {_BINARY} and isinstance(value[_BINARY], str)


def children(entries: Iterable[MemoryEntry], path: str) -> tuple[list[MemoryEntry], list[str]]:
    """Return the files in a directory, and the names of the directories in it.

    `entries` is what is listed under `path`, at any depth; "" is the root. A key may have a slash,
    which is not that of a directory.
    """
    skip = len(path) + 1 if path else 0
    files: list[MemoryEntry] = []
    directories: dict[str, None] = {}
    for entry in entries:
        if entry.entity_path == path:
            files.append(entry)
        else:
            directories[entry.entity_path[skip:].partition("/")[0]] = None
    return files, list(directories)
