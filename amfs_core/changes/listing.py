"""Listings: the versions under an entity path, and which of them are the newest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from amfs_core.format import Address, Layout
from amfs_core.parallel import ahead
from amfs_core.storage import ObjectInfo, StoreClient

Listed = tuple[int, int, float | None]
"""The newest known version of a memory: its number, its size in bytes, and the time of its object
in seconds since 1970. Size and time are None when they do not come from a listing."""

Page = dict[str, Listed]
"""Newest versions by the prefixes of their memories."""


class Listing:
    """The newest version of each memory under an entity path, as a listing has them.

    While the pages are read, `counts` collects the number of listed versions of each memory that
    has more than v1.
    """

    def __init__(self, store: StoreClient, layout: Layout, entity_path: str | None) -> None:
        self._store = store
        self._layout = layout
        self._root = layout.entity_prefix(entity_path)
        self.counts: dict[str, int] = {}

    def pages(self) -> Iterator[Page]:
        """Yield the newest versions among about 1,000 objects at a time. 1 request each.

        A memory may be on several pages. Names that look like versions are included: `Layout.parse`
        says whether AMFS would have made them.
        """
        pages = self._store.pages(self._root)
        # Where a page is a request, the next page is fetched while this one is read.
        for infos in ahead(pages) if self._store.capabilities.paged else pages:
            yield self._newest(infos)

    def _newest(self, infos: Sequence[ObjectInfo]) -> Page:
        page: Page = {}
        split = self._layout.split
        for info in infos:
            key = info.key
            if key.endswith("/v1.json"):  # the only version of most memories, and the first of all
                page[key[:-7]] = 1, info.size, info.modified.timestamp()
                continue
            place = split(key)
            if place is None:
                continue
            prefix, version = place
            self.counts[prefix] = self.counts.get(prefix, 1) + 1
            if prefix not in page or version > page[prefix][0]:
                page[prefix] = version, info.size, info.modified.timestamp()
        page.pop(self._root, None)  # the memory e/k, which a listing of the path e/k has
        return page


@dataclass(frozen=True, slots=True)
class Stored:
    """A version in a listing: its size in bytes, and the time when the store got it."""

    address: Address
    version: int
    size: int
    modified: datetime


def stored(
    store: StoreClient, layout: Layout, entity_path: str | None
) -> Iterator[Stored | ObjectInfo]:
    """Yield every version under an entity path or in the namespace, and every other object as it
    was listed. 1 request per 1,000 objects; no body is read."""
    for info in store.list(layout.entity_prefix(entity_path)):
        parsed = layout.parse(info.key)
        if parsed is None:
            yield info
        elif parsed[0].is_under(entity_path):  # versions of the memory e/k are below e/k/ too
            yield Stored(*parsed, info.size, info.modified)
