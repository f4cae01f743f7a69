"""Memories as files and entity paths as directories: the rules shared by everything that shows
memories as files."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Any

import msgspec

from amfs import MemoryEntry

_BINARY = "base64"


def content(value: Any) -> bytes:
    """Return the bytes of a value's file."""
    if isinstance(value, str):
        return value.encode()
    if is_binary(value):
        try:
            return base64.b64decode(value[_BINARY], validate=True)
        except binascii.Error:
            pass  # a value of the user's that only looks like one
    return msgspec.json.encode(value)


def value_of(data: bytes) -> Any:
    """Return the value for the bytes of a file."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {_BINARY: base64.b64encode(data).decode()}


def is_binary(value: Any) -> bool:
    """True for the value of bytes that are not text, whose words no search should find."""
    return isinstance(value, dict) and set(value) == {_BINARY} and isinstance(value[_BINARY], str)


def children(entries: Iterable[MemoryEntry], path: str) -> tuple[list[MemoryEntry], list[str]]:
    """Return the files in a directory, and the names of the directories in it.

    `entries` are the memories under `path`, at any depth; "" is the root. A slash in a key does not
    make a directory.
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
