"""What this process remembers of versions: they are immutable, so what it holds stays true."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from datetime import UTC, datetime
from typing import NamedTuple

from amfs_core import fork
from amfs_core.entry import MemoryEntry
from amfs_core.layout import Address

MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_HEADS = 200_000
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Head(NamedTuple):
    """The newest version of a memory that this process knows of; version 0: it knows of none.

    It is what the next version builds on. `checked` is when it was last known to be the newest,
    on the monotonic clock. `purged` is the newest known order to erase every version before it.
    """

    version: int = 0
    sha256: str | None = None
    written_at: datetime = _LONG_AGO
    checked: float = float("-inf")
    purged: int = 0


NONE_KNOWN = Head()


class Cache:
    """Bodies by object key, up to 64 MiB, and heads by memory, up to 200,000; oldest out first."""

    def __init__(self) -> None:
        self._forget_everything()
        fork.register(self)

    def after_fork(self) -> None:
        """Start empty: the parent may have been changing it at the moment of the fork."""
        self._forget_everything()

    def _forget_everything(self) -> None:
        self._lock = threading.Lock()
        self._heads: OrderedDict[str, Head] = OrderedDict()
        self._bodies: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._held: dict[str, set[int]] = {}  # which versions of a memory have bodies here
        self._size = 0

    def head(self, address: Address) -> Head | None:
        """Return the newest version known, None when this process never looked."""
        with self._lock:
            return self._heads.get(address.prefix)

    def body(self, address: Address, version: int) -> bytes | None:
        """Return a version's bytes if they are held."""
        place = address.prefix, version
        with self._lock:
            body = self._bodies.get(place)
            if body is not None:
                self._bodies.move_to_end(place)
            return body

    def keep(
        self, address: Address, entry: MemoryEntry, body: bytes, *, newest: bool = False
    ) -> None:
        """Remember a version that exists; `newest` says that it was the newest just now.

        A tombstone that purges makes older ones forgotten; their content, which may still be there
        while the purge is under way, is not kept again. So does a version that comes after some
        that were never read, since one of those may be such a tombstone.
        """
        checked = time.monotonic() if newest else float("-inf")
        with self._lock:
            known = self._heads.get(address.prefix, NONE_KNOWN)
            purged = max(known.purged, entry.version) if entry.purges else known.purged
            if entry.purges or 0 < known.version < entry.version - 1:
                self._drop_before(address.prefix, entry.version)
            if entry.version >= purged or entry.erased is not None:
                self._keep_body(address.prefix, entry.version, body)
            if entry.version > known.version:
                written_at = entry.provenance.written_at
                head = Head(entry.version, entry.sha256, written_at, checked, purged)
                self._keep_head(address, head)
            elif purged > known.purged:
                self._keep_head(address, known._replace(purged=purged))

    def checked(self, address: Address, version: int) -> None:
        """Note that `version` (0: none) was the newest just now."""
        now = time.monotonic()
        with self._lock:
            known = self._heads.get(address.prefix, NONE_KNOWN)
            if known.version == version:
                self._keep_head(address, known._replace(checked=now))

    def forget_before(self, address: Address, version: int) -> None:
        """Drop the bodies of all versions before one: their content is to be gone."""
        with self._lock:
            self._drop_before(address.prefix, version)

    def _keep_head(self, address: Address, head: Head) -> None:
        self._heads[address.prefix] = head
        if len(self._heads) > MAX_HEADS:
            prefix, dropped = self._heads.popitem(last=False)
            self._drop_before(prefix, dropped.version + 1)

    def _keep_body(self, prefix: str, version: int, body: bytes) -> None:
        if (prefix, version) in self._bodies:
            return
        self._bodies[prefix, version] = body
        self._held.setdefault(prefix, set()).add(version)
        self._size += len(body)
        while self._size > MAX_BODY_BYTES:
            self._drop_body(*next(iter(self._bodies)))

    def _drop_before(self, prefix: str, version: int) -> None:
        for older in [one for one in self._held.get(prefix, ()) if one < version]:
            self._drop_body(prefix, older)

    def _drop_body(self, prefix: str, version: int) -> None:
        self._size -= len(self._bodies.pop((prefix, version)))
        held = self._held[prefix]
        held.remove(version)
        if not held:
            del self._held[prefix]
