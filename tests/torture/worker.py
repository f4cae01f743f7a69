"""A worker process: operations at random, from a seed, each recorded as it begins and ends."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from amfs_core.errors import (
    BackendUnavailableError,
    OutcomePendingError,
    OutcomeUnknownError,
    VersionConflictError,
    WriteOutcomeUnknownError,
)
from amfs_core.format import Cause, MemoryEntry, OutcomeType
from amfs_core.memory import AgentMemory
from amfs_core.testing import FaultyAdapter
from tests.torture.history import Recorder
from tests.torture.places import KEYS, ROOT, Job, entity_path

WATCH_SECONDS = 120.0
WEIGHTS = {
    "write": 32,
    "write expected": 5,
    "update": 15,
    "read": 27,
    "read version": 6,
    "delete": 5,
    "commit": 4,
    "list": 1.5,
    "search": 1.5,
    "history": 0.3,
}
PURGES = 0.6
"""The weight of purges, unless a run has another: few, so that there are histories to purge."""

_HOT = (10, 5, *[2] * (len(KEYS) - 2))
_PADDING = (0, 0, 0, 200, 20_000)


def run(job: Job, parent: Connection) -> None:
    """Do the job; tell the parent "done", and end once it has said how far watches are to get."""
    recorder = Recorder(Path(job.history), job.name)
    with job.memory(recorder.fault) as memory:
        follower = Follower(job, memory, recorder) if job.watches else None
        worker = Worker(job, memory, recorder)
        for number in range(job.operations):
            worker.step(number)
        if isinstance(memory.adapter, FaultyAdapter):
            memory.adapter.deliver()  # what is late: nothing may change any more
        parent.send("done")
        newest: dict[str, int] = parent.recv()
        if follower is not None:
            follower.wait_for(newest)
        recorder.end()


class Follower:
    """A watch in the background, which goes on where the one of an earlier process ended."""

    def __init__(self, job: Job, memory: AgentMemory, recorder: Recorder) -> None:
        self._delivered = dict(job.delivered)
        self._recorder = recorder
        self._grown = threading.Condition()
        self._count = 0
        recorder.watch(self._delivered)
        self._ready = threading.Event()
        self._watch = memory.watch(ROOT, self._note, interval=0.5, since=job.cursor)
        self._ready.set()

    def wait_for(self, newest: dict[str, int]) -> None:
        """Wait until all these versions have come."""

        def complete() -> bool:
            return all(self._delivered.get(key, 0) >= newest[key] for key in newest)

        with self._grown:
            self._grown.wait_for(complete, WATCH_SECONDS)
        self._watch.cancel()

    def _note(self, entry: MemoryEntry) -> None:
        self._ready.wait()
        if self._count % 20 == 0:  # in a callback the cursor is still before its entry
            self._recorder.cursor(self._watch.cursor, self._delivered)
        self._count += 1
        self._recorder.watched(entry)
        with self._grown:
            self._delivered[entry.key] = entry.version
            self._grown.notify()


class Worker:
    """Does one operation after the other."""

    def __init__(self, job: Job, memory: AgentMemory, recorder: Recorder) -> None:
        self._name = job.name
        self._memory = memory
        self._recorder = recorder
        self._dice = random.Random(job.seed)
        self._purges = job.purges
        self._known: dict[str, int] = {}
        self._read: list[MemoryEntry] = []

    def step(self, number: int) -> None:
        """Do an operation that the seed picks."""
        weights = {**WEIGHTS, "purge": self._purges}
        kind = self._dice.choices(tuple(weights), tuple(weights.values()))[0]
        key = self._dice.choices(KEYS, _HOT)[0]
        id = f"{self._name}.{number}"
        if kind == "commit":
            self._commit(id)
        elif kind in ("write", "write expected"):
            expected = self._known.get(key, 0) if kind == "write expected" else None
            self._write(id, key, expected)
        elif kind in ("list", "search"):
            self._record(id, kind, None, {}, lambda: self._all(kind))
        else:
            self._on_one(id, kind, key)

    def _on_one(self, id: str, kind: str, key: str) -> None:
        memory, place = self._memory, (entity_path(key), key)
        version = self._dice.randint(1, self._known.get(key, 0) + 3)

        def add(old: Any) -> Any:
            return {"count": (old["count"] if old else 0) + 1, "by": id, "text": "torture"}

        work: dict[str, Callable[[], Any]] = {
            "update": lambda: memory.update(*place, add),
            "read": lambda: memory.read(*place),
            "read version": lambda: memory.read(*place, version=version),
            "delete": lambda: memory.delete(*place),
            "history": lambda: memory.history(*place),
            "purge": lambda: memory.purge(*place),
        }
        arguments = {"version": version} if kind == "read version" else {}
        seen = self._record(id, kind, key, arguments, work[kind])
        if kind == "read":
            self._read = [*self._read, *seen][-3:]

    def _write(self, id: str, key: str, expected: int | None) -> None:
        value = {
            "count": self._dice.randrange(1000),
            "by": id,
            "text": "torture",
            "padding": "x" * self._dice.choice(_PADDING),
        }
        place = (entity_path(key), key)
        unknown: list[int] = []

        def write() -> MemoryEntry:
            try:
                return self._memory.write(*place, value, expected_version=expected, write_id=id)
            except WriteOutcomeUnknownError as error:
                unknown.append(error.version or 0)
                raise

        self._record(id, "write", key, {"expected": expected}, write)
        if unknown:  # as the error says: ask

            def find() -> MemoryEntry | None:
                return self._memory.find_write(*place, id, version=unknown[0])

            self._record(f"{id}?", "find", key, {"version": unknown[0]}, find)

    def _commit(self, id: str) -> None:
        used = {entry.key: entry.version for entry in self._read}
        causes = [Cause(entity_path(key), key, version) for key, version in used.items()]
        kind = self._dice.choice(list(OutcomeType))
        arguments = {"ref": id, "causes": list(used.items())}

        def commit() -> None:
            self._memory.commit_outcome(id, kind, entries=causes)

        for again in ("", "!"):  # the second goes on, or says that it was done
            self._record(f"{id}{again}", "commit", None, arguments, commit)
            if self._dice.random() < 0.7:
                break

    def _all(self, kind: str) -> list[MemoryEntry]:
        if kind == "list":
            return self._memory.list(ROOT)
        hits = self._memory.search("torture", entity_path=ROOT, limit=100)
        return [hit.entry for hit in hits]

    def _record(
        self,
        id: str,
        kind: str,
        key: str | None,
        arguments: dict[str, Any],
        work: Callable[[], Any],
    ) -> list[MemoryEntry]:
        self._recorder.invoke(id, kind, key, arguments)
        status, error, newest = "ok", "", None
        seen: list[MemoryEntry] = []
        try:
            result = work()
            if isinstance(result, MemoryEntry):
                seen = [result]
            elif isinstance(result, list):
                seen = result
        except VersionConflictError as raised:
            status, error, newest = "conflict", str(raised), raised.actual
        except OutcomeUnknownError as raised:
            status, error = "unknown", str(raised)
        except OutcomePendingError as raised:
            status, error = "pending", str(raised)
        except BackendUnavailableError as raised:
            # A purge is many requests, and those before the one that failed were carried out.
            status, error = "unknown" if kind == "purge" else "failed", str(raised)
        except Exception as raised:
            status, error = "error", repr(raised)
        self._recorder.returned(id, status, seen, error, newest)
        for entry in seen:
            self._known[entry.key] = max(entry.version, self._known.get(entry.key, 0))
        return seen
