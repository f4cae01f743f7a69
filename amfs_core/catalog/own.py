"""Versions that this process wrote and a catalog does not have yet, because a listing that lags may
not show them."""

from __future__ import annotations

from amfs_core.changes import Page
from amfs_core.format import Address
from amfs_core.versions import Cache


class OwnVersions:
    """The versions that this process appended. With `takes` false, the notes are left for another
    catalog."""

    def __init__(self, cache: Cache, *, takes: bool) -> None:
        self._cache = cache
        self._takes = takes
        self._versions: dict[Address, int] = {}

    def __bool__(self) -> bool:
        return bool(self._versions) or self._cache.has_appended

    def note(self) -> bool:
        """Note the versions appended since; False when there were too many to remember."""
        note = self._cache.take_appended if self._takes else self._cache.look_at_appended
        return note(self._versions)

    def under(self, entity_path: str | None) -> Page:
        """Return the versions written under a path that are not stored yet."""
        self.note()
        return {
            address.prefix: (version, 0, None)
            for address, version in list(self._versions.items())
            if address.is_under(entity_path)
        }

    def stored(self, page: Page) -> None:
        """Forget these versions: the catalog has them, or newer ones."""
        for address, version in list(self._versions.items()):
            if address.prefix in page and version <= page[address.prefix][0]:
                self._versions.pop(address, None)
