"""Making a backup: the content of a namespace at a time, without anybody waiting for it.

`docs/design/backup.md` says why a backup is closed: it has what each of its objects builds on.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import IO, Literal, assert_never

from amfs_core.errors import AMFSError, CorruptEntryError, OutcomeUnknownError
from amfs_core.format import Address, Layout, MemoryEntry, Outcome, decode_outcome
from amfs_core.parallel import ahead
from amfs_core.storage import ObjectInfo, StoreClient
from amfs_core.upkeep.backup.archive import ArchiveWriter, lines_of
from amfs_core.upkeep.backup.aside import Aside
from amfs_core.upkeep.backup.index import Line, Place, merged, place_of
from amfs_core.upkeep.backup.known import AnotherSourceError, Known
from amfs_core.upkeep.backup.manifest import Backup, Run
from amfs_core.upkeep.backup.shelf import Shelf
from amfs_core.upkeep.listing import (
    ListedForeign,
    ListedManifest,
    ListedMemory,
    ListedOutcome,
    listed,
    position,
)
from amfs_core.upkeep.placing import decoded
from amfs_core.versions import Manifests, absence

LONGEST_CHAIN = 30
"""Backups that build on one another, the full one included."""

_TOGETHER = 500  # objects that are read together …
_TOGETHER_BYTES = 4 * 1024 * 1024  # … and about how many bytes, so that memory is bounded
_UNKNOWN_BYTES = 64 * 1024  # of an object that was not listed
_MOST_LEFT_OUT = 100
_MARKS = (b'"erased":"', b'"purges":true')

Progress = Callable[[int, int], None]
"""Told `(done, total)` objects."""

_log = logging.getLogger("amfs")


def create(
    shelf: Shelf, source: StoreClient, *, full: bool, progress: Progress | None = None
) -> Backup:
    """Make a backup: incremental where there is a chain that it can build on."""
    if not full:
        inventory = shelf.inventory()
        chain = next((inventory.chain(backup) for backup in reversed(inventory.good())), None) or []
        if 0 < len(chain) < LONGEST_CHAIN:
            try:
                made = _attempt(shelf, source, chain, progress)
            except AnotherSourceError as reason:
                _log.warning("a full backup is made, as %s", reason)
            else:
                if made is not None:
                    return made
    made = _attempt(shelf, source, [], progress)
    assert made is not None  # nobody prunes what builds on nothing
    return made


def _attempt(
    shelf: Shelf, source: StoreClient, chain: list[Backup], progress: Progress | None
) -> Backup | None:
    as_of, started = datetime.now(UTC), time.monotonic()
    base = chain[-1] if chain else None
    manifests = Manifests(source, shelf.layout)
    manifests.for_reading()
    name = shelf.start(as_of, base)
    if name is None:
        return None
    making = _Making(shelf, source, name, chain)
    try:
        if progress:
            making.report_to(progress)
        making.run()
        # After all else: what was read by then stands on nothing later.
        manifests.look()
        manifests.for_reading()
    except OutcomeUnknownError:  # something may land yet: `prune` removes it when it has
        raise
    except (AMFSError, AnotherSourceError):
        with contextlib.suppress(AMFSError):
            shelf.give_up(name)
        raise
    backup = Backup(
        name=name,
        namespace=shelf.layout.namespace,
        as_of=as_of,
        took=round(time.monotonic() - started, 3),
        base=None if base is None else base.name,
        memories=making.memories,
        versions=making.versions,
        outcomes=making.outcomes,
        bytes=making.bytes,
        added=making.added,
        size=making.writer.size,
        runs=tuple(making.writer.runs),
        left_out=tuple(making.left_out),
        manifest=manifests.texts(),
    )
    shelf.finish(backup)
    return backup


@dataclass(slots=True)
class _Memory:
    """A memory that is being read: the chain's lines, and what has been seen so far."""

    address: Address
    lines: dict[int, Line]
    """The chain's lines of it that have not been read again."""
    last: int
    is_cut: bool = False
    """True if a version was absent: nothing after it is read."""
    is_new: bool = True
    order: int = 0


@dataclass(frozen=True, slots=True)
class _Item:
    """An object that has to be read."""

    key: str
    info: ObjectInfo | None
    line: Line | None
    memory: _Memory | None = None
    version: int = 0
    is_late: bool = False


