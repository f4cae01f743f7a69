"""`ModelAdapter`: the storage contract as a program, in memory and without faults."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from amfs_core.storage import ObjectInfo, StorageAdapter

_PAGE = 1000


class ModelAdapter(StorageAdapter):
    """The reference adapter: an adapter is correct if it does the same as this one.

    Everything is in memory and ends with the process; a forked child has its own copy. Safe to use
    from many threads and from signal handlers: whatever a method changes, it changes by one
    operation of a dict, which nobody sees half done, and so there is no lock to wait for. It is
    also the strictest adapter: it raises `ValueError` for a key or a prefix that the contract does
    not allow, and for a key that is both an object and a directory of another one (which a file
    system cannot have and the layout never makes).
    """

    backend_type = "model"
    location: str | None = None

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, datetime]] = {}
        self._directories: set[str] = set()  # of all objects that ever were

    def create(self, key: str, data: bytes) -> bool:
        """Create the object if the key is free; see `StorageAdapter.create`."""
        self._check(key)
        self._refuse_a_directory(key)
        record = bytes(data), datetime.now(UTC)
        return self._objects.setdefault(key, record) is record

    def get(self, key: str) -> bytes | None:
        """Return the object's bytes, or None when there is none."""
        self._check(key)
        record = self._objects.get(key)
        return None if record is None else record[0]

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Yield `(key, bytes or None)` for every key."""
        for key in keys:
            yield key, self.get(key)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects under the prefix in byte order of their keys, a page at a time."""
        if prefix:
            self._check(prefix[:-1])
            if not prefix.endswith("/"):
                raise ValueError(f"prefix {prefix!r} must be empty or end with a slash")
        start_after.encode()
        return self._pages(prefix, start_after)

    def replace(self, key: str, data: bytes) -> None:
        """Write the object, replacing an existing one."""
        self._check(key)
        self._refuse_a_directory(key)
        self._objects[key] = bytes(data), datetime.now(UTC)

    def delete(self, key: str) -> None:
        """Remove the object if there is one."""
        self._check(key)
        self._objects.pop(key, None)

    def _pages(self, prefix: str, after: str) -> Iterator[ObjectInfo]:
        while keys := self._keys(prefix, after):
            page = [(key, self._objects.get(key)) for key in keys]
            for key, record in page:
                if record is not None:
                    yield ObjectInfo(key, len(record[0]), record[1])
            after = keys[-1]

    def _keys(self, prefix: str, after: str) -> tuple[str, ...]:
        """Return the keys of a page. Strings are in the order of their UTF-8."""
        keys = tuple(self._objects)  # at once
        return tuple(sorted(key for key in keys if key > after and key.startswith(prefix))[:_PAGE])

    def _refuse_a_directory(self, key: str) -> None:
        segments = key.split("/")
        above = ["/".join(segments[:depth]) for depth in range(1, len(segments))]
        if any(directory in self._objects for directory in above) or (
            key in self._directories and self._keys(f"{key}/", "")
        ):
            raise ValueError(f"{key!r} and another key are an object and its directory")
        self._directories.update(above)

    @staticmethod
    def _check(key: str) -> None:
        key.encode()
        if not all(key.split("/")):
            raise ValueError(f"{key!r} has an empty segment")
