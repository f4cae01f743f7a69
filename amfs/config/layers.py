"""The stores that `amfs.yaml` names beside the primary: cache, mirrors, fallback and routes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any

import msgspec

from amfs_core.storage import StorageAdapter

Place = tuple[str | int, ...]
"""Keys and numbers that lead to a part of the file."""


class Layer(msgspec.Struct):
    """A store in the file."""

    adapter: str
    options: dict[str, Any] | None = None


class MirrorLayer(msgspec.Struct):
    """A mirror in the file: `wait` for it with each write, or not."""

    adapter: str
    options: dict[str, Any] | None = None
    wait: bool = False


class RouteLayer(msgspec.Struct):
    """An entity path in the file, and the store of all that is `under` it."""

    under: str
    adapter: str
    options: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class NamedStore:
    """A store that the file names, and at which place in it."""

    place: Place
    adapter: str
    options: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Layers:
    """The stores beside the primary one; each mirror with whether writes wait for it, each route
    with its entity path."""

    cache: NamedStore | None = None
    mirrors: tuple[tuple[NamedStore, bool], ...] = ()
    routes: tuple[tuple[str, NamedStore], ...] = ()
    fallback: NamedStore | None = None

    def __bool__(self) -> bool:
        return bool(self.cache or self.mirrors or self.routes or self.fallback)

    def __str__(self) -> str:
        """What there is, in words."""
        parts = ["a cache"] if self.cache else []
        for count, noun in ((len(self.mirrors), "mirror"), (len(self.routes), "route")):
            if count:
                parts.append(f"{count} {noun}{'s' if count > 1 else ''}")
        if self.fallback:
            parts.append("a fallback")
        return ", ".join(parts)

    def identity(self) -> str:
        """Return what tells these stores from others. It may hold secrets."""
        return repr(
            [(store.adapter, sorted(store.options.items()), of) for store, of in self._all()]
        )

    def opened(
        self,
        primary: StorageAdapter,
        open_store: Callable[[NamedStore], StorageAdapter],
        patience: float,
    ) -> StorageAdapter:
        """Return one store made of the primary and these; a store behind a route counts as down
        after `patience` seconds. When one cannot be opened, none stays open. Raises
        `ConfigurationError`."""
        from amfs_core.layers import Layered, Mirror, Routed

        with ExitStack() as opened:
            opened.enter_context(closing(primary))

            def open_one(store: NamedStore) -> StorageAdapter:
                return opened.enter_context(closing(open_store(store)))

            made = primary
            if self.cache or self.mirrors or self.fallback:
                cache = None if self.cache is None else open_one(self.cache)
                mirrors = [Mirror(open_one(store), wait) for store, wait in self.mirrors]
                fallback = None if self.fallback is None else open_one(self.fallback)
                made = Layered(primary, cache, mirrors, fallback)
            if self.routes:
                routes = {under: open_one(store) for under, store in self.routes}
                made = Routed(routes, made, patience=patience)
            opened.pop_all()
        return made

    def _all(self) -> Iterator[tuple[NamedStore, object]]:
        if self.cache is not None:
            yield self.cache, "cache"
        yield from self.mirrors
        yield from ((store, under) for under, store in self.routes)
        if self.fallback is not None:
            yield self.fallback, "fallback"


def named(
    cache: Layer | None,
    mirrors: list[MirrorLayer] | None,
    routes: list[RouteLayer] | None,
    fallback: Layer | None,
) -> Layers:
    """Return the stores that the parts of a file name."""

    def store(layer: Layer | MirrorLayer | RouteLayer, *place: str | int) -> NamedStore:
        return NamedStore(place, layer.adapter, layer.options or {})

    return Layers(
        None if cache is None else store(cache, "layers", "cache"),
        tuple(
            (store(mirror, "layers", "mirrors", index), mirror.wait)
            for index, mirror in enumerate(mirrors or ())
        ),
        tuple(
            (route.under, store(route, "routes", index)) for index, route in enumerate(routes or ())
        ),
        None if fallback is None else store(fallback, "layers", "fallback"),
    )
