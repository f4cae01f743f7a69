"""What a catalog leaves out, each said once."""

from __future__ import annotations

import logging

_log = logging.getLogger("amfs")


class Omissions:
    """Objects that are damaged, may not be read, or were made by another tool."""

    def __init__(self) -> None:
        self._named: set[str] = set()

    def note(self, object_key: str, why: object) -> None:
        """Say once that an object is left out."""
        if object_key not in self._named:
            self._named.add(object_key)
            _log.warning("left out: %s", why)
