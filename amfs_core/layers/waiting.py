"""`Waiting`: the operations and conflicts that a fallback store keeps for one namespace.

No name is ever used twice, so what is removed is what was meant (docs/design/degraded.md).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from amfs_core.errors import CorruptEntryError
from amfs_core.format import CONFLICT, WAITING, Address, Layout
from amfs_core.layers.operation import (
    Conflict,
    Operation,
    decode,
    decode_conflict,
    encode,
    place_of,
)
from amfs_core.storage import ObjectInfo, StoreClient

_MOST_KNOWN = 1_000

_log = logging.getLogger("amfs")


class Waiting:
    """What waits in a store. Operations never change, so up to 1,000 are remembered."""

    def __init__(self, store: StoreClient, layout: Layout) -> None:
        self._store = store
        self._layout = layout
        self._waiting = f"{layout.root}{WAITING.folder}/"
        self._conflicts = f"{layout.root}{CONFLICT.folder}/"
        self._known: dict[str, Operation] = {}
        self._damaged: set[str] = set()

    def add(self, operation: Operation) -> None:
        """Keep an operation, durably. 1 request, or more if its answer is lost."""
        object_key = self.key(operation)
        self._store.settle(object_key, encode(operation))
        self._know(object_key, operation)

    def of(self, address: Address) -> list[Operation]:
        """Return what waits for a memory, in its order. 1 request, and 1 for each not known yet."""
        place = f"{self._waiting}{place_of(address)}"
        keys: list[str] = []
        # "-" is below all hexadecimal digits, so nothing else is between.
        for info in self._store.list(f"{place.rpartition('/')[0]}/", f"{place}-"):
            if not info.key.startswith(place):
                break
            keys.append(info.key)
        return [operation for operation in self.load(keys) if operation.address == address]

    def keys(self) -> list[str]:
        """Return the keys of all that waits."""
        return [info.key for info in self._store.list(self._waiting)]

    def any(self) -> bool:
        """Whether something waits. 1 request."""
        return next(iter(self._store.list(self._waiting)), None) is not None

    def load(self, keys: Iterable[str]) -> list[Operation]:
        """Return the operations that are there under these keys, in their order. One that is
        damaged is left out, and named in the log."""
        operations: list[Operation] = []
        missing: list[str] = []
        for key in keys:
            known = self._known.get(key)
            if known is None:
                missing.append(key)
            else:
                operations.append(known)
        for key, data in self._store.get_many(missing) if missing else ():
            if data is None:
                continue
            try:
                operation = self._decoded(key, data)
            except CorruptEntryError as damage:
                self._name(key, damage)
                continue
            self._know(key, operation)
            operations.append(operation)
        return sorted(operations, key=lambda operation: (operation.stamp, operation.name))

    def _decoded(self, key: str, data: bytes) -> Operation:
        """Return the operation in an object. One under another name would never be removed: what
        is removed is found by what the operation says."""
        operation = decode(self._layout, key, data)
        if self.key(operation) != key:
            raise CorruptEntryError(
                f"{key}: it holds the operation of another name, {self.key(operation)}",
                hint="move it there, or delete it: what it holds is then lost",
                object_key=key,
            )
        return operation

    def still(self, operation: Operation) -> bool:
        """Whether an operation waits still. 1 request."""
        return self._store.get(self.key(operation)) is not None

    def remove(self, operation: Operation) -> None:
        """Remove an operation that has landed. 1 request."""
        key = self.key(operation)
        self._store.delete(key)
        self._known.pop(key, None)

    def set_aside(self, operation: Operation, reason: str, newest: int) -> None:
        """Make an operation a conflict. Whoever does it again, after a death in between or at the
        same time, does the same: the first reason stays. 2 requests."""
        self._store.settle(self._conflict_key(operation), encode(operation, reason, newest))
        self.remove(operation)

    def conflicts(self) -> Iterator[Conflict]:
        """Yield all conflicts, oldest first. 1 request for each, and 1 per 1,000."""
        keys = [info.key for info in self._store.list(self._conflicts)]
        bodies = dict(self._store.get_many(keys))
        for key in keys:
            data = bodies[key]
            if data is None:
                continue
            try:
                yield decode_conflict(self._layout, key, data)
            except CorruptEntryError as damage:
                self._name(key, damage)

    def remove_conflict(self, conflict: Conflict) -> None:
        """Remove a conflict that has been decided. 1 request."""
        self._store.delete(self._conflict_key(conflict.operation))

    def listed(self) -> tuple[list[ObjectInfo], int]:
        """Return what waits, and how many conflicts there are. 2 requests."""
        waiting = list(self._store.list(self._waiting))
        return waiting, sum(1 for _ in self._store.list(self._conflicts))

    def key(self, operation: Operation) -> str:
        """Return the key of the object that an operation is kept in."""
        return f"{self._waiting}{place_of(operation.address)}-{operation.name}"

    def _conflict_key(self, operation: Operation) -> str:
        return f"{self._conflicts}{operation.name}"

    def _know(self, key: str, operation: Operation) -> None:
        if len(self._known) >= _MOST_KNOWN:
            self._known = {}
        self._known[key] = operation

    def _name(self, key: str, damage: CorruptEntryError) -> None:
        if key not in self._damaged:
            self._damaged.add(key)
            _log.error("%s stays in the fallback store, and is not replayed", damage)


def stamp_of(object_key: str) -> int | None:
    """Return the stamp in the key of an operation or a conflict; None for any other object."""
    name = object_key.rpartition("/")[2]
    digits = name.split("-")[-2:-1]
    try:
        return int(digits[0], 16)
    except (IndexError, ValueError):
        return None
