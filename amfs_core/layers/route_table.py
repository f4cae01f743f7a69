"""`RouteTable`: which store an object belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from amfs_core.errors import AMFSError, ConfigurationError, InvalidKeyError
from amfs_core.format import VERSION, escape
from amfs_core.storage import StorageAdapter, StoreClient, check_adapter

_ENTRIES = f"{VERSION.folder}/"


class RouteTable:
    """Entity paths, as they stand in object keys, and the stores of what is below each.

    `stores` are all stores, each once, the default store first. Each is known to be down by itself,
    after `patience` seconds.
    """

    def __init__(
        self, routes: Mapping[str, StorageAdapter], default: StorageAdapter, patience: float
    ) -> None:
        check_adapter(default)
        by_path = {_escaped(under): (under, store) for under, store in routes.items()}
        clients = {id(default): _OneOfSeveral(default, patience, "the default store")}
        for under, store in by_path.values():
            check_adapter(store)
            if id(store) not in clients:
                clients[id(store)] = _OneOfSeveral(store, patience, f"the store of {under}")
        self.stores: tuple[StoreClient, ...] = tuple(clients.values())
        self._default: StoreClient = clients[id(default)]
        # The longest first: it decides.
        self._routes: list[tuple[str, StoreClient]] = sorted(
            ((path, clients[id(store)]) for path, (_, store) in by_path.items()),
            key=lambda route: len(route[0]),
            reverse=True,
        )

    def store(self, key: str) -> StoreClient:
        """Return the store that an object belongs to, or all of a prefix but deeper routes."""
        _, _, rest = key.partition("/")
        if rest.startswith(_ENTRIES):
            for under, store in self._routes:
                if rest.startswith(under, len(_ENTRIES)):
                    return store
        return self._default

    def by_store(self, keys: Iterable[str]) -> list[tuple[StoreClient, list[str]]]:
        """Return the keys of each store that has some."""
        some: dict[int, list[str]] = {}
        for key in keys:
            some.setdefault(id(self.store(key)), []).append(key)
        return [(store, some[id(store)]) for store in self.stores if id(store) in some]

    def places(self, prefix: str) -> list[tuple[StoreClient, str]]:
        """Return the stores that can have objects under a prefix, and under which prefix each."""
        if not prefix:
            return [(store, "") for store in self.stores]
        prefixes = {id(self.store(prefix)): [prefix]}
        namespace = prefix.partition("/")[0]
        for under, store in self._routes:
            place = f"{namespace}/{_ENTRIES}{under}"
            if place.startswith(prefix):
                prefixes.setdefault(id(store), []).append(place)
        return [
            (store, place)
            for store in self.stores
            for place in _widest(prefixes.get(id(store), []))
        ]


class _OneOfSeveral(StoreClient):
    """A store that is asked once at a time, since whoever asks has patience, and that is known to
    be down by itself: its failures say nothing of the stores beside it."""

    def __init__(self, store: StorageAdapter, patience: float, what: str) -> None:
        super().__init__(store, 0.0, what, down_after=patience)

    def note_failure(self, error: AMFSError, sent: float) -> None:
        """Note it, and have whoever asks take it for that of this store alone."""
        super().note_failure(error, sent)
        if error.origin == "store":
            error.origin = "layer"


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
