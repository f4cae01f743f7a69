"""Stores for the tests of layers, and what makes the kit's keys fall under entity paths."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import cast

from amfs_core.errors import BackendUnavailableError, OutcomeUnknownError
from amfs_core.storage import (
    Capabilities,
    ChangeLog,
    Doorbell,
    ObjectInfo,
    StorageAdapter,
    WrappedAdapter,
)

ENTRIES = "n/entries/"


class Beneath(WrappedAdapter):
    """Has every key below the entries of a namespace in the inner adapter: the kit's keys, which no
    layout makes, are then those of memories."""

    def create(self, key: str, data: bytes) -> bool:
        return self.inner.create(ENTRIES + key, data)

    def get(self, key: str) -> bytes | None:
        return self.inner.get(ENTRIES + key)

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        for key, body in self.inner.get_many(ENTRIES + key for key in keys):
            yield _cut(key), body

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        after = ENTRIES + start_after if start_after else ""
        for info in self.inner.list(ENTRIES + prefix, after):
            yield ObjectInfo(_cut(info.key), info.size, info.modified)

    def replace(self, key: str, data: bytes) -> None:
        self.inner.replace(ENTRIES + key, data)

    def delete(self, key: str) -> None:
        self.inner.delete(ENTRIES + key)

    def doorbell(self, prefix: str) -> Doorbell | None:
        return self.inner.doorbell(ENTRIES + prefix)

    def create_many(self, objects: Mapping[str, bytes]) -> Collection[str]:
        moved = {ENTRIES + key: data for key, data in objects.items()}
        return [_cut(key) for key in super().create_many(moved)]

    def changes(self) -> ChangeLog | None:
        log = self.inner.changes()
        return None if log is None else _Beneath(log)


class _Beneath:
    def __init__(self, log: ChangeLog) -> None:
        self.audit = log.audit
        self._log = log

    def position(self, *, make: bool) -> str | None:
        return self._log.position(make=make)

    def since(self, position: str) -> tuple[str, Sequence[str]] | None:
        answer = self._log.since(position)
        return None if answer is None else (answer[0], [_cut(key) for key in answer[1]])


def _cut(key: str) -> str:
    assert key.startswith(ENTRIES)
    return key[len(ENTRIES) :]


class Outage(WrappedAdapter):
    """A store that answers nothing while it is `down`. `last` is what becomes of the create before
    that: its answer is lost, and it landed or did not."""

    def __init__(self, inner: StorageAdapter) -> None:
        super().__init__(inner)
        self.down = False
        self.last: str | None = None

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        return Capabilities(paged=self.inner.capabilities.paged)

    def _ask(self, key: str) -> None:
        if self.down:
            raise BackendUnavailableError(f"no connection for {key}", object_key=key)

    def create(self, key: str, data: bytes) -> bool:
        self._ask(key)
        if self.last is None:
            return super().create(key, data)
        self.down = True
        if self.last == "landed":
            super().create(key, data)
        raise OutcomeUnknownError(f"no answer for {key}", object_key=key)

    def get(self, key: str) -> bytes | None:
        self._ask(key)
        return super().get(key)

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        self._ask("many keys")
        return super().get_many(keys)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        self._ask(prefix)
        return super().list(prefix, start_after)

    def replace(self, key: str, data: bytes) -> None:
        self._ask(key)
        super().replace(key, data)


def made(store: StorageAdapter) -> StorageAdapter:
    """The store, once there is something in it: an empty one has no change log."""
    store.create("other/outcomes/first.json", b"{}")
    return store


def keys_of(store: StorageAdapter, prefix: str = "") -> list[str]:
    """The key of every object of a store, each listed once and in order."""
    keys = [info.key for info in store.list(prefix)]
    assert keys == sorted(set(keys), key=str.encode)
    return keys


def all_of(store: StorageAdapter, prefix: str = "") -> dict[str, bytes]:
    """Every object of a store from which nobody deletes meanwhile."""
    bodies = dict(store.get_many(keys_of(store, prefix)))
    assert None not in bodies.values()
    return cast("dict[str, bytes]", bodies)
