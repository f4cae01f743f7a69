"""`VersionCache`: versions that were read, kept in a store that is nearer.

A version never changes, but a purge replaces it. So one that is kept counts only if the primary has
just listed the object unchanged (docs/design/layers.md).
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from amfs_core.errors import AMFSError
from amfs_core.format import VERSION, MemoryEntry
from amfs_core.layers.stored_version import decoded, version_of
from amfs_core.storage import ObjectInfo, StorageAdapter, StoreClient

LISTED_SECONDS = 10.0
"""For so long what a listing said of an object counts."""

_MOST_LISTED = 25_000  # in each of two generations
_MOST_ORDERS = 10_000
_SETTLED = timedelta(minutes=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_VERSIONS = f"/{VERSION.folder}/"
_VERSION = re.compile(r"/v([1-9][0-9]{0,9})\.json", re.ASCII)

_log = logging.getLogger("amfs")


class _Listed(NamedTuple):
    """What a listing said of an object, and when, by the monotonic clock."""

    modified: datetime
    size: int
    seen: float


class VersionCache:
    """Bodies of versions, each as `<its key>/<when it was changed last>-<its size>`.

    Nothing here raises: what fails is as if it were not kept.
    """

    def __init__(self, store: StorageAdapter) -> None:
        self.store = store
        self._client = StoreClient(store, 0.0, "the cache")  # one attempt, and few while it is down
        self._listed: dict[str, _Listed] = {}
        self._listed_before: dict[str, _Listed] = {}
        self._orders: set[str] = set()

    def noting(self, infos: Iterable[ObjectInfo]) -> Iterator[ObjectInfo]:
        """Yield a listing of the primary, and note what it says of versions."""
        for info in infos:
            if info.key.endswith(".json") and _VERSIONS in info.key:
                if len(self._listed) >= _MOST_LISTED:
                    self._listed_before, self._listed = self._listed, {}
                self._listed[info.key] = _Listed(info.modified, info.size, time.monotonic())
            yield info

    def get(self, key: str, *, whenever: bool = False) -> bytes | None:
        """Return the body of a version that was just listed, or by this process `whenever`; None
        when it is not kept."""
        return dict(self.get_many([key], whenever=whenever)).get(key)

    def get_many(
        self, keys: Iterable[str], *, whenever: bool = False
    ) -> Iterator[tuple[str, bytes]]:
        """Yield the bodies that are kept of versions that were just listed, or `whenever`."""
        places: dict[str, str] = {}
        oldest = float("-inf") if whenever else time.monotonic() - LISTED_SECONDS
        for key in keys:
            listed = self._said(key)
            if listed is not None and listed.seen >= oldest:
                places[_place(key, listed)] = key
        if not places:
            return
        try:
            for place, body in self._client.get_many(places):
                key = places[place]
                if body is not None and decoded(key, body) is not None:
                    yield key, body
        except AMFSError as error:
            _log.debug("the cache is passed by: %s", error)

    def keep(self, key: str, body: bytes) -> None:
        """Keep what the primary just gave, if it is a version that a listing has told of."""
        entry = decoded(key, body)
        if entry is None:
            return
        if entry.purges or entry.erased is not None:
            self._carry_out(key, entry)
        listed = self._said(key)
        if listed is None or listed.size != len(body) or not _is_settled(listed.modified):
            return
        try:
            self._client.create(_place(key, listed), body)
        except AMFSError as error:
            _log.debug("%s is not cached: %s", key, error)

    def forget(self, key: str) -> None:
        """Remove what is kept of an object that is replaced or deleted."""
        self._listed.pop(key, None)
        self._listed_before.pop(key, None)
        if version_of(key) is not None:
            self._remove(f"{key}/", lambda _: True)

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def _said(self, key: str) -> _Listed | None:
        return self._listed.get(key) or self._listed_before.get(key)

    def _carry_out(self, key: str, order: MemoryEntry) -> None:
        """Remove the versions of a memory before the tombstone that orders their erasure, or the
        one that a stub stands for. Once for each."""
        if key in self._orders:
            return
        if len(self._orders) >= _MOST_ORDERS:
            self._orders.clear()
        self._orders.add(key)
        if order.erased is not None:
            self._remove(f"{key}/", lambda _: True)
            return
        memory = key[: key.rindex("/") + 1]

        def is_before(kept: str) -> bool:
            match = _VERSION.match(kept, len(memory) - 1)
            return match is not None and int(match[1]) < order.version

        self._remove(memory, is_before)

    def _remove(self, prefix: str, is_meant: Callable[[str], bool]) -> None:
        try:
            for info in list(self._client.list(prefix)):
                if is_meant(info.key):
                    self.store.delete(info.key)
        except AMFSError as error:
            _log.warning(
                "erased versions under %s may still be in the cache, where nobody reads them any "
                "more: %s. Delete the cache to be sure",
                prefix,
                error,
            )


def _place(key: str, listed: _Listed) -> str:
    changed = (listed.modified - _EPOCH) // timedelta(microseconds=1)
    return f"{key}/{changed:x}-{listed.size:x}"


def _is_settled(modified: datetime) -> bool:
    """False for a time in whole seconds that is recent: another change may get the same one."""
    return modified.microsecond != 0 or datetime.now(UTC) - modified > _SETTLED
