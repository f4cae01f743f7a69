"""An adapter whose process dies between any two of its requests, and does nothing afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from amfs_core.storage import Doorbell, ObjectInfo, StorageAdapter
from amfs_core.testing import Crash

T = TypeVar("T")


class Life:
    """How many requests a process lives for: it dies before or after the one of that number.

    Several adapters of one process share a life. `die` raises `Crash` unless told otherwise.
    """

    def __init__(
        self, requests: int, *, after: bool, die: Callable[[], object] | None = None
    ) -> None:
        self._left = requests
        self._after = after
        self._die = die
        self._lock = threading.Lock()
        self.over = False

    def spend(self, request: Callable[[], T]) -> T:
        """Carry a request out, if the process lives that long."""
        with self._lock:
            if self.over:
                raise Crash("dead")
            self._left -= 1
            last = self._left == 0
            self.over = last
        if last and not self._after:
            self._end()
        result = request()  # others that are under way may land, too
        if last:
            self._end()
        return result

    def _end(self) -> None:
        if self._die is not None:
            self._die()
        raise Crash("dead")


class MortalAdapter:
    """Does what `inner` does for as long as its process lives."""

    def __init__(self, inner: StorageAdapter, life: Life) -> None:
        self.inner = inner
        self.backend_type = inner.backend_type
        self.paged = inner.paged
        self.location = inner.location
        self._life = life

    def create(self, key: str, data: bytes) -> bool:
        return self._life.spend(lambda: self.inner.create(key, data))

    def get(self, key: str) -> bytes | None:
        return self._life.spend(lambda: self.inner.get(key))

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        for key in keys:
            yield key, self.get(key)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        yield from self._life.spend(lambda: [*self.inner.list(prefix, start_after)])

    def replace(self, key: str, data: bytes) -> None:
        self._life.spend(lambda: self.inner.replace(key, data))

    def delete(self, key: str) -> None:
        self._life.spend(lambda: self.inner.delete(key))

    def doorbell(self, prefix: str) -> Doorbell | None:
        return None

    def close(self) -> None:
        self.inner.close()
