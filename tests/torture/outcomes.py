"""Outcomes: recorded when it was said, and counted into each memory once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from tests.torture.final import Final, Version
from tests.torture.history import History, Operation
from tests.torture.violation import Violation


def merged(first: Operation | None, again: Operation) -> Operation:
    """A commit and its repetition as one operation, which returned when either succeeded first."""
    if first is None:
        return again
    ends = [operation for operation in (first, again) if operation.status == "ok"]
    best = min(ends, key=lambda operation: operation.returned) if ends else again
    return replace(best, id=first.id, invoked=min(first.invoked, again.invoked))


def check(history: History, final: Final) -> Iterator[Violation]:
    """Yield outcomes that are lost, unasked for, counted twice, or said to be counted and not."""
    commits = [operation for operation in history.operations if operation.kind == "commit"]
    asked = {commit.arguments["ref"] for commit in commits if commit.status != "failed"}
    for ref in final.outcomes:
        if ref not in asked:
            yield Violation("outcome", f"{ref} is recorded, but its commit failed or never was")
    for commit in commits:
        ref = commit.arguments["ref"]
        if commit.status in ("ok", "pending") and ref not in final.outcomes:
            yield Violation("lost", f"the outcome {ref} was acknowledged and is not there")
        if commit.status == "ok":
            yield from _check_counted(commit, final)
    yield from _check_versions(final)


def _check_versions(final: Final) -> Iterator[Violation]:
    for key, chain in final.chains.items():
        counted = Counter(
            version.outcome for version in chain.values() if version.outcome is not None
        )
        for ref, times in counted.items():
            if times > 1:
                yield Violation("doubled", f"the outcome {ref} is counted {times} times in {key}")
            if ref not in final.outcomes:
                yield Violation("outcome", f"{key} counts {ref}, of which there is no record")
        for number, version in chain.items():
            before = chain.get(number - 1)
            if version.outcome is None or before is None or before.erased or version.erased:
                continue
            if before.value != version.value:
                yield Violation("outcome", f"{key} v{number} changed the value of v{number - 1}")


def _check_counted(commit: Operation, final: Final) -> Iterator[Violation]:
    """It is counted into each memory, or that was written again or deleted since it was used."""
    for key, used in commit.arguments["causes"]:
        chain = final.chains.get(key, {})
        after = [version for number, version in chain.items() if number > used]
        counted = any(version.outcome == commit.arguments["ref"] for version in after)
        if not counted and not any(_is_another(version, used) for version in after):
            yield Violation("outcome", f"{commit.id} was acknowledged and not counted into {key}")


def _is_another(version: Version, used: int) -> bool:
    return version.deleted or version.claim > used
