"""`WrappedAdapter`: an adapter around another one, to change what some of its methods do."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from amfs_core.storage.adapter import ChangeLog, Doorbell, Lag, ObjectInfo, StorageAdapter
from amfs_core.storage.admission import adopted
from amfs_core.storage.capabilities import Capabilities


class WrappedAdapter(StorageAdapter):
    """Passes everything on to `inner`; derive from it and override what is to be different.

    It has the capabilities of the inner adapter. To have another one, override `capabilities` with
    the method that it is about.
    """

    def __init__(self, inner: StorageAdapter) -> None:
        self.inner = adopted(inner)
        self.backend_type = self.inner.backend_type
        self.timeout = self.inner.timeout

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        """The inner adapter's."""
        return self.inner.capabilities

    @property
    def location(self) -> str | None:
        """The inner adapter's: the objects are the same."""
        return self.inner.location

    @property
    def origin(self) -> StorageAdapter:
        """The same wrapper around the inner adapter's origin, where that has another one."""
        origin = self.inner.origin
        if origin is self.inner:
            return self
        wrapper = copy.copy(self)
        wrapper.inner = origin
        return wrapper

    def create(self, key: str, data: bytes) -> bool:
        """Create through the inner adapter."""
        return self.inner.create(key, data)

    def create_many(self, objects: Mapping[str, bytes]) -> Collection[str]:
        """Create together through the inner adapter."""
        return self.inner.create_many(objects)

    def get(self, key: str) -> bytes | None:
        """Get from the inner adapter."""
        return self.inner.get(key)

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Get many objects from the inner adapter."""
        return self.inner.get_many(keys)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """List the inner adapter."""
        return self.inner.list(prefix, start_after)

    def replace(self, key: str, data: bytes) -> None:
        """Replace through the inner adapter."""
        self.inner.replace(key, data)

    def delete(self, key: str) -> None:
        """Delete through the inner adapter."""
        self.inner.delete(key)

    def changes(self) -> ChangeLog | None:
        """Return the inner adapter's change log."""
        return self.inner.changes()

    def doorbell(self, prefix: str) -> Doorbell | None:
        """Return the inner adapter's doorbell."""
        return self.inner.doorbell(prefix)

    def checks(self) -> Iterator[Any]:
        """Yield the inner adapter's checks."""
        return self.inner.checks()

    def mirror_lags(self) -> Sequence[Lag]:
        """Return how far the inner adapter's mirrors are behind."""
        return self.inner.mirror_lags()

    def fallback_of(self, prefix: str) -> Sequence[Any]:
        """Return the inner adapter's fallbacks."""
        return self.inner.fallback_of(prefix)

    def close(self) -> None:
        """Close the inner adapter."""
        self.inner.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inner!r})"
