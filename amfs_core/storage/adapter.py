"""The storage contract: all that AMFS knows about where objects are kept.

An adapter keeps bytes under keys and knows nothing of versions. A key is text: segments joined by
`/`, none empty, escaped by `amfs_core.format`; the adapter puts its prefix or root before it.
It is used from many threads at once, may be used after a fork, translates its failures to the
errors of `amfs_core.errors`, and retries nothing: patience is decided above.
`amfs_core.testing` holds an adapter to all of this.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol, cast

import msgspec

from amfs_core.errors import ConfigurationError


class ObjectInfo(msgspec.Struct, frozen=True, gc=False):
    """One object of a listing: its key, its size in bytes and when the store last changed it."""

    key: str
    size: int
    modified: datetime


class Doorbell(Protocol):
    """Says that something under a prefix may have changed. It may ring too often or not at all."""

    def wait(self, timeout: float) -> bool:
        """Block for up to `timeout` seconds; True when it rang, False when the time is over."""

    def close(self) -> None:
        """Stop listening; a `wait` under way returns."""


class ChangeLog(Protocol):
    """Says which objects may have been created since an earlier look (docs/design/changes.md). A
    store that has one lists without lag: a listing has all whose create returned before it began.

    Either method may raise what any call of an adapter may.
    """

    audit: float
    """Seconds after which it is worth a listing to find what was done without the adapter."""

    def position(self, *, make: bool) -> str | None:
        """Return where the log ends now: every create that has returned before is before it.

        None when there is no log. `make` says that one is to be made, where the store has to.
        """

    def since(self, position: str) -> tuple[str, Sequence[str]] | None:
        """Return the position now, and at least the keys of all objects whose create returned
        between the two; some that are older, or not there, may be among them.

        None when the log cannot tell: it is another one, or was cut or replaced.
        """


class Lag(msgspec.Struct, frozen=True):
    """How far a mirror is behind its primary, as far as this process knows.

    `waiting` objects are still to be brought there by this process, the oldest for `seconds`.
    Since the store was opened `left_out` objects were given up, and `differing` ones were met that
    the mirror has with other bytes than the primary. `error` is why the mirror could not be written
    to the last time, None when it could.
    """

    mirror: str
    waiting: int = 0
    seconds: float = 0.0
    left_out: int = 0
    differing: int = 0
    error: str | None = None


class Degraded(msgspec.Struct, frozen=True):
    """What waits in a fallback store for one namespace, until the primary store has it.

    `is_down` is whether the primary is known to be down now. `since` is since when that is so, or
    when the oldest operation was kept that waits; None when neither is. `waiting` operations are to
    be replayed, and `conflicts` to be decided. `error` is why that cannot be told, or why the
    last replay stopped.
    """

    is_down: bool
    since: datetime | None
    waiting: int
    conflicts: int
    error: str | None = None

    @property
    def is_degraded(self) -> bool:
        """Whether the primary is down, or something is not in it yet."""
        return self.is_down or bool(self.waiting or self.conflicts)


class StorageAdapter(Protocol):
    """What a store must do. Any call may raise `BackendUnavailableError` (nothing was
    applied; worth a retry), `StorageFullError` (nothing was applied; a retry would not help),
    `PermissionDeniedError`, `BucketNotFoundError` or `ConfigurationError`; none of these may
    ever be reported as absence.

    An adapter may also have `create_many` (`BatchingAdapter`), `changes` (`LoggedAdapter`) and
    `checks`, which `amfs doctor` runs (`amfs_core.doctor.Diagnosable`).

    One whose requests fail after a time has that, in seconds, as `timeout`: a request that took
    longer says that the process was stopped meanwhile (docs/design/patience.md).
    """

    backend_type: str = ""
    """How configuration names this kind of store: "local", "s3", ..."""

    paged: bool = True
    """True where one listing request gives up to 1,000 keys at a constant price, however many
    there are; False where it has to read everything under the prefix first (a directory)."""

    @property
    def location(self) -> str | None:
        """Which objects these are, as text such as a URL: the same for every adapter on this
        machine that sees them, and for no other. None: no catalog of them is kept on disk."""
        return None

    def create(self, key: str, data: bytes) -> bool:
        """Create the object if the key is free, atomically; True once it is durable.

        False when the key is taken or the store reports a conflict: the caller reads it back.
        Raises `OutcomeUnknownError` when the object may have been created or may yet be.
        """

    def get(self, key: str) -> bytes | None:
        """Return the whole object, or None when the store says that there is none."""

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Get many objects, several at a time, and yield them in any order."""

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects whose key begins with `prefix`, after `start_after`, in the byte order
        of their UTF-8 keys. `prefix` is empty or ends with `/`. Fetches pages as they are needed.
        """

    def replace(self, key: str, data: bytes) -> None:
        """Write the object, over an existing one too, atomically. For erasure and scratch only."""

    def delete(self, key: str) -> None:
        """Remove the object; no error when there is none. For scratch objects only."""

    def doorbell(self, prefix: str) -> Doorbell | None:
        """Return a doorbell for the prefix, or None where the store has none."""
        return None

    def close(self) -> None:
        """Release connections and threads. Closing twice is fine."""


_METHODS = ("create", "get", "get_many", "list", "replace", "delete", "doorbell", "close")


def check_adapter(given: object) -> None:
    """Raise `ConfigurationError` for what is not an adapter, or lacks a method of the contract."""
    missing = [name for name in _METHODS if not callable(getattr(given, name, None))]
    if isinstance(given, type):
        kind = f"the class {given.__name__}"
    elif {"create", "get", "list"} & set(missing) or not missing:
        kind = type(given).__name__
    else:
        raise ConfigurationError(
            f"adapter {type(given).__name__} lacks {', '.join(missing)}: a store has all methods "
            "of amfs_core.storage.StorageAdapter",
            hint="derive from that to inherit those that may be left out (doorbell, close)",
        )
    if missing or isinstance(given, type):
        raise ConfigurationError(
            f"adapter must be an open store such as LocalAdapter('memories'), not {kind}",
            hint="amfs.open_store opens one by its place; amfs.yaml and AMFS_STORE choose one",
        )


class BatchingAdapter(StorageAdapter, Protocol):
    """A store in which objects cost less when they are created together. The rest has no such
    method: there they are created at the same time instead, by threads."""

    def create_many(self, objects: Mapping[str, bytes]) -> Collection[str]:
        """Create objects, each as `create` does, and return the keys of those that were. The
        caller tries the others one by one, whatever became of them: no failure is raised here."""


class LoggedAdapter(StorageAdapter, Protocol):
    """A store that can say what was created since an earlier look. The rest has no such method:
    there everything is listed at each look."""

    def changes(self) -> ChangeLog:
        """Return the log. No request."""


class MirroredAdapter(StorageAdapter, Protocol):
    """A store that is kept in others too. The rest has no such method."""

    def mirror_lags(self) -> Sequence[Lag]:
        """Return how far each mirror is behind. No request."""


class CopyingAdapter(StorageAdapter, Protocol):
    """A store that also answers from copies of its objects. The rest has no such attribute."""

    @property
    def origin(self) -> StorageAdapter:
        """The same store without the copies, for who has to know what is in it."""


def lags_of(adapter: StorageAdapter) -> tuple[Lag, ...]:
    """Return how far each mirror of a store is behind; nothing for one without mirrors."""
    if not hasattr(adapter, "mirror_lags"):
        return ()
    return tuple(cast("MirroredAdapter", adapter).mirror_lags())


def origin_of(adapter: StorageAdapter) -> StorageAdapter:
    """Return the store itself where an adapter answers from copies of its objects too."""
    return cast("CopyingAdapter", adapter).origin if hasattr(adapter, "origin") else adapter
