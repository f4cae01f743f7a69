"""What a chain of backups has, as a listing of the source comes to it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from amfs_core.format import Layout
from amfs_core.upkeep.backup.index import Line, Place


class AnotherSourceError(Exception):
    """The source lacks what the chain has: an incremental backup would match neither."""


class Known:
    """What the chain has, memory by memory and outcome by outcome, as the listing comes to them."""

    def __init__(self, layout: Layout, lines: Iterator[tuple[Place, Line]]) -> None:
        self._layout = layout
        self._groups = groupby(lines, key=lambda pair: pair[0][0])
        self._next()

    def _next(self) -> None:
        self._place: bytes | None
        self._place, group = next(self._groups, (None, iter(())))
        self._lines = {place[1]: line for place, line in group}

    def take(self, place: bytes) -> dict[int, Line]:
        """Return the lines at a place, by version (an outcome: 0)."""
        if self._place is None or self._place > place:
            return {}
        if self._place < place:
            self._refuse()
        lines = self._lines
        self._next()
        return lines

    def end(self) -> None:
        """Note that the listing is over."""
        if self._place is not None:
            self._refuse()

    def _refuse(self) -> None:
        key = next(iter(self._lines.values())).key
        raise AnotherSourceError(f"{key} is not in this store any more")
