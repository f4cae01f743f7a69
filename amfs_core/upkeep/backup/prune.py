"""Pruning: removes backups that are too many and too old, and interrupted attempts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from amfs_core.upkeep.backup.manifest import Backup
from amfs_core.upkeep.backup.shelf import Inventory, Shelf


@dataclass(frozen=True, slots=True)
class PruneReport:
    """Which backups were removed, oldest first, which are left, and how many attempts that had been
    interrupted were removed."""

    removed: tuple[Backup, ...]
    kept: tuple[Backup, ...]
    attempts: int


def prune(
    shelf: Shelf,
    *,
    keep: int | None,
    keep_for: timedelta | None,
    unfinished_after: timedelta,
    dry_run: bool,
) -> PruneReport:
    """Remove what `Backups.prune` says. See `docs/design/backup.md` for the order of things."""
    now = datetime.now(UTC)
    inventory = shelf.inventory()
    dead = _dead(shelf, inventory, now - unfinished_after, dry_run=dry_run)
    doomed = _doomed(inventory, keep, None if keep_for is None else now - keep_for)
    if dry_run:
        spared = _needed_by_attempts(shelf, inventory, dead)
        doomed = [backup for backup in doomed if backup.name not in spared]
    else:
        doomed = _agreed(shelf, doomed, dead)
        for backup in reversed(doomed):  # what builds on another goes before that
            shelf.remove(backup.name)
        for name in inventory.half_removed:
            if name in inventory.marked:
                shelf.remove(name)
        for name in (*dead, *inventory.half_removed):
            shelf.give_up(name)
    gone = {backup.name for backup in doomed}
    kept = tuple(backup for backup in inventory.good() if backup.name not in gone)
    return PruneReport(tuple(doomed), kept, len(dead) + len(inventory.half_removed))


def _agreed(shelf: Shelf, doomed: list[Backup], dead: list[str]) -> list[Backup]:
    """Mark backups that may go, and return those that nobody has begun to build on.

    An attempt that begins from now on sees the mark.
    """
    if not doomed:
        return []
    names = {backup.name for backup in doomed}
    mark = shelf.mark(names)
    inventory = shelf.inventory()
    spared = _needed_by_attempts(shelf, inventory, dead)
    for backup in inventory.backups.values():
        if backup.name not in names:
            spared |= {link.name for link in inventory.chain(backup) or ()}
    shelf.unmark(names & spared, mark)
    return [backup for backup in doomed if backup.name not in spared]


def _doomed(inventory: Inventory, keep: int | None, since: datetime | None) -> list[Backup]:
    """Return the backups that may go, oldest first: none that a kept one needs."""
    good = inventory.good()
    if keep is None and since is None:
        wanted = good
    else:
        wanted = good[-(keep or 1) :]  # the newest stays, however old it is
        wanted += [backup for backup in good if since is not None and backup.as_of >= since]
    needed = {link.name for backup in wanted for link in inventory.chain(backup) or ()}
    return [backup for backup in inventory.backups.values() if backup.name not in needed]


def _dead(shelf: Shelf, inventory: Inventory, before: datetime, *, dry_run: bool) -> list[str]:
    """Return the attempts that are over, once it is sure that they never finish."""
    names = []
    for name, started in inventory.attempts.items():
        if started >= before or shelf.last_sign(name, started) >= before:
            continue
        if dry_run or shelf.abandon(name):
            names.append(name)
    return names


def _needed_by_attempts(shelf: Shelf, inventory: Inventory, dead: list[str]) -> set[str]:
    needed: set[str] = set()
    for name in inventory.attempts:
        base = None if name in dead else shelf.base_of(name)
        backup = None if base is None else inventory.backups.get(base)
        if backup is not None:
            needed |= {link.name for link in inventory.chain(backup) or ()}
    return needed
