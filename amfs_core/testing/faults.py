"""`FaultyAdapter`: an adapter that fails on demand, in the ways that real stores fail."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import TypeVar

from amfs_core import fork
from amfs_core.errors import AMFSError, BackendUnavailableError, OutcomeUnknownError
from amfs_core.storage import ChangeLog, ObjectInfo, StorageAdapter, WrappedAdapter

T = TypeVar("T")


class Fault(Enum):
    """A fault of one request. The first four are for `create` only."""

    LOST_ANSWER = "it is applied, but its answer never comes: OutcomeUnknownError"
    LOST_REQUEST = "it is not applied, and no answer comes: OutcomeUnknownError"
    CONFLICT = "the store answers 409: False, and nothing has landed"
    LATE = "no answer comes: OutcomeUnknownError; it is applied by a later `deliver`"
    UNAVAILABLE = "it is refused before anything is applied: BackendUnavailableError"
    CRASH_BEFORE = "the process dies before the request is sent: Crash"
    CRASH_AFTER = "the process dies after the request was applied: Crash"


_FOR_CREATE = (Fault.LOST_ANSWER, Fault.LOST_REQUEST, Fault.CONFLICT, Fault.LATE)
VERBS = ("create", "get", "list", "replace", "delete")


class Crash(BaseException):
    """The process is dead. Only the test that injected the fault should catch this."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request that reached the adapter: its verb, and its key or prefix."""

    verb: str
    key: str


@dataclass(slots=True)
class _Planned:
    """A fault, and how many matching calls still succeed before it."""

    fault: Fault
    verb: str
    skip: int


@dataclass(slots=True)
class _Action:
    """An action to run before a later call, whatever its verb."""

    action: Callable[[], object]
    skip: int


