"""What processes did and saw: one file of JSON lines for each, written as it happens.

An operation is two lines, one before it is begun and one after it has ended, each written by one
call to the system. A process that is killed loses no more than the end of what was under way.
Times are CLOCK_MONOTONIC in nanoseconds: on one machine, one clock for all processes.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from amfs_core.format import MemoryEntry

NEVER = 1 << 62
"""When an operation returned that did not."""

WRITES = ("write", "update", "delete", "commit", "purge")


class Seen(NamedTuple):
    """A version that an operation made or was shown; `by` is the operation that its value names.

    `sha256` is the one that the content had, in an `erased` one too.
    """

    key: str
    version: int
    sha256: str
    by: str | None
    erased: bool = False

    @classmethod
    def of(cls, entry: MemoryEntry) -> Seen:
        by = entry.value.get("by") if isinstance(entry.value, dict) else None
        content = entry.erased or entry.sha256
        return cls(entry.key, entry.version, content, by, entry.erased is not None)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. `status` is "ok", "failed" (nothing was written), "conflict" (nothing was
    written, as another version was the newest), "pending" (an outcome is recorded, but not counted
    everywhere), "unknown" (it may have happened, or may still), "killed" (likewise) or "error".
    """

    id: str
    process: str
    kind: str
    key: str | None
    arguments: Mapping[str, Any]
    invoked: int
    returned: int = NEVER
    status: str = "killed"
    seen: tuple[Seen, ...] = ()
    error: str = ""
    newest: int | None = None
    """For a conflict: which version was said to be the newest."""

    @property
    def is_open(self) -> bool:
        """True when it may have been applied, or may be later, without having said so."""
        return self.status in ("unknown", "killed")


@dataclass(slots=True)
class Watching:
    """What one watch of one process delivered, with the times; `start` is what the watch that it
    goes on from had delivered, `ended` says that it was waited for until all had come."""

    process: str
    start: dict[str, int]
    delivered: list[tuple[int, Seen]] = field(default_factory=list)
    ended: bool = False


@dataclass(slots=True)
class History:
    """All that is known of a run."""

    operations: list[Operation] = field(default_factory=list)
    watches: list[Watching] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)


class Recorder:
    """Writes the file of one process. Safe for threads."""

    def __init__(self, path: Path, process: str) -> None:
        self._process = process
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        self._lock = threading.Lock()

    def invoke(self, id: str, kind: str, key: str | None, arguments: Mapping[str, Any]) -> None:
        self._write(t="invoke", id=id, kind=kind, key=key, arguments=arguments)

    def returned(
        self,
        id: str,
        status: str,
        seen: Iterable[MemoryEntry] = (),
        error: str = "",
        newest: int | None = None,
    ) -> None:
        at = time.monotonic_ns()  # before the rest takes its time
        shown = [Seen.of(entry) for entry in seen]
        self._write(t="return", id=id, status=status, seen=shown, error=error, newest=newest, at=at)

    def watch(self, start: Mapping[str, int]) -> None:
        self._write(t="watch", start=start)

    def watched(self, entry: MemoryEntry) -> None:
        self._write(t="watched", seen=Seen.of(entry))

    def cursor(self, cursor: str, delivered: Mapping[str, int]) -> None:
        self._write(t="cursor", cursor=cursor, delivered=delivered)

    def fault(self, name: str) -> None:
        self._write(t="fault", name=name)

    def end(self) -> None:
        self._write(t="end")

    def _write(self, **fields: Any) -> None:
        fields.setdefault("at", time.monotonic_ns())
        line = json.dumps({"process": self._process, **fields}, separators=(",", ":"))
        with self._lock:
            os.write(self._fd, line.encode() + b"\n")


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a file; the last one may have been cut by a kill."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


def load(directory: Path) -> History:
    """All files of a run as one history."""
    history = History()
    for path in sorted(directory.glob("*.jsonl")):
        _load_file(path, history)
    return history


def _load_file(path: Path, history: History) -> None:
    begun: dict[str, Operation] = {}
    watching: Watching | None = None
    for line in lines(path):
        kind = line["t"]
        if kind == "invoke":
            begun[line["id"]] = Operation(
                line["id"],
                line["process"],
                line["kind"],
                line["key"],
                line["arguments"],
                line["at"],
            )
        elif kind == "return":
            history.operations.append(_ended(begun.pop(line["id"]), line))
        elif kind == "watch":
            watching = Watching(line["process"], line["start"])
            history.watches.append(watching)
        elif kind == "watched" and watching is not None:
            watching.delivered.append((line["at"], Seen(*line["seen"])))
        elif kind == "end" and watching is not None:
            watching.ended = True
        elif kind == "fault":
            history.faults[line["name"]] += 1
    history.operations.extend(begun.values())


def _ended(operation: Operation, line: dict[str, Any]) -> Operation:
    return Operation(
        operation.id,
        operation.process,
        operation.kind,
        operation.key,
        operation.arguments,
        operation.invoked,
        line["at"],
        line["status"],
        tuple(Seen(*fields) for fields in line["seen"]),
        line["error"],
        line["newest"],
    )
