"""What the torture must catch: plausible mistakes, each as one would make it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

import msgspec
from msgspec.structs import replace

import amfs_core.memory.namespace
import amfs_core.versions.purge
from amfs_core.errors import OutcomeUnknownError
from amfs_core.format import Address, Draft, MemoryEntry, seal_entry
from amfs_core.format.seal import sealed
from amfs_core.storage import Doorbell, ObjectInfo, StorageAdapter
from amfs_core.versions import NONE_KNOWN, GuardedClient, Head, VersionLog


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


class Forgetful(VersionLog):
    """Takes "exists" for another's, after a lost answer too: it forgets which write it retries."""

    def append(  # type: ignore[override]
        self,
        address: Address,
        draft: Draft | Callable[[Head], Draft | None],
        *,
        head: Head | None = None,
        moment: datetime | None = None,
        prepared: object = None,
    ) -> MemoryEntry | None:
        del prepared
        head = head or self.cache.head(address) or NONE_KNOWN
        while True:
            said = draft if isinstance(draft, Draft) else draft(head)
            if said is None:
                return None
            entry = self._next(address, said, head, moment or self.clock.now())
            body, object_key = seal_entry(entry), address.object_key(entry.version)
            if self.store.patiently(
                lambda key=object_key, body=body: self.store.create(key, body),  # type: ignore[misc]
                (OutcomeUnknownError,),
            ):
                self.cache.keep(address, entry, body, newest=True)
                return entry
            winner = self._must_get(address, entry.version)
            head = Head.of(winner)


class Renaming(GuardedClient):
    """Retries a lost create of a version by itself with a new body, under a new write_id."""

    def settle(self, key: str, data: bytes) -> bytes:
        try:
            if self.create(key, data):
                return data
        except OutcomeUnknownError:
            fields = msgspec.json.decode(data)
            if "provenance" in fields:  # an outcome has none
                fields["provenance"]["write_id"] += "-again"
                del fields["sha256"]
                again = sealed(fields)
                return data if super().settle(key, again) is again else super().settle(key, data)
        return super().settle(key, data)


class Trusting(VersionLog):
    """Takes the highest version of a listing for the newest."""

    def newest(self, address: Address, max_age: float | None = None) -> MemoryEntry | None:
        listed = max(self.listed(address), default=0)
        self.cache.checked(address, listed)
        return self.get(address, listed) if listed else None


def spare(versions: VersionLog, address: Address, tombstone: Draft) -> tuple[int, int]:
    """A purge that stops one version short of its tombstone."""
    order = versions.append(address, tombstone)
    kept = order.version - 1
    body = versions.store.get(address.object_key(kept))
    erased = _purge(versions, address, tombstone)
    if body is not None:
        versions.store.replace(address.object_key(kept), body)
    return erased


def free(versions: VersionLog, address: Address, tombstone: Draft) -> tuple[int, int]:
    """A purge that deletes the objects, so that their numbers are free again."""
    numbers = list(versions.listed(address))
    for number in numbers:
        versions.store.inner.delete(address.object_key(number))
    versions.cache.after_fork()
    return len(numbers), max(numbers, default=0)


def remember(versions: VersionLog, address: Address, tombstone: Draft) -> tuple[int, int]:
    """A purge whose process goes on showing what it had cached."""
    head = versions.newest(address)
    bodies = {
        number: body
        for number in range(1, head.version + 1 if head else 1)
        if (body := versions.cache.body(address, number)) is not None
    }
    erased = _purge(versions, address, tombstone)
    cache, prefix = versions.cache, address.prefix
    cache._memories[prefix].bodies.update(bodies)
    return erased


def misname(versions: VersionLog, address: Address, tombstone: Draft) -> tuple[int, int]:
    """A purge whose first stub does not say what the content's hash was."""
    erased = _purge(versions, address, tombstone)
    first = versions.get(address, 1)
    if first is not None and first.erased is not None:
        versions.store.replace(address.object_key(1), seal_entry(replace(first, erased="0" * 64)))
    return erased


_purge = amfs_core.versions.purge.purge
PARTS = {
    "forgets": ("VersionLog", Forgetful),
    "renames": ("GuardedClient", Renaming),
    "trusts": ("VersionLog", Trusting),
}
PURGES = {"spares": spare, "frees": free, "remembers": remember, "misnames": misname}


def install(name: str, adapter: StorageAdapter) -> StorageAdapter:
    """Break this process in the named way, and return what it is to work with."""
    if name == "overwrites":
        return Overwriting(adapter)
    if name in PURGES:
        setattr(amfs_core.versions.purge, "purge", PURGES[name])  # noqa: B010
    else:
        setattr(amfs_core.memory.namespace, *PARTS[name])
    return adapter
