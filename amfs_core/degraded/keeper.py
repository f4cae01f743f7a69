"""`Keeper`: what waits in one fallback store for one namespace, and the thread that replays it."""

from __future__ import annotations

import _thread
import contextlib
import logging
import secrets
import time
import weakref
from collections.abc import Callable
from datetime import datetime

from amfs_core import fork
from amfs_core.degraded.reconcile import ReconcileReport
from amfs_core.degraded.replay import Overtaken, in_order, land, unchanged, with_value
from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    CorruptEntryError,
    InvalidValueError,
    OutcomeUnknownError,
)
from amfs_core.flag import Flag
from amfs_core.format import Address, Draft, MemoryEntry, as_provisional
from amfs_core.layers import (
    Conflict,
    Decision,
    FallbackStore,
    Merge,
    Operation,
    Waiting,
    new_name,
)
from amfs_core.parallel import new_lock
from amfs_core.storage import Degraded
from amfs_core.versions import NONE_KNOWN, Head, VersionLog

LOOK_SECONDS = 60.0
"""After so long a process looks again whether others have left something in the fallback."""

_FIND_OUT_SECONDS = 3.0
_PAUSE = 0.25
_LONGEST_PAUSE = 5.0

_log = logging.getLogger("amfs")


class Keeper:
    """Keeps operations, gives back what waits, and replays it. `stored` is what the store has."""

    def __init__(self, stored: VersionLog, fallback: FallbackStore) -> None:
        self.stored = stored
        self.fallback = fallback
        self.waiting = Waiting(fallback.client, stored.layout)
        self.holds = False
        self.rounds = 0  # of replays that have removed something
        self.error: AMFSError | None = None
        self._looked: float | None = None
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        """Be another writer in a forked child, without a thread so far."""
        self._keeping = new_lock()
        self._replaying = new_lock()
        self._is_running = False
        self._closed = Flag()
        self._last: dict[str, Operation] = {}  # by memory, until the primary has been reached
        self._writer = secrets.token_hex(8)
        self._stamp = 0

    # -- keeping -----------------------------------------------------------------------------

    def look(self) -> None:
        """Find out whether something waits: before the first call, once a minute, and always while
        the primary is down."""
        now = time.monotonic()
        is_due = self._looked is None or now - self._looked > LOOK_SECONDS
        if self.holds or not (is_due or self.fallback.is_down):
            return
        try:
            self.holds = self.waiting.any()
        except AMFSError as error:
            _log.warning("the fallback store cannot be looked into: %s", error)
            return
        self._looked = now
        if self.holds:
            self._begin()

    def finds_down(self) -> bool:
        """Whether the primary is down, after a call that got no answer; asks for a few seconds."""
        until = time.monotonic() + _FIND_OUT_SECONDS
        while not self.fallback.is_down:
            if self.fallback.reaches_primary(self._probe()) or time.monotonic() > until:
                return False
            self._closed.wait(0.1)
        return True

    def of(self, address: Address) -> list[Operation]:
        """Return what waits for a memory, in its order; at its end what this process has kept last,
        also if it waits no more: another one has reached the primary, which this one has not."""
        if not self.holds:
            return []
        there, last = self.waiting.of(address), self._last.get(address.prefix)
        if last is not None and (not there or there[-1].stamp < last.stamp):
            there.append(last)
        return there

    def keep(
        self,
        address: Address,
        write: Draft | Callable[[Head], Draft | None],
        moment: datetime,
        cause: AMFSError | None,
    ) -> MemoryEntry | None:
        """Keep a write, durably, and return the version that it would make; None when `write` says
        that there is nothing to write."""
        with self._keeping:
            self.holds = True
            try:
                there = self.of(address)
            except AMFSError as error:
                raise _not_kept(address, error, cause) from error
            if isinstance(write, Draft):
                for earlier_operation in there:  # the caller asks again
                    if earlier_operation.write_id == write.write_id:
                        return earlier_operation.entry
            head = self._head(address, there, is_needed=not isinstance(write, Draft))
            draft = write if isinstance(write, Draft) else write(head)
            if draft is None:
                return None
            if draft.purges or draft.outcome_ref is not None:
                raise cause or BackendUnavailableError("the primary store is down")
            entry, body = self.stored.made(address, draft, head, moment)
            now = time.time_ns() // 1000
            below = there[-1].stamp if there else 0
            self._stamp = max(now, self._stamp + 1, below + 1)
            operation = Operation(
                name=new_name(self._stamp),
                stamp=self._stamp,
                writer=self._writer,
                since=moment,
                conditional=not isinstance(write, Draft),
                base=there[-1].write_id if there else None,
                address=address,
                entry=as_provisional(entry),
                body=body,
            )
            try:
                self.waiting.add(operation)
            except AMFSError as error:
                raise _not_kept(address, error, cause) from error
            self._last[address.prefix] = operation
        self._begin()
        return operation.entry

    def _head(self, address: Address, there: list[Operation], *, is_needed: bool) -> Head:
        """Return what the next version stands on, as far as it is known here."""
        if there:
            return Head.of(there[-1].entry)
        try:
            return self.stored.look(address)
        except BackendUnavailableError:
            known = self.stored.cache.head(address)
            if is_needed and known is None:
                raise
            return known or NONE_KNOWN

    # -- replaying ---------------------------------------------------------------------------

    def settle(self) -> bool:
        """Replay what waits, within the patience of a call; True when nothing waits any more."""
        patience = self.stored.store.patience.seconds
        until = time.monotonic() + patience
        if not self.fallback.reaches_primary(self._probe()):
            return False
        if not self._replaying.acquire(timeout=patience):
            return False
        try:
            self._replay(until, None)
        except AMFSError as error:
            self._stopped(error)
        finally:
            self._replaying.release()
        return not self.holds

    def reconcile(
        self,
        report: ReconcileReport,
        decide: Callable[[Conflict], Decision | Merge] | None,
    ) -> str | None:
        """Replay all that waits, decide about conflicts, and add what was done to a report. Return
        why something waits still."""
        with self._replaying:
            try:
                self._replay(None, report)
                for conflict in list(self.waiting.conflicts()):
                    decision = Decision.KEEP if decide is None else decide(conflict)
                    self._decide(conflict, decision, report)
            except AMFSError as error:
                self._stopped(error)
                return error.problem
        return None

    def degraded(self) -> Degraded:
        """Return what waits. 2 requests to the fallback."""
        error = None if self.error is None else self.error.problem
        return self.fallback.degraded(self.stored.layout, error)

    def _probe(self) -> str:
        return f"{self.stored.layout.root}entries/probe"

    def _replay(self, until: float | None, report: ReconcileReport | None) -> None:
        while True:
            first = set(self.waiting.keys())
            names = self.waiting.keys()
            operations = self.waiting.load(names)
            if not operations:  # nothing waits, but for what is damaged
                if self._is_over(set(names)):
                    return
                continue
            batch = in_order(
                first, operations, [self.waiting.key(operation) for operation in operations]
            )
            for operation in batch:
                if until is not None and time.monotonic() > until:
                    return
                if self.waiting.still(operation):
                    self._replay_one(operation, report)

    def _is_over(self, damaged: set[str]) -> bool:
        """Whether nothing waits any more; then this process knows of all that it has kept what it
        has become, whoever replayed it, and does not go back behind that in the next outage."""
        known = self._last.copy()
        for operation in known.values():
            with contextlib.suppress(CorruptEntryError):
                self.stored.newest(operation.address)
        with self._keeping:  # nobody here is between `holds` and what it keeps
            for memory, operation in known.items():
                if self._last.get(memory) is operation:
                    del self._last[memory]
            self.holds = bool(self._last) or not set(self.waiting.keys()) <= damaged
            if not self.holds:
                self.error = None
            return not self.holds

    def _replay_one(self, operation: Operation, report: ReconcileReport | None) -> None:
        try:
            entry = land(self.stored, operation)
        except Overtaken as overtaken:
            below = operation.entry.version - 1
            made_on = f"version {below}" if below else "there being none"
            reason = (
                f"it was decided on {made_on}, and version {overtaken.newest} is the newest"
                if operation.base is None
                else "what it was decided on was kept too, and is not the newest version"
            )
            self._set_aside(operation, reason, overtaken.newest, report)
        except (CorruptEntryError, InvalidValueError) as error:
            self._set_aside(operation, error.problem, 0, report)
        else:
            self.waiting.remove(operation)
            self.rounds += 1
            if report is not None:
                report.landed.append(entry)

    def _set_aside(
        self, operation: Operation, reason: str, newest: int, report: ReconcileReport | None
    ) -> None:
        name = operation.name.removesuffix(".json")
        conflict = Conflict(name, operation.entry, reason, newest, operation)
        self.waiting.set_aside(operation, reason, newest)
        self.rounds += 1
        _log.error("%s was not replayed and is kept as the conflict %s: %s", *_of(conflict))
        if self.fallback.decide is not None:
            self._decide(conflict, self.fallback.decide(conflict), report)

    def _decide(
        self, conflict: Conflict, decision: Decision | Merge, report: ReconcileReport | None
    ) -> None:
        if decision == Decision.DISCARD:
            self.waiting.remove_conflict(conflict)
            _log.warning("%s is discarded, which was the conflict %s: %s", *_of(conflict))
            if report is not None:
                report.discarded.append(conflict)
        elif decision == Decision.APPEND or isinstance(decision, Merge):
            change = (
                with_value(conflict.operation, decision.value)
                if isinstance(decision, Merge)
                else unchanged
            )
            entry = land(self.stored, conflict.operation, change)
            self.waiting.remove_conflict(conflict)
            if report is not None:
                report.landed.append(entry)
        elif decision != Decision.KEEP:
            raise InvalidValueError(
                f"a conflict is decided by a Decision or a Merge, not {decision!r:.80}"
            )

    def _stopped(self, error: AMFSError) -> None:
        is_news = self.error is None
        self.error = error
        if is_news and not isinstance(error, BackendUnavailableError | OutcomeUnknownError):
            _log.error("what waits in the fallback store cannot be replayed: %s", error)

    # -- the thread --------------------------------------------------------------------------

    def close(self) -> None:
        """End the thread; what waits stays for the next process."""
        self._closed.set()

    def _begin(self) -> None:
        with self._keeping:
            if self._is_running:
                return
            self._is_running = True
            self._closed.clear()
        try:
            # Not `threading.Thread`: a signal handler may come in the middle of its locks.
            _thread.start_new_thread(_run, (weakref.ref(self), self._closed))
        except RuntimeError:  # the interpreter ends, or the system has no more threads
            self._is_running = False

    def _turn(self) -> bool:
        """Replay if the primary answers; False when nothing is left to do."""
        try:
            if self.fallback.reaches_primary(self._probe()):
                with self._replaying:
                    self._replay(None, None)
        except AMFSError as error:
            self._stopped(error)
        except Exception as error:  # of an adapter that breaks the contract, or of `decide`
            _log.exception("what waits in the fallback store cannot be replayed")
            self.error = AMFSError(f"{type(error).__name__}: {error}")
        with self._keeping:
            if not self.holds:
                self._is_running = False
        return self.holds


def _run(of: weakref.ref[Keeper], closed: Flag) -> None:
    pause = _PAUSE
    while not closed.wait(pause):
        keeper = of()
        if keeper is None or not keeper._turn():
            return
        pause = _PAUSE if keeper.error is None else min(2 * pause, _LONGEST_PAUSE)
        del keeper
    keeper = of()
    if keeper is not None:
        keeper._is_running = False


def _of(conflict: Conflict) -> tuple[str, str, str]:
    entry = conflict.entry
    name = f"version {entry.version} of {entry.entity_path}/{entry.key} (provisional)"
    return name, conflict.id, conflict.reason


def _not_kept(address: Address, error: AMFSError, cause: AMFSError | None) -> AMFSError:
    """Return the error for a write that the fallback did not keep, or perhaps did."""
    if isinstance(cause, OutcomeUnknownError):
        return cause
    if isinstance(error, OutcomeUnknownError):
        return error
    return BackendUnavailableError(
        f"the primary store is down, and the fallback cannot keep the write: {error.problem}",
        hint=error.hint,
        entity_path=address.entity_path,
        key=address.key,
    )