class FaultyAdapter(WrappedAdapter):
    """An adapter with faults on demand. Without faults it does what `inner` does.

    `inject` plans a fault for a coming call, `before` runs code between two calls of a writer (so
    that a race happens exactly where it hurts), `hide_newest` makes listings lag. `calls` has
    every request in order; a listing is one request per `page` objects.
    """

    def __init__(self, inner: StorageAdapter, *, page: int = 1000) -> None:
        super().__init__(inner)
        self.calls: list[Call] = []
        self._page = page
        self.after_fork()
        fork.register(self)
        self._planned: list[_Planned] = []
        self._actions: list[_Action] = []
        self._late: list[tuple[str, bytes]] = []
        self._created: list[str] = []
        self._hidden = 0

    def after_fork(self) -> None:
        """Take a new lock in a forked child."""
        self._lock = threading.RLock()  # re-entrant: a signal handler may use the adapter

    # -- the script --------------------------------------------------------------------------

    def inject(self, fault: Fault, *, on: str = "create", skip: int = 0, times: int = 1) -> None:
        """Plan a fault for the next call of the verb `on`, or the one `skip` calls later.

        `times` is how many calls in a row it hits. `ValueError` for a fault that cannot happen to
        that verb.
        """
        if on not in VERBS or (fault in _FOR_CREATE and on != "create"):
            raise ValueError(f"{fault.name} cannot happen to {on!r}")
        with self._lock:
            self._planned.extend(_Planned(fault, on, skip) for _ in range(times))

    def before(self, action: Callable[[], object], *, skip: int = 0) -> None:
        """Run `action` before the next call of any verb, or the one `skip` calls later.

        It runs in the thread of that call, and may itself use the adapter.
        """
        with self._lock:
            self._actions.append(_Action(action, skip))

    def hide_newest(self, count: int) -> None:
        """Leave the `count` newest creations out of every listing, until told otherwise."""
        self._hidden = count

    @property
    def lags(self) -> bool:
        """Whether listings leave out the newest creations."""
        return self._hidden > 0

    def deliver(self) -> int:
        """Apply the creates that were late, in the order of their sending; return how many won."""
        with self._lock:
            late, self._late = self._late, []
        return sum(self._create(key, data) for key, data in late)

    def clear(self) -> None:
        """Forget the faults and actions that have not happened yet, and show all in listings."""
        with self._lock:
            self._planned.clear()
            self._actions.clear()
        self._hidden = 0

    @property
    def late(self) -> tuple[str, ...]:
        """The keys of creates that `deliver` would apply now."""
        with self._lock:
            return tuple(key for key, _ in self._late)

    def requests(self) -> Counter[str]:
        """Return how many calls of each verb there were; clear `calls` to start again."""
        with self._lock:
            return Counter(call.verb for call in self.calls)

    # -- the adapter -------------------------------------------------------------------------

    def create(self, key: str, data: bytes) -> bool:
        """Create through `inner`, unless a fault is due."""
        fault = self.arrive("create", key)
        if fault is Fault.CONFLICT:
            return False
        if fault is Fault.LATE:
            with self._lock:
                self._late.append((key, data))
        if fault in (Fault.LATE, Fault.LOST_REQUEST):
            raise OutcomeUnknownError(f"no answer to the create of {key}", object_key=key)
        created = self.answer(fault, key, lambda: self._create(key, data))
        if fault is Fault.LOST_ANSWER:
            raise OutcomeUnknownError(f"no answer to the create of {key}", object_key=key)
        return created

    def create_many(self, objects: Mapping[str, bytes]) -> list[str]:
        """Create each as by `create`, and leave out what a fault hit, as `create_many` may."""
        created: list[str] = []
        for key, data in objects.items() if self.capabilities.batch else ():
            with contextlib.suppress(AMFSError):
                if self.create(key, data):
                    created.append(key)
        return created

    def get(self, key: str) -> bytes | None:
        """Get through `inner`, unless a fault is due."""
        return self.answer(self.arrive("get", key), key, lambda: self.inner.get(key))

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Yield `(key, bytes or None)`, each got as by `get`."""
        for key in keys:
            yield key, self.get(key)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """List through `inner`, without what is hidden; a fault hits a page."""
        objects = iter(self.inner.list(prefix, start_after))
        more = True
        while more:
            fault = self.arrive("list", prefix)
            page = self.answer(fault, prefix, lambda: self._next_page(objects))
            more = len(page) == self._page
            hidden = set(self._created[-self._hidden :]) if self._hidden else set()
            yield from (info for info in page if info.key not in hidden)

    def replace(self, key: str, data: bytes) -> None:
        """Replace through `inner`, unless a fault is due."""
        self.answer(self.arrive("replace", key), key, lambda: self.inner.replace(key, data))

    def delete(self, key: str) -> None:
        """Delete through `inner`, unless a fault is due."""
        self.answer(self.arrive("delete", key), key, lambda: self.inner.delete(key))

    def changes(self) -> ChangeLog | None:
        """Return `inner`'s change log, where it has one; a fault of `list` hits its questions."""
        log = self.inner.changes()
        return None if log is None else _FaultyLog(self, log)

    # -- how faults happen -------------------------------------------------------------------

    def arrive(self, verb: str, key: str) -> Fault | None:
        """Note a call, run the actions that are due before it, and return the fault that is due for
        it."""
        with self._lock:
            due = [trigger.action for trigger in self._actions if trigger.skip == 0]
            self._actions = [trigger for trigger in self._actions if trigger.skip]
            for waiting in self._actions:
                waiting.skip -= 1
        for action in due:
            action()
        with self._lock:
            self.calls.append(Call(verb, key))
            mine = [plan for plan in self._planned if plan.verb == verb]
            for planned in mine:
                if planned.skip == 0:
                    self._planned.remove(planned)
                    return planned.fault
                planned.skip -= 1
        return None

    def answer(self, fault: Fault | None, key: str, request: Callable[[], T]) -> T:
        """Return `request()`, unless the fault is one that happens to any verb."""
        if fault is Fault.UNAVAILABLE:
            raise BackendUnavailableError(f"no connection for {key}", object_key=key)
        if fault is Fault.CRASH_BEFORE:
            raise Crash(f"before the request for {key}")
        result = request()
        if fault is Fault.CRASH_AFTER:
            raise Crash(f"after the request for {key}")
        return result

    def _create(self, key: str, data: bytes) -> bool:
        created = self.inner.create(key, data)
        if created:
            with self._lock:
                self._created.append(key)
        return created

    def _next_page(self, objects: Iterator[ObjectInfo]) -> tuple[ObjectInfo, ...]:
        return tuple(islice(objects, self._page))


class _FaultyLog:
    """The change log of an adapter; a request counts as a listing, and may fail like one."""

    def __init__(self, adapter: FaultyAdapter, log: ChangeLog) -> None:
        self.audit = log.audit
        self._adapter = adapter
        self._log = log

    def position(self, *, make: bool) -> str | None:
        """Return where the log ends; None while listings lag: no store with a log lists so."""
        return None if self._adapter.lags else self._log.position(make=make)

    def since(self, position: str) -> tuple[str, Sequence[str]] | None:
        """Ask the log, unless a fault is due."""
        fault = self._adapter.arrive("list", "")
        return self._adapter.answer(fault, "", lambda: self._log.since(position))
