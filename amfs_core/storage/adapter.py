"""The storage contract: all that AMFS knows about where objects are kept.

An adapter keeps bytes under keys and knows nothing about versions. A key is text: segments joined
by `/`, none empty, escaped by `amfs_core.format`; the adapter puts its prefix or root before it.
It is used from many threads at once, may be used after a fork, translates its failures to the
errors of `amfs_core.errors`, and retries nothing: patience is decided above.
`amfs_core.testing` holds an adapter to all of this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec

from amfs_core.storage.capabilities import Capabilities


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
    store that has one lists without lag: a listing has every object whose create returned before
    the listing began.

    Either method may raise what any call of an adapter may.
    """

    audit: float
    """Seconds after which a listing is worth its price, to find what was written without the
    adapter."""

    def position(self, *, make: bool) -> str | None:
        """Return where the log ends now: every create that has returned is before this position.

        None when there is no log. `make`: create the log where the store has to.
        """

    def since(self, position: str) -> tuple[str, Sequence[str]] | None:
        """Return the position now, and at least the keys of all objects whose create returned
        between the two. Keys that are older, or of no object, may be among them.

        None when the log cannot tell: it is another log, or was cut or replaced.
        """


class Lag(msgspec.Struct, frozen=True):
    """How far a mirror is behind its primary, as far as this process knows.

    This process still has to bring `waiting` objects there, the oldest for `seconds`. Since the
    store was opened it gave up `left_out` objects, and met `differing` ones, which the mirror has
    with other bytes than the primary. `error` is why the last write to the mirror failed, None when
    it did not.
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


class StorageAdapter(ABC):
    """What a store must do. Derive from this class and write its six abstract methods.

    Any call may raise `BackendUnavailableError` (nothing was applied; worth a retry),
    `StorageFullError` (nothing was applied; a retry would not help), `PermissionDeniedError`,
    `BucketNotFoundError` or `ConfigurationError`. None of these may ever be reported as absence.

    The other methods are optional. A class has the `capabilities` that it declares; one that
    declares none has those of its base class and of the optional methods that it defines.
    """

    backend_type: str = ""
    """How configuration names this kind of store: "local", "s3", ..."""

    capabilities: Capabilities = Capabilities()
    """What this store can do beyond the abstract methods."""

    timeout: float | None = None
    """Seconds after which a request fails at the latest; None where nothing limits it. A request
    that took longer says that the process was stopped meanwhile (docs/design/patience.md)."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        members = vars(cls)
        if "capabilities" not in members and isinstance(cls.capabilities, Capabilities):
            cls.capabilities = cls.capabilities.with_members(members)

    # -- what every store does ---------------------------------------------------------------

    @abstractmethod
    def create(self, key: str, data: bytes) -> bool:
        """Create the object if the key is free, atomically; True once it is durable.

        False when the key is taken or the store reports a conflict: the caller reads it back.
        Raises `OutcomeUnknownError` when the object may have been created or may yet be.
        """

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """Return the whole object, or None when the store says that there is none."""

    @abstractmethod
    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Get many objects, several at a time, and yield them in any order."""

    @abstractmethod
    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects whose key begins with `prefix`, after `start_after`, in the byte order
        of their UTF-8 keys. `prefix` is empty or ends with `/`. Fetches pages as they are needed.
        """

    @abstractmethod
    def replace(self, key: str, data: bytes) -> None:
        """Write the object, over an existing one too, atomically. For erasure and scratch only."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove the object; no error when there is none. For scratch objects only."""

    # -- what some stores do -----------------------------------------------------------------

    @property
    def paged(self) -> bool:
        """What `capabilities` says of it: older adapters around adapters ask here."""
        return self.capabilities.paged

    @property
    def location(self) -> str | None:
        """Which objects these are, as text such as a URL: the same for every adapter on this
        machine that sees them, and for no other. None: no catalog of them is kept on disk."""
        return None

    def create_many(self, objects: Mapping[str, bytes]) -> Collection[str]:
        """Create objects together, each as `create` does, and return the keys of those that were
        created. The caller tries the others one by one, whatever became of them: no failure is
        raised here."""
        return ()

    def changes(self) -> ChangeLog | None:
        """Return the log of what is created here; None where there is none. No request."""
        return None

    def doorbell(self, prefix: str) -> Doorbell | None:
        """Return a doorbell for the prefix, or None where the store has none."""
        return None

    def checks(self) -> Iterator[Any]:  # of `amfs_core.doctor.Check`, which is above this room
        """Yield each `Check` that `amfs doctor` makes of this kind of store, in order. The checks
        may make only a scratch object, which is removed when the iterator ends or is closed."""
        return iter(())

    def close(self) -> None:  # noqa: B027 - many stores hold nothing open
        """Release connections and threads. Closing twice is fine."""

    # -- what stores made of stores do -------------------------------------------------------

    @property
    def origin(self) -> StorageAdapter:
        """The same store without the copies that it also answers from, for callers that must know
        what is really in it."""
        return self

    def mirror_lags(self) -> Sequence[Lag]:
        """Return how far each mirror of this store is behind. No request."""
        return ()

    def fallback_of(self, prefix: str) -> Sequence[Any]:  # of `layers.FallbackStore`, likewise
        """Return the stores in which writes of keys with this prefix may wait. No request."""
        return ()
