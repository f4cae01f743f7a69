"""What the torture must catch: plausible mistakes, each as one would make it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from msgspec.structs import replace

import amfs_core.erasure
import amfs_core.session
from amfs_core.cache import NONE_KNOWN, Head
from amfs_core.entry import Draft, MemoryEntry, seal
from amfs_core.errors import OutcomeUnknownError
from amfs_core.layout import Address
from amfs_core.storage import Doorbell, ObjectInfo, StorageAdapter
from amfs_core.versions import Versions


class Overwriting:
    """Creates by plain writing, as an endpoint does that ignores `If-None-Match`."""

    paged = True

    def __init__(self, inner: StorageAdapter) -> None:
        self._inner = inner
        self.backend_type = inner.backend_type
        self.location = inner.location

    def create(self, key: str, data: bytes) -> bool:
        self._inner.replace(key, data)
        return True

    def get(self, key: str) -> bytes | None:
        return self._inner.get(key)

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        return self._inner.get_many(keys)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        return self._inner.list(prefix, start_after)

    def replace(self, key: str, data: bytes) -> None:
        self._inner.replace(key, data)

    def delete(self, key: str) -> None:
        self._inner.delete(key)

    def doorbell(self, prefix: str) -> Doorbell | None:
        return None

    def close(self) -> None:
        self._inner.close()


class Forgetful(Versions):
    """Takes "exists" for another's, after a lost answer too: it forgets which write it retries."""

    def append(
        self,
        address: Address,
        make: Callable[[Head], Draft | None],
        *,
        head: Head | None = None,
        moment: datetime | None = None,
    ) -> MemoryEntry | None:
        head = head or self.cache.head(address) or NONE_KNOWN
        while (draft := make(head)) is not None:
            entry = self._next(address, draft, head, moment or self.clock.now())
            body, object_key = seal(entry), address.object_key(entry.version)
            if self.store.patiently(
                lambda key=object_key, body=body: self.store.create(key, body),  # type: ignore[misc]
                (OutcomeUnknownError,),
            ):
                self.cache.keep(address, entry, body, newest=True)
                return entry
            winner = self._must_get(address, entry.version)
            head = Head(winner.version, winner.sha256, winner.provenance.written_at)
        return None


class Renaming(Versions):
    """Retries a lost create by itself with a new body, under a new write_id."""

    def _create(self, address: Address, version: int, body: bytes, write_id: str) -> bytes:
        try:
            if self.store.create(address.object_key(version), body):
                return body
        except OutcomeUnknownError:
            entry = self.decode(address, version, body)
            provenance = replace(entry.provenance, write_id=f"{write_id}-again")
            again = seal(replace(entry, provenance=provenance))
            if super()._create(address, version, again, f"{write_id}-again") is again:
                return body
        return super()._create(address, version, body, write_id)


class Trusting(Versions):
    """Takes the highest version of a listing for the newest."""

    def newest(self, address: Address, max_age: float | None = None) -> MemoryEntry | None:
        listed = max(self.listed(address), default=0)
        self.cache.checked(address, listed)
        return self.get(address, listed) if listed else None


def spare(versions: Versions, address: Address, tombstone: Draft) -> int:
    """A purge that stops one version short of its tombstone."""
    order = versions.append(address, lambda _: tombstone)
    assert order is not None
    kept = order.version - 1
    body = versions.store.get(address.object_key(kept))
    erased = _purge(versions, address, tombstone)
    if body is not None:
        versions.store.replace(address.object_key(kept), body)
    return erased


def free(versions: Versions, address: Address, tombstone: Draft) -> int:
    """A purge that deletes the objects, so that their numbers are free again."""
    numbers = list(versions.listed(address))
    for number in numbers:
        versions.store.adapter.delete(address.object_key(number))
    versions.cache.after_fork()
    return len(numbers)


def remember(versions: Versions, address: Address, tombstone: Draft) -> int:
    """A purge whose process goes on showing what it had cached."""
    head = versions.newest(address)
    bodies = {
        number: body
        for number in range(1, head.version + 1 if head else 1)
        if (body := versions.cache.body(address, number)) is not None
    }
    erased = _purge(versions, address, tombstone)
    cache, prefix = versions.cache, address.prefix
    memory = cache._memories.get(prefix) or cache._new_memory(prefix)
    for number, body in bodies.items():
        cache._keep_body(memory, prefix, number, body)
    return erased


def misname(versions: Versions, address: Address, tombstone: Draft) -> int:
    """A purge whose first stub does not say what the content's hash was."""
    erased = _purge(versions, address, tombstone)
    first = versions.get(address, 1)
    if first is not None and first.erased is not None:
        versions.store.replace(address.object_key(1), seal(replace(first, erased="0" * 64)))
    return erased


_purge = amfs_core.erasure.purge
_VERSIONS = {"forgets": Forgetful, "renames": Renaming, "trusts": Trusting}
PURGES = {"spares": spare, "frees": free, "remembers": remember, "misnames": misname}


def install(name: str, adapter: StorageAdapter) -> StorageAdapter:
    """Break this process in the named way, and return what it is to work with."""
    if name == "overwrites":
        return Overwriting(adapter)
    if name in PURGES:
        setattr(amfs_core.erasure, "purge", PURGES[name])  # noqa: B010
    else:
        setattr(amfs_core.session, "Versions", _VERSIONS[name])  # noqa: B010
    return adapter
