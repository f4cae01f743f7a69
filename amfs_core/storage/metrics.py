"""Counting requests to the storage."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from amfs_core import fork
from amfs_core.parallel import new_lock
from amfs_core.storage.adapter import Degraded, Lag

_REQUESTS = ("create", "get", "list", "replace", "delete")
_EVENTS = ("retry", "conflict", "cache_hit", "refused", "outage")
_MOST_WAITING = 1_000


@dataclass(frozen=True, slots=True)
class Metrics:
    """Totals since the memory was opened.

    `requests` counts calls to the storage by kind (create, get, list, replace, delete; a listing
    counts its pages of 1,000 keys), including repeated ones. `retries` counts the repeated ones,
    `conflicts` creates that lost against another writer, `cache_hits` objects that needed no
    request. Bytes are bytes of bodies. `outages` counts how often the store was found to be down,
    and `refused` the requests that were not sent because the store was known to be down. `mirrors`
    says how far each mirror is behind now, where the store has mirrors, and `degraded` what waits
    in its fallback, where it has one. `index_queries` counts what was sent to an index, by all that
    share it in this process.
    """

    requests: Mapping[str, int]
    bytes_read: int
    bytes_written: int
    retries: int
    conflicts: int
    cache_hits: int
    outages: int
    refused: int
    mirrors: tuple[Lag, ...] = ()
    degraded: Degraded | None = None
    index_queries: int = 0


class Meter:
    """Counts from many threads.

    The counts wait in a queue, which takes no lock, until there are many of them or somebody asks
    for the totals: a lock between two requests costs more than everything else here (`speed.md`).
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, int, int]] = deque()
        self._counts = dict.fromkeys((*_REQUESTS, *_EVENTS), 0)
        self._read = self._written = 0
        self._lock = new_lock()
        fork.register(self)

    def after_fork(self) -> None:
        """Take a new lock in a forked child."""
        self._lock = new_lock()

    def add(self, kind: str, read: int = 0, written: int = 0) -> None:
        """Count one request or event, and the bytes that it moved."""
        self._waiting.append((kind, read, written))
        if len(self._waiting) > _MOST_WAITING:
            with self._lock:
                self._add_up()

    def snapshot(self) -> Metrics:
        """Return the totals so far."""
        with self._lock:
            self._add_up()
            counts = self._counts.copy()
            read, written = self._read, self._written
        return Metrics(
            requests={kind: counts[kind] for kind in _REQUESTS},
            bytes_read=read,
            bytes_written=written,
            retries=counts["retry"],
            conflicts=counts["conflict"],
            cache_hits=counts["cache_hit"],
            outages=counts["outage"],
            refused=counts["refused"],
        )

    def _add_up(self) -> None:
        for _ in range(len(self._waiting)):
            try:
                kind, read, written = self._waiting.popleft()
            except IndexError:  # a signal handler, which interrupted this, was quicker
                return
            self._counts[kind] += 1
            self._read += read
            self._written += written
