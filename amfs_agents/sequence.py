"""`Sequence`: memories numbered in the order in which they were appended, by any process.

A number is taken by creating the first version of the memory that has it as its key. Exactly one
writer wins a number, and a number is tried only when the one before it is taken. So the numbers
taken have no gaps, even if their memories are gone, and none is taken twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amfs_core.errors import CorruptEntryError, VersionConflictError
from amfs_core.format import MemoryEntry
from amfs_core.memory import AgentMemory
from amfs_core.parallel import mapped

_DIGITS = 10
_THREADS = 32


class Sequence:
    """The numbered memories under one entity path, which must have no others.

    Safe to share between threads.
    """

    def __init__(self, memory: AgentMemory, entity_path: str) -> None:
        self._memory = memory
        self.entity_path = entity_path
        self._end = 0  # a number known to be taken, or 0; the end is here or later
        self._last: MemoryEntry | None = None  # the last one that this object appended
        self._gone: set[int] = set()  # numbers without a live memory: they never get one again
        self._moved: dict[int, MemoryEntry] = {}  # first versions of those that outcomes moved

    def append(
        self,
        value: Any,
        *,
        after: int | None = None,
        write_id: str | None = None,
        index: bool = True,
        follows: Callable[[MemoryEntry], None] | None = None,
    ) -> MemoryEntry:
        """Append a memory under the next number, and return its entry.

        With the `write_id` of a live memory in the sequence, that memory is returned and nothing is
        written, so an append can be repeated safely. With `after` it gets exactly the next number,
        and `VersionConflictError` is raised when another writer has it. `follows` is called with
        the first version of the memory before it, and refuses to follow it by raising: a memory
        that every append refuses to follow stays the last one.

        1 request, a listing more with a `write_id`, and 2 more with `follows` for a memory that
        this object did not append itself; about 4 log2(n) more to find the end of n memories that
        it has not seen. Raises what `AgentMemory.write` raises.
        """
        if after is not None:
            return self._create(after + 1, value, write_id, index)
        while True:
            # Everything up to the number is read before it is tried: two writers that append the
            # same `write_id` at the same time try the same number, and the loser reads again.
            if write_id is not None:
                for entry in self.entries():
                    if entry.provenance.write_id == write_id:
                        return entry
            if follows is not None and (before := self._before_next()) is not None:
                follows(before)
            number = self._end + 1
            try:
                return self._create(number, value, write_id, index)
            except VersionConflictError:
                self._end = max(self._end, number)
                self.end()

    def entries(self) -> list[MemoryEntry]:
        """Return the live memories in order, each as it was appended.

        No memory appended before the last one returned is missing. 1 request per 1,000
        objects, and 1 for each memory not read before; 2 for each number between them whose memory
        was deleted, and for each whose confidence an outcome has moved, once.
        """
        live = {}
        for entry in self._memory.list(self.entity_path):
            if entry.entity_path == self.entity_path and entry.key.isdecimal():
                live[int(entry.key)] = entry
        if not live:
            return []
        last = max(live)
        self._end = max(self._end, last)
        # A listing during writes may contain a memory and not the one appended just before it.
        missing = [
            number
            for number in range(min(live) + 1, last)
            if number not in live and number not in self._gone
        ]
        for number, newest in zip(missing, mapped(self._newest, missing, _THREADS), strict=True):
            if newest is not None and newest.is_live():
                live[number] = newest
            else:
                self._gone.add(number)
        return self._as_appended([live[number] for number in sorted(live)])

    def find(self, number: int) -> MemoryEntry | None:
        """Return the live memory that has a number, as it was appended, or None. 2 requests."""
        newest = self._newest(number)
        return self._as_appended([newest])[0] if newest is not None and newest.is_live() else None

    def newest(self, count: int) -> list[MemoryEntry]:
        """Return the newest `count` live memories in their order, without reading those before.

        About 4 requests per doubling of the distance from the end that this object has seen, and 2
        for each number from the end back to the first of them.
        """
        live: list[MemoryEntry] = []
        number = self.end()
        while number and len(live) < count:
            first = max(1, number + 1 - (count - len(live)))
            entries = mapped(self._newest, range(first, number + 1), _THREADS)
            live[:0] = [entry for entry in entries if entry is not None and entry.is_live()]
            number = first - 1
        return self._as_appended(live)

    def originals(self) -> list[MemoryEntry]:
        """Return the first version of every number, even of deleted memories. About 2 requests for
        each."""
        histories = mapped(self._history, range(1, self.end() + 1), _THREADS)
        return [history[0] for history in histories if history]

    def end(self) -> int:
        """Return the highest number that was ever taken; 0 for none.

        About 4 requests per doubling of the distance from the last number that this object has
        seen.
        """
        low, step = self._end, 1
        while self._is_taken(low + step):
            low += step
            step *= 2
        free = low + step
        while free - low > 1:
            middle = (low + free) // 2
            if self._is_taken(middle):
                low = middle
            else:
                free = middle
        self._end = max(self._end, low)
        return low

    def delete(self, numbers: list[int]) -> int:
        """Delete memories; their histories stay. Return how many were live."""
        deleted = mapped(
            lambda number: self._memory.delete(self.entity_path, _key(number)), numbers, _THREADS
        )
        return sum(entry is not None for entry in deleted)

    def purge(self, numbers: list[int]) -> int:
        """Erase all versions of memories permanently; return how many were erased."""
        return sum(
            mapped(
                lambda number: self._memory.purge(self.entity_path, _key(number)), numbers, _THREADS
            )
        )

    def purge_all(self) -> int:
        """Erase every memory that was ever appended, deleted ones included, until there is nothing
        new; return how many versions were erased."""
        erased = done = 0
        while (end := self.end()) > done:
            erased += self.purge(list(range(done + 1, end + 1)))
            done = end
        return erased

    def _create(self, number: int, value: Any, write_id: str | None, index: bool) -> MemoryEntry:
        entry = self._memory.write(
            self.entity_path,
            _key(number),
            value,
            memory_type="experience",
            expected_version=0,
            write_id=write_id,
            index=index,
        )
        self._end = max(self._end, number)
        self._last = entry
        return entry

    def _before_next(self) -> MemoryEntry | None:
        """Return the first version under the highest number seen; None for none, or a damaged
        one."""
        end, last = self._end, self._last
        if last is not None and int(last.key) == end:
            return last
        history = self._history(end) if end else []
        return history[0] if history else None

    def _as_appended(self, entries: list[MemoryEntry]) -> list[MemoryEntry]:
        """Return the first versions of live memories: an outcome signs those that it adds."""
        moved = [
            int(entry.key)
            for entry in entries
            if entry.version > 1 and int(entry.key) not in self._moved
        ]
        for number, history in zip(moved, mapped(self._history, moved, _THREADS), strict=True):
            if history:
                self._moved[number] = history[0]
        return [
            entry if entry.version == 1 else self._moved.get(int(entry.key), entry)
            for entry in entries
        ]

    def _is_taken(self, number: int) -> bool:
        try:
            return bool(self._memory.history(self.entity_path, _key(number)))
        except CorruptEntryError:  # damaged, but there
            return True

    def _newest(self, number: int) -> MemoryEntry | None:
        history = self._history(number)
        return history[-1] if history else None

    def _history(self, number: int) -> list[MemoryEntry]:
        # Not `read`, because the agent did not use these memories (`commit_outcome`).
        try:
            return self._memory.history(self.entity_path, _key(number))
        except CorruptEntryError:  # `list` leaves it out and names it in the log
            return []


def _key(number: int) -> str:
    return f"{number:0{_DIGITS}d}"
