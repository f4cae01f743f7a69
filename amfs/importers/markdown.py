"""A directory of Markdown notes, with or without front matter.

A note becomes a memory; its key is its name without `.md`, its entity path the directories:

    notes/ideas/tea ceremony     {"text": "…", "front_matter": {"tags": ["tea"]}}
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

from amfs.importers import front_matter
from amfs.importers.source import attempted, under
from amfs_core.errors import InvalidValueError
from amfs_core.memory import Record, Unreadable

SUFFIXES = (".md", ".markdown")

MAX_NOTE_BYTES = 64 * 1024 * 1024
"""The longest note that is read. `max_value_bytes` limits the size of the memory."""


class MarkdownDirectory:
    """The notes in and below a directory, except in directories whose names begin with a dot."""

    path: ClassVar[str] = "notes"

    def __init__(self, source: str, into: str) -> None:
        os.listdir(source)  # raises for a directory that is missing or unreadable
        self.origin = os.path.abspath(source)
        self._into = into

    def records(self) -> Iterator[Record | Unreadable]:
        """Yield the notes directory by directory, sorted by name."""
        failures: list[OSError] = []
        for directory, directories, files in os.walk(self.origin, onerror=failures.append):
            directories[:] = sorted(name for name in directories if not name.startswith("."))
            for name in sorted(files):
                stem, suffix = os.path.splitext(name)
                if suffix.lower() in SUFFIXES:
                    place = self._place(os.path.join(directory, name))
                    yield attempted(place, partial(self._record, place, directory, name, stem))
            for error in failures:
                yield Unreadable(self._place(error.filename), error.strerror or str(error))
            failures.clear()

    def _place(self, path: str) -> str:
        return os.path.relpath(path, self.origin)

    def _record(self, place: str, directory: str, name: str, stem: str) -> Record:
        relative = os.path.relpath(directory, self.origin)
        segments = [] if relative == os.curdir else relative.split(os.sep)
        path = under(self._into, *segments)
        if not path:
            raise InvalidValueError(
                "it is not in a subdirectory, so it has no entity path",
                hint="name one with --into",
            )
        matter, text = front_matter.split(_read(os.path.join(directory, name)))
        value = {"text": text} if matter is None else {"text": text, "front_matter": matter}
        return Record(place, path, stem, value, _tags(matter or {}))


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_NOTE_BYTES + 1)
    except OSError as error:
        raise InvalidValueError(error.strerror or str(error)) from error
    if len(content) > MAX_NOTE_BYTES:
        raise InvalidValueError(f"it is longer than {MAX_NOTE_BYTES:,} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidValueError(f"byte {error.start + 1} is not UTF-8") from error


def _tags(matter: dict[str, Any]) -> tuple[str, ...]:
    """Return the tags of front matter: a list, or a text with commas or spaces between them."""
    tags = matter.get("tags")
    if isinstance(tags, str):
        tags = tags.replace(",", " ").split()
    if not isinstance(tags, list):
        return ()
    return tuple(str(tag) for tag in tags if type(tag) in (str, int) and tag != "")
