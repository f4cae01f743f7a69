"""Memories of mem0 in a JSON file, as mem0's `get_all` returns them.

The file is one document, or one document per line. A document is a memory, a list of memories, or a
page of them, `{"results": [...]}`. The entity path of a memory says whom it is about; its key is
mem0's id, and its value is the unchanged memory:

    mem0/user/alex 80b04671-1a11-4692-a66c-705417afe458
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any, ClassVar

from amfs.importers.json_objects import is_whole, objects
from amfs.importers.source import attempted, regular_file, under
from amfs_core import arguments
from amfs_core.errors import ConfigurationError, InvalidValueError
from amfs_core.format import strict_json, values
from amfs_core.memory import Record, Unreadable

LIST = b"results"
"""The name of the list of memories in a page."""

SCOPES = (
    ("user", "user_id"),
    ("agent", "agent_id"),
    ("app", "app_id"),
    ("run", "run_id"),
    ("run", "session_id"),  # the name in some endpoints of the platform
)
"""Segments of the entity path, with the fields that say whom or what a memory is about."""

_LOOK_AHEAD = 4096


class Mem0Export:
    """A file of exported memories."""

    path: ClassVar[str] = "mem0"
    origin = "mem0"  # ids are unique, so the place of the file does not matter

    def __init__(self, source: str, into: str) -> None:
        self._path = regular_file(source, "mem0")
        self._into = into

    def records(self) -> Iterator[Record | Unreadable]:
        """Yield the memories of the file, holding at most one memory or one line at a time."""
        with open(self._path, "rb") as file:
            try:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError:  # the file is empty
                return
        if _has_a_document_a_line(content):
            yield from self._lines(content)
            return
        try:
            for _ in objects(content, LIST):  # check the whole file before anything is written
                pass
        except InvalidValueError as error:
            raise ConfigurationError(
                f"{self._path} is not a file of mem0 memories: {error.reason}",
                hint="save the result of get_all as JSON",
            ) from error
        for number, text in enumerate(objects(content, LIST), start=1):
            yield self._attempted(f"memory {number}", text)

    def _lines(self, content: mmap.mmap) -> Iterator[Record | Unreadable]:
        number = 0
        while line := content.readline():
            number += 1
            if not line.strip():
                continue
            place = f"line {number}"
            try:
                memories = list(objects(line, LIST))
            except InvalidValueError as error:
                yield Unreadable(place, error.reason)
                continue
            for index, text in enumerate(memories, start=1):
                yield self._attempted(
                    place if len(memories) == 1 else f"{place}, memory {index}", text
                )

    def _attempted(self, place: str, text: bytes) -> Record | Unreadable:
        return attempted(place, partial(self._record, place, text))

    def _record(self, place: str, text: bytes) -> Record:
        fields = strict_json.from_bytes(text)
        if type(fields) is not dict or type(fields.get("memory")) is not str:
            raise InvalidValueError(
                "it has no text under 'memory', unlike the results of get_all",
                hint="export without a schema of your own",
            )
        key = arguments.text(fields.get("id"), "its id")
        return Record(place, self._entity_path(fields), key, fields, _tags(fields), _expiry(fields))

    def _entity_path(self, fields: dict[str, Any]) -> str:
        segments: dict[str, str] = {}
        for name, field in SCOPES:
            if fields.get(field) is not None:
                segments.setdefault(name, arguments.segment(fields[field], f"its {field}"))
        path = under(self._into, *(part for pair in segments.items() for part in pair))
        if not path:
            raise InvalidValueError(
                "it does not name a user, agent, app or run, so it has no entity path",
                hint="name one with --into",
            )
        return path


def _has_a_document_a_line(content: mmap.mmap) -> bool:
    end = content.find(b"\n")
    has_more = end >= 0 and content[end : end + _LOOK_AHEAD].strip() != b""
    return has_more and is_whole(content[:end])


def _tags(fields: dict[str, Any]) -> tuple[str, ...]:
    categories = fields.get("categories")
    if categories is None:
        return ()
    return arguments.texts(categories, "its categories")


def _expiry(fields: dict[str, Any]) -> datetime | None:
    """Return when a memory expires: after its `expiration_date`, the last day on which it is
    visible, in UTC."""
    text = fields.get("expiration_date")
    if text is None:
        return None
    try:
        day = date.fromisoformat(text)
        return datetime.combine(day + timedelta(days=1), time(), UTC)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidValueError(
            f"its expiration_date is not a date: {values.shown(text)}"
        ) from error
