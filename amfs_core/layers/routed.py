"""`Routed`: some entity paths live in stores of their own (docs/design/layers.md)."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from amfs_core.doctor import checks_of, labelled
from amfs_core.errors import AMFSError
from amfs_core.layers.doorbell import joined
from amfs_core.layers.fallback import FallbackStore
from amfs_core.layers.joined_log import JoinedLog
from amfs_core.layers.route_table import RouteTable
from amfs_core.parallel import each
from amfs_core.storage import (
    DEFAULT_PATIENCE,
    Capabilities,
    Doorbell,
    Lag,
    ObjectInfo,
    StorageAdapter,
    StoreClient,
    WrappedAdapter,
    adopted,
)

if TYPE_CHECKING:
    from amfs_core.doctor import Check

_AT_ONCE = 16


class Routed(WrappedAdapter):
    """Keeps the memories under some entity paths in stores of their own, and the rest in `default`.

        Routed({"scratch": SqliteAdapter("scratch.db")}, default=S3Adapter("my-bucket"))

    A route is an entity path and holds in every namespace, for all paths below it unless a longer
    one does. The memory `e/k` goes with the route `e/k`. Outcomes stay in the default store. What a
    store has under a path that is routed elsewhere is not seen; `amfs copy` moves it.

    Each store has a breaker of its own: one that has not answered for `patience` seconds fails at
    once, and the others go on. Let that be the patience of the memory that uses it.

    A listing costs what it costs in each store that can have something under the prefix. Closing it
    closes the stores. Raises `ConfigurationError` for a path that cannot be one.
    """

    def __init__(
        self,
        routes: Mapping[str, StorageAdapter],
        default: StorageAdapter,
        *,
        patience: float = DEFAULT_PATIENCE,
    ) -> None:
        self._table = RouteTable(routes, default, patience)
        self._stores = self._table.stores
        super().__init__(default)
        self.backend_type = "routed"
        self.routes = dict(routes)
        self._patience = patience
        timeouts = [store.timeout for store in self._stores]
        known = [timeout for timeout in timeouts if timeout is not None]
        self.timeout = max(known) if len(known) == len(timeouts) else None

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        """What one of the stores can do, but for what takes all of them."""
        each_can = [store.capabilities for store in self._stores]
        return Capabilities(
            paged=any(capabilities.paged for capabilities in each_can),
            batch=any(capabilities.batch for capabilities in each_can),
            location=all(capabilities.location for capabilities in each_can),
            doorbell=any(capabilities.doorbell for capabilities in each_can),
            checks=True,
            changes=all(capabilities.changes for capabilities in each_can),
        )

    @property
    def location(self) -> str | None:
        """The stores' locations; None where one has none."""
        routes = [(under, adopted(store).location) for under, store in self.routes.items()]
        default = super().location
        if default is None or any(place is None for _, place in routes):
            return None
        return f"routed:{default}{''.join(f' {under}={place}' for under, place in routes)}"

    @property
    def origin(self) -> StorageAdapter:
        """The same routes to the stores without what keeps copies of their objects."""
        stores = {under: adopted(store) for under, store in self.routes.items()}
        origins = {under: store.origin for under, store in stores.items()}
        default = self.inner.origin
        if default is self.inner and all(origins[under] is stores[under] for under in stores):
            return self
        return Routed(origins, default, patience=self._patience)

    def create(self, key: str, data: bytes) -> bool:
        """Create in the store that the key belongs to."""
        return self._table.store(key).create(key, data)

    def get(self, key: str) -> bytes | None:
        """Get from the store that the key belongs to."""
        return self._table.store(key).get(key)

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Get each from its store, one store after the other."""
        for store, some in self._table.by_store(keys):
            yield from store.get_many(some)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """Yield what belongs to each store, in byte order over all of them."""
        listings = [
            (store, store.list(place, start_after)) for store, place in self._table.places(prefix)
        ]
        if len(listings) == 1:
            return listings[0][1]
        owned = (self._own(store, infos) for store, infos in listings)
        return heapq.merge(*owned, key=lambda info: info.key.encode())

    def _own(self, store: StoreClient, infos: Iterator[ObjectInfo]) -> Iterator[ObjectInfo]:
        """Leave out what belongs to another store."""
        return (info for info in infos if self._table.store(info.key) is store)

    def replace(self, key: str, data: bytes) -> None:
        """Replace in the store that the key belongs to."""
        self._table.store(key).replace(key, data)

    def delete(self, key: str) -> None:
        """Delete from the store that the key belongs to."""
        self._table.store(key).delete(key)

    def doorbell(self, prefix: str) -> Doorbell | None:
        """Return what rings when a store does that can have something under the prefix."""
        return joined([store.doorbell(place) for store, place in self._table.places(prefix)])

    def close(self) -> None:
        """Close all stores."""
        for store in self._stores:
            store.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Routed, patience=self._patience), (self.routes, self.inner)

    def __repr__(self) -> str:
        return f"Routed({self.routes!r}, default={self.inner!r})"

    # -- what not every store has ------------------------------------------------------------

    def create_many(self, objects: Mapping[str, bytes]) -> Collection[str]:
        """Create together in each store; in one that creates none together, at the same time."""
        created: list[str] = []
        for store, keys in self._table.by_store(objects):
            if store.capabilities.batch:
                created += store.create_many({key: objects[key] for key in keys})
            else:
                created += _created_each(store, keys, objects)
        return created

    def changes(self) -> JoinedLog | None:
        """Return the stores' logs as one; None where one has none."""
        logs = [log for store in self._stores if (log := store.changes()) is not None]
        if len(logs) < len(self._stores):
            return None
        return JoinedLog(logs, lambda index, key: self._table.store(key) is self._stores[index])

    def checks(self) -> Iterator[Check]:
        """Yield the checks of every store."""
        yield from checks_of(self.inner)
        for under, store in self.routes.items():
            yield from labelled(f"route {under}", checks_of(store))

    def mirror_lags(self) -> Sequence[Lag]:
        """Return how far the mirrors of all stores are behind."""
        return [lag for store in self._stores for lag in store.mirror_lags()]

    def fallback_of(self, prefix: str) -> Sequence[FallbackStore]:
        """Return the fallbacks of the stores that can have something under a prefix."""
        return [
            fallback
            for store, place in self._table.places(prefix)
            for fallback in store.fallback_of(place)
        ]


def _created_each(
    store: StoreClient, keys: list[str], objects: Mapping[str, bytes]
) -> Iterator[str]:
    """Yield the keys of the objects that were created in a store that creates none together."""
    for done in each(lambda key: store.create(key, objects[key]), keys, _AT_ONCE):
        with contextlib.suppress(AMFSError):  # why, `create` will say
            if done.result():
                yield done.item
