"""The change log of a PostgreSQL store: which transactions had ended (docs/design/postgres.md)."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

from amfs_core.errors import PermissionDeniedError

_POSITION = re.compile(r"([0-9]+)\.([0-9]+)\.(([0-9]+):([0-9]+):[0-9,]*)", re.ASCII)
_log = logging.getLogger("amfs")
_Read = Callable[[bytes, Any], list[Any]]


class SnapshotLog:
    """A `ChangeLog` of the keys with a prefix, read with `read(statement, values)`."""

    audit = 86_400.0

    def __init__(self, read: _Read, now: bytes, since: bytes, prefix: str) -> None:
        self._read = read
        self._now = now
        self._since = since
        self._prefix = prefix

    def position(self, *, make: bool) -> str | None:
        """Return the present snapshot, with this server and timeline; None without a store, or if
        the role may not identify the server, in which case everything is listed."""
        del make  # the table is the log
        try:
            for (text,) in self._read(self._now, None):
                return str(text)
        except PermissionDeniedError as refusal:
            _log.debug("no change log: %s", refusal)
        return None

    def since(self, position: str) -> tuple[str, list[str]] | None:
        """Return the keys of the rows that a snapshot does not show; None unless it is a past
        snapshot of this server."""
        before = _POSITION.fullmatch(position)
        if before is None or int(before[4]) > int(before[5]):
            return None
        values = {"snapshot": before[3], "prefix": self._prefix}
        for text, keys in self._read(self._since, values):
            now = _POSITION.fullmatch(text)
            if now is None or before[1] != now[1] or before[2] != now[2]:
                return None
            if int(before[5]) > int(now[5]):
                return None
            cut = len(self._prefix)
            return text, [key[cut:] for key in keys]
        return None
