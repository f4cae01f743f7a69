"""A catalog that many processes share: one of them refreshes it, and the others wait for that.

`docs/design/shared-index.md` says what goes wrong without each part.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

from amfs_core.catalog.contract import CatalogUnavailable, Known, SharedCatalog
from amfs_core.catalog.live import LiveCatalog, scopes_of
from amfs_core.catalog.refresh import Progress
from amfs_core.changes import Followed, Listing, Page
from amfs_core.errors import PermissionDeniedError
from amfs_core.versions import VersionLog

_MOVED_SECONDS = 5.0
"""So often, at most, a position is stored that moved on with what is elsewhere in the store."""

_Numbers = dict[str | None, int]

_SHORTEST_WAIT, _LONGEST_WAIT = 0.01, 1.0
_WAITS_SHARE = 0.2
"""Of the time that a refresh of another process has taken so far, until it is looked at again."""


class SharedLiveCatalog(LiveCatalog):
    """A shared catalog, and what its users know together of how complete it is under which path.

    A refresh counts for a call when it has a higher number than the last one that had begun when
    the call looked: no clocks are compared, except for `max_age`.
    """

    _is_shared = True

    def __init__(
        self, versions: VersionLog, catalog: SharedCatalog, *, takes_own: bool = True
    ) -> None:
        self._shared = catalog
        super().__init__(versions, catalog, takes_own=takes_own)

    def _refresh_since(
        self,
        moment: float,
        entity_path: str | None,
        progress: Progress | None,
        number: int,
        complete: bool,
    ) -> None:
        scopes = scopes_of(entity_path)
        times = self._listed if complete else self._refreshed
        if not times.any_since(moment, scopes, number):
            begun = time.monotonic()
            known = self._shared.look(scopes)
            within = [
                state for state in known.values() if _is_within(state, begun - moment, complete)
            ]
            if not within:
                self._await(entity_path, known, progress, complete)
                self._refreshed.note(entity_path, begun, number)
                if complete:
                    self._listed.note(entity_path, begun, number)
        if self._own:
            with self._refreshing:
                if self._own.note():
                    self._refresh(entity_path, progress).take_own()
                    return
            self._await(entity_path, self._shared.look(scopes), progress, complete)

    def _await(
        self,
        entity_path: str | None,
        known: dict[str | None, Known],
        progress: Progress | None,
        complete: bool,
    ) -> None:
        """Return once nothing is new, or a refresh has ended that had not begun when this was
        `known`."""
        if not complete and self._has_nothing_new(_widest_followed(known, entity_path), known):
            return
        before = {scope: state.begun for scope, state in known.items()}
        begun = time.monotonic()
        while True:
            scope = entity_path if complete else _widest_followed(known, entity_path)
            with self._refreshing:
                # Another thread may have been at it while this one waited for it.
                known = self._shared.look(list(known))
                if _has_ended(known, before, complete):
                    return
                refresh = self._shared.begin(scope)
                if refresh is not None:
                    self._run(scope, refresh, known.get(scope, Known()), progress, complete)
                    return
            waited = time.monotonic() - begun
            wait = min(max(waited * _WAITS_SHARE, _SHORTEST_WAIT), _LONGEST_WAIT)
            time.sleep(wait * random.uniform(0.5, 1.0))

    def _has_nothing_new(self, scope: str | None, known: dict[str | None, Known]) -> bool:
        """Whether the change log has nothing since the last refresh: as it is most of the time, so
        nothing is stored of that, unless the log has moved on with what is elsewhere."""
        followed = self._followed_from(scope, known.get(scope, Known()))
        news = None if followed is None else self._changes.since(followed)
        if followed is None or news is None or news[1]:
            return False
        return news[0] == followed.position or known[scope].age < _MOVED_SECONDS

    @staticmethod
    def _followed_from(scope: str | None, known: Known) -> Followed | None:
        if known.position is None or known.due_in <= 0:
            return None
        due = time.monotonic() + known.due_in
        return Followed(scope, known.position, due, dict(known.again))

    def _run(
        self,
        scope: str | None,
        number: int,
        known: Known,
        progress: Progress | None,
        complete: bool,
    ) -> None:
        """Do the refresh that was begun."""
        is_done = False

        def keep() -> None:
            self._shared.keep(scope, number)

        def tell(done: int, total: int) -> None:
            keep()
            if progress is not None:
                progress(done, total)

        try:
            if complete or not self._follow_shared(scope, number, known, tell):
                self._list_shared(scope, number, tell, keep)
            is_done = True
        except PermissionDeniedError as refusal:
            # Others may read it. What this process may not read it must not take out of the
            # catalog, nor call that complete.
            raise CatalogUnavailable(refusal, is_of_store=True) from refusal
        finally:
            if not is_done:
                self._shared.abandon(scope, number)

    def _follow_shared(
        self, scope: str | None, number: int, known: Known, progress: Progress
    ) -> bool:
        """Refresh by the change log, and return True; False when there is everything to list."""
        followed = self._followed_from(scope, known)
        news = None if followed is None else self._changes.since(followed)
        if news is None:
            return False
        position, page = news
        refresh = self._refresh(scope, progress)
        refresh.take(page)
        refresh.take_own()
        self._shared.end(scope, number, position=position, again=refresh.damaged, due_in=None)
        return True

    def _list_shared(
        self, scope: str | None, number: int, progress: Progress, keep: Callable[[], None]
    ) -> None:
        """Refresh by a listing, whose end says from where to follow the change log."""
        position = self._changes.position(make=True)
        begun = time.monotonic()
        refresh = self._refresh(scope, progress, _Kept(self._changes.listing(scope), keep))
        refresh.run()
        due_in = 0.0
        if position is not None:
            due_in = self._changes.followed(scope, position, begun).due - time.monotonic()
        self._shared.end(
            scope, number, position=position, again=refresh.damaged, due_in=max(due_in, 0.0)
        )


class _Kept(Listing):
    """A listing during which a refresh is kept."""

    def __init__(self, listing: Listing, keep: Callable[[], None]) -> None:
        self._listing = listing
        self._keep = keep
        self.counts = listing.counts

    def pages(self) -> Iterator[Page]:
        for page in self._listing.pages():
            self._keep()
            yield page


def _is_within(known: Known, seconds: float, complete: bool) -> bool:
    """Whether a refresh that began so short a time ago has ended."""
    if complete:
        return known.listed > 0 and known.listed_age < seconds
    return known.ended > 0 and known.age < seconds


def _has_ended(known: dict[str | None, Known], before: _Numbers, complete: bool) -> bool:
    """Whether a refresh has ended that had not begun before."""
    return any(
        (state.listed if complete else state.ended) > before.get(scope, 0)
        for scope, state in known.items()
    )


def _widest_followed(known: dict[str | None, Known], entity_path: str | None) -> str | None:
    """Return the widest path of which the change log is followed, else the path itself."""
    followed = (scope for scope, state in known.items() if state.position and state.due_in > 0)
    return next(followed, entity_path)
