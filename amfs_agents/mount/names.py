"""File names for keys and segments, and the meaning of paths under the mount point.

Each key has exactly one name and each name stands for one key; a name that `name_of` would not have
made is invalid.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

HISTORY = ".history"
_DIRECTORY = "%dir"
_DOCUMENT = ".json"
_RESERVED = (".", "..", HISTORY)

# Names that no file can have, and a `%` that would read as an escape of one.
_ESCAPED = re.compile(r"[/\x00]|%(?=2F|00|2E|25|dir\Z)")
_ESCAPE = re.compile(r"%(2F|00|2E|25)")
_VERSION = re.compile(r"v([1-9][0-9]{0,9})(\.json)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Name:
    """A memory or a directory: the entity path `directory` and the `key` in it."""

    directory: str
    key: str
    must_be_directory: bool = False

    @property
    def path(self) -> str:
        """The entity path that it is as a directory."""
        return f"{self.directory}/{self.key}" if self.directory else self.key


@dataclass(frozen=True, slots=True)
class Root:
    """The mount point."""

    path = ""


@dataclass(frozen=True, slots=True)
class Histories:
    """`.history` in a directory."""

    directory: str


@dataclass(frozen=True, slots=True)
class History:
    """The directory of a memory's versions."""

    directory: str
    key: str


@dataclass(frozen=True, slots=True)
class Version:
    """One version: its content, or its whole stored document."""

    directory: str
    key: str
    version: int
    is_document: bool


Place = Root | Name | Histories | History | Version


def name_of(key: str) -> str:
    """Return the name of a key's file, or of a segment's directory."""
    if key in _RESERVED:
        return f"%2E{key[1:]}"
    return _ESCAPED.sub(lambda match: f"%{ord(match[0]):02X}", key)


def hidden_directory(segment: str) -> str:
    """Return the name of a directory whose usual name belongs to a memory."""
    return name_of(segment) + _DIRECTORY


def version_name(version: int, *, is_document: bool) -> str:
    """Return the name of a version in the history of its memory."""
    return f"v{version}{_DOCUMENT if is_document else ''}"


def place_of(path: str) -> Place | None:
    """Return what a path from the mount point, which begins with a slash, stands for; None if
    nothing."""
    names = path.split("/")[1:]
    if names == [""]:
        return Root()
    if HISTORY in names:
        at = names.index(HISTORY)
        return _in_history(names[:at], names[at + 1 :])
    parts = [_parsed(name) for name in names]
    segments = [part[0] for part in parts if part is not None]
    if len(segments) < len(parts):
        return None
    *_, last = parts
    assert last is not None
    return Name("/".join(segments[:-1]), last[0], must_be_directory=last[1])


def _in_history(directory: list[str], names: list[str]) -> Place | None:
    parts = [_parsed(name) for name in directory]
    segments = [part[0] for part in parts if part is not None]
    if not segments or len(segments) < len(parts) or len(names) > 2:
        return None
    path = "/".join(segments)
    if not names:
        return Histories(path)
    key = _parsed(names[0])
    if key is None or key[1]:
        return None
    if len(names) == 1:
        return History(path, key[0])
    version = _VERSION.fullmatch(names[1])
    if version is None:
        return None
    return Version(path, key[0], int(version[1]), version[2] is not None)


def _parsed(name: str) -> tuple[str, bool] | None:
    """Return the key or segment, and whether the name is only that of a directory."""
    plain = name.removesuffix(_DIRECTORY)
    key = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), plain)
    return (key, plain != name) if key and name_of(key) == plain else None
