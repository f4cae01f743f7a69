"""`RouteTable`: which store an object belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from amfs_core.errors import ConfigurationError, InvalidKeyError
from amfs_core.format import VERSION, escape
from amfs_core.storage import StorageAdapter, check_adapter

_ENTRIES = f"{VERSION.folder}/"


class RouteTable:
    """Entity paths, as they stand in object keys, and the stores of what is below each.

    `stores` are all stores, each once, the default store first.
    """

    def __init__(self, routes: Mapping[str, StorageAdapter], default: StorageAdapter) -> None:
        check_adapter(default)
        by_path = {_escaped(under): store for under, store in routes.items()}
        for store in by_path.values():
            check_adapter(store)
        self._default = default
        # The longest first: it decides.
        self._routes = sorted(by_path.items(), key=lambda route: len(route[0]), reverse=True)
        distinct = {id(store): store for store in (default, *by_path.values())}
        self.stores = tuple(distinct.values())

    def store(self, key: str) -> StorageAdapter:
        """Return the store that an object belongs to, or all of a prefix but deeper routes."""
        _, _, rest = key.partition("/")
        if rest.startswith(_ENTRIES):
            for under, store in self._routes:
                if rest.startswith(under, len(_ENTRIES)):
                    return store
        return self._default

    def by_store(self, keys: Iterable[str]) -> list[tuple[StorageAdapter, list[str]]]:
        """Return the keys of each store that has some."""
        some: dict[int, list[str]] = {}
        for key in keys:
            some.setdefault(id(self.store(key)), []).append(key)
        return [(store, some[id(store)]) for store in self.stores if id(store) in some]

    def places(self, prefix: str) -> list[tuple[StorageAdapter, str]]:
        """Return the stores that can have objects under a prefix, and under which prefix each."""
        if not prefix:
            return [(store, "") for store in self.stores]
        found = {id(self.store(prefix)): [prefix]}
        namespace = prefix.partition("/")[0]
        for under, store in self._routes:
            place = f"{namespace}/{_ENTRIES}{under}"
            if place.startswith(prefix):
                found.setdefault(id(store), []).append(place)
        return [
            (store, place) for store in self.stores for place in _widest(found.get(id(store), []))
        ]


def _widest(places: list[str]) -> Iterator[str]:
    """Yield the prefixes that are under none of the others, once each."""
    last: str | None = None
    for place in sorted(places):
        if last is None or not place.startswith(last):
            last = place
            yield place


def _escaped(under: object) -> str:
    """Return a route as it stands in object keys, with a slash at its end."""
    if not isinstance(under, str):
        raise ConfigurationError(f"a route must be an entity path, not {type(under).__name__}")
    try:
        segments = [escape(segment, "entity path segment") for segment in under.split("/")]
    except InvalidKeyError as error:
        raise ConfigurationError(
            f"the route {under!r} is not an entity path: {error.problem}"
        ) from error
    return f"{'/'.join(segments)}/"
