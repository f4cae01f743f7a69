"""`GuardedClient`: the client of a store through which one namespace is reached.

It gives no answer before it knows the namespace's manifest, and changes nothing unless what it
knows of that is at most a minute old. So no operation can forget to look.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from amfs_core.format import Layout
from amfs_core.parallel import beside
from amfs_core.storage import ChangeLog, ObjectInfo, StoreClient
from amfs_core.versions import manifest
from amfs_core.versions.manifest import Manifests

T = TypeVar("T")


class GuardedClient(StoreClient):
    """A `StoreClient` that counts and waits together with the one that it is made from, and keeps
    to the manifest. `unguarded` is that one.

    What it adds: 1 request to the first that reads, at the same time where a request is a round
    trip; 1 before a request that changes something, when the last look was over a minute ago. Every
    method may raise what `Manifests.for_reading` raises.
    """

    def __init__(self, client: StoreClient, layout: Layout) -> None:
        vars(self).update(vars(client))
        self.unguarded = client
        self.manifests = Manifests(client, layout)

    # -- reading -----------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        """Return an object's bytes, or None when there is none. 1 request."""
        if self.manifests.may_read:
            return StoreClient.get(self, key)  # likewise
        return self._first(lambda: StoreClient.get(self, key))

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Yield `(key, bytes or None)` for every key, in any order. 1 request each."""
        bodies = super().get_many(keys)
        return bodies if self.manifests.may_read else self._after_look(bodies)

    def pages(self, prefix: str, start_after: str = "") -> Iterator[Sequence[ObjectInfo]]:
        """Yield the objects under a prefix up to 1,000 at a time, in byte order. 1 request each."""
        pages = super().pages(prefix, start_after)
        return pages if self.manifests.may_read else self._after_look(pages)

    def changes(self) -> ChangeLog | None:
        """Return the store's change log; None where there is none."""
        log = super().changes()
        return None if log is None else _GuardedLog(log, self.manifests)

    # -- changing ----------------------------------------------------------------------------

    def create(self, key: str, data: bytes) -> bool:
        """Ask once for the object to be created."""
        self._require_writable()
        return super().create(key, data)

    def create_many(self, objects: Mapping[str, bytes]) -> Collection[str]:
        """Ask once for objects to be created together, and return the keys of those that were."""
        self._require_writable()
        return super().create_many(objects)

    def settle(self, key: str, data: bytes) -> bytes:
        """Return what the object holds for good: `data` itself, if this call created it."""
        if manifest.running() < self.manifests.writes_until:
            return StoreClient.settle(self, key, data)  # `super` costs more, and every write comes
        shares = self.patience.share(time.monotonic())  # the look is part of the same call
        try:
            self.manifests.for_writing()
            return super().settle(key, data)
        finally:
            if shares:
                self.patience.unshare()

    def replace(self, key: str, data: bytes) -> None:
        """Write an object over the one that is there. 1 request."""
        self._require_writable()
        super().replace(key, data)

    def delete(self, key: str) -> None:
        """Remove an object, if it is there. 1 request."""
        self._require_writable()
        super().delete(key)

    # -- looking at the manifest -------------------------------------------------------------

    def _require_writable(self) -> None:
        if manifest.running() >= self.manifests.writes_until:
            self.manifests.for_writing()

    def _first(self, read: Callable[[], T]) -> T:
        """Do a request that reads while the manifest is read, and let its answer pass after that.

        Where a request needs no round trip, a thread costs more than it saves.
        """
        if self.capabilities.paged:
            return beside(self.manifests.for_reading, read)
        self.manifests.for_reading()
        return read()

    def _after_look(self, answers: Iterator[T]) -> Iterator[T]:
        first = self._first(lambda: next(answers, None))
        if first is not None:
            yield first
            yield from answers


class _GuardedLog:
    """A change log that answers once the namespace's manifest is known."""

    def __init__(self, log: ChangeLog, manifests: Manifests) -> None:
        self.audit = log.audit
        self._log = log
        self._manifests = manifests

    def position(self, *, make: bool) -> str | None:
        """Return where the log ends."""
        self._manifests.for_reading()
        return self._log.position(make=make)

    def since(self, position: str) -> tuple[str, Sequence[str]] | None:
        """Return what the log has since a position."""
        self._manifests.for_reading()
        return self._log.since(position)
