"""Writing many memories at once: concurrent between memories, in order within each."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime

from amfs_core.entry import Draft, MemoryEntry
from amfs_core.errors import AMFSError, WriteManyError
from amfs_core.layout import Address

Append = Callable[[Address, Draft, int | None, datetime], MemoryEntry]


@dataclass(frozen=True, slots=True)
class Item:
    """One write of a batch, checked; `moment` is what its `written_at` will be at least."""

    address: Address
    draft: Draft
    expected: int | None
    moment: datetime


def write(items: list[Item], append: Append, threads: Executor) -> list[MemoryEntry]:
    """Append every item and return the entries in the items' order.

    Raises `WriteManyError` when some could not be written. After a failure the later items of the
    same memory are not tried, so that its versions stay in the items' order.
    """
    by_address: dict[Address, list[int]] = {}
    for index, item in enumerate(items):
        by_address.setdefault(item.address, []).append(index)
    entries: list[MemoryEntry | None] = [None] * len(items)
    errors: dict[int, AMFSError] = {}

    def write_in_order(indexes: list[int]) -> None:
        for position, index in enumerate(indexes):
            item = items[index]
            try:
                entries[index] = append(item.address, item.draft, item.expected, item.moment)
            except AMFSError as error:
                errors.update(dict.fromkeys(indexes[position:], error))
                return

    list(threads.map(write_in_order, by_address.values()))
    if errors:
        raise _failure(items, entries, errors)
    return [entry for entry in entries if entry is not None]


def _failure(
    items: list[Item], entries: list[MemoryEntry | None], errors: dict[int, AMFSError]
) -> WriteManyError:
    first = min(errors)
    failure = WriteManyError(
        f"{len(errors)} of {len(items)} items were not written; "
        f"the first is item {first} ({items[first].address}): {errors[first]}",
        entries=tuple(entries),
        errors=dict(sorted(errors.items())),
    )
    failure.__cause__ = errors[first]
    return failure
