"""What a store and the operations that wait hold together, for lists and searches."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from amfs_core.degraded.keeper import Keeper
from amfs_core.format import Address, MemoryEntry, as_provisional
from amfs_core.layers import Operation
from amfs_core.storage import (
    Capabilities,
    ObjectInfo,
    StorageAdapter,
    StoreClient,
    WrappedAdapter,
)
from amfs_core.versions import GuardedClient, VersionLog


class _View(WrappedAdapter):
    """A store as it would be if all that waits were in it. Only to be read."""

    def __init__(self, inner: StorageAdapter, keepers: Iterable[Keeper]) -> None:
        super().__init__(inner)
        self._keepers = list(keepers)
        self.waiting: dict[str, Operation] = {}  # as the last listing showed it

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        # A change log does not tell of what waits.
        return Capabilities(paged=self.inner.capabilities.paged)

    def _operations(self) -> dict[str, Operation]:
        """Return what waits by the key of the version that it would make; of several the last."""
        return {
            operation.address.object_key(operation.entry.version): operation
            for keeper in self._keepers
            for operation in keeper.waiting.load(keeper.waiting.keys())
        }

    def get(self, key: str) -> bytes | None:
        return dict(self.get_many([key]))[key]

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        rest = []
        for key in keys:
            if key in self.waiting:
                yield key, self.waiting[key].body
            else:
                rest.append(key)
        if rest:
            yield from self.inner.get_many(rest)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        self.waiting = self._operations()
        waiting = [
            ObjectInfo(key, len(operation.body), operation.since)
            for key, operation in self.waiting.items()
            if key.startswith(prefix) and key.encode() > start_after.encode()
        ]
        waiting.sort(key=lambda info: info.key.encode())
        last = None
        both = (waiting, self.inner.list(prefix, start_after))
        for info in heapq.merge(*both, key=lambda info: info.key.encode()):
            if info.key != last:
                yield info
            last = info.key


class ViewLog(VersionLog):
    """The versions of such a view. Thrown away when something of it has landed."""

    def __init__(self, stored: VersionLog, keepers: Iterable[Keeper]) -> None:
        self._view = _View(stored.store.inner, keepers)
        client = GuardedClient(
            StoreClient(self._view, stored.store.patience.seconds), stored.layout
        )
        client.manifests = stored.manifests  # what is known of it counts here too
        super().__init__(client, stored.layout, stored.max_value_bytes)

    def decode(self, address: Address, version: int, body: bytes) -> MemoryEntry:
        """Return the entry in a body, provisional where it waits."""
        entry = super().decode(address, version, body)
        operation = self._view.waiting.get(address.object_key(version))
        return as_provisional(entry) if operation is not None and operation.body == body else entry
