"""What shows many versions at once: histories and watches, complete and in order."""

from __future__ import annotations

from collections.abc import Iterator

from tests.torture.final import Final
from tests.torture.history import History, Watching
from tests.torture.violation import Violation


def check(history: History, final: Final) -> Iterator[Violation]:
    """Histories are prefixes of the chains; a watch has each version once and in order, and all of
    them when it was waited for."""
    for operation in history.operations:
        numbers = [seen.version for seen in operation.seen]
        if operation.kind == "history" and numbers != list(range(1, len(numbers) + 1)):
            yield Violation(
                "history", f"{operation.id} of {operation.key} is no prefix: {numbers[:20]}"
            )
        if operation.kind in ("list", "search") and len(
            {seen.key for seen in operation.seen}
        ) < len(numbers):
            yield Violation("list", f"{operation.id} has a memory twice")
    for watching in history.watches:
        yield from _check_watch(watching, final)


def _check_watch(watching: Watching, final: Final) -> Iterator[Violation]:
    reached = dict(watching.start)
    for _, seen in watching.delivered:
        expected = reached.get(seen.key, 0) + 1
        if seen.version != expected:
            yield Violation(
                "watch",
                f"{watching.process} got v{seen.version} of {seen.key} in place of v{expected}",
            )
        reached[seen.key] = max(seen.version, expected - 1)
    for key, newest in final.newest().items():
        if watching.ended and reached.get(key, 0) < newest:
            yield Violation(
                "watch",
                f"{watching.process} ended at v{reached.get(key, 0)} of {key}, before v{newest}",
            )
