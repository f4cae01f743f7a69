"""One refresh of a catalog: compare the store's versions with the catalog's, and get the new ones.

It runs beside writers and other refreshes. A version is replaced only by a newer one, so the order
in which refreshes end does not matter.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from amfs_core.catalog.contract import Catalog, Held, Version
from amfs_core.catalog.own import OwnVersions
from amfs_core.changes import Listed, Listing, Page
from amfs_core.errors import AMFSError, CorruptEntryError, PermissionDeniedError
from amfs_core.format import Address
from amfs_core.storage import PAGE, Omissions, refusals
from amfs_core.versions import VersionLog, is_foreign, reached

Progress = Callable[[int, int], None]
_FETCH = 10 * PAGE
"""The most versions requested at once, which bounds the part of the listing in memory."""

_STORE_BYTES = 1 << 23
"""Bodies of this many bytes, or as many as the catalog takes together, are stored in one
transaction while others are on their way. This bounds memory."""

_PROGRESS_EVERY = 100
_log = logging.getLogger("amfs")


class Refresh:
    """The findings of one refresh so far.

    In a shared catalog (`is_shared`) nothing is dropped only because this process may not read it:
    the refresh raises instead. `damaged` are versions that could not be stored and are skipped, and
    `refused` says whether any may not be read.
    """

    def __init__(
        self,
        catalog: Catalog,
        versions: VersionLog,
        listing: Listing,
        *,
        own: OwnVersions,
        omissions: Omissions,
        entity_path: str | None,
        progress: Progress | None,
        is_shared: bool = False,
    ) -> None:
        self._is_shared = is_shared
        self._catalog = catalog
        self._versions = versions
        self._listing = listing
        self._own = own
        self._omissions = omissions
        self._entity_path = entity_path
        self._progress = progress or (lambda _done, _total: None)
        self._wanted: Page = {}
        self._behind: dict[str, int] = {}  # listed in a version older than the one held
        self._stamps: list[tuple[float, int]] = []  # written by this process, and listed now
        self._refused: dict[tuple[Address, int], PermissionDeniedError] = {}
        self._met: Page = {}  # of what this process wrote
        self.damaged: Page = {}
        self._purges = False
        self._done = 0

    @property
    def refused(self) -> bool:
        """Whether this process may not read some version."""
        return bool(self._refused)

    def run(self) -> None:
        """List, compare and fetch. 1 request per 1,000 objects, and 1 per version that is new.

        Unreadable versions are left out if any other can be read; otherwise the refusal is raised.
        """
        catalog = self._catalog
        confirmed = bytearray(catalog.last_id() + 1)  # by id: the listing has it as it is held
        for page in self._pages():
            self._compare(page, confirmed)
            if len(self._wanted) - len(page) >= _FETCH:
                # A memory on this page may have a newer version on the next one.
                self._fetch({name: self._wanted.pop(name) for name in self._wanted.keys() - page})
        self._fetch(self._wanted)
        catalog.stamp(self._stamps)
        if suspects := catalog.unconfirmed(confirmed, self._entity_path):
            self._look_at(suspects)
        if self._refused:
            self._leave_out()
        self._follow_purges()
        self._own.stored(self._met)

    def take_own(self) -> None:
        """Add this process's writes under the path. No request, as long as they are cached."""
        written = self._own.under(self._entity_path)
        self.take(written)
        self._own.stored(written)

    def take(self, page: Page) -> None:
        """Add versions that may be new, without a listing. 1 request for each that is."""
        if not page:
            return
        self._compare(page, bytearray(self._catalog.last_id() + 1))
        wanted, self._wanted = self._wanted, {}
        self._fetch(wanted)
        if self._refused:
            self._leave_out()
        self._follow_purges()

    def _pages(self) -> Iterator[Page]:
        """Yield the listed versions under the path; then this process's writes, which a listing
        that lags may not have."""
        yield from self._listing.pages()
        self._met = self._own.under(self._entity_path)
        yield self._met

    def _compare(self, page: Page, confirmed: bytearray) -> None:
        """Note the new versions in a page, and the memories of the catalog that it confirms."""
        known = self._catalog.held_of_page(page)
        ids = len(confirmed)
        different: dict[str, Held] = {}
        listed_as = page.get
        for memory in known:
            if memory[2:] == listed_as(memory[0]):  # as nearly all are, mostly
                if memory[1] < ids:
                    confirmed[memory[1]] = 1
            else:
                different[memory[0]] = memory
        if len(known) - len(different) == len(page):
            return
        held_too = {memory[0] for memory in known} - different.keys()
        for prefix, listed in page.items():
            if prefix in held_too or (
                prefix in different and self._is_held(different[prefix], listed, confirmed)
            ):
                continue
            earlier = self._wanted.get(prefix)
            if earlier is None or listed[0] > earlier[0]:
                self._wanted[prefix] = listed

    def _is_held(self, memory: Held, listed: Listed, confirmed: bytearray) -> bool:
        """True when the catalog's version is as new as the listed one, although they differ."""
        prefix, id, version, size, modified = memory
        if listed[0] < version:
            self._behind[prefix] = max(listed[0], self._behind.get(prefix, 0))
            return True
        _confirm(confirmed, id)
        if listed[0] > version:
            return False
        if modified is None and listed[2] is not None and listed[1] == size:
            self._stamps.append((listed[2], id))
            return True
        return listed[2] is None

    def _fetch(self, wanted: Page) -> None:
        """Get versions and store all except damaged ones."""
        places: dict[tuple[Address, int], Listed] = {}
        for prefix, listed in wanted.items():
            parsed = self._versions.layout.parse(f"{prefix}v{listed[0]}.json")
            if parsed is None:  # a name that AMFS would not have made
                continue
            if listed[2] is not None and is_foreign(listed[0], self._listing.counts.get(prefix, 1)):
                newest = self._below(*parsed)
                places[parsed[0], newest] = newest, 0, None
            else:
                places[parsed] = listed
        total = self._done + len(places) + len(self._wanted if self._wanted is not wanted else ())
        rows: list[Version] = []
        size = 0
        for (address, version), body in self._versions.get_bodies(places, self._refuse):
            try:
                if body is None:
                    self._versions.missing(address, version)
                entry = self._versions.decode(address, version, body)
            except CorruptEntryError as damage:
                self._report(address, version, damage)
                self.damaged[address.prefix] = version, 0, None
                continue
            self._versions.cache.keep(address, entry, body)
            self._purges = self._purges or entry.purges
            modified = places[address, version][2]
            rows.append(Version(address, entry, body, modified))
            size += len(body)
            if len(rows) >= self._catalog.together or size > _STORE_BYTES:
                self._catalog.put(rows)
                rows, size = [], 0
            self._done += 1
            if self._done % _PROGRESS_EVERY == 0:
                self._progress(self._done, total)
        self._catalog.put(rows)
        if places:
            self._progress(self._done, total)

    def _follow_purges(self) -> None:
        """Erase the data in other files of the catalog, after a purge by another machine, or by a
        process without this directory."""
        if self._purges:
            self._catalog.erase_elsewhere()

    def _below(self, address: Address, foreign: int) -> int:
        """Return the newest version that writers can have reached, below a number that another
        tool put there; of a memory that is nothing else, that one."""
        newest = reached(self._versions.listed(address))
        if newest:
            object_key = address.object_key(foreign)
            self._omissions.note(
                object_key,
                f"{object_key}: no writer can have reached its number; move it out of the store",
            )
        return newest or foreign

    def _refuse(self, address: Address, version: int, refusal: PermissionDeniedError) -> None:
        self._refused[address, version] = refusal

    def _leave_out(self) -> None:
        """Leave out unreadable versions, if anything else under the path can be read."""
        others = self._catalog.last_keys(
            self._entity_path, {address.prefix for address, _ in self._refused}
        )
        if self._is_shared:
            raise next(iter(self._refused.values()))
        refusals.require_others(self._versions.store, self._refused.values(), others)
        for (address, version), refusal in self._refused.items():
            self._report(address, version, refusal)

    def _report(self, address: Address, version: int, fault: AMFSError) -> None:
        """Report once that the newest version of a memory is damaged or unreadable. It is left out
        and never blocks others. The version before it is not the newest, so it is dropped too."""
        self._omissions.note(address.object_key(version), fault)
        self._catalog.forget(address)

    def _look_at(self, suspects: list[str]) -> None:
        """Check memories whose listing differs from the catalog by requesting the catalog's
        versions.

        Listings may lag, so only an absent version proves that this is another store under the same
        name. Such memories are dropped in favour of the listed ones.
        """
        known = {memory[0]: memory for memory in self._catalog.held(suspects)}
        keys = {f"{prefix}v{memory[2]}.json": prefix for prefix, memory in known.items()}
        answers = self._versions.store.get_many(keys)
        gone = [keys[key] for key, body in answers if body is None]
        self._catalog.drop([known[prefix] for prefix in gone])
        self._fetch(
            {prefix: (self._behind[prefix], 0, None) for prefix in gone if prefix in self._behind}
        )


def _confirm(confirmed: bytearray, id: int) -> None:
    if id < len(confirmed):
        confirmed[id] = 1
