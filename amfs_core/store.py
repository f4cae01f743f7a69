"""A storage adapter with patience and a meter: how the rest of the core reaches storage."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import tenacity

from amfs_core.errors import AMFSError, BackendUnavailableError, OutcomeUnknownError
from amfs_core.metrics import Meter
from amfs_core.storage import ObjectInfo, StorageAdapter

T = TypeVar("T")

PAGE = 1000
"""Keys in one page of a listing (S3's ListObjectsV2 gives no more)."""

DEFAULT_PATIENCE = 10.0
"""Seconds for which one request is tried again while the storage does not answer."""

_log = logging.getLogger("amfs")


class Store:
    """Counts every request and tries again, with exponential backoff and full jitter, while the
    storage is unavailable and the caller's patience lasts.

    A create is different: whether it may be tried again depends on what it means, so `create` is
    one attempt, and `settle` repeats it until it is seen what the object holds.
    """

    def __init__(self, adapter: StorageAdapter, patience: float = DEFAULT_PATIENCE) -> None:
        self.adapter = adapter
        self.paged: bool = getattr(adapter, "paged", True)
        self.meter = Meter()
        self._patience = patience

    def create(self, key: str, data: bytes) -> bool:
        """Ask once for the object to be created; see `StorageAdapter.create`."""
        self.meter.add("create", written=len(data))
        return self.adapter.create(key, data)

    def settle(self, key: str, data: bytes, unsettled: Callable[[AMFSError], AMFSError]) -> bytes:
        """Return what the object holds for good: `data`, or what another creator put there.

        Only this key is tried, with these bytes, until it is seen to be taken: a request that is
        still under way then either landed as ours or can never land. When that is not seen before
        patience ends, `unsettled(error)` is raised: it may have been created, or yet be.
        """
        unknown = False

        def attempt() -> bytes:
            nonlocal unknown
            try:
                if self.create(key, data):
                    return data
            except OutcomeUnknownError:
                unknown = True
                raise
            found = self.get(key)
            if found is None:  # the store reported a conflict (409) and nothing landed
                raise BackendUnavailableError(
                    f"the store refused to create {key} but has no such object; "
                    "another request for it was under way: try again. If it stays so, something "
                    "that is no object has this name: verify names it",
                    object_key=key,
                )
            return found

        try:
            return self.patiently(attempt, (BackendUnavailableError, OutcomeUnknownError))
        except AMFSError as error:
            if not unknown:
                raise
            raise unsettled(error) from error

    def get(self, key: str) -> bytes | None:
        """Return an object's bytes, or None when there is none. 1 request."""
        started = time.monotonic()
        try:
            return self._get_once(key)
        except BackendUnavailableError as error:
            spent = time.monotonic() - started
            return self._again(lambda: self._get_once(key), error, spent=spent)

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Yield `(key, bytes or None)` for every key, in any order. 1 request each."""
        pending = dict.fromkeys(keys)
        while pending:
            try:
                for key, data in self.adapter.get_many(list(pending)):
                    del pending[key]
                    self.meter.add("get", len(data) if data else 0)
                    yield key, data
                return
            except BackendUnavailableError as error:
                self.meter.add("get")
                key = next(iter(pending))
                data = self._again(lambda key=key: self._get_once(key), error)  # type: ignore[misc]
                del pending[key]
                yield key, data

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects under a prefix in byte order. 1 request per 1,000 objects."""
        after = start_after

        def fetch() -> tuple[Iterator[ObjectInfo], ObjectInfo | None]:
            self.meter.add("list")
            objects = iter(self.adapter.list(prefix, after))
            return objects, next(objects, None)

        objects, info = self.patiently(fetch)
        count = 0
        while info is not None:
            yield info
            after = info.key
            count += 1
            try:
                info = next(objects, None)
            except BackendUnavailableError as error:
                objects, info = self._again(fetch, error)
                count = 0
            if count and count % PAGE == 0 and info is not None and self.paged:
                self.meter.add("list")

    def replace(self, key: str, data: bytes) -> None:
        """Write an object over the one that is there. 1 request."""

        def replace() -> None:
            self.meter.add("replace", written=len(data))
            self.adapter.replace(key, data)

        self.patiently(replace)

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
            spent = time.monotonic() - started
            return self._again(attempt, error, transient, spent)

    def _get_once(self, key: str) -> bytes | None:
        try:
            data = self.adapter.get(key)
        except BackendUnavailableError:
            self.meter.add("get")
            raise
        self.meter.add("get", len(data) if data else 0)
        return data

    def _again(
        self,
        attempt: Callable[[], T],
        error: AMFSError,
        transient: tuple[type[AMFSError], ...] = (BackendUnavailableError,),
        spent: float = 0.0,
    ) -> T:
        """Go on after the first failure: wait, then repeat until it works or patience is over."""
        failures = [error]

        def replay_first_failure() -> T:
            if failures:
                raise failures.pop()
            self.meter.add("retry")
            return attempt()

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(transient),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=1.0),
            stop=tenacity.stop_before_delay(max(0.0, self._patience - spent)),
            before_sleep=tenacity.before_sleep_log(_log, logging.INFO),
            reraise=True,
        )
        return retrying(replay_first_failure)
