"""`Backups`: the backups of a namespace in a place, as users call them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from amfs_core import arguments
from amfs_core.errors import AMFSError
from amfs_core.storage import DEFAULT_PATIENCE, StorageAdapter, StoreClient, check_adapter
from amfs_core.upkeep.backup.create import create
from amfs_core.upkeep.backup.manifest import UNFINISHED_AFTER, Backup
from amfs_core.upkeep.backup.prune import PruneReport, prune
from amfs_core.upkeep.backup.restore import RestoreReport, restore
from amfs_core.upkeep.backup.shelf import Shelf
from amfs_core.upkeep.placing import refuse_nested

Progress = Callable[[int, int], None]
"""Told `(done, total)` objects."""


class Backups:
    """The backups of one namespace that are kept in a store.

    The store may be any: a directory, a file of SQLite, a bucket. Several processes may make,
    restore and prune backups at the same time. `patience` is how long, in seconds, a request goes
    on while the store does not answer. The adapter stays open.
    """

    def __init__(
        self,
        place: StorageAdapter,
        namespace: str = "default",
        *,
        patience: float = DEFAULT_PATIENCE,
    ) -> None:
        check_adapter(place)
        self.place = place
        self.namespace = namespace
        self._patience = arguments.seconds(patience, "patience")
        self._shelf = Shelf(StoreClient(place, self._patience), namespace)

    def create(
        self, source: StorageAdapter, *, full: bool = False, progress: Progress | None = None
    ) -> Backup:
        """Make a backup of the namespace in a store, while agents write to it, and return it.

        The backup has every version and outcome that was acknowledged before `as_of`, and what each
        of them builds on: all versions before a version, the record of an outcome that a version
        counts, the versions that an outcome names. It is incremental: it has what the newest backup
        and those below it do not have. It is full with `full=True`, if the chain already has 30
        backups, or if another store was saved there. Versions after one that the source has lost
        are left out, and the backup names the lost one. Nobody sees a backup before it is complete;
        a process that is killed leaves an attempt, which `prune` removes.

        Memory: some tens of MiB, and about 200 bytes for each version of the longest history. The
        source gets 1 request per 1,000 objects and 1 for each new one; `progress(done, total)`
        costs another listing. The place gets 1 request for about 4 MiB, and the indexes of the
        chain are read. Raises what the two stores raise, and `ConfigurationError` for a place
        inside the source.
        """
        check_adapter(source)
        client = StoreClient(source, self._patience).origin
        refuse_nested(client, self._shelf.store, same=False)
        return create(
            self._shelf,
            client,
            full=arguments.flag(full, "full"),
            progress=_checked(progress),
        )

    def list(self) -> list[Backup]:
        """Return the backups that can be restored, oldest first. 1 request per 1,000 objects, and 1
        for each backup; none that reads an archive."""
        return self._shelf.inventory().good()

    def is_being_made(self, within: timedelta) -> bool:
        """Say whether somebody is making a backup: whether an attempt made an object this recently.
        1 request per 1,000 objects, and 1 for each backup and each attempt."""
        after = datetime.now(UTC) - within
        attempts = self._shelf.inventory().attempts.items()
        return any(self._shelf.last_sign(name, started) >= after for name, started in attempts)

    def create_in_turn(
        self, source: StorageAdapter, after: Backup | None, within: timedelta, *, full: bool
    ) -> Backup | None:
        """Make the backup after another (None: the first), as the one of all processes that does.

        None when another one does, which began within that time, or has done it. Otherwise as
        `create`, and 3 requests, 1 per 1,000 objects and for each backup, and 1 for each turn that
        is over.
        """
        name = None if after is None else after.name
        turn = self._shelf.take_turn(name, datetime.now(UTC) - within)
        if turn is None:
            return None
        try:
            newest = next(reversed(self.list()), None)
            if (None if newest is None else newest.name) != name:
                return None
            return self.create(source, full=full)
        except AMFSError:
            with contextlib.suppress(AMFSError):
                self._shelf.give_back(turn)
            raise

    def restore(
        self,
        target: StorageAdapter | None,
        name: str | None = None,
        *,
        progress: Progress | None = None,
    ) -> RestoreReport:
        """Restore a backup, by default the newest, into a store, and report what was done.

        Absent objects are created, byte for byte. Objects that are there with the same bytes are
        skipped, so call it again after an interruption. Different bytes are never overwritten. What
        the target has erased since stays erased. Without a target (None) everything is read and
        checked, and nothing is written.

        Memory: a part (4 MiB) for each backup of the chain, and some tens of MiB. 1 request for
        each part; to the target 1 per 1,000 objects there, 1 for each object, and 1 more where it
        is there already. Raises `InvalidValueError` when there is no such backup,
        `CorruptEntryError` when a part is missing or damaged (if one is missing, before anything is
        written), and `AMFSError` that names an object which the target has with different bytes.
        """
        chain = self._shelf.named(None if name is None else arguments.text(name, "name"))
        if target is None:
            return restore(self._shelf, chain, None, _checked(progress))
        check_adapter(target)
        client = StoreClient(target, self._patience)
        refuse_nested(client, self._shelf.store, same=False)
        return restore(self._shelf, chain, client, _checked(progress))

    def prune(
        self,
        *,
        keep: int | None = None,
        keep_for: float | timedelta | None = None,
        unfinished_after: float | timedelta = UNFINISHED_AFTER,
        dry_run: bool = False,
    ) -> PruneReport:
        """Remove backups, and attempts that were interrupted; say which.

        The newest `keep` backups stay, those made within `keep_for` (seconds or a `timedelta`)
        stay, and so do all backups that these build on; the newest stays in any case. Without
        `keep` and `keep_for`, no backup is removed. An attempt is removed once it has made nothing
        for `unfinished_after`, a day by default. `dry_run` removes nothing.

        1 request for each removed object, and 1 to 4 for each backup. To get rid of content that
        was erased from the namespace: `create(…, full=True)`, then `prune(keep=1)`.
        """
        return prune(
            self._shelf,
            keep=None if keep is None else arguments.count(keep, "keep"),
            keep_for=(
                None
                if keep_for is None
                else timedelta(seconds=arguments.seconds(keep_for, "keep_for"))
            ),
            unfinished_after=timedelta(
                seconds=arguments.seconds(unfinished_after, "unfinished_after")
            ),
            dry_run=arguments.flag(dry_run, "dry_run"),
        )

    def __repr__(self) -> str:
        return f"Backups({self.place!r}, namespace={self.namespace!r})"


def _checked(progress: Progress | None) -> Progress | None:
    if progress is not None:
        arguments.function(progress, "progress")
    return progress
