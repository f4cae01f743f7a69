"""Checks what processes saw against what is in the store: every promise, for every operation.

The versions of a memory give the total order of its writes, so nothing has to be searched for. Each
operation on a memory is an observation of one version in an interval of time, and the whole is
linearizable when no observation is older than one that had returned before it was invoked
(`order.py`). Around that: each acknowledged write is there, whole and once; what failed is not; and
every version comes from an operation that was asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tests.torture import erasure, outcomes, views
from tests.torture.final import Final, Version
from tests.torture.history import History, Operation, Seen
from tests.torture.order import check_order
from tests.torture.owners import Owners
from tests.torture.violation import Violation

Owner = dict[tuple[str, int], Operation]
"""The operation that made each version, by key and number."""


@dataclass(frozen=True, slots=True)
class Case:
    """A history and what is in the store after it. A listing may lag behind by `lag` nanoseconds.

    `owners` is filled while the chains are checked.
    """

    history: History
    final: Final
    keys: tuple[str, ...]
    lag: int
    owners: Owner


def check(
    history: History, final: Final, *, keys: tuple[str, ...], lag: float = 0.0
) -> list[Violation]:
    """Everything that is wrong. `lag` is in seconds."""
    case = Case(history, final, keys, int(lag * 1e9), {})
    return [
        *(Violation("broken", problem) for problem in final.broken),
        *_check_errors(case),
        *_check_chains(case),
        *_check_owners(case),
        *_check_acknowledged(case),
        *_check_updates(case),
        *outcomes.check(history, final),
        *_check_contents(case),
        *views.check(history, final),
        *erasure.check(history, final, case.owners),
        *check_order(history, final, keys, case.lag, case.owners),
    ]


def _check_errors(case: Case) -> Iterator[Violation]:
    for operation in case.history.operations:
        if operation.status == "error":
            yield Violation(
                "error",
                f"{operation.kind} {operation.id} of {operation.key} raised {operation.error}",
            )


def _check_chains(case: Case) -> Iterator[Violation]:
    """Numbers without gaps, hashes that close, every write_id once."""
    for key, chain in case.final.chains.items():
        missing = sorted(set(range(1, max(chain) + 1)) - set(chain))
        if missing:
            yield Violation("gap", f"{key} has v{max(chain)} but not {missing[:5]}")
        for number, version in chain.items():
            before = chain.get(number - 1)
            expected = before.sha256 if before else None
            if (before or number == 1) and version.previous != expected:
                yield Violation("chain", f"{key} v{number} does not follow v{number - 1}")
        for write_id, times in Counter(version.write_id for version in chain.values()).items():
            if times > 1:
                yield Violation("doubled", f"write_id {write_id} is {times} times in {key}")


def _check_owners(case: Case) -> Iterator[Violation]:
    """Every version was asked for, by an operation that did not say that it failed, and once."""
    owners = Owners(case.history)
    for chain in case.final.chains.values():
        seen: set[str] = set()
        for _, version in sorted(chain.items()):
            owner = owners.of(version)
            yield from _check_owner(version, owner, seen)
            if owner is not None:
                seen.add(owner.id)
                case.owners[version.key, version.number] = owner


def _check_owner(version: Version, owner: Operation | None, seen: set[str]) -> Iterator[Violation]:
    what = f"{version.key} v{version.number}"
    if owner is None or (owner.kind != "commit" and owner.key != version.key):
        yield Violation("stray", f"{what} was written by nobody ({version.by or version.agent})")
        return
    if owner.id in seen:
        yield Violation("doubled", f"{what} is not the first version of {owner.id}")
    if owner.status in ("failed", "conflict") and owner.kind != "commit":
        yield Violation("not written", f"{what} is of {owner.id}, which said: {owner.error}")


def _check_acknowledged(case: Case) -> Iterator[Violation]:
    """What was acknowledged is there, at the version that was said, whole."""
    for operation in case.history.operations:
        if (
            operation.status != "ok"
            or operation.kind not in ("write", "update", "delete")
            or not operation.seen
        ):
            continue
        said = operation.seen[0]
        there = case.final.chains.get(said.key, {}).get(said.version)
        if there is None:
            yield Violation(
                "lost", f"{operation.id} was told v{said.version} of {said.key}: not there"
            )
        elif not _is(there, said) or (operation.kind == "write" and there.write_id != operation.id):
            yield Violation(
                "lost", f"{operation.id}: v{said.version} of {said.key} is of {there.by}"
            )
        expected = operation.arguments.get("expected")
        if expected is not None and said.version != expected + 1:
            yield Violation(
                "expected", f"{operation.id} expected v{expected} and made v{said.version}"
            )


def _check_updates(case: Case) -> Iterator[Violation]:
    """An update is built on the version right before it."""
    for (key, number), owner in case.owners.items():
        if owner.kind != "update":
            continue
        version, before = case.final.chains[key][number], case.final.chains[key].get(number - 1)
        if version.erased or (before and before.erased):
            continue
        expected = (before.count if before else 0) + 1
        if version.count != expected:
            yield Violation(
                "update", f"{key} v{number} says {version.count}, built on {expected - 1}"
            )


def _check_contents(case: Case) -> Iterator[Violation]:
    """Whatever was shown of a version is what the version is."""
    shown = [
        (operation.id, seen) for operation in case.history.operations for seen in operation.seen
    ]
    for watching in case.history.watches:
        shown += [(f"the watch of {watching.process}", seen) for _, seen in watching.delivered]
    for who, seen in shown:
        there = case.final.chains.get(seen.key, {}).get(seen.version)
        if there is None or not _is(there, seen):
            what = "nothing" if there is None else f"{there.by}'s {there.sha256[:8]}"
            yield Violation(
                "content",
                f"{who} saw v{seen.version} of {seen.key} as {seen.by}'s {seen.sha256[:8]}; "
                f"there is {what}",
            )


def _is(there: Version, seen: Seen) -> bool:
    """True when a version is what was seen of it; an erased one still tells by its hash."""
    by_another = there.by != seen.by and not (there.erased or seen.erased)
    return there.sha256 == seen.sha256 and not by_another
