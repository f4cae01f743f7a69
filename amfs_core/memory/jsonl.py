"""Memories as lines of JSON, in and out: `{"entity_path", "key", "value", …}`, one per line."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any

from amfs_core import arguments
from amfs_core.errors import AMFSError, InvalidValueError, WriteManyError
from amfs_core.format import MemoryEntry, Provenance, described, is_over, strict_json, time_text
from amfs_core.memory import drafts
from amfs_core.memory.agent_memory import AgentMemory
from amfs_core.spelling import did_you_mean

BATCH = 500
"""Lines written at a time."""

_OF_MEMORY = [description for description in described(MemoryEntry) if description.field.exported]
_OF_WRITE = [description for description in described(Provenance) if description.field.exported]
_EXPORTED = sorted(
    [
        *((MemoryEntry, description) for description in _OF_MEMORY),
        *((Provenance, description) for description in _OF_WRITE),
    ],
    key=lambda pair: (not pair[1].field.given, pair[1].is_optional),
)
"""The fields of a line in their order: those that a write takes, then those that say where they
come from."""

_IGNORED = tuple(description.name for _, description in _EXPORTED if not description.field.given)
_FIELDS = (*drafts.WRITE_PARAMETERS, *_IGNORED)

Progress = Callable[[int, int], None]
"""Told `(done, total)` lines."""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """How many lines were written, and how many were skipped because they had expired."""

    written: int
    expired: int


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    item: dict[str, Any] | None
    """What `write_many` takes; None when it has expired."""


# -- out -------------------------------------------------------------------------------------


def export_entries(
    memory: AgentMemory, entity_path: str | None = None, progress: Progress | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the newest live version of every memory under an entity path, as `import_lines` takes
    it, in the order of names. Costs what `AgentMemory.list` costs."""
    entries = memory.list(entity_path)
    for done, entry in enumerate(entries, start=1):
        yield _exported(entry)
        if progress:
            progress(done, len(entries))


def _exported(entry: MemoryEntry) -> dict[str, Any]:
    line: dict[str, Any] = {}
    for kind, description in _EXPORTED:
        value = getattr(entry if kind is MemoryEntry else entry.provenance, description.name)
        if description.is_optional and value == description.default:
            continue
        if isinstance(value, datetime):
            value = time_text(value)
        line[description.name] = list(value) if isinstance(value, tuple) else value
    return line


# -- in --------------------------------------------------------------------------------------


def import_lines(
    memory: AgentMemory, lines: IO[bytes], progress: Progress | None = None
) -> ImportReport:
    """Write every line as a new version, signed by `memory`'s agent.

    A line has the names of `write`'s parameters; one whose `expires_at` (ISO 8601) is over is
    skipped and counted. `version`, `agent_id` and `written_at`, which `export_entries` adds, are
    ignored. Blank lines are allowed.

    All lines are checked before the first is written; `InvalidValueError` or `InvalidKeyError`
    names the line. So the input is read twice, and spooled to a temporary file if it can be read
    only once. Then 500 lines are written at a time, at the cost of `write_many`; `AMFSError` says
    which line failed and how many were written.
    """
    if not lines.seekable():
        with tempfile.TemporaryFile() as spool:
            shutil.copyfileobj(lines, spool)
            spool.seek(0)
            return import_lines(memory, spool, progress)
    start = lines.tell()
    total = sum(1 for _ in _lines(lines, memory._item))  # the check of `write_many`, of all at once
    lines.seek(start)
    written = expired = 0
    batch: list[_Line] = []
    for line in _lines(lines):
        if line.item is None:
            expired += 1
        else:
            batch.append(line)
        if len(batch) == BATCH:
            written += _write(memory, batch, written)
            batch = []
            if progress:
                progress(written + expired, total)
    written += _write(memory, batch, written)
    if progress:
        progress(written + expired, total)
    return ImportReport(written, expired)


def _write(memory: AgentMemory, batch: list[_Line], before: int) -> int:
    items = [line.item for line in batch if line.item is not None]
    try:
        return len(memory.write_many(items))
    except WriteManyError as error:
        first = min(error.errors)
        written = before + sum(entry is not None for entry in error.entries)
        reason = error.errors[first].reason.removesuffix(".")
        so_far = "1 line was" if written == 1 else f"{written} lines were"
        raise AMFSError(
            f"line {batch[first].number} was not written: {reason} ({so_far} written; "
            f"in its batch of {len(batch)}, {len(error.errors)} were not)",
        ) from error


def _lines(
    lines: IO[bytes], check: Callable[[dict[str, Any]], object] | None = None
) -> Iterator[_Line]:
    """Yield the lines; the first bad one raises an error that names it."""
    for number, raw in enumerate(lines, start=1):
        if not raw.strip():
            continue
        try:
            item = _item(_parsed(raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw))
            if item is not None and check is not None:
                check(item)
        except AMFSError as error:
            error.at(f"line {number}", says_written=False)
            raise
        yield _Line(number, item)


def _parsed(raw: bytes) -> dict[str, Any]:
    fields = strict_json.from_bytes(raw)
    if type(fields) is not dict:
        raise InvalidValueError('it must be an object such as {"entity_path": …, "key": …}')
    return fields


def _item(fields: dict[str, Any]) -> dict[str, Any] | None:
    """Return what `write_many` takes; None for a line that has expired."""
    for name in fields:
        if name not in _FIELDS:
            meant = did_you_mean(name, _FIELDS)
            raise InvalidValueError(f"unknown field {name!r:.80}{meant}")
    for name in ("entity_path", "key", "value"):
        if name not in fields:
            raise InvalidValueError(f"it has no {name!r}")
    item = {name: fields[name] for name in drafts.WRITE_PARAMETERS if name in fields}
    if fields.get("expires_at") is None:
        return item
    item["expires_at"] = _time(fields["expires_at"])
    return None if is_over(item["expires_at"]) else item


def _time(value: object) -> datetime:
    if type(value) is not str:
        raise InvalidValueError(f"expires_at must be text, not {type(value).__name__}")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise InvalidValueError(f"expires_at is not an ISO 8601 time: {value!r:.80}") from error
    return arguments.moment(moment, "expires_at")
