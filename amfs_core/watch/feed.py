"""The feed: which versions under an entity path were delivered, and which come next.

Versions are contiguous and never disappear, so one number for each memory says exactly what was
delivered, and a listing or the change log says which version is the newest: all between are new. A
listing that lags only delays.
This module has no thread, clock or doorbell: `watch` and `poller` have those.
`docs/design/watch.md` says why.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from amfs_core.changes import Followed, Page, Source
from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    CorruptEntryError,
    PermissionDeniedError,
)
from amfs_core.format import Address, MemoryEntry
from amfs_core.storage import refusals
from amfs_core.versions import VersionLog
from amfs_core.watch import cursor

BATCH = 1000
"""How many versions are fetched, put in order of time and held at once."""

BEGINNING = "beginning"

_log = logging.getLogger("amfs")


class _Coming(NamedTuple):
    prefix: str
    entry: MemoryEntry


class Feed:
    """The new versions of every memory under an entity path, each once, in order for each memory.

    `since` is a cursor, "beginning", or None for what comes after this call, which then lists:
    1 request per 1,000 objects. Raises `InvalidValueError` for a cursor that is damaged or belongs
    to something else.

    One thread at a time may call `fetch`; `first`, `deliver` and `cursor` are safe from any.
    """

    def __init__(self, versions: VersionLog, entity_path: str | None, since: str | None) -> None:
        self._versions = versions
        self._scope = versions.layout.namespace, entity_path
        self.prefix = versions.layout.entity_prefix(entity_path)
        self._delivered: dict[str, int] = {}  # by the memories' prefixes
        self._behind: dict[str, int] = {}  # newest versions listed of memories not yet fetched
        self._waiting: dict[str, str] = {}  # memories that wait, and what was reported
        self._stopped: dict[str, int] = {}  # memories with a fault, and how far they are known
        self._is_listed = since is None
        self._entity_path = entity_path
        self._changes = Source(versions.store, versions.layout)
        self._followed: Followed | None = None
        self._next: Followed | None = None  # to follow once all that the last look named was given
        self.after_fork()
        if since is None:
            self._delivered = self._list()
            self._followed, self._next = self._next, None
        elif since != BEGINNING:
            known = cursor.decode(since, *self._scope)
            self._delivered = {f"{self.prefix}{name}/": version for name, version in known.items()}

    def after_fork(self) -> None:
        """Take a new lock in a forked child, and fetch again whatever was not delivered."""
        self._lock = threading.RLock()
        self._coming: deque[_Coming] = deque()
        self._drop_behind()

    def _drop_behind(self) -> None:
        """Forget what the last look named: the next one names it again."""
        self._behind = {}
        self._next = None

    @property
    def cursor(self) -> str:
        """What was delivered, as text from which a later feed continues."""
        with self._lock:
            delivered = dict(self._delivered)
        skip = len(self.prefix)
        return cursor.encode(
            *self._scope, {name[skip:-1]: version for name, version in delivered.items()}
        )

    @property
    def is_current(self) -> bool:
        """Whether all that the newest listing named was delivered."""
        return self._is_listed and not self._behind and not self._coming

    def delivered(self) -> dict[Address, int]:
        """Return the newest version that was delivered of each memory."""
        with self._lock:
            delivered = dict(self._delivered)
        parsed = (
            (self._versions.layout.parse(f"{prefix}v1.json"), v) for prefix, v in delivered.items()
        )
        return {place[0]: version for place, version in parsed if place is not None}

    def first(self) -> MemoryEntry | None:
        """Return what is to be delivered next; None when something must be fetched first."""
        with self._lock:
            coming = next(iter(self._coming), None)
            return None if coming is None else coming.entry

    def deliver(self) -> MemoryEntry | None:
        """Take what is next, which counts as delivered from now on; None as with `first`."""
        with self._lock:
            try:
                prefix, entry = self._coming.popleft()
            except IndexError:
                return None
            self._delivered[prefix] = max(entry.version, self._delivered.get(prefix, 0))
            return entry

    def fetch(self) -> bool:
        """Fetch the next versions, once all before were delivered; False when nothing is new.

        1 request per 1,000 objects to list them, or 1 in all where the store has a change log, and
        1 for each new version that this process has not seen; at most 1,000 versions in one call.
        If the store stops answering on the way, the versions that came before are delivered, so a
        watch far behind advances in spite of failures. Nothing is lost after an error or the death
        of this process: the next look names again whatever was not delivered.
        """
        if self._coming:
            return True
        if not self._behind:
            self._behind = self._look()
            self._is_listed = True
        try:
            self._fetch()
        except BaseException:
            self._drop_behind()
            raise
        return bool(self._coming or self._behind)

    def _look(self) -> dict[str, int]:
        """Return the newest version of each memory that has undelivered versions."""
        if self._next is not None:
            self._followed = self._next
            self._followed.again = {
                name: (version, 0, None) for name, version in self._stopped.items()
            }
        self._next, self._stopped = None, {}
        if self._followed is not None:
            news = self._changes.since(self._followed)
            if news is not None:
                position, page = news
                newest: dict[str, int] = {}
                self._add_newer(page, newest)
                self._next = replace(self._followed, position=position)
                return newest
            self._followed = None
        return self._list()

    def _list(self) -> dict[str, int]:
        """Do the same by a listing."""
        position = self._changes.position(make=True)
        begun = time.monotonic()
        newest: dict[str, int] = {}
        for page in self._changes.listing(self._entity_path).pages():
            self._add_newer(page, newest)
        if position is not None:
            self._next = self._changes.followed(self._entity_path, position, begun)
        return newest

    def _add_newer(self, page: Page, newest: dict[str, int]) -> None:
        layout = self._versions.layout
        for prefix, (version, *_) in page.items():
            known = newest.get(prefix) or self._delivered.get(prefix, 0)
            if version > known and (known or layout.parse(f"{prefix}v{version}.json") is not None):
                newest[prefix] = version

    def _fetch(self) -> None:
        wanted = self._next_wanted()
        entries: dict[tuple[Address, int], MemoryEntry] = {}
        faults: dict[tuple[Address, int], AMFSError] = {}

        def refuse(address: Address, version: int, refusal: PermissionDeniedError) -> None:
            faults[address, version] = refusal

        outage: BackendUnavailableError | None = None
        try:
            for (address, version), body in self._versions.get_bodies(wanted, refuse):
                try:
                    if body is None:
                        self._versions.missing(address, version)
                    entry = self._versions.decode(address, version, body)
                except CorruptEntryError as damage:
                    faults[address, version] = damage
                else:
                    self._versions.cache.keep(address, entry, body)
                    entries[address, version] = entry
        except BackendUnavailableError as error:
            outage = error
        else:
            self._raise_refusal(entries, faults)
        coming = self._in_order(wanted, entries, faults)
        if outage is not None:
            if not coming:
                raise outage
            self._drop_behind()
        with self._lock:
            self._coming.extend(coming)

    def _raise_refusal(
        self,
        entries: Mapping[tuple[Address, int], MemoryEntry],
        faults: Mapping[tuple[Address, int], AMFSError],
    ) -> None:
        """Raise the refusal of an object that may not be read, unless another may be."""
        if entries:
            return
        denials = [fault for fault in faults.values() if isinstance(fault, PermissionDeniedError)]
        refused = {address.prefix for address, _ in faults}
        others = (pair for pair in reversed(self._delivered.items()) if pair[0] not in refused)
        delivered = (f"{prefix}v{version}.json" for prefix, version in others)
        refusals.require_others(self._versions.store, denials, delivered)

    def _next_wanted(self) -> list[tuple[Address, int]]:
        """Return up to `BATCH` versions, those of one memory without gaps; a memory whose newest
        is among them is no longer behind."""
        wanted: list[tuple[Address, int]] = []
        done: list[str] = []
        for prefix, newest in self._behind.items():
            first = self._delivered.get(prefix, 0) + 1
            last = min(newest, first + BATCH - len(wanted) - 1)
            if prefix in self._waiting:  # the rest of it waits until that is fixed
                last = first
            parsed = self._versions.layout.parse(f"{prefix}v{newest}.json")
            assert parsed is not None, "the listing had it, and its name was looked at then"
            wanted += [(parsed[0], version) for version in range(first, last + 1)]
            if last == newest:
                done.append(prefix)
            if len(wanted) >= BATCH:
                break
        for prefix in done:
            del self._behind[prefix]
        return wanted

    def _in_order(
        self,
        wanted: list[tuple[Address, int]],
        entries: dict[tuple[Address, int], MemoryEntry],
        faults: dict[tuple[Address, int], AMFSError],
    ) -> list[_Coming]:
        """Return the fetched versions by time; of each memory only those without a gap before."""
        ordered: list[tuple[datetime, str, int, MemoryEntry]] = []
        stopped: set[str] = set()
        ends = {address.prefix: version for address, version in wanted}
        times: dict[str, datetime] = {}
        for address, version in wanted:
            prefix = address.prefix
            if prefix in stopped:
                continue
            entry = entries.get((address, version))
            if entry is None:
                stopped.add(prefix)
                self._stopped[prefix] = self._behind.pop(prefix, ends[prefix])
                if fault := faults.get((address, version)):
                    self._report(prefix, fault)
                continue
            self._waiting.pop(prefix, None)
            # Within a memory the number decides, whatever the writers' clocks said.
            written_at = entry.provenance.written_at
            times[prefix] = max(written_at, times.get(prefix, written_at))
            ordered.append((times[prefix], prefix, version, entry))
        ordered.sort(key=lambda row: row[:3])
        return [_Coming(prefix, entry) for _, prefix, _, entry in ordered]

    def _report(self, prefix: str, fault: AMFSError) -> None:
        """Say once that a version is damaged or may not be read. Only its memory waits for it."""
        if self._waiting.get(prefix) != str(fault):
            self._waiting[prefix] = str(fault)
            _log.warning("a watch holds back the later versions of this memory: %s", fault)
