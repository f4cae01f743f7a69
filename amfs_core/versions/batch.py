"""Writing many memories at once: concurrent between memories, in order within each."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec
from msgspec.structs import replace

from amfs_core.errors import AMFSError, WriteManyError
from amfs_core.format import Address, Draft, MemoryEntry
from amfs_core.parallel import mapped
from amfs_core.versions.log import VersionLog, unknown


class Item(msgspec.Struct, frozen=True):
    """One checked write of a batch. Its `written_at` will be `moment` or later; `entry` and `body`
    are the version that it makes if no other write comes between."""

    address: Address
    draft: Draft
    expected: int | None
    moment: datetime
    entry: MemoryEntry
    body: bytes


Append = Callable[[Item], MemoryEntry]


class Batch:
    """The items of one call, and the result of each."""

    def __init__(self, versions: VersionLog, items: list[Item]) -> None:
        self._versions = versions
        self._items = items
        self._entries: list[MemoryEntry | None] = [None] * len(items)
        self._errors: dict[int, AMFSError] = {}
        by_memory: dict[Address, list[int]] = {}
        for index in reversed(range(len(items))):
            by_memory.setdefault(items[index].address, []).append(index)
        self._waiting = list(by_memory.values())  # indexes of one memory, the first at the end
        self._tried: set[int] = set()  # and not surely created
        self._together = [
            indexes for indexes in self._waiting if items[indexes[-1]].expected is None
        ]

    def write(self, append: Append, threads: int) -> list[MemoryEntry]:
        """Append every item and return the entries in the items' order.

        The store creates together what it can; `append` writes the rest, in this many `threads`.
        Raises `WriteManyError` when some items could not be written. After a failure the later
        items of the same memory are not tried, so its versions stay in the items' order.
        """
        while self._create_together():
            pass
        waiting = [indexes for indexes in self._waiting if indexes]
        if waiting:
            mapped(lambda indexes: self._append_in_order(append, indexes), waiting, threads)
        if self._errors:
            raise self._failure()
        return [entry for entry in self._entries if entry is not None]

    def _create_together(self) -> bool:
        """Try the next item of each memory together; True when more items can be tried like this.

        This settles only items that were surely created. From an item on that was not, its memory
        takes the usual way, which finds out why: with the same draft, and so under the same
        `write_id`, by which the writer recognises its own version.
        """
        tried: dict[str, list[int]] = {}
        bodies: dict[str, bytes] = {}
        for indexes in self._together:
            item = self._items[indexes[-1]]
            object_key = item.address.object_key(item.entry.version)
            tried[object_key], bodies[object_key] = indexes, item.body
        if len(bodies) < 2:
            return False
        self._tried.update(indexes[-1] for indexes in self._together)
        self._together = []
        created = self._versions.create_many(bodies)
        for object_key in created:
            indexes = tried[object_key]
            index = indexes.pop()
            self._tried.remove(index)
            item = self._items[index]
            self._versions.cache.keep(item.address, item.entry, item.body, newest=True)
            self._entries[index] = item.entry
            if indexes and self._prepare(indexes[-1]):
                self._together.append(indexes)
        return bool(self._together)

    def _prepare(self, index: int) -> bool:
        """Prepare the item after a version of this batch; False if it must go the usual way."""
        item = self._items[index]
        try:
            prepared = self._versions.prepare(item.address, item.draft, item.moment)
        except AMFSError:
            return False
        self._items[index] = replace(item, entry=prepared[0], body=prepared[1])
        return item.expected is None

    def _append_in_order(self, append: Append, indexes: list[int]) -> None:
        while indexes:
            item = self._items[indexes[-1]]
            try:
                entry = append(item)
            except AMFSError as error:
                failure = self._seen(item, error) if indexes[-1] in self._tried else error
                self._errors.update(dict.fromkeys(indexes, failure))
                return
            self._entries[indexes.pop()] = entry

    def _seen(self, item: Item, error: AMFSError) -> AMFSError:
        """Return the error of an item that was tried before: "nothing was written" is true only if
        the earlier attempt left nothing there."""
        object_key = item.address.object_key(item.entry.version)
        try:
            if self._versions.store.get(object_key) != item.body:
                return error
        except AMFSError:
            pass
        failure = unknown(item.address, item.entry, object_key, error)
        failure.__cause__ = error
        return failure

    def _failure(self) -> WriteManyError:
        first = min(self._errors)
        failure = WriteManyError(
            f"{len(self._errors)} of {len(self._items)} items were not written; "
            f"the first is item {first} ({self._items[first].address}): {self._errors[first]}",
            entries=tuple(self._entries),
            errors=dict(sorted(self._errors.items())),
        )
        failure.__cause__ = self._errors[first]
        return failure
