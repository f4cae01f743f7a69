"""Where backups are kept: their names in a store, and who may build on, finish or remove which.

Objects that are created once make two decisions. The manifest decides whether an attempt is a
backup or over. `started` and `pruning` decide whether a backup is built on or pruned: each of the
two is created before its maker looks for the other.
`docs/design/backup.md` goes through it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import msgspec

from amfs_core.errors import AMFSError, CorruptEntryError, InvalidValueError
from amfs_core.format import ARCHIVE, BACKUP, Layout
from amfs_core.storage import ObjectInfo, Omissions, StoreClient
from amfs_core.upkeep.backup import manifest
from amfs_core.upkeep.backup.manifest import ABANDONED, Backup, Started

_NAME = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}", re.ASCII)
_MANIFEST, _STARTED, _PRUNING = "manifest.json", "started.json", "pruning-"


@dataclass(slots=True)
class Inventory:
    """The content of the shelf: the backups by name, oldest first; unfinished attempts, and since
    when each exists; and backups whose removal was interrupted.

    `marked` are the backups that somebody prunes, or has begun to prune.
    """

    backups: dict[str, Backup]
    attempts: dict[str, datetime]
    half_removed: list[str]
    marked: set[str]

    def chain(self, backup: Backup) -> list[Backup] | None:
        """Return the chain of a backup, oldest first, itself included; None if a part is gone."""
        chain = [backup]
        while (base := chain[-1].base) is not None:
            before = self.backups.get(base)
            if before is None or before in chain:
                return None
            chain.append(before)
        return chain[::-1]

    def good(self) -> list[Backup]:
        """Return the backups that can be restored, oldest first."""
        return [backup for backup in self.backups.values() if self.chain(backup) is not None]


class Shelf:
    """The backups of one namespace in one store."""

    def __init__(self, store: StoreClient, namespace: str) -> None:
        self.store = store
        self.layout = Layout(namespace)
        self._prefix = f"{self.layout.root}{BACKUP.folder}/"
        self._omissions = Omissions()

    def part_key(self, name: str, part: str) -> str:
        """Return the object key of a part of a backup."""
        return f"{self.layout.root}{ARCHIVE.folder}/{name}/{part}"

    def inventory(self) -> Inventory:
        """Look at everything. 1 request per 1,000 objects, and 1 for each backup.

        A manifest that is damaged is left out and named in the log, once.
        """
        seen: dict[str, dict[str, datetime]] = {}
        for info in self.store.list(self._prefix):
            name, _, kind = info.key.removeprefix(self._prefix).partition("/")
            if _NAME.fullmatch(name):
                seen.setdefault(name, {})[kind] = info.modified
        keys = {self._key(name, _MANIFEST): name for name in seen if _MANIFEST in seen[name]}
        backups: list[Backup] = []
        over: list[str] = []
        for key, body in self.store.get_many(keys):
            name = keys[key]
            try:
                backup = None if body is None else self._decoded(body, key, name)
            except CorruptEntryError as error:
                self._omissions.note(key, error)
                continue
            if backup is not None:
                backups.append(backup)
            elif _STARTED in seen[name]:
                over.append(name)
        marked = {name for name, kinds in seen.items() if any(map(_is_mark, kinds))}
        unfinished = {name: kinds for name, kinds in seen.items() if _MANIFEST not in kinds}
        return Inventory(
            {
                backup.name: backup
                for backup in sorted(backups, key=lambda backup: (backup.as_of, backup.name))
            },
            {name: max(kinds.values()) for name, kinds in unfinished.items() if name not in marked},
            [*over, *(name for name in unfinished if name in marked)],
            marked,
        )

    def _decoded(self, body: bytes, key: str, name: str) -> Backup | None:
        backup = manifest.decode(body, key)
        if backup and (backup.name, backup.namespace) != (name, self.layout.namespace):
            raise CorruptEntryError(
                f"{key}: it is the manifest of the backup {backup.name!r:.80} of the namespace "
                f"{backup.namespace!r:.80}",
                hint="a backup must be copied under its own name: restore another one",
                object_key=key,
            )
        return backup

    def named(self, name: str | None) -> list[Backup]:
        """Return the chain of a backup, by default the newest, oldest first.

        Raises `InvalidValueError` when there is none.
        """
        inventory = self.inventory()
        good = inventory.good()
        wanted = [backup for backup in good if name in (None, backup.name)]
        if not wanted:
            what = "no backup" if name is None else f"no backup {name!r:.80}"
            raise InvalidValueError(
                f"there is {what} of the namespace {self.layout.namespace!r} there",
                hint="list them; those that were interrupted do not count",
            )
        return inventory.chain(wanted[-1]) or []

    # -- making a backup ---------------------------------------------------------------------

    def start(self, as_of: datetime, base: Backup | None) -> str | None:
        """Begin an attempt and return its name; None if its base is being pruned."""
        name = f"{as_of:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        said = msgspec.json.encode(Started(None if base is None else base.name))
        self._keep(self._key(name, _STARTED), said)
        if base is None:
            return name
        inventory = self.inventory()  # after `started` was created: see above
        known = inventory.backups.get(base.name)
        chain = None if known is None else inventory.chain(known)
        if chain is None or any(backup.name in inventory.marked for backup in chain):
            self.give_up(name)
            return None
        return name

    def keep_part(self, name: str, part: str, data: bytes) -> None:
        """Keep a part of an attempt."""
        self._keep(self.part_key(name, part), data)

    def finish(self, backup: Backup) -> None:
        """Make an attempt a backup. Raises `AMFSError` if it was taken for dead meanwhile."""
        self._keep(self._key(backup.name, _MANIFEST), manifest.encode(backup))

    def give_up(self, name: str) -> None:
        """Remove the parts of an attempt that never finishes, and last its beginning."""
        self._remove_parts(name)
        self.store.delete(self._key(name, _STARTED))

    def _keep(self, key: str, data: bytes) -> None:
        if self.store.settle(key, data) != data:
            raise AMFSError(
                f"{key} is there already: this attempt at a backup was taken for dead, as it had "
                "made nothing for a long time",
                hint="make another",
                object_key=key,
            )

    def take_turn(self, after: str | None, lost_before: datetime) -> str | None:
        """Be the one who makes the backup after another (None: the first), and return what to give
        the turn back with; None when it is somebody else's.

        A turn that was taken before `lost_before` is lost. Turns are objects that are created once,
        so nobody shares one. Those after an earlier backup are removed: whoever takes a turn looks
        afterwards which backup is the newest.
        """
        prefix = f"{self._prefix}turns/"
        mine = f"{prefix}{after or '0'}/"
        taken: list[ObjectInfo] = []
        for info in list(self.store.list(prefix)):
            if info.key.startswith(mine):
                taken.append(info)
            elif info.key < mine:
                self.store.delete(info.key)
        if taken and taken[-1].modified >= lost_before:
            return None
        key, token = f"{mine}{len(taken) + 1:06d}.json", secrets.token_hex(8).encode()
        return key if self.store.settle(key, token) == token else None

    def give_back(self, turn: str) -> None:
        """Let somebody else have a turn at once."""
        self.store.delete(turn)

    # -- pruning -----------------------------------------------------------------------------

    def base_of(self, attempt: str) -> str | None:
        """Return the name of the backup that an attempt builds on. 1 request."""
        body = self.store.get(self._key(attempt, _STARTED))
        return None if body is None else msgspec.json.decode(body, type=Started).base

    def last_sign(self, attempt: str, started: datetime) -> datetime:
        """Return when an attempt made its newest object. 1 request per 1,000 of them."""
        return max((info.modified for info in self._parts(attempt)), default=started)

    def abandon(self, attempt: str) -> bool:
        """Make sure that an attempt never finishes; False if it has."""
        key = self._key(attempt, _MANIFEST)
        return self.store.settle(key, ABANDONED) == ABANDONED

    def mark(self, names: Iterable[str]) -> str:
        """Mark backups as being pruned, so that nobody builds on them from now on, and return the
        mark. Each prune has its own mark, and removes only that."""
        mark = f"{_PRUNING}{secrets.token_hex(4)}.json"
        for name in names:
            self.store.settle(self._key(name, mark), b"{}")
        return mark

    def unmark(self, names: Iterable[str], mark: str) -> None:
        """Remove the mark."""
        for name in names:
            self.store.delete(self._key(name, mark))

    def remove(self, name: str) -> None:
        """Remove a marked backup: first the manifest, last the marks."""
        self.store.delete(self._key(name, _MANIFEST))
        self.give_up(name)
        for info in list(self.store.list(self._key(name, ""))):
            if _is_mark(info.key.rpartition("/")[2]):
                self.store.delete(info.key)

    def sizes(self, name: str) -> dict[str, int]:
        """Return the parts of a backup that are there, with their sizes."""
        prefix = self.part_key(name, "")
        return {info.key.removeprefix(prefix): info.size for info in self._parts(name)}

    def _remove_parts(self, name: str) -> None:
        for info in list(self._parts(name)):
            self.store.delete(info.key)

    def _parts(self, name: str) -> Iterator[ObjectInfo]:
        return self.store.list(self.part_key(name, ""))

    def _key(self, name: str, kind: str) -> str:
        return f"{self._prefix}{name}/{kind}"


def _is_mark(kind: str) -> bool:
    return kind.startswith(_PRUNING)
