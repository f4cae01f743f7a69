"""The knowledge graph that the memory server of the Model Context Protocol keeps in a file.

A line is an entity, `{"type": "entity", "name", "entityType", "observations"}`, or a relation,
`{"type": "relation", "from", "to", "relationType"}`. An entity becomes the memory "observations"
under its name. A relation becomes a memory under its start and its type; the key is its end:

    mcp-memory/Alice observations
    mcp-memory/Alice/works_at Acme
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import IO, Any, ClassVar

from amfs.importers.source import attempted, regular_file, under
from amfs_core import arguments
from amfs_core.errors import InvalidValueError
from amfs_core.format import strict_json
from amfs_core.memory import Record, Unreadable

MAX_LINE_BYTES = 64 * 1024 * 1024
"""The longest line that is read; a longer one is refused and never held in memory."""


class McpMemory:
    """A `memory.jsonl`."""

    path: ClassVar[str] = "mcp-memory"

    def __init__(self, source: str, into: str) -> None:
        self.origin = regular_file(source, "mcp-memory")
        self._into = into

    def records(self) -> Iterator[Record | Unreadable]:
        """Yield the records, line by line."""
        with open(self.origin, "rb") as file:
            for number, line in _lines(file):
                place = f"line {number}"
                if line is None:
                    yield Unreadable(place, f"it is longer than {MAX_LINE_BYTES:,} bytes")
                elif line.strip():
                    yield attempted(place, partial(self._record, place, line))

    def _record(self, place: str, line: bytes) -> Record:
        fields = strict_json.from_bytes(line)
        kind = fields.get("type") if type(fields) is dict else None
        if kind == "entity":
            return self._entity(place, fields)
        if kind == "relation":
            return self._relation(place, fields)
        raise InvalidValueError('it is neither {"type": "entity", …} nor {"type": "relation", …}')

    def _entity(self, place: str, fields: dict[str, Any]) -> Record:
        name = arguments.segment(fields.get("name"), "its name")
        return Record(
            place,
            under(self._into, name),
            "observations",
            _without_type(fields),
            _tags(fields.get("entityType")),
        )

    def _relation(self, place: str, fields: dict[str, Any]) -> Record:
        start = arguments.segment(fields.get("from"), "its from")
        kind = arguments.segment(fields.get("relationType"), "its relationType")
        return Record(
            place,
            under(self._into, start, kind),
            arguments.text(fields.get("to"), "its to"),
            _without_type(fields),
            _tags(fields["relationType"]),
        )


def _without_type(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "type"}


def _tags(label: object) -> tuple[str, ...]:
    return (label,) if type(label) is str and label else ()


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Yield the lines with their numbers, from 1; None stands for a line that is too long."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_LINE_BYTES)
            yield number, None
        else:
            yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
