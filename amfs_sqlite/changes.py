"""The change log of an SQLite store: the numbers of the rows in its table."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

_LAST = "SELECT seq, key, modified FROM objects ORDER BY seq DESC LIMIT 1"
_SINCE = "SELECT seq, key, modified FROM objects WHERE seq >= ? ORDER BY seq"


class TableLog:
    """A `ChangeLog` of the rows with a prefix, read with `read(sql, values)`.

    There is one writer at a time, so numbers grow in the order of commits, and `AUTOINCREMENT`
    never repeats one.
    """

    audit = 86_400.0

    def __init__(self, read: Callable[[str, tuple[Any, ...]], list[Any]], prefix: bytes) -> None:
        self._read = read
        self._prefix = prefix

    def position(self, *, make: bool) -> str | None:
        """Return the number of the last row, and marks that tell this row from others."""
        del make  # the table is the log
        for row in self._read(_LAST, ()):
            return _text(*row)
        return None

    def since(self, position: str) -> tuple[str, list[str]] | None:
        """Return the keys of the rows after a position; None unless its row is still the same."""
        number, _, rest = position.partition(".")
        if not (number.isascii() and number.isdigit() and rest):
            return None
        rows = self._read(_SINCE, (int(number),))
        if not rows or _text(*rows[0]) != position:
            return None
        cut = len(self._prefix)
        keys = [key[cut:].decode() for _, key, _ in rows[1:] if key.startswith(self._prefix)]
        return _text(*rows[-1]), keys


def _text(number: int, key: bytes, modified: int) -> str:
    return f"{number}.{hashlib.sha256(b'%d %b' % (modified, key)).hexdigest()[:16]}"
