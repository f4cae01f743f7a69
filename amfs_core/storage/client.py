"""A storage adapter with patience and a meter: the rest of the core reaches storage through it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import TypeVar, cast

from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    CircuitOpenError,
    OutcomeUnknownError,
)
from amfs_core.storage.adapter import ChangeLog, ObjectInfo, StorageAdapter
from amfs_core.storage.breaker import Breaker
from amfs_core.storage.metrics import Meter
from amfs_core.storage.retry import DEFAULT_PATIENCE, Patience
from amfs_core.storage.wrapper import WrappedAdapter

T = TypeVar("T")

PAGE = 1000
"""Keys in one page of a listing (S3's ListObjectsV2 gives no more)."""


class StoreClient(WrappedAdapter):
    """A store that counts every request, and tries again while the storage is unavailable and the
    caller's patience lasts. While the storage is known to be down, requests fail at once.

    A create is different: whether it may be tried again depends on its meaning, so `create` is
    one attempt, and `settle` repeats it until it has seen what the object holds.

    The storage counts as down when it answered nothing for `down_after` seconds (by default: for as
    long as the patience). `what` names the store in the log.
    """

    def __init__(
        self,
        adapter: StorageAdapter,
        patience: float = DEFAULT_PATIENCE,
        what: str = "the store",
        *,
        down_after: float | None = None,
    ) -> None:
        super().__init__(adapter)
        self.meter = Meter()
        self._breaker = Breaker(patience if down_after is None else down_after, self.meter, what)
        self.patience = Patience(patience, self.meter, self._breaker, self.timeout)
        log = self.inner.changes() if self.capabilities.changes else None
        self._log = None if log is None else _PatientLog(self, log)

    @property
    def origin(self) -> StoreClient:
        """The client of the store itself where its adapter answers from copies too. Both count and
        wait together."""
        return cast("StoreClient", super().origin)

    @property
    def is_down(self) -> bool:
        """Whether the store is known to be down."""
        return self._breaker.is_open

    def create(self, key: str, data: bytes) -> bool:
        """Ask once for the object to be created; see `StorageAdapter.create`."""
        return self.send("create", self.inner.create, key, data)

    def create_many(self, objects: Mapping[str, bytes]) -> Collection[str]:
        """Ask once for objects to be created together, where the adapter can, and return the keys
        of those that were created. The others must be settled one by one. Counts as one request
        each."""
        if not self.capabilities.batch or self._breaker.is_open:
            return ()
        try:
            created = self.inner.create_many(objects)
        except AMFSError:
            return ()
        for key in created:
            self.meter.add("create", written=len(objects[key]))
        return created

    def settle(self, key: str, data: bytes) -> bytes:
        """Return what the object holds forever: `data` itself, if this call created it, or what
        another creator put there.

        Tries only this key, with these bytes, until the key is seen to be taken: a request that is
        still under way then has either landed as ours or can never land. If patience ends before
        that, raises `OutcomeUnknownError`: the object may have been created, or may yet be. Any
        other error says that it was not created.
        """
        started = time.monotonic()
        try:  # the first attempt has no frame of its own: every write comes here (speed.md)
            created = self.send("create", self.inner.create, key, data)
            return data if created else self._taken(key)
        except (BackendUnavailableError, OutcomeUnknownError) as error:
            return self._settle_patiently(key, data, error, started)

    def _settle_patiently(self, key: str, data: bytes, error: AMFSError, started: float) -> bytes:
        """Continue after a first failure."""
        unknown = isinstance(error, OutcomeUnknownError)

        def attempt() -> bytes:
            nonlocal unknown
            try:
                body = data if self.create(key, data) else self._taken(key)
            except OutcomeUnknownError:
                unknown = True
                raise
            return data if unknown and body == data else body

        transient = (BackendUnavailableError, OutcomeUnknownError)
        try:
            return self.patience.again(attempt, error, transient, started)
        except AMFSError as last:
            if unknown and not isinstance(last, OutcomeUnknownError):
                raise OutcomeUnknownError(str(last), object_key=key) from last
            raise

    def _taken(self, key: str) -> bytes:
        """Return what the object holds; there must be one."""
        body = self.get(key)
        if body is None:  # the store reported a conflict (409) and nothing landed
            raise BackendUnavailableError(
                f"the store refused to create {key} but has no such object",
                hint=(
                    "another request for it was under way: try again. If it stays so, something "
                    "that is not an object has this name: verify names it"
                ),
                object_key=key,
            )
        return body

    def get(self, key: str) -> bytes | None:
        """Return an object's bytes, or None when there is none. 1 request."""
        # The first attempt has no frame of its own: every read comes here (`speed.md`).
        breaker = self._breaker
        if breaker.failures:
            breaker.admit()
        sent = time.monotonic()
        try:
            data = self.inner.get(key)
        except AMFSError as error:
            self._failed(error, "get", sent)
            if not isinstance(error, BackendUnavailableError):
                raise
            return self.patience.again(
                lambda: self._get_once(key), error, (BackendUnavailableError,), sent
            )
        self.meter.add("get", 0 if data is None else len(data))
        if breaker.failures:
            breaker.answered()
        return data

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Yield `(key, bytes or None)` for every key, in any order. 1 request each."""
        pending = dict.fromkeys(keys)
        while pending:
            self._breaker.admit()
            started = time.monotonic()
            try:
                for key, data in self.inner.get_many(list(pending)):
                    del pending[key]
                    self.meter.add("get", len(data) if data else 0)
                    self._breaker.answered()
                    yield key, data
                    started = time.monotonic()
                return
            except BackendUnavailableError as error:
                self._failed(error, "get", started)
                key = next(iter(pending))
                data = self.patience.again(
                    lambda key=key: self._get_once(key),  # type: ignore[misc]
                    error,
                    (BackendUnavailableError,),
                    started,
                )
                del pending[key]
                yield key, data

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects under a prefix in byte order. 1 request per 1,000 objects."""
        return chain.from_iterable(self.pages(prefix, start_after))

    def pages(self, prefix: str, start_after: str = "") -> Iterator[Sequence[ObjectInfo]]:
        """Yield the same up to 1,000 at a time, which costs long listings much less. 1 request
        each, made when it is asked for."""
        after = start_after

        def fetch(start: str) -> tuple[Iterator[ObjectInfo], ObjectInfo | None]:
            objects = iter(self.inner.list(prefix, start))
            return objects, next(objects, None)

        def resume(error: AMFSError) -> tuple[Iterator[ObjectInfo], ObjectInfo | None]:
            return self.patience.again(
                lambda: self.send("list", fetch, after),
                error,
                (BackendUnavailableError,),
                time.monotonic(),
            )

        objects, info = self.patiently(lambda: self.send("list", fetch, after))
        while info is not None:
            page = [info]
            started = time.monotonic()
            try:
                page.extend(islice(objects, PAGE - 1))  # keeps what came before a failure
            except BackendUnavailableError as error:
                self.note_failure(error, started)
                after = page[-1].key
                yield page
                objects, info = resume(error)
                continue
            after = page[-1].key
            yield page
            if len(page) < PAGE:
                return
            started = time.monotonic()
            try:
                info = next(objects, None)
            except BackendUnavailableError as error:
                self.note_failure(error, started)
                objects, info = resume(error)
            else:
                if info is not None and self.capabilities.paged:
                    self.meter.add("list")

    def changes(self) -> ChangeLog | None:
        """Return the store's change log, each question to which counts as a listing; None where
        there is none."""
        return self._log

    def replace(self, key: str, data: bytes) -> None:
        """Write an object over the one that is there. 1 request."""
        replace = self.inner.replace
        self.patiently(lambda: self.send("replace", replace, key, data))

    def delete(self, key: str) -> None:
        """Remove an object, if it is there. Never a version of a memory: those stay. 1 request."""
        self.patiently(lambda: self.send("delete", self.inner.delete, key))

    def patiently(
        self,
        attempt: Callable[[], T],
        transient: tuple[type[AMFSError], ...] = (BackendUnavailableError,),
    ) -> T:
        """Return `attempt()`, tried again while it raises a transient error and patience lasts."""
        started = time.monotonic()
        try:
            return attempt()
        except transient as error:
            return self.patience.again(attempt, error, transient, started)

    def _get_once(self, key: str) -> bytes | None:
        return self.send("get", self.inner.get, key)

    def send(self, kind: str, request: Callable[..., T], key: str, data: bytes | None = None) -> T:
        """Count and send one request, unless the store is known to be down; note if it answered."""
        breaker = self._breaker
        if breaker.failures:
            breaker.admit()
        written = 0 if data is None else len(data)
        sent = time.monotonic()
        try:  # not `*arguments`: an interpreter within the interpreter runs such a call
            answer = request(key) if data is None else request(key, data)
        except AMFSError as error:
            self._failed(error, kind, sent, written)
            raise
        self.meter.add(kind, len(answer) if isinstance(answer, bytes) else 0, written)
        if breaker.failures:
            breaker.answered()
        return answer

    def _failed(self, error: AMFSError, kind: str, sent: float, written: int = 0) -> None:
        """Count a request that ended with an error, and note whether that was an answer."""
        self.meter.add(kind, 0, written)
        self.note_failure(error, sent)

    def note_failure(self, error: AMFSError, sent: float) -> None:
        """Note that a request, sent at the time `sent`, ended with an error: whether the store
        answered, or may be down."""
        # A layer that is down says nothing about the layers beside it.
        of_layer = error.origin == "layer" or isinstance(error, CircuitOpenError)
        if isinstance(error, BackendUnavailableError | OutcomeUnknownError) and not of_layer:
            self._breaker.failed(error, sent)
        else:
            self._breaker.answered()


class _PatientLog:
    """A change log that is asked as patiently as the store that it belongs to."""

    def __init__(self, client: StoreClient, log: ChangeLog) -> None:
        self.audit = log.audit
        self._client = client
        self._log = log

    def position(self, *, make: bool) -> str | None:
        """Return where the log ends. 1 request, to a store in which a listing is one."""
        client, log = self._client, self._log
        if not client.capabilities.paged:
            return log.position(make=make)
        return client.patiently(
            lambda: client.send("list", lambda _: log.position(make=make), ""),
        )

    def since(self, position: str) -> tuple[str, Sequence[str]] | None:
        """Return what the log has since a position. 1 request."""
        client = self._client
        return client.patiently(lambda: client.send("list", self._log.since, position))
