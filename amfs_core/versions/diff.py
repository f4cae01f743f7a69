"""What changed between two versions of a memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from amfs_core.format import MemoryEntry, named

_COMPARED = named(MemoryEntry, lambda field: field.compared)


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `path` is a JSON pointer (RFC 6901) into the version's JSON form, such as
    `/value/max_retries`; `old` is None for what was added, `new` for what was removed."""

    kind: Literal["added", "removed", "changed"]
    path: str
    old: Any
    new: Any


@dataclass(frozen=True, slots=True)
class Diff:
    """Two versions and what changed from `old` to `new`; `old` is None before version 1."""

    old: MemoryEntry | None
    new: MemoryEntry
    changes: tuple[Change, ...]

    def __bool__(self) -> bool:
        """True when anything changed."""
        return bool(self.changes)


def diff(old: MemoryEntry | None, new: MemoryEntry) -> Diff:
    """Compare what two versions say; who wrote them and when is not compared."""
    before = _compared(old) if old else {}
    return Diff(old, new, tuple(_changes("", before, _compared(new))))


def _compared(entry: MemoryEntry) -> dict[str, Any]:
    form = entry.to_dict()
    return {name: form[name] for name in _COMPARED}


def _changes(path: str, old: Any, new: Any) -> Iterator[Change]:
    if type(old) is dict and type(new) is dict:
        for name in [*old, *(name for name in new if name not in old)]:
            place = f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
            yield from _one(place, name in old, old.get(name), name in new, new.get(name))
    elif type(old) is list and type(new) is list:
        for index in range(max(len(old), len(new))):
            was, stays = index < len(old), index < len(new)
            yield from _one(
                f"{path}/{index}",
                was,
                old[index] if was else None,
                stays,
                new[index] if stays else None,
            )
    elif type(old) is not type(new) or old != new:
        yield Change("changed", path, old, new)


def _one(path: str, was: bool, old: Any, stays: bool, new: Any) -> Iterator[Change]:
    if was and stays:
        yield from _changes(path, old, new)
    elif was:
        yield Change("removed", path, old, None)
    else:
        yield Change("added", path, None, new)
