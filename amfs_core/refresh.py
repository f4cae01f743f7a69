"""One refresh of a catalog: compare a listing with what is held, and get what is new.

It runs beside writers and other refreshes. What is held is replaced only by what is newer, so the
order in which they end does not matter.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from amfs_core.errors import CorruptEntryError
from amfs_core.layout import Address
from amfs_core.rows import Known, Listed, row
from amfs_core.storage import ObjectInfo
from amfs_core.store import PAGE

if TYPE_CHECKING:
    from amfs_core.catalog import Catalog

Progress = Callable[[int, int], None]
Page = dict[str, Listed]
"""The newest version, by the prefix of its memory, in about 1,000 listed objects."""

_FETCH = 10 * PAGE
"""Versions asked for in one go: it bounds what is held of the listing."""

_STORE = 500
"""Bodies stored in one transaction, while others are on their way: it bounds memory."""

_PROGRESS_EVERY = 100
_log = logging.getLogger("amfs")


class Refresh:
    """What one refresh has found so far."""

    def __init__(
        self, catalog: Catalog, entity_path: str | None, progress: Progress | None
    ) -> None:
        self._catalog = catalog
        self._versions = catalog.versions
        self._entity_path = entity_path
        self._progress = progress or (lambda _done, _total: None)
        self._wanted: Page = {}
        self._behind: dict[str, int] = {}  # listed in a version older than the one held
        self._stamps: list[tuple[float, int]] = []  # written by this process, and listed now
        self._done = 0

    def run(self) -> None:
        """List, compare and fetch. 1 request per 1,000 objects, and 1 per version that is new."""
        catalog = self._catalog
        confirmed = bytearray(catalog.last_id() + 1)  # by id: the listing has it as it is held
        for page in self._pages():
            self._compare(page, confirmed)
            if len(self._wanted) - len(page) >= _FETCH:
                # A memory on this page may have a newer version on the next one.
                self._fetch({name: self._wanted.pop(name) for name in self._wanted.keys() - page})
        self._fetch(self._wanted)
        catalog.stamp(self._stamps)
        if suspects := catalog.others(confirmed, self._entity_path):
            self._look_at(suspects)

    def _pages(self) -> Iterator[Page]:
        """Yield what is listed under the path; then what this process wrote, which a listing that
        lags behind may not have."""
        root = self._versions.layout.entity_prefix(self._entity_path)
        lists = self._versions.store.pages(root)
        with ThreadPoolExecutor(1, thread_name_prefix="amfs-list") as ahead:
            # The next page comes while this one is compared, where a page is a request.
            eager = self._versions.store.paged
            following = ahead.submit(next, lists, None) if eager else None
            while infos := following.result() if following else next(lists, None):
                if eager:
                    following = ahead.submit(next, lists, None)
                yield self._newest(infos, root)
        yield self._catalog.take_own(self._entity_path)

    def _newest(self, infos: Sequence[ObjectInfo], root: str) -> Page:
        page: Page = {}
        split = self._versions.layout.split
        for info in infos:
            key = info.key
            if key.endswith("/v1.json"):  # most memories have one version
                prefix, version = key[:-7], 1
            else:
                place = split(key)
                if place is None:
                    continue
                prefix, version = place
            if prefix not in page or version > page[prefix][0]:
                page[prefix] = version, info.size, info.modified.timestamp()
        page.pop(root, None)  # the memory e/k lists with the path e/k
        return page

    def _compare(self, page: Page, confirmed: bytearray) -> None:
        """Note what is new in a page, and which of the memories held it confirms."""
        known = self._catalog.known_of_page(page)
        ids, same = len(confirmed), 0
        different: dict[str, Known] = {}
        for held in known:
            prefix, id, version, size, modified = held
            if (version, size, modified) != page.get(prefix):
                different[prefix] = held
            else:  # as nearly all are in most refreshes
                same += 1
                if id < ids:
                    confirmed[id] = 1
        if same == len(page):
            return
        held_too = {held[0] for held in known} - different.keys()
        for prefix, listed in page.items():
            if prefix in held_too or (
                prefix in different and self._is_held(different[prefix], listed, confirmed)
            ):
                continue
            earlier = self._wanted.get(prefix)
            if earlier is None or listed[0] > earlier[0]:
                self._wanted[prefix] = listed

    def _is_held(self, held: Known, listed: Listed, confirmed: bytearray) -> bool:
        """True when what is held is as new as what is listed, in spite of a difference."""
        prefix, id, version, size, modified = held
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
        """Get versions and store them, all but the damaged."""
        places: dict[tuple[Address, int], Listed] = {}
        for prefix, listed in wanted.items():
            parsed = self._versions.layout.parse(f"{prefix}v{listed[0]}.json")
            if parsed is not None:  # else a name that AMFS would not have made
                places[parsed] = listed
        total = self._done + len(places) + len(self._wanted if self._wanted is not wanted else ())
        rows = []
        for (address, version), body in self._versions.get_bodies(places):
            try:
                if body is None:
                    self._versions.missing(address, version)
                entry = self._versions.decode(address, version, body)
            except CorruptEntryError as damage:
                self._catalog.report(address, version, damage)
                continue
            self._versions.cache.keep(address, entry, body)
            modified = places[address, version][2]
            rows.append((row(address, entry, len(body), modified), body))
            if len(rows) == _STORE:
                self._catalog.put(rows)
                rows = []
            self._done += 1
            if self._done % _PROGRESS_EVERY == 0:
                self._progress(self._done, total)
        self._catalog.put(rows)
        if places:
            self._progress(self._done, total)

    def _look_at(self, suspects: list[str]) -> None:
        """Look at memories that the listing does not have as they are held: ask for what is held.

        Listings may lag behind, so only its absence proves that this is another store under the
        same name. Such memories are dropped, for what the listing has in their place.
        """
        known = {held[0]: held for held in self._catalog.known(suspects)}
        keys = {f"{prefix}v{held[2]}.json": prefix for prefix, held in known.items()}
        answers = self._versions.store.get_many(keys)
        gone = [keys[key] for key, body in answers if body is None]
        self._catalog.drop([known[prefix] for prefix in gone])
        self._fetch({one: (self._behind[one], 0, None) for one in gone if one in self._behind})


def _confirm(confirmed: bytearray, id: int) -> None:
    if id < len(confirmed):
        confirmed[id] = 1
