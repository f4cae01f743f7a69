"""A catalog that is kept up to date: refreshed before each query, by a listing or by the changes
since the last one.

`docs/design/catalog.md` says what goes wrong without each part.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from amfs_core import fork
from amfs_core.catalog.contract import Catalog, CatalogLost
from amfs_core.catalog.own import OwnVersions
from amfs_core.catalog.refresh import Progress, Refresh
from amfs_core.changes import Followed, Listing, Source
from amfs_core.format import Address
from amfs_core.storage import Omissions
from amfs_core.versions import VersionLog

T = TypeVar("T")

_MAX_SCOPES = 1000


class LiveCatalog:
    """A catalog, and when it was last complete under each path.

    With `takes_own` false, the notes of this process's writes are left for another catalog.
    """

    _is_shared = False

    def __init__(self, versions: VersionLog, catalog: Catalog, *, takes_own: bool = True) -> None:
        self._versions = versions
        self._catalog = catalog
        self._changes = Source(versions.store, versions.layout)
        self._own = OwnVersions(versions.cache, takes=takes_own)
        self._omissions = Omissions()
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        """Take a new lock in a forked child, and refresh everything again."""
        self._refreshing = threading.Lock()
        # Of those refreshes that listed everything, too; and what was listed when, to go on from.
        self._refreshed = _Times()
        self._listed = _Times()
        self._followed: OrderedDict[str | None, tuple[Followed, int]] = OrderedDict()

    def fresh(
        self,
        entity_path: str | None,
        work: Callable[[], T],
        *,
        max_age: float | None = None,
        progress: Progress | None = None,
        complete: bool = False,
    ) -> T:
        """Return `work()`, done while the catalog is complete under an entity path.

        It has every version whose write returned before the call began or, with `max_age`, at most
        that many seconds earlier. If the catalog is lost meanwhile, everything is done again.
        1 request per 1,000 objects, or 1 where the store's change log was followed since, and 1 per
        newest version not seen yet; none within `max_age`. `complete`: do not rely on that log.
        """
        asked = time.monotonic() - (max_age or 0.0)
        while True:
            with suppress(CatalogLost):
                number = self._catalog.current()
                self._refresh_since(asked, entity_path, progress, number, complete)
                answer = work()
                self._catalog.require(number)  # otherwise it may have been emptied in between
                return answer

    @property
    def catalog(self) -> Catalog:
        """The catalog that is kept up."""
        return self._catalog

    def forget(self, address: Address, below: int) -> None:
        """Drop a memory, because the content of all versions `below` a number must be erased."""
        while True:
            with suppress(CatalogLost):
                number = self._catalog.current()
                self._catalog.forget(address, below)
                self._catalog.require(number)
                break
        self._catalog.erase_elsewhere()

    def close(self) -> None:
        """Close the catalog. A refresh under way is waited for."""
        with self._refreshing:
            self._catalog.close()

    def _refresh_since(
        self,
        moment: float,
        entity_path: str | None,
        progress: Progress | None,
        number: int,
        complete: bool,
    ) -> None:
        """Refresh unless that was begun, for this path or one above it, after `moment` and in the
        catalog with this number; then take in what this process wrote since, which costs no
        request."""
        scopes = scopes_of(entity_path)
        times = self._listed if complete else self._refreshed
        if times.any_since(moment, scopes, number) and not self._own:
            return
        with self._refreshing:
            if times.any_since(moment, scopes, number) and self._own.note():
                self._refresh(entity_path, progress).take_own()
            elif complete or not self._follow(scopes, progress, number):
                self._list(entity_path, progress, number)

    def _follow(self, scopes: list[str | None], progress: Progress | None, number: int) -> bool:
        """Refresh by the change log, and return True; False when everything must be listed."""
        for scope in scopes:
            followed, filled = self._followed.get(scope, (None, 0))
            if followed is None:
                continue
            begun = time.monotonic()
            news = self._changes.since(followed) if filled == number else None
            if news is not None:
                position, page = news
                refresh = self._refresh(scope, progress)
                refresh.take(page)
                refresh.take_own()
                if not refresh.refused:
                    followed.position, followed.again = position, refresh.damaged
                    self._refreshed.note(scope, begun, number)
                    return True
            self._followed.pop(scope, None)
        return False

    def _list(self, entity_path: str | None, progress: Progress | None, number: int) -> None:
        """Refresh by a listing. The second listing begins to follow the change log."""
        position = self._changes.position(make=self._listed.has(entity_path))
        begun = time.monotonic()
        refresh = self._refresh(entity_path, progress)
        refresh.run()
        self._refreshed.note(entity_path, begun, number)
        self._listed.note(entity_path, begun, number)
        self._followed.pop(entity_path, None)
        if position is not None and not refresh.refused:
            followed = self._changes.followed(entity_path, position, begun)
            followed.again = refresh.damaged
            self._followed[entity_path] = followed, number
            if len(self._followed) > _MAX_SCOPES:
                self._followed.popitem(last=False)

    def _refresh(
        self,
        entity_path: str | None,
        progress: Progress | None,
        listing: Listing | None = None,
    ) -> Refresh:
        return Refresh(
            self._catalog,
            self._versions,
            listing or self._changes.listing(entity_path),
            own=self._own,
            omissions=self._omissions,
            entity_path=entity_path,
            progress=progress,
            is_shared=self._is_shared,
        )


class _Times:
    """When the last refresh of each path began, and the number of the catalog that it filled."""

    def __init__(self) -> None:
        self._times: OrderedDict[str | None, tuple[float, int]] = OrderedDict()

    def note(self, scope: str | None, begun: float, number: int) -> None:
        """Note a refresh of a path."""
        self._times[scope] = begun, number
        self._times.move_to_end(scope)
        if len(self._times) > _MAX_SCOPES:
            self._times.popitem(last=False)

    def has(self, scope: str | None) -> bool:
        """Whether a path was refreshed at all."""
        return scope in self._times

    def any_since(self, moment: float, scopes: list[str | None], number: int) -> bool:
        """Whether one of these paths was refreshed after a moment, in this catalog."""
        times = (self._times.get(scope) for scope in scopes)
        return any(
            refresh is not None and refresh[0] > moment and refresh[1] == number
            for refresh in times
        )


def scopes_of(entity_path: str | None) -> list[str | None]:
    """Return an entity path and all above it, the widest first."""
    names = [] if entity_path is None else entity_path.split("/")
    return [None, *("/".join(names[:length]) for length in range(1, len(names) + 1))]
