"""A trial of a store: the promises of the contract, tested with one scratch object."""

from __future__ import annotations

import contextlib
import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from typing import TypeVar

from amfs_core.doctor.check import Check, Diagnosis, ok, problem, reads_only, warning
from amfs_core.errors import AMFSError, PermissionDeniedError
from amfs_core.storage import StorageAdapter, adopted

T = TypeVar("T")

_FIRST, _SECOND, _THIRD = b"first", b"second", b"third"
_SLOW_SECONDS = 1.0
_DOORBELL_SECONDS = 2.0
_NO_DOORBELL = f"the store has none that answers within {_DOORBELL_SECONDS:.0f} seconds"


def checks_of(adapter: StorageAdapter) -> Iterator[Check]:
    """Return the checks of a store: those of its adapter, or otherwise the `Trial`."""
    store = adopted(adapter)
    return store.checks() if store.capabilities.checks else Trial(adapter).checks()


class Trial:
    """Checks for every kind of store: about 13 requests.

    `directory` is the place of the scratch object, a prefix that nothing else uses. Unless the
    checks in `needs` succeed, all of these are skipped; unless those in `to_write` succeed, those
    that write are.
    """

    def __init__(
        self,
        adapter: StorageAdapter,
        directory: str = "",
        needs: tuple[str, ...] = (),
        to_write: tuple[str, ...] = (),
    ) -> None:
        self._adapter = adapter
        self._directory = directory or f"amfs-doctor-{uuid.uuid4().hex}/"
        self._key = f"{self._directory}scratch"
        self._needs = needs
        self._to_write = (*needs, *to_write)
        self._is_there = False
        self._puts: list[float] = []
        self._gets: list[float] = []

    def checks(self) -> Iterator[Check]:
        """Yield the checks. The scratch object is removed at the end in any case."""
        needs = self._needs
        try:
            yield Check("list", self._list, needs)
            yield Check("get", self._get, needs)
            yield Check("create", self._create, self._to_write)
            yield Check("conditional create", self._create_again, ("create", "get"))
            yield Check("listing", self._find, ("create", "list"))
            yield Check("replace", self._replace, ("create", "get"))
            yield Check("latency", self._time, ("replace",))
            yield Check("delete", self._delete, ("create",))
            yield Check("doorbell", self._listen, self._to_write)
        finally:
            if self._is_there:
                with contextlib.suppress(AMFSError):
                    self._adapter.delete(self._key)

    def _list(self) -> Diagnosis:
        next(iter(self._adapter.list(self._directory)), None)
        return ok("allowed")

    def _get(self) -> Diagnosis:
        if self._timed(self._gets, lambda: self._adapter.get(self._key)) is not None:
            return problem("an object that was never made is reported as present", "")
        return ok("allowed; absent objects are reported as absent")

    def _create(self) -> Diagnosis:
        # Set before the request, because a create whose answer is lost leaves an object too.
        self._is_there = True
        try:
            created = self._adapter.create(self._key, _FIRST)
        except PermissionDeniedError as error:
            self._is_there = False
            return reads_only(error)
        if not created:
            return problem("a conflict is reported for a new object", "try again")
        return ok("allowed")

    def _create_again(self) -> Diagnosis:
        created = self._timed(self._puts, lambda: self._adapter.create(self._key, _SECOND))
        body = self._timed(self._gets, lambda: self._adapter.get(self._key))
        if created or body != _FIRST:
            return problem(
                "a second create of the same object was not refused: concurrent writers would "
                "overwrite each other",
                "write nothing there; use a store with conditional writes "
                "(AWS S3, MinIO, Ceph, Versity, R2)",
            )
        return ok("a second create of the same object is refused")

    def _find(self) -> Diagnosis:
        if not self._is_listed():
            return problem(
                "an object that was just created is not in the listing",
                "use a store whose listings are consistent: others' memories would be missed",
            )
        return ok("an object that was just created is in it")

    def _replace(self) -> Diagnosis:
        try:
            self._timed(self._puts, lambda: self._adapter.replace(self._key, _SECOND))
        except PermissionDeniedError as error:
            return warning(f"refused, so `amfs purge` cannot erase: {error}", "allow overwriting")
        if self._timed(self._gets, lambda: self._adapter.get(self._key)) != _SECOND:
            return problem(
                "a read after it gave the old object",
                "use a store with read-after-write consistency: what was erased would be read",
            )
        return ok("allowed, and read back at once")

    def _time(self) -> Diagnosis:
        self._timed(self._puts, lambda: self._adapter.replace(self._key, _THIRD))
        self._timed(self._gets, lambda: self._adapter.get(self._key))
        put, get = statistics.median(self._puts), statistics.median(self._gets)
        finding = (
            f"get {_milliseconds(get)}, put {_milliseconds(put)} (medians of a few small ones)"
        )
        if max(put, get) > _SLOW_SECONDS:
            return warning(finding, "use a store nearer to this machine, or one less busy")
        return ok(finding)

    def _delete(self) -> Diagnosis:
        try:
            self._adapter.delete(self._key)
        except PermissionDeniedError as error:
            self._is_there = False  # another request would change nothing
            return warning(
                f"refused, so scratch objects stay: {error}",
                f"allow it (s3:DeleteObject), and remove {self._key!r}",
            )
        self._is_there = False
        if self._is_listed():
            return warning("a deleted object is still in the listing", "listings here come late")
        return ok("allowed, and gone from the listing")

    def _is_listed(self) -> bool:
        return any(info.key == self._key for info in self._adapter.list(self._directory))

    def _listen(self) -> Diagnosis:
        bell = self._adapter.doorbell("")
        if bell is None:
            return ok("none here: `watch` polls")
        try:
            rang = bell.wait(_DOORBELL_SECONDS)  # it may ring once when it begins to listen
        finally:
            bell.close()
        return ok("changes ring at once" if rang else f"{_NO_DOORBELL}: `watch` polls")

    def _timed(self, times: list[float], request: Callable[[], T]) -> T:
        started = time.monotonic()
        result = request()
        times.append(time.monotonic() - started)
        return result


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"
