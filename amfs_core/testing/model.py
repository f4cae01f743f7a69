"""`ModelAdapter`: the storage contract as a program, in memory and without faults."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from amfs_core import fork
from amfs_core.storage import ObjectInfo, StorageAdapter

_PAGE = 1000


class ModelAdapter(StorageAdapter):
    """The reference adapter: an adapter is correct if it does the same as this one.

    Everything is in memory and ends with the process; a forked child has its own copy. Safe to use
    from many threads. It is also the strictest adapter: it raises `ValueError` for a key or a
    prefix that the contract does not allow, and for a key that is both an object and a directory of
    another one (which a file system cannot have and the layout never makes).
    """

    backend_type = "model"
    location: str | None = None

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, datetime]] = {}
        self._order: list[bytes] = []
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        """Take a new lock in a forked child."""
        self._lock = threading.Lock()

    def create(self, key: str, data: bytes) -> bool:
        """Create the object if the key is free; see `StorageAdapter.create`."""
        self._check(key)
        with self._lock:
            if key in self._objects:
                return False
            self._put(key, data)
            return True

    def get(self, key: str) -> bytes | None:
        """Return the object's bytes, or None when there is none."""
        self._check(key)
        with self._lock:
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
        return self._pages(prefix.encode(), start_after.encode())

    def replace(self, key: str, data: bytes) -> None:
        """Write the object, replacing an existing one."""
        self._check(key)
        with self._lock:
            self._put(key, data)

    def delete(self, key: str) -> None:
        """Remove the object if there is one."""
        self._check(key)
        with self._lock:
            if self._objects.pop(key, None) is not None:
                del self._order[bisect_left(self._order, key.encode())]

    def _pages(self, prefix: bytes, after: bytes) -> Iterator[ObjectInfo]:
        while page := self._page(prefix, after):
            yield from page
            after = page[-1].key.encode()

    def _page(self, prefix: bytes, after: bytes) -> tuple[ObjectInfo, ...]:
        page = []
        with self._lock:
            first = max(bisect_left(self._order, prefix), bisect_right(self._order, after))
            for name in self._order[first : first + _PAGE]:
                if not name.startswith(prefix):
                    break
                data, modified = self._objects[name.decode()]
                page.append(ObjectInfo(name.decode(), len(data), modified))
        return tuple(page)

    def _put(self, key: str, data: bytes) -> None:
        if key not in self._objects:
            self._refuse_a_directory(key)
            insort(self._order, key.encode())
        self._objects[key] = bytes(data), datetime.now(UTC)

    def _refuse_a_directory(self, key: str) -> None:
        within = f"{key}/".encode()
        place = bisect_left(self._order, within)
        segments = key.split("/")
        above = ("/".join(segments[:depth]) for depth in range(1, len(segments)))
        if any(directory in self._objects for directory in above) or (
            place < len(self._order) and self._order[place].startswith(within)
        ):
            raise ValueError(f"{key!r} and another key are an object and its directory")

    @staticmethod
    def _check(key: str) -> None:
        key.encode()
        if not all(key.split("/")):
            raise ValueError(f"{key!r} has an empty segment")
