"""Where changes come from: the store's change log where it has one, and listings."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from amfs_core.changes.listing import Listing, Page
from amfs_core.format import Layout
from amfs_core.storage import StoreClient

_AUDITS_SHARE = 0.02
"""Share of the time for listings that look for changes missing from the log."""


@dataclass(slots=True)
class Followed:
    """A position in the change log up to which everything under an entity path is known.

    `again` contains versions that were damaged when they were last read.
    """

    entity_path: str | None
    position: str
    due: float
    """When everything must be listed again, by the monotonic clock."""
    again: Page = field(default_factory=dict)


class Source:
    """The changes in one namespace."""

    def __init__(self, store: StoreClient, layout: Layout) -> None:
        self._store = store
        self._log = store.changes()
        self._layout = layout

    def listing(self, entity_path: str | None) -> Listing:
        """Return a listing of the newest versions under a path. 1 request per 1,000 objects."""
        return Listing(self._store, self._layout, entity_path)

    def position(self, *, make: bool) -> str | None:
        """Return where the log ends. Ask before a listing, which then covers all up to there.

        None where there is no log; `make`: create one if the store can. At most 1 request.
        """
        return None if self._log is None else self._log.position(make=make)

    def followed(self, entity_path: str | None, position: str, begun: float) -> Followed:
        """Return the position to continue from, after a listing of a path that was `begun` after a
        position."""
        now = time.monotonic()
        audit = 0.0 if self._log is None else self._log.audit
        rest = max(audit, (now - begun) / _AUDITS_SHARE)
        return Followed(entity_path, position, now + rest)

    def since(self, followed: Followed) -> tuple[str, Page] | None:
        """Return the log's next position, and the newest version that it names of each changed
        memory under the path; None if everything must be listed. 1 request.

        Some of them may be known already. A caller that has stored or delivered all of them sets
        `followed.position = position`.
        """
        if self._log is None or time.monotonic() > followed.due:
            return None
        answer = self._log.since(followed.position)
        if answer is None:
            return None
        position, keys = answer
        page = dict(followed.again)
        root = self._layout.entity_prefix(followed.entity_path)
        for key in keys:
            if not key.startswith(root):
                continue
            place = self._layout.split(key)
            if place is None or place[0] == root or self._layout.parse(key) is None:
                continue
            prefix, version = place
            if prefix not in page or version > page[prefix][0]:
                page[prefix] = version, 0, None
        return position, page
