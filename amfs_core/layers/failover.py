"""`Failover`: reads of a primary store, and of its mirrors while it is known to be down."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeVar

from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    CircuitOpenError,
    OutcomeUnknownError,
)
from amfs_core.layers.mirror import MirrorStore
from amfs_core.storage import (
    Breaker,
    ChangeLog,
    Meter,
    ObjectInfo,
    StorageAdapter,
    StoreClient,
    WrappedAdapter,
)

T = TypeVar("T")
_Readable = StorageAdapter | StoreClient


class Failover:
    """Asks the primary, and the first mirror that answers while the primary is down.

    It is down when nothing was answered for a second, in three requests or more; then it is asked
    again now and then, as by any `Breaker`. `times` changes with each answer of a mirror.
    """

    def __init__(
        self,
        primary: StorageAdapter,
        mirrors: Sequence[MirrorStore],
        *,
        has_fallback: bool = False,
    ) -> None:
        self._has_fallback = has_fallback
        self._primary = primary
        self._mirrors = mirrors
        self._breaker = Breaker(0.0, Meter(), "the primary store")
        self._counter = itertools.count(1)
        self._here = threading.local()
        self.times = 0

    def written(self, write: Callable[[], T]) -> T:
        """Return the answer to a request to the primary that a mirror cannot answer."""
        sent = time.monotonic()
        try:
            answer = write()
        except AMFSError as error:
            self._heard(error, sent)
            is_unavailable = isinstance(error, BackendUnavailableError)
            if is_unavailable and self.is_down and self.may_keep:
                raise CircuitOpenError(
                    error.problem,
                    hint=error.hint,
                    object_key=error.object_key,
                    retry_after=error.retry_after,
                ) from error
            raise
        self._breaker.answered()
        return answer

    @property
    def is_down(self) -> bool:
        """Whether the primary is known to be down."""
        return self._breaker.is_open

    @property
    def may_keep(self) -> bool:
        """Whether this thread is in a write that can be kept in a fallback."""
        return getattr(self._here, "may_keep", False)

    @contextlib.contextmanager
    def keeping(self) -> Iterator[None]:
        """Let requests of this thread raise `CircuitOpenError` as soon as the primary is known to
        be down, because their write has a place to go and need not use up its patience."""
        before, self._here.may_keep = self.may_keep, True
        try:
            yield
        finally:
            self._here.may_keep = before

    @property
    def has_mirrors(self) -> bool:
        """Whether anything answers while the primary is down."""
        return bool(self._mirrors)

    @property
    def seconds(self) -> float:
        """For how long the primary has not answered."""
        return self._breaker.seconds

    def admit(self) -> None:
        """Return when the primary may be asked; `CircuitOpenError` when it is known to be down."""
        if self._breaker.failures:
            self._breaker.admit()

    def reaches(self, key: str) -> bool:
        """Whether the primary answers; no request while it is known to be down, but now and then
        one to find out."""
        try:
            self.admit()
            self.written(lambda: self._primary.get(key))
        except (BackendUnavailableError, OutcomeUnknownError):
            return False
        except AMFSError:  # a refusal is an answer
            return True
        return True

    def get(self, key: str) -> bytes | None:
        """Get an object."""
        return self._ask(lambda store: store.get(key), key)

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Get many objects; those that a store did not give before it failed, from another."""
        pending = dict.fromkeys(keys)

        def begin(
            store: _Readable,
        ) -> tuple[tuple[str, bytes | None], Iterator[tuple[str, bytes | None]]]:
            answers = iter(store.get_many(list(pending)))
            return next(answers), answers

        while pending:
            first, rest = self._ask(begin, next(iter(pending)))
            sent = time.monotonic()
            try:
                for key, body in chain((first,), rest):
                    del pending[key]
                    yield key, body
            except BackendUnavailableError as error:
                self._heard(error, sent)
                if not self._breaker.is_open:
                    raise

    def list(self, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        """List objects. A listing that fails in the middle raises: the caller goes on after the
        last key that it was given."""

        def begin(store: _Readable) -> tuple[ObjectInfo | None, Iterator[ObjectInfo]]:
            infos = iter(store.list(prefix, start_after))
            return next(infos, None), infos

        first, rest = self._ask(begin, prefix)
        if first is None:
            return
        yield first
        sent = time.monotonic()
        try:
            yield from rest
        except BackendUnavailableError as error:
            self._heard(error, sent)
            raise

    def from_primary(self, ask: Callable[[], T]) -> T | None:
        """Return what the primary says; None while it is known to be down."""
        try:
            self._breaker.admit()
            return self.written(ask)
        except BackendUnavailableError:
            if self._breaker.is_open:
                return None
            raise

    def _ask(self, read: Callable[[_Readable], T], prefix: str) -> T:
        sent = time.monotonic()
        try:
            self._breaker.admit()
            answer = read(self._primary)
        except CircuitOpenError as error:
            return self._ask_mirrors(read, prefix, error)
        except AMFSError as error:
            self._heard(error, sent)
            if not isinstance(error, BackendUnavailableError) or not self._breaker.is_open:
                raise
            return self._ask_mirrors(read, prefix, error)
        self._breaker.answered()
        return answer

    def _ask_mirrors(self, read: Callable[[_Readable], T], prefix: str, failure: AMFSError) -> T:
        if not self._mirrors:
            raise failure
        problems = []
        for mirror in self._mirrors:
            try:
                if mirror.has_any(prefix):
                    # Before it is asked: whoever reads a position later must see that it was.
                    self.times = next(self._counter)
                    return read(mirror.client)
                problems.append(f"{mirror.name} has nothing to say of what is absent")
            except AMFSError as error:
                problems.append(f"{mirror.name}: {error.problem}")
        # Not `CircuitOpenError`: whoever has patience may use it up, unless it can go elsewhere.
        kind = CircuitOpenError if self._has_fallback else BackendUnavailableError
        raise kind(
            f"{failure.problem}; {'; '.join(problems)}", object_key=failure.object_key
        ) from failure

    def _heard(self, error: AMFSError, sent: float) -> None:
        if isinstance(error, CircuitOpenError):
            return
        if isinstance(error, BackendUnavailableError | OutcomeUnknownError):
            self._breaker.failed(error, sent)
        else:
            self._breaker.answered()


class HeardPrimary(WrappedAdapter):
    """The primary store itself. Its failures count for the failover, which then knows that the
    primary is down."""

    def __init__(self, primary: StorageAdapter, failover: Failover) -> None:
        super().__init__(primary)
        self._failover = failover

    def get(self, key: str) -> bytes | None:
        """Get from the primary. In a write that can be kept in a fallback, `CircuitOpenError` while
        the primary is known to be down."""
        if self._failover.may_keep:
            self._failover.admit()
        return self._failover.written(lambda: self.inner.get(key))


class FailoverLog:
    """The primary's `ChangeLog`, as long as no mirror answers: what a mirror lacks is in no look,
    so a position from before its answer is no longer good."""

    def __init__(self, log: ChangeLog, failover: Failover) -> None:
        self.audit = log.audit
        self._log = log
        self._failover = failover

    def position(self, *, make: bool) -> str | None:
        """Return where the log ends; None while the primary is known to be down."""
        times = self._failover.times
        position = self._failover.from_primary(lambda: self._log.position(make=make))
        return None if position is None else f"{times}.{position}"

    def since(self, position: str) -> tuple[str, Sequence[str]] | None:
        """Ask the log; None when a mirror has answered since the position was given."""
        times, _, earlier = position.partition(".")
        if times != str(self._failover.times):
            return None
        answer = self._failover.from_primary(lambda: self._log.since(earlier))
        return None if answer is None else (f"{times}.{answer[0]}", answer[1])
