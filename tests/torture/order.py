"""Real-time order: each memory is a register whose values are numbered in the order of writing."""

from __future__ import annotations

import bisect
import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.torture.final import Final, Version
from tests.torture.history import NEVER, History, Operation
from tests.torture.violation import Violation

LISTINGS = ("list", "search", "history")
"""What depends on a listing, which may lag behind."""


@dataclass(frozen=True, slots=True)
class Observation:
    """That a version was the newest at some moment of an interval; what `writes` made it then.

    A version of None: that there was no live one. `absent` (a read of that version said that it is
    not there) bounds the newest from above. `exists` says that there was at least this version.
    `listed`: it depends on a listing, which may lag behind, but not behind what its own process
    wrote and `noted`.
    """

    who: str
    process: str
    invoked: int
    returned: int
    version: int | None
    writes: bool = False
    exists: bool = False
    absent: int | None = None
    listed: bool = False
    noted: bool = False


def check_order(
    history: History,
    final: Final,
    keys: tuple[str, ...],
    lag: int,
    owners: Mapping[tuple[str, int], Operation],
) -> Iterator[Violation]:
    """Yield where an operation saw less than one that had returned before it was invoked, or more
    than what had been begun when it returned."""
    observations = _observations(history, keys, owners)
    for key in keys:
        begun = {
            number: owners[key, number].invoked
            for number in final.chains.get(key, {})
            if (key, number) in owners
        }
        nothing = [
            number
            for number, version in sorted(final.chains.get(key, {}).items())
            if _is_tombstone(version, owners.get((key, number)))
        ]
        sweep = _Sweep(key, nothing, begun, lag)
        for observation in sorted(
            observations[key], key=lambda observation: (observation.invoked, observation.returned)
        ):
            yield from sweep.take(observation)


def _observations(
    history: History, keys: tuple[str, ...], owners: Mapping[tuple[str, int], Operation]
) -> dict[str, list[Observation]]:
    observations: dict[str, list[Observation]] = defaultdict(list)
    catalogs: dict[str, int] = {}  # since when each process has one, which notes what it writes
    for operation in history.operations:
        if operation.kind in ("list", "search") and operation.status == "ok":
            catalogs[operation.process] = min(
                operation.returned, catalogs.get(operation.process, NEVER)
            )
    for (key, number), owner in owners.items():
        returned = owner.returned if owner.status == "ok" else NEVER
        noted = owner.invoked > catalogs.get(owner.process, NEVER)
        observations[key].append(
            Observation(
                owner.id, owner.process, owner.invoked, returned, number, writes=True, noted=noted
            )
        )
    for operation in history.operations:
        for key, observation in _of_reader(operation, keys):
            observations[key].append(observation)
    for watching in history.watches:
        for at, seen in watching.delivered:
            who = f"the watch of {watching.process}"
            observations[seen.key].append(
                Observation(who, watching.process, at, at, seen.version, exists=True)
            )
    return observations


def _of_reader(operation: Operation, keys: tuple[str, ...]) -> Iterator[tuple[str, Observation]]:
    def seen(version: int | None, **more: object) -> Observation:
        return Observation(
            operation.id,
            operation.process,
            operation.invoked,
            operation.returned,
            version,
            **more,  # type: ignore[arg-type]
        )

    key = operation.key or ""
    newest = operation.seen[-1].version if operation.seen else None
    if operation.status == "conflict":
        yield key, seen(operation.newest)
    if operation.status != "ok":
        return
    if operation.kind in ("read", "purge") or (operation.kind == "delete" and not operation.seen):
        yield key, seen(newest)
    elif operation.kind == "read version":
        if newest is None:
            yield key, seen(None, absent=operation.arguments["version"])
        else:
            yield key, seen(newest, exists=True)
    elif operation.kind == "find" and newest is not None:
        yield key, seen(newest, exists=True)
    elif operation.kind == "history":
        yield key, seen(newest or 0, listed=True)
    elif operation.kind in ("list", "search"):
        shown = {each.key: each.version for each in operation.seen}
        for each in keys:
            yield each, seen(shown.get(each), listed=True)


def _is_tombstone(version: Version, owner: Operation | None) -> bool:
    """An erased version was one when a delete or a purge made it, or may have."""
    if version.erased and owner is not None and owner.status == "ok":
        return owner.kind in ("delete", "purge")
    return version.deleted


class _Sweep:
    """Goes through the observations of one memory in the order of their beginnings."""

    def __init__(self, key: str, nothing: list[int], begun: Mapping[int, int], lag: int) -> None:
        self._key = key
        self._begun = begun
        self._lag = lag
        self._ends: list[tuple[int, int]] = []  # (returned, version), not yet counted
        self._times: list[int] = [-1]
        self._least: list[int] = [0]  # from each of these times on, no less may be seen
        self._own: dict[str, int] = {}
        self._nothing = [0, *nothing]  # the versions that say that there is none

    def take(self, observation: Observation) -> Iterator[Violation]:
        """Check an observation, and have it count from when it returned."""
        least = self._least_at(
            observation.invoked - (self._lag if observation.listed else 0), observation.invoked
        )
        if observation.listed:
            least = max(least, self._own.get(observation.process, 0))
        version = observation.version
        if observation.absent is not None:
            if observation.absent <= least:
                yield self._broken(
                    observation, f"did not see v{observation.absent}, which was there"
                )
            return
        if version is None:
            place = bisect.bisect_left(self._nothing, least)
            version = self._nothing[place] if place < len(self._nothing) else None
            if version is None or self._begun.get(version, -1) > observation.returned:
                yield self._broken(
                    observation, f"saw nothing live, though v{least} was there before"
                )
                return
        if self._begun.get(version, -1) > observation.returned:
            yield Violation(
                "future", f"{observation.who} saw v{version} of {self._key} before its write"
            )
        if not observation.exists and (
            version < least or (observation.writes and version == least)
        ):
            yield self._broken(observation, f"is v{version}, though v{least} was there before")
        if observation.noted and observation.returned < NEVER:
            self._own[observation.process] = max(version, self._own.get(observation.process, 0))
        if observation.returned < NEVER:
            heapq.heappush(self._ends, (observation.returned, version))

    def _least_at(self, moment: int, now: int) -> int:
        while self._ends and self._ends[0][0] < now:
            returned, version = heapq.heappop(self._ends)
            if version > self._least[-1]:
                self._times.append(returned)
                self._least.append(version)
        return self._least[max(0, bisect.bisect_left(self._times, moment) - 1)]

    def _broken(self, observation: Observation, text: str) -> Violation:
        return Violation("order", f"{self._key}: {observation.who} {text}")
