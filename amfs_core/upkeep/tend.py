"""Tending: one round of a namespace's regular upkeep. Two rounds at once do no harm."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from amfs_core import arguments
from amfs_core.errors import CorruptEntryError
from amfs_core.format import Address, MemoryEntry
from amfs_core.parallel import mapped
from amfs_core.storage import StorageAdapter
from amfs_core.upkeep.backup import Backup, Backups, PruneReport
from amfs_core.upkeep.mirrors import CaughtUp, catch_up_mirrors
from amfs_core.upkeep.outcome_audit import Ledger
from amfs_core.versions import VersionLog

LOOK_BACK = timedelta(days=7)
"""How old an outcome may be when tending begins: `verify` with repair finishes older ones."""

_OVERLAP = timedelta(hours=1)  # between rounds, as the store's clock is another one
_BEING_MADE = timedelta(minutes=15)
_THREADS = 16


@dataclass(frozen=True, slots=True)
class Schedule:
    """Where backups are kept, how often one is made, and how long they stay (`Backups.prune`)."""

    place: StorageAdapter
    every: timedelta
    keep: int | None = None
    keep_for: timedelta | None = None

    @classmethod
    def checked(
        cls,
        place: StorageAdapter,
        every: float | timedelta,
        keep: int | None,
        keep_for: float | timedelta | None,
    ) -> Schedule:
        """Return a schedule; `InvalidValueError` names what is out of its range."""
        return cls(
            place,
            timedelta(seconds=arguments.seconds(every, "backup_every")),
            None if keep is None else arguments.count(keep, "keep"),
            None
            if keep_for is None
            else timedelta(seconds=arguments.seconds(keep_for, "keep_for")),
        )


@dataclass(frozen=True, slots=True)
class TendReport:
    """What a round did, in `took` seconds.

    `outcomes` is how often the round counted an interrupted outcome into a memory. `mirrors` is
    what each mirror of the store got that it lacked. `backup` is the backup that it made, None if
    none was due; `pruned` is what `Backups.prune` removed, None where no backups are kept.
    `indexed` says whether an index was brought up to date.
    """

    outcomes: int
    mirrors: tuple[CaughtUp, ...]
    backup: Backup | None
    pruned: PruneReport | None
    took: float
    indexed: bool = False


def tend(
    versions: VersionLog, since: datetime | None, schedule: Schedule | None
) -> tuple[TendReport, datetime]:
    """Do one round, and say since when the next one has to look at outcomes."""
    started, next_since = time.monotonic(), datetime.now(UTC) - _OVERLAP
    outcomes = _finish_outcomes(versions, since or datetime.now(UTC) - LOOK_BACK)
    store, namespace = versions.store, versions.layout.namespace
    # What the mirrors lack is found after what this round writes.
    mirrors = catch_up_mirrors(store.inner, namespace, store.patience.seconds)
    if (log := store.changes()) is not None:
        log.position(make=False)  # removes what is left of logs that nobody can follow any more
    made, pruned = None, None
    if schedule is not None:
        backups = Backups(schedule.place, namespace, patience=store.patience.seconds)
        made = _back_up(backups, store.inner, schedule)
        pruned = backups.prune(keep=schedule.keep, keep_for=schedule.keep_for)
    return TendReport(outcomes, mirrors, made, pruned, time.monotonic() - started), next_since


def _finish_outcomes(versions: VersionLog, since: datetime) -> int:
    """Count recent outcomes into the memories where that is still to be done. Each version after
    those that they are about is read once, however many outcomes there are."""
    ledger = Ledger(versions, since)

    def newest(address: Address) -> tuple[Address, MemoryEntry | None]:
        try:
            return address, versions.newest(address)
        except CorruptEntryError:  # `verify` names it
            return address, None

    pairs = mapped(newest, sorted(ledger.named(), key=str), _THREADS)
    entries = {address: entry for address, entry in pairs if entry is not None}
    ledger.charge({address: [entry.version] for address, entry in entries.items()}, None)
    for address, entry in entries.items():
        used = ledger.first_owed(address)
        if used is None:
            continue
        try:
            for later_entry in versions.span(address, range(used + 1, entry.version + 1)):
                ledger.see(address, later_entry)
        except CorruptEntryError:
            continue
        ledger.close(address, entry)
    return len(ledger.settle(repair=True))


def _back_up(backups: Backups, source: StorageAdapter, schedule: Schedule) -> Backup | None:
    """Make a backup if one is due and it is this process that has to make it."""
    there = {backup.name: backup for backup in backups.list()}
    newest = next(reversed(there.values()), None)
    if newest is not None and datetime.now(UTC) - newest.as_of < schedule.every:
        return None
    if backups.is_being_made(_BEING_MADE):
        return None
    return backups.create_in_turn(
        source, newest, _BEING_MADE, full=_ends_chain(newest, there, schedule)
    )


def _ends_chain(newest: Backup | None, there: Mapping[str, Backup], schedule: Schedule) -> bool:
    """Whether the chain of a backup has to end with it: a chain goes as a whole, so one that is
    long enough or old enough must end."""
    if newest is None:
        return False
    chain = [newest]
    while (base := chain[-1].base) is not None:
        chain.append(there[base])
    is_long = schedule.keep is not None and len(chain) >= schedule.keep
    age = datetime.now(UTC) - chain[-1].as_of
    return is_long or (schedule.keep_for is not None and age > schedule.keep_for)
