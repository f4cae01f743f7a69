"""Fallbacks: stores in which writes wait while the primary is down (docs/design/degraded.md)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from amfs_core.errors import AMFSError
from amfs_core.format import Layout
from amfs_core.layers.failover import Failover
from amfs_core.layers.operation import Conflict
from amfs_core.layers.waiting import Waiting, stamp_of
from amfs_core.storage import Degraded, StorageAdapter, StoreClient

_PATIENCE = 1.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Decision(StrEnum):
    """What becomes of a conflict: it stays, is written after the newest version all the same, or is
    removed for good."""

    KEEP = "keep"
    APPEND = "append"
    DISCARD = "discard"


class Merge(msgspec.Struct, frozen=True):
    """A decision to write another value after the newest version, in place of the conflict's."""

    value: Any


Decide = Callable[[Conflict], Decision | Merge]


@dataclass(frozen=True, slots=True)
class Fallback:
    """A store for writes that wait while the primary is down; `decide` is called with each conflict
    when it is found, and says what becomes of it. Without it, conflicts are kept.

    `decide` should have no other effects: two processes may call it with the same conflict.
    """

    adapter: StorageAdapter
    decide: Decide | None = None


class FallbackStore:
    """A fallback at work, and what its primary is known to be."""

    def __init__(self, fallback: Fallback, failover: Failover) -> None:
        self.adapter = fallback.adapter
        self.decide = fallback.decide
        self.client = StoreClient(fallback.adapter, _PATIENCE, "the fallback store")
        self._failover = failover

    @property
    def is_down(self) -> bool:
        """Whether the primary is known to be down."""
        return self._failover.is_down

    @property
    def has_mirrors(self) -> bool:
        """Whether reads are answered while the primary is down."""
        return self._failover.has_mirrors

    def keeping(self) -> AbstractContextManager[None]:
        """Return a block for a write that can be kept here: its requests raise `CircuitOpenError`
        as soon as the primary is known to be down."""
        return self._failover.keeping()

    def reaches_primary(self, key: str) -> bool:
        """Whether the primary answers. 1 request at most: none while it is known to be down, but
        now and then."""
        return self._failover.reaches(key)

    def degraded(self, layout: Layout, error: str | None = None) -> Degraded:
        """Return what waits for one namespace. 2 requests, to the fallback; never raises."""
        is_down = self.is_down
        times = []
        if is_down:
            times.append(datetime.now(UTC) - timedelta(seconds=self._failover.seconds))
        try:
            waiting, conflicts = Waiting(self.client, layout).listed()
        except AMFSError as problem:
            return Degraded(is_down, min(times, default=None), 0, 0, problem.problem)
        stamps = [stamp for info in waiting if (stamp := stamp_of(info.key)) is not None]
        if stamps:
            times.append(_EPOCH + timedelta(microseconds=min(stamps)))
        return Degraded(is_down, min(times, default=None), len(waiting), conflicts, error)
