"""The part of verifying that is about outcomes: where each must be counted, and whether it was.

Outcomes are read first, and versions after them. So the versions that an outcome names must exist,
and outcomes recorded meanwhile do no harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from amfs_core.errors import CorruptEntryError, InvalidKeyError, PermissionDeniedError
from amfs_core.format import Address, MemoryEntry, Outcome, decode_outcome
from amfs_core.outcomes import apply, evidence
from amfs_core.storage import refusals
from amfs_core.upkeep.finding import Finding
from amfs_core.versions import VersionLog


@dataclass(frozen=True, slots=True)
class _Debt:
    """An outcome about version `used` of a memory, into which it must be counted."""

    outcome: Outcome
    address: Address
    used: int


class Ledger:
    """All outcomes of a namespace, and the memories that they must still be counted into.

    Made before the versions are listed. `findings` are the problems of the outcomes so far, and
    `absent` names outcomes that were listed, and absent when they were read. With `since`, only
    outcomes that the store got since then.
    """

    def __init__(self, versions: VersionLog, since: datetime | None = None) -> None:
        self.findings: list[Finding] = []
        self.absent: list[str] = []
        self._versions = versions
        self._since = since
        self._refs: dict[str, str] = {}
        self._debts: dict[Address, dict[str, _Debt]] = {}
        self._counted: dict[str, str] = {}
        self._outcomes = self._read()

    def __len__(self) -> int:
        return len(self._refs)

    def _read(self) -> list[Outcome]:
        layout, store = self._versions.layout, self._versions.store
        for info in store.list(layout.outcomes):
            if self._since is not None and info.modified < self._since:
                continue
            ref = layout.parse_outcome(info.key)
            if ref is None:
                self.findings.append(Finding.foreign(info.key))
            else:
                self._refs[info.key] = ref
        outcomes: list[Outcome] = []

        def refuse(object_key: str, refusal: PermissionDeniedError) -> None:
            self.findings.append(Finding.refused(object_key, refusal))

        for object_key, body in refusals.get_allowed(store, self._refs, refuse):
            if body is None:  # perhaps listed while it was created, and taken back
                del self._refs[object_key]
                self.absent.append(object_key)
                continue
            try:
                outcomes.append(decode_outcome(body, layout, self._refs[object_key]))
            except CorruptEntryError as error:
                self.findings.append(Finding.damaged(object_key, error))
        return outcomes

    def named(self) -> set[Address]:
        """Return the memories that the outcomes name."""
        names = {name for outcome in self._outcomes for name in outcome.memories()}
        return {self._versions.layout.address(*name) for name in names}

    def charge(self, memories: Mapping[Address, Sequence[int]], entity_path: str | None) -> None:
        """Note what must be counted into the memories under an entity path; `memories` has the
        listed numbers of their versions."""
        layout = self._versions.layout
        for outcome in self._outcomes:
            for name, used in outcome.memories().items():
                address = layout.address(*name)
                if not address.is_under(entity_path):
                    continue
                if used > max(memories.get(address, ()), default=0):
                    problem = f"it names v{used} of {address}, which is not there"
                    hint = "restore that from a copy"
                    self.findings.append(Finding(layout.outcome_key(outcome.ref), problem, hint))
                    continue
                its_id = apply.write_id(layout, outcome.ref, address)
                debt = _Debt(outcome, address, used)
                self._debts.setdefault(address, {})[its_id] = debt

    def see(self, address: Address, entry: MemoryEntry) -> None:
        """Take note of a version: it may count an outcome in."""
        self._debts.get(address, {}).pop(entry.provenance.write_id, None)
        ref = entry.provenance.outcome_ref
        if ref is not None:
            self._counted.setdefault(ref, address.object_key(entry.version))

    def close(self, address: Address, newest: MemoryEntry | None) -> None:
        """Drop outcomes that need not be counted into a memory, all of whose versions were seen.

        `newest` is None if it cannot be told; then another finding says why.
        """
        due = self._debts.get(address, {})
        for its_id, debt in list(due.items()):
            if newest is None or not evidence.can_count(newest, debt.used):
                del due[its_id]

    def first_owed(self, address: Address) -> int | None:
        """Return the lowest version of a memory after which an outcome must still be found counted
        in; None if there is none."""
        due = self._debts.get(address, {}).values()
        return min((debt.used for debt in due), default=None)

    def find_lost(self) -> None:
        """Add a finding for each outcome that was counted and has no record."""
        for ref, object_key in self._counted.items():
            if self._is_lost(ref):
                problem = f"it counts the outcome {ref!r}, of which there is no record"
                hint = "run copy again if this is a copy that was not finished, else restore that"
                self.findings.append(Finding(object_key, problem, hint))

    def settle(self, repair: bool) -> list[Finding]:
        """Return the outcomes that must still be counted, after another look, since counting may
        have been under way; with `repair`, those that this call counted."""
        debts = (debt for due in self._debts.values() for debt in due.values())
        return [_pending(self._versions, debt) for debt in debts if self._stands(debt, repair)]

    def _is_lost(self, ref: str) -> bool:
        try:
            object_key = self._versions.layout.outcome_key(ref)
        except InvalidKeyError:
            return True
        return object_key not in self._refs and self._versions.store.get(object_key) is None

    def _stands(self, debt: _Debt, repair: bool) -> bool:
        try:
            if repair:
                paid = apply.settle(self._versions, debt.outcome, debt.address, debt.used)
                return paid is not None
            return apply.is_owed(self._versions, debt.outcome, debt.address, debt.used)
        except CorruptEntryError:  # there is a finding that says so
            return False


def _pending(versions: VersionLog, debt: _Debt) -> Finding:
    return Finding(
        versions.layout.outcome_key(debt.outcome.ref),
        f"it has not been counted into {debt.address} yet",
        "verify with repair, or commit it again",
        repairable=True,
    )
