"""`Layered`: a store with a cache before it (docs/design/layers.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from amfs_core.doctor import checks_of, labelled
from amfs_core.errors import ConfigurationError
from amfs_core.layers.version_cache import VersionCache
from amfs_core.storage import (
    ObjectInfo,
    StorageAdapter,
    WrappedAdapter,
    check_adapter,
    is_within,
    origin_of,
)

if TYPE_CHECKING:
    from amfs_core.doctor import Check


class Layered(WrappedAdapter):
    """A primary store, and others that make it quicker.

        Layered(S3Adapter("my-bucket"), cache=LocalAdapter("cache", durability="none"))

    `cache` keeps versions that were read. It is used only for what the primary has just listed
    unchanged, and passed by when it fails. It may be deleted at any time.

    Closing it closes the stores. Raises `ConfigurationError` for a store that is within another one
    of them.
    """

    def __init__(self, primary: StorageAdapter, cache: StorageAdapter | None = None) -> None:
        check_adapter(primary)
        super().__init__(primary)
        self.backend_type = "layered"
        self._cache: VersionCache | None = None
        if cache is not None:
            check_adapter(cache)
            _require_apart(primary, "the primary store", cache, "the cache")
            self._cache = VersionCache(cache)

    @property
    def origin(self) -> StorageAdapter:
        """The store without its cache."""
        return origin_of(self.inner)

    def get(self, key: str) -> bytes | None:
        """Get from the cache, else from the primary."""
        if self._cache is None:
            return self.inner.get(key)
        body = self._cache.get(key)
        if body is None:
            body = self.inner.get(key)
            if body is not None:
                self._cache.keep(key, body)
        return body

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Get many from the cache, and the rest from the primary."""
        if self._cache is None:
            yield from self.inner.get_many(keys)
            return
        pending = dict.fromkeys(keys)
        for key, body in self._cache.get_many(pending.copy()):
            del pending[key]
            yield key, body
        for key, found in self.inner.get_many(list(pending)):
            if found is not None:
                self._cache.keep(key, found)
            yield key, found

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """List the primary."""
        infos = self.inner.list(prefix, start_after)
        return infos if self._cache is None else self._cache.noting(infos)

    def replace(self, key: str, data: bytes) -> None:
        """Replace in the primary, and remove from the cache."""
        self.inner.replace(key, data)
        if self._cache is not None:
            self._cache.forget(key)

    def delete(self, key: str) -> None:
        """Delete from the primary and from the cache."""
        self.inner.delete(key)
        if self._cache is not None:
            self._cache.forget(key)

    def close(self) -> None:
        """Close all stores."""
        self.inner.close()
        if self._cache is not None:
            self._cache.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return Layered, (self.inner, self._cache and self._cache.store)

    def __repr__(self) -> str:
        cache = "" if self._cache is None else f", cache={self._cache.store!r}"
        return f"Layered({self.inner!r}{cache})"

    def _has(self, name: str) -> bool:
        return name == "checks" or super()._has(name)

    def _checks(self) -> Iterator[Check]:
        yield from checks_of(self.inner)
        if self._cache is not None:
            yield from labelled("cache", checks_of(self._cache.store))


def _require_apart(
    primary: StorageAdapter, primary_name: str, other: StorageAdapter, name: str
) -> None:
    """Refuse a store in another one: their objects would be taken for those of the other."""
    if is_within(primary, other) or is_within(other, primary):
        raise ConfigurationError(
            f"{name} is at {other.location}, and {primary_name} at {primary.location}: one is "
            "within the other",
            hint="give each a place of its own",
        )
