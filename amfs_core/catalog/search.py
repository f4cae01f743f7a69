"""Finding memories: lists and ranked searches over a catalog that was just refreshed."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from amfs_core.catalog.contract import Catalog, CatalogUnavailable, Index
from amfs_core.catalog.embedder import Embedder
from amfs_core.catalog.filters import Filters
from amfs_core.catalog.hit import SearchHit
from amfs_core.catalog.live import LiveCatalog
from amfs_core.catalog.refresh import Progress
from amfs_core.catalog.shared import SharedLiveCatalog
from amfs_core.catalog.sqlite.catalog import SqliteCatalog
from amfs_core.errors import AMFSError, BackendUnavailableError
from amfs_core.format import Address, MemoryEntry
from amfs_core.versions import VersionLog

T = TypeVar("T")

_log = logging.getLogger("amfs")


class Search:
    """Lists and searches in one namespace.

    `directory` is where the catalog is kept; with None it is in memory. `embedder` returns vectors
    for the search by meaning. With an `index`, many processes share the catalog; this process uses
    its own instead if it may not read everything in the index and, if the index has `fallback`,
    while it cannot be reached.
    """

    def __init__(
        self,
        versions: VersionLog,
        directory: Path | None = None,
        embedder: Embedder | None = None,
        *,
        index: Index | None = None,
        is_for_one_call: bool = False,
    ) -> None:
        self._versions = versions
        self._directory = directory
        self._embedder = embedder
        self._index = index
        self._takes_own = not is_for_one_call
        self._is_refused = False  # by the store, something that others have in the index
        self._at_work: set[int] = set()  # threads
        self._is_closing = is_for_one_call
        self._to_forget: deque[tuple[Address, int]] = deque()
        self._in_its_place: LiveCatalog | None = None
        self._live = self._own() if index is None else self._shared(index)
        self._catalog = self._live.catalog

    def is_at_work_here(self) -> bool:
        """Whether this thread is inside one of the methods below, which must not be entered twice,
        for example by a signal handler."""
        return threading.get_ident() in self._at_work

    def find(
        self,
        filters: Filters,
        *,
        max_age: float | None = None,
        progress: Progress | None = None,
        complete: bool = False,
    ) -> list[MemoryEntry]:
        """Return what the filters let through, sorted by name."""
        entries = self._fresh(
            filters, lambda catalog: catalog.find(filters), max_age, progress, complete=complete
        )
        return sorted(entries, key=lambda entry: (entry.entity_path.split("/"), entry.key))

    def entity_paths(self, filters: Filters, *, max_age: float | None = None) -> list[str]:
        """Return the entity paths of what the filters let through, sorted by name."""
        paths = self._fresh(filters, lambda catalog: catalog.entity_paths(filters), max_age)
        return sorted(paths, key=lambda path: path.split("/"))

    def newest(
        self, filters: Filters, limit: int, *, max_age: float | None = None, complete: bool = False
    ) -> list[SearchHit]:
        """Return what the filters let through, newest first; every score is 0."""
        return self._fresh(
            filters, lambda catalog: catalog.newest(filters, limit), max_age, complete=complete
        )

    def ranked(
        self,
        query: str,
        filters: Filters,
        limit: int,
        *,
        max_age: float | None = None,
        complete: bool = False,
    ) -> list[SearchHit]:
        """Return the memories that answer a query best, by words and, with an embedder, by
        meaning."""
        return self._fresh(
            filters,
            lambda catalog: catalog.ranked(query, filters, limit),
            max_age,
            complete=complete,
        )

    def by_meaning(
        self,
        text: str,
        filters: Filters,
        limit: int,
        *,
        max_age: float | None = None,
        complete: bool = False,
    ) -> list[SearchHit]:
        """Return the memories whose vectors are nearest to the text's."""
        return self._fresh(
            filters,
            lambda catalog: catalog.by_meaning(text, filters, limit),
            max_age,
            complete=complete,
        )

    def refresh(self) -> None:
        """Bring the catalog up to date, for other users."""
        self._fresh(Filters(), lambda _catalog: None, None)

    def forget(self, address: Address, below: int) -> None:
        """Drop a memory, because the content of all versions `below` a number must be erased.

        Called from a signal handler in the middle of a search, it does so once the search has
        ended.
        """
        self._to_forget.append((address, below))
        if not self.is_at_work_here():
            self._at_work_on(lambda: None)

    def _at_work_on(self, work: Callable[[], T]) -> T:
        """Return `work()`, during which this thread counts as inside; then carry out deferred
        erasures, and close if that was requested.

        Not a context manager, because an interrupt in the middle of its own steps would leave the
        thread inside forever.
        """
        thread = threading.get_ident()
        try:
            self._at_work.add(thread)
            try:
                return work()
            finally:
                self._forget_all()
        finally:
            self._at_work.discard(thread)
            if self._is_closing:
                self._is_closing = False
                self._close()

    def _forget_all(self) -> None:
        with suppress(IndexError):  # another thread was quicker
            while True:
                order = self._to_forget[0]
                try:
                    if self._in_its_place is not None:
                        self._in_its_place.forget(*order)
                    self._live.forget(*order)
                except CatalogUnavailable as reason:
                    # The next refresh by any process meets the tombstone.
                    self._to_forget.remove(order)
                    raise _unreachable(reason.error, order[0]) from reason.error
                with suppress(ValueError):  # the same
                    self._to_forget.remove(order)  # only now: an interrupt may come before

    def _fresh(
        self,
        filters: Filters,
        work: Callable[[Catalog], T],
        max_age: float | None,
        progress: Progress | None = None,
        *,
        complete: bool = False,
    ) -> T:
        def ask(live: LiveCatalog) -> T:
            return live.fresh(
                filters.entity_path,
                lambda: work(live.catalog),
                max_age=max_age,
                progress=progress,
                complete=complete,
            )

        return self._at_work_on(lambda: self._asked(ask))

    def _asked(self, ask: Callable[[LiveCatalog], T]) -> T:
        """Return the answer of the catalog in use, or of the one in its place."""
        if not self._is_refused:
            try:
                return ask(self._live)
            except CatalogUnavailable as reason:
                self._is_refused = reason.is_of_store
                if not self._is_refused and not (self._index and self._index.fallback):
                    raise reason.error from reason.error.__cause__
                _log.warning("searching a catalog of this process's own: %s", reason)
        if self._in_its_place is None:
            self._in_its_place = self._own()
        return ask(self._in_its_place)

    def _own(self) -> LiveCatalog:
        catalog = SqliteCatalog(self._versions, self._directory, self._embedder)
        takes_own = self._takes_own and self._index is None  # else they are for the index
        return LiveCatalog(self._versions, catalog, takes_own=takes_own)

    def _shared(self, index: Index) -> LiveCatalog:
        catalog = index.catalog(self._versions, self._embedder)
        return SharedLiveCatalog(self._versions, catalog, takes_own=self._takes_own)

    def close(self) -> None:
        """Close the catalog. Called from a signal handler in the middle of a search, it does so
        once the search has ended."""
        if self.is_at_work_here():
            self._is_closing = True
        else:
            self._close()

    def _close(self) -> None:
        self._live.close()
        if self._in_its_place is not None:
            self._in_its_place.close()


def _unreachable(error: AMFSError, address: Address) -> AMFSError:
    return BackendUnavailableError(
        f"the content of {address} is erased in the store, but the index was not told: {error}",
        hint="purge it again, or search once, when the index can be reached",
    )
