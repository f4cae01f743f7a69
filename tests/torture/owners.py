"""Which operation made each version: by what the version names, or by what was seen of it.

A value names its operation, a write its `write_id`, an outcome's version the outcome. A tombstone
names the agent only, and an erased version nothing but its `write_id` and the SHA-256 of what it
was. Where several operations could have made it, the weakest claim is made: begun when the first of
them was, returned never.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

from tests.torture import outcomes
from tests.torture.final import Version
from tests.torture.history import NEVER, History, Operation


class Owners:
    """Finds the operations of one history; each version is to be asked for once."""

    def __init__(self, history: History) -> None:
        self._by_id = {operation.id: operation for operation in history.operations}
        self._commits: dict[str, Operation] = {}
        self._told: dict[tuple[str, str], Operation] = {}
        self._shown: dict[tuple[str, str], str] = {}
        self._deletes: dict[tuple[str, str], list[Operation]] = defaultdict(list)
        self._purges: dict[tuple[str, str], list[Operation]] = defaultdict(list)
        self._lost: dict[str, list[Operation]] = defaultdict(list)
        self._taken: Counter[tuple[str, str]] = Counter()
        for operation in sorted(history.operations, key=lambda operation: operation.invoked):
            self._take_note(operation)
        for watching in history.watches:
            for _, seen in watching.delivered:
                self._note_shown(seen.key, seen.sha256, seen.by)

    def _take_note(self, operation: Operation) -> None:
        if operation.kind == "commit":
            ref = operation.arguments["ref"]
            self._commits[ref] = outcomes.merged(self._commits.get(ref), operation)
        for seen in operation.seen:
            self._note_shown(seen.key, seen.sha256, seen.by)
        if operation.key is None:
            return
        if (
            operation.kind in ("write", "update", "delete")
            and operation.status == "ok"
            and operation.seen
        ):
            self._told[operation.key, operation.seen[0].sha256] = operation
        if operation.kind == "delete" and operation.is_open:
            self._deletes[operation.process, operation.key].append(operation)
        if operation.kind == "purge" and operation.status != "error":
            self._purges[operation.process, operation.key].append(operation)
        if operation.kind == "purge" or (
            operation.kind in ("update", "delete") and operation.is_open
        ):
            self._lost[operation.key].append(operation)

    def _note_shown(self, key: str, sha256: str, by: str | None) -> None:
        if by is not None:
            self._shown[key, sha256] = by

    def of(self, version: Version) -> Operation | None:
        """Return the operation that made a version, None when none did."""
        if version.outcome is not None:
            return self._commits.get(version.outcome)
        if version.erased:
            return self._of_erased(version)
        if version.purges:
            return self._weakest(version, self._purges[version.agent, version.key])
        if not version.deleted:
            return self._by_id.get(version.by or "")
        told = self._told.get((version.key, version.sha256))
        if told is not None:
            return told
        untold = self._deletes[version.agent, version.key]
        return untold.pop(0) if untold else None  # the earliest: the weakest claim about its time

    def _of_erased(self, version: Version) -> Operation | None:
        place = version.key, version.sha256
        owner = self._told.get(place) or self._by_id.get(version.write_id)
        owner = owner or self._by_id.get(self._shown.get(place, ""))
        return owner or self._weakest(version, self._lost[version.key])

    def _weakest(self, version: Version, candidates: list[Operation]) -> Operation | None:
        """Return the weakest claim of all candidates, None when there are fewer than versions: of
        this agent (an erased version has none), or of all together."""
        mine, all_of_key = (version.agent, version.key), ("", version.key)
        self._taken.update({mine, all_of_key})
        if self._taken[mine] > len(candidates):
            return None
        if self._taken[all_of_key] > len(self._lost[version.key]):
            return None
        first = candidates[0]
        name = f"{first.id} or later, v{version.number}"
        return replace(first, id=name, returned=NEVER, status="unknown", seen=())
