"""Purges: what was there is erased, by order of a tombstone above it, and nothing comes back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from tests.torture.final import Final, Version
from tests.torture.history import NEVER, History, Operation, Seen
from tests.torture.violation import Violation

Owner = Mapping[tuple[str, int], Operation]
_BY_READING = ("read", "read version", "history", "find")
_BY_WRITING = ("write", "update", "delete")


def check(history: History, final: Final, owners: Owner) -> Iterator[Violation]:
    """Yield contents that a purge left, or that came back, and erasures that nobody ordered."""
    purges: dict[str, list[Operation]] = defaultdict(list)
    for operation in history.operations:
        if operation.kind == "purge" and operation.key is not None:
            purges[operation.key].append(operation)
    for key, chain in final.chains.items():
        yield from _check_ordered(key, chain, purges[key])
    for key, mine in purges.items():
        for operation in mine:
            if operation.status == "ok":
                before = _before(operation, final.chains.get(key, {}), owners)
                yield from _check_gone(operation, before, final.chains.get(key, {}))
                yield from _check_forgotten(operation, before, history, owners)
    yield from _check_final(history, final)
    yield from _check_never_back(history)


def _before(purge: Operation, chain: Mapping[int, Version], owners: Owner) -> int:
    """The newest version that was certainly there when a purge was begun."""
    there = (
        number
        for number in chain
        if (purge.key, number) in owners
        and owners[purge.key or "", number].returned < purge.invoked
        and owners[purge.key or "", number].status == "ok"
    )
    return max(there, default=0)


def _check_ordered(
    key: str, chain: Mapping[int, Version], purges: list[Operation]
) -> Iterator[Violation]:
    """What is erased is below a tombstone that says so, and somebody asked for that."""
    erased = [number for number, version in chain.items() if version.erased]
    if not erased:
        return
    order = max((number for number, version in chain.items() if version.purges), default=0)
    if max(erased) > order:
        yield Violation("erased", f"{key} v{max(erased)} is erased, and v{order} the last order")
    if not purges:
        yield Violation("erased", f"{key} v{erased[0]} is erased, and nobody asked for it")


def _check_gone(purge: Operation, before: int, chain: Mapping[int, Version]) -> Iterator[Violation]:
    for number, version in chain.items():
        if number <= before and not version.erased and not version.purges:
            yield Violation("erased", f"{purge.id} left v{number} of {purge.key}")


def _check_forgotten(
    purge: Operation, before: int, history: History, owners: Owner
) -> Iterator[Violation]:
    """No process that knows of what came after a purge reads the content of what was before it."""
    since = {purge.process: purge.returned}
    for operation in history.operations:
        knows = operation.kind in (*_BY_READING, *_BY_WRITING) and operation.status == "ok"
        if knows and any(_is_after(seen, purge, owners) for seen in operation.seen):
            since[operation.process] = min(operation.returned, since.get(operation.process, NEVER))
    for operation in history.operations:
        if operation.kind in _BY_READING and operation.invoked > since.get(
            operation.process, NEVER
        ):
            for seen in operation.seen:
                if seen.key == purge.key and seen.version <= before and not seen.erased:
                    yield Violation(
                        "erased",
                        f"{operation.id} read v{seen.version} of {seen.key} after {purge.id}",
                    )


def _is_after(seen: Seen, purge: Operation, owners: Owner) -> bool:
    owner = owners.get((seen.key, seen.version))
    return owner is not None and seen.key == purge.key and owner.invoked > purge.returned


def _check_final(history: History, final: Final) -> Iterator[Violation]:
    for operation in history.operations:
        for seen in operation.seen:
            there = final.chains.get(seen.key, {}).get(seen.version)
            if seen.erased and there is not None and not there.erased:
                yield Violation(
                    "erased", f"{operation.id} saw v{seen.version} of {seen.key} erased"
                )


def _check_never_back(history: History) -> Iterator[Violation]:
    """What a process was shown as erased it never reads as content again."""
    erased: dict[tuple[str, str, int], int] = {}
    read = [operation for operation in history.operations if operation.kind in _BY_READING]
    for operation in sorted(read, key=lambda operation: operation.invoked):
        for seen in operation.seen:
            place = operation.process, seen.key, seen.version
            if seen.erased:
                erased[place] = min(operation.returned, erased.get(place, NEVER))
            elif erased.get(place, NEVER) < operation.invoked:
                yield Violation(
                    "erased", f"{operation.id} read v{seen.version} of {seen.key} again"
                )