@dataclass(slots=True)
class _Late:
    """What is looked at once the listing is over."""

    outcomes: list[Outcome] = field(default_factory=list)
    refs: set[str] = field(default_factory=set)
    unordered: dict[Address, _Memory] = field(default_factory=dict)
    again: dict[str, tuple[Address, int, Line]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.outcomes or self.refs or self.unordered or self.again)


class _Making:
    """One attempt: what is read, and what is counted."""

    def __init__(self, shelf: Shelf, source: StoreClient, name: str, chain: list[Backup]) -> None:
        self.writer = ArchiveWriter(partial(shelf.keep_part, name))
        self.left_out: list[str] = []
        base = chain[-1] if chain else None
        self.memories = base.memories if base else 0
        self.versions = base.versions if base else 0
        self.outcomes = base.outcomes if base else 0
        self.bytes = base.bytes if base else 0
        self.added = 0
        self._shelf = shelf
        self._source = source
        self._layout: Layout = shelf.layout
        self._name = name
        self._runs: list[tuple[str, Run]] = [
            (backup.name, run) for backup in chain for run in backup.runs
        ]
        self._late = _Late()
        self._aside = Aside()
        self._progress: Progress | None = None
        self._done = self._total = 0

    def report_to(self, progress: Progress) -> None:
        """Report progress, for which the source is listed once more."""
        self._total = sum(1 for _ in self._source.list(self._layout.root))
        self._progress = progress
        progress(0, self._total)

    def run(self) -> None:
        """Read all that the chain does not have, and write it."""
        with tempfile.TemporaryFile() as early:
            for info in self._source.list(self._layout.outcomes):
                early.write(f"{info.key}\n".encode())
            early.seek(0)
            for item, body in self._read(self._new(early)):
                self._take(item, body)
        self.writer.end_run(is_last=not self._late)
        if self._late:
            with self._aside:
                self._add_late()
            self.writer.end_run(is_last=True)

    # -- what has to be read -----------------------------------------------------------------

    def _new(self, early: IO[bytes]) -> Iterator[_Item]:
        """Yield what the chain does not have, or may have with other bytes, in the order."""
        known = Known(self._layout, self._lines())
        before = b""
        for listing_entry in listed(self._source.list(self._layout.root), with_infos=True):
            if isinstance(listing_entry, ListedForeign | ListedManifest):
                self._tell(1)  # the manifest is in the record of the backup
            elif isinstance(listing_entry, ListedMemory):
                yield from self._new_of(
                    listing_entry, known.take(position(listing_entry.address.prefix))
                )
                self._tell(len(listing_entry.infos))
            elif isinstance(listing_entry, ListedOutcome):
                key = listing_entry.info.key.encode()
                while before < key and (line := early.readline()):
                    before = line.rstrip(b"\n")
                lines = known.take(place_of(self._layout, listing_entry.info.key)[0])
                yield from self._new_outcome(listing_entry, lines.get(0), is_early=before == key)
                self._tell(1)
            else:
                assert_never(listing_entry)
        known.end()

    def _new_of(self, listed_memory: ListedMemory, lines: dict[int, Line]) -> Iterator[_Item]:
        if lines and max(lines) > listed_memory.last:
            raise AnotherSourceError(
                f"{listed_memory.address} ends at v{listed_memory.last} in this store"
            )
        memory = _Memory(listed_memory.address, lines, listed_memory.last, is_new=not lines)
        for version, line in lines.items():
            if line.kind == "order" and line.is_as_listed(listed_memory.infos.get(version)):
                memory.order = max(version, memory.order)
        for version in range(1, listed_memory.last + 1):
            if memory.is_cut:
                return
            info, known = listed_memory.infos.get(version), lines.get(version)
            if known is None or not known.is_as_listed(info):
                yield _Item(listed_memory.address.object_key(version), info, known, memory, version)

    @staticmethod
    def _new_outcome(
        outcome: ListedOutcome, line: Line | None, *, is_early: bool
    ) -> Iterator[_Item]:
        if line is None or not line.is_as_listed(outcome.info):
            yield _Item(outcome.info.key, outcome.info, line, is_late=not is_early and line is None)

    def _lines(self) -> Iterator[tuple[Place, Line]]:
        """Yield the lines of the chain and of what this attempt has written, in the order."""
        runs = [*self._runs, *((self._name, run) for run in self.writer.runs)]
        indexes = [((line, None) for line in lines_of(self._shelf, *run)) for run in runs]
        return ((place, line) for place, line, _ in merged(self._layout, indexes))

    def _read(self, items: Iterable[_Item]) -> Iterator[tuple[_Item, bytes | None]]:
        """Yield items with what the source has there, in their order: many read together, the next
        ones while those before are written."""

        def groups() -> Iterator[tuple[list[_Item], dict[str, bytes | None]]]:
            group: list[_Item] = []
            size = 0
            for item in items:
                group.append(item)
                size += item.info.size if item.info else _UNKNOWN_BYTES
                if len(group) >= _TOGETHER or size >= _TOGETHER_BYTES:
                    yield group, self._bodies(group)
                    group, size = [], 0
            if group:
                yield group, self._bodies(group)

        for group, bodies in ahead(groups()):
            for item in group:
                yield item, bodies.pop(item.key)

    def _bodies(self, group: list[_Item]) -> dict[str, bytes | None]:
        """Return what was set aside, and of all else what the source has."""
        keys = [item.key for item in group]
        bodies = dict(self._source.get_many([key for key in keys if key not in self._aside]))
        bodies.update((key, self._aside[key]) for key in keys if key in self._aside)
        return bodies

    # -- what was read -----------------------------------------------------------------------

    def _take(self, item: _Item, body: bytes | None) -> None:
        """Write an object of the main run, and note what it stands on."""
        memory = item.memory
        if memory is not None and memory.is_cut:
            return
        if body is None and memory is not None:
            body = self._look_again(memory, item.version)
        if body is None:
            if item.line is not None:
                raise AnotherSourceError(f"{item.key} is not in this store any more")
            return
        if memory is None:
            if self._write(item.key, item.info, item.line, body, "") and item.is_late:
                self._note_late(item.key, body)
            return
        memory.lines.pop(item.version, None)  # it has been looked at
        kind = _kind(_marked(self._layout, memory.address, item.version, body))
        if kind == "stub" and memory.order < item.version:
            self._late.unordered[memory.address] = memory
        if kind == "order":
            memory.order = item.version
            self._late.unordered.pop(memory.address, None)
        if not self._write(item.key, item.info, item.line, body, kind):
            return
        if memory.is_new:
            self.memories += 1
            memory.is_new = False
        if kind == "order":
            self._look_at_erased(memory, item.version)

    def _look_again(self, memory: _Memory, version: int) -> bytes | None:
        try:
            body = absence.look_again(self._source, self._layout, memory.address, version)
        except CorruptEntryError as error:
            self._leave_out(error.object_key or str(memory.address))
            body = None
        if body is None:
            memory.is_cut, memory.last = True, version - 1
        return body

    def _leave_out(self, object_key: str) -> None:
        _log.warning("%s is missing in the source: the backup has nothing after it", object_key)
        if len(self.left_out) < _MOST_LEFT_OUT:
            self.left_out.append(object_key)

    def _look_at_erased(self, memory: _Memory, order: int) -> None:
        """Have versions of the chain read again that a new tombstone orders to be erased."""
        for version, line in memory.lines.items():
            if version < order and not line.kind:
                self._late.again[line.key] = (memory.address, version, line)

    def _write(
        self,
        key: str,
        info: ObjectInfo | None,
        known: Line | None,
        body: bytes,
        kind: Literal["", "stub", "order"],
    ) -> bool:
        """Write an object, unless the chain has the same bytes; True when it was written."""
        sha256 = hashlib.sha256(body).hexdigest()
        if known is not None:
            if known.sha256 == sha256:
                return False
            if kind != "stub":
                raise AnotherSourceError(f"{key} has other bytes in this store")
            self.bytes -= known.size
        elif key.startswith(self._layout.outcomes):
            self.outcomes += 1
        else:
            self.versions += 1
        self.bytes += len(body)
        self.added += 1
        self.writer.add(Line(key, len(body), sha256, info.modified if info else None, kind), body)
        return True

    def _tell(self, objects: int) -> None:
        if self._progress:
            self._done += objects
            self._total = max(self._total, self._done)
            self._progress(self._done, self._total)

    # -- what came meanwhile -----------------------------------------------------------------

    def _note_late(self, key: str, body: bytes) -> None:
        ref = self._layout.parse_outcome(key)
        with contextlib.suppress(CorruptEntryError):  # damaged: nobody knows what it names
            self._late.outcomes.append(decode_outcome(body, self._layout, ref or ""))

    def _add_late(self) -> None:
        """Write, in the order, what the main run builds on and lacks."""
        late = self._late
        versions = {
            memory.address: (memory.last, self._climb(memory)) for memory in late.unordered.values()
        }
        lasts = {address: last for address, (_, last) in versions.items()}
        firsts = {address: first for address, (first, _) in versions.items()}
        outcomes: set[str] = set()
        while late.outcomes or late.refs:
            used: dict[Address, int] = {}
            for outcome in late.outcomes:
                for name, version in outcome.memories().items():
                    address = self._layout.address(*name)
                    used[address] = max(version, used.get(address, 0))
            keys = {self._layout.outcome_key(ref) for ref in late.refs} - outcomes
            late.outcomes, late.refs = [], set()
            backup_lasts = self._find({address for address in used if address not in lasts}, keys)
            for address in used.keys() - lasts.keys():
                lasts[address] = firsts[address] = backup_lasts.get(address, 0)
            for address, version in used.items():
                lasts[address] = self._reach(address, lasts[address], version)
            for key in sorted(keys):
                body = self._source.get(key)
                if body is not None:
                    outcomes.add(key)
                    self._note_late(key, body)
        items = [
            *(
                _Item(address.object_key(version), None, None, _Memory(address, {}, 0), version)
                for address, last in lasts.items()
                for version in range(firsts[address] + 1, last + 1)
            ),
            *(_Item(key, None, None) for key in outcomes),
            *(
                _Item(key, None, line, _Memory(address, {}, 0, is_new=False), version)
                for key, (address, version, line) in late.again.items()
            ),
        ]
        items.sort(key=lambda item: place_of(self._layout, item.key))
        for item, body in self._read(items):
            self._take_late(item, body)

    def _find(self, addresses: set[Address], keys: set[str]) -> dict[Address, int]:
        """Return the last versions that the backup has of some memories so far, and take those of
        the object keys out that it has. Reads the indexes once."""
        lasts: dict[Address, int] = {}
        prefixes = {address.prefix: address for address in addresses}
        if not (prefixes or keys):
            return lasts
        for _, line in self._lines():
            version = self._layout.split(line.key)
            if line.key in keys:
                keys.remove(line.key)
            elif version is not None and version[0] in prefixes:
                lasts[prefixes[version[0]]] = version[1]
        return lasts

    def _climb(self, memory: _Memory) -> int:
        """Return the number of the tombstone that ordered an erasure."""
        return self._reach(memory.address, memory.last, memory.last, needs_order=True)

    def _reach(self, address: Address, last: int, wanted: int, *, needs_order: bool = False) -> int:
        """Return the last version of a memory that the backup must have, given the last one that it
        has and the wanted one; note the outcomes that the versions between count.

        Each version is set aside as it is here. Read a second time, the tombstone that ordered an
        erasure could be a stub itself, after another purge whose own tombstone the backup lacks.
        """
        while last < wanted or needs_order:
            object_key = address.object_key(last + 1)
            body = self._source.get(object_key)
            if body is None:
                if last < wanted:
                    self._leave_out(object_key)
                return last
            self._aside[object_key] = body
            last += 1
            entry = decoded(self._layout, address, last, body)
            if entry is not None:
                if entry.provenance.outcome_ref is not None:
                    self._late.refs.add(entry.provenance.outcome_ref)
                if entry.erased is not None:
                    needs_order = True
                if entry.purges:
                    needs_order = False
        return last

    def _take_late(self, item: _Item, body: bytes | None) -> None:
        if body is None:
            if item.line is None:
                self._leave_out(item.key)
            return
        if item.memory is None:
            self._write(item.key, None, item.line, body, "")
            return
        kind = _kind(_marked(self._layout, item.memory.address, item.version, body))
        if self._write(item.key, None, item.line, body, kind) and item.version == 1:
            self.memories += item.line is None


def _marked(layout: Layout, address: Address, version: int, body: bytes) -> MemoryEntry | None:
    """Return the entry in a body that may be a stub or an order to erase, None for any other: few
    bodies have to be decoded to know that."""
    if not any(mark in body for mark in _MARKS):
        return None
    return decoded(layout, address, version, body)


def _kind(entry: MemoryEntry | None) -> Literal["", "stub", "order"]:
    if entry is None:
        return ""
    if entry.purges:
        return "order"
    return "" if entry.erased is None else "stub"
