"""`WrappedAdapter`: an adapter around another one, to change what some of its methods do."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from amfs_core.storage.adapter import (
    BatchingAdapter,
    ChangeLog,
    Doorbell,
    Lag,
    LoggedAdapter,
    ObjectInfo,
    StorageAdapter,
    lags_of,
    origin_of,
)

_OPTIONAL = {
    "create_many": "_create_many",
    "changes": "_changes",
    "checks": "_checks",
    "mirror_lags": "_mirror_lags",
    "fallback_of": "_fallback_of",
}
"""What a store may have besides the contract, and the method here that stands for it."""


class WrappedAdapter(StorageAdapter):
    """Passes everything on to `inner`; derive from it and override what is to be different.

    `create_many`, `changes`, `checks`, `mirror_lags`, `fallback_of` and `timeout` are there only
    where the inner adapter has them. To change one of these methods, override the one with an
    underscore before its name; to have it where the inner adapter does not, `_has`.
    """

    timeout: float

    def __init__(self, inner: StorageAdapter) -> None:
        self.inner = inner
        self.backend_type = inner.backend_type
        self.paged = getattr(inner, "paged", True)
        if (timeout := getattr(inner, "timeout", None)) is not None:
            self.timeout = timeout

    def __getattr__(self, name: str) -> Any:
        # For what is not found otherwise. A copy that is being made has no `inner` yet.
        if name in _OPTIONAL and "inner" in self.__dict__ and self._has(name):
            return getattr(self, _OPTIONAL[name])
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}", name=name)

    def _has(self, name: str) -> bool:
        """Whether there is the optional method of that name."""
        return hasattr(self.inner, name)

    @property
    def location(self) -> str | None:
        """The inner adapter's: the objects are the same."""
        return getattr(self.inner, "location", None)

    @property
    def origin(self) -> StorageAdapter:
        """The same wrapper around the inner adapter's origin, where that has one."""
        origin = origin_of(self.inner)
        if origin is self.inner:
            return self
        wrapper = copy.copy(self)
        wrapper.inner = origin
        return wrapper

    def create(self, key: str, data: bytes) -> bool:
        """Create through the inner adapter."""
        return self.inner.create(key, data)

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

    def doorbell(self, prefix: str) -> Doorbell | None:
        """Return the inner adapter's doorbell."""
        return self.inner.doorbell(prefix)

    def close(self) -> None:
        """Close the inner adapter."""
        self.inner.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inner!r})"

    def _create_many(self, objects: Mapping[str, bytes]) -> Collection[str]:
        return cast(BatchingAdapter, self.inner).create_many(objects)

    def _changes(self) -> ChangeLog:
        return cast(LoggedAdapter, self.inner).changes()

    def _checks(self) -> Iterator[Any]:  # of `amfs_core.doctor.Check`, which is above this room
        checks: Callable[[], Iterator[Any]] = cast(Any, self.inner).checks
        return checks()

    def _mirror_lags(self) -> Sequence[Lag]:
        return lags_of(self.inner)

    def _fallback_of(self, prefix: str) -> Sequence[Any]:  # of `amfs_core.layers`, likewise
        fallbacks: Callable[[str], Sequence[Any]] = cast(Any, self.inner).fallback_of
        return fallbacks(prefix)
