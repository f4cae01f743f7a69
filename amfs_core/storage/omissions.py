"""Objects that are left out of an answer, each named once."""

from __future__ import annotations

import logging

_log = logging.getLogger("amfs")


class Omissions:
    """What a list, a search or a record of outcomes leaves out: objects that are damaged, may not
    be read, or were made by another tool."""

    def __init__(self) -> None:
        self._named: set[str] = set()

    def note(self, object_key: str, why: object) -> None:
        """Say in the log that an object is left out, the first time that it is."""
        if object_key not in self._named:
            self._named.add(object_key)
            _log.warning("left out: %s", why)
