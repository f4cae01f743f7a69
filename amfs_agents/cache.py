"""`ResponseCache`: answers of models, kept for a time and computed once (docs/cache.md).

A request is one memory, whose key is the SHA-256 of the request. Its value is an answer with its
expiry, or a claim: a process computes the answer until a deadline. A process takes a claim by
appending a version to the one it read, so exactly one of all processes gets it.

With a `period`, that memory is in the namespace of a period (`periods`). Around the change from one
period to the next, both have such a memory, so that processes whose clocks differ a little still
agree on one claim.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from amfs_agents.periods import Periods
from amfs_core import arguments, fork
from amfs_core.errors import AMFSError, InvalidValueError, VersionConflictError
from amfs_core.format import MemoryEntry, values
from amfs_core.memory import AgentMemory, AsyncAgentMemory

_FIRST_WAIT = 0.05
_LONGEST_WAIT = 1.0
_log = logging.getLogger("amfs")


@dataclass(frozen=True, slots=True)
class CacheStats:
    """The requests to this cache object so far.

    `hits` were answered at once, `waits` by an answer that another caller was computing, and
    `misses` were computed.
    """

    hits: int
    waits: int
    misses: int

    @property
    def hit_rate(self) -> float:
        """The share of requests that computed nothing, from 0 to 1; 0 before the first one."""
        total = self.hits + self.waits + self.misses
        return (self.hits + self.waits) / total if total else 0.0


@dataclass(frozen=True, slots=True)
class Swept:
    """The answers, and their versions, that a sweep erased or, with a period, removed."""

    answers: int
    versions: int


class ResponseCache:
    """Answers by request, shared by all processes on the same memory, which stays open.

        cache = ResponseCache(AgentMemory("agent"), ttl=3600)
        answer = cache.get_or_compute({"model": "m", "prompt": "…"}, lambda: ask_the_model())

    A request and an answer are any JSON; the order of an object's members makes no difference. An
    answer is kept for `ttl` seconds (or a `timedelta`). A caller has `lease` seconds to compute an
    answer; after that, as after a crash, another caller computes it too. Make the lease longer than
    an answer ever takes.
    Searches do not find answers. Safe to share between threads, and after a fork.

    With a `period` (seconds or a `timedelta`, at least 10 minutes and as long as any `ttl` and the
    `lease`) answers are kept in namespaces beside the memory's own, a new one each period, which
    `sweep` removes completely. They are then not memories of this namespace, so no outcome changes
    them.
    """

    def __init__(
        self,
        memory: AgentMemory | AsyncAgentMemory,
        *,
        ttl: float | timedelta = 3600.0,
        lease: float | timedelta = 120.0,
        path: str = "responses",
        period: float | timedelta | None = None,
    ) -> None:
        self._memory = memory.memory if isinstance(memory, AsyncAgentMemory) else memory
        self._ttl = _length(ttl, "ttl")
        self._lease = _length(lease, "lease")
        self._path = path
        self._periods: Periods | None = None
        if period is not None:
            self._periods = Periods(self._memory, path, _length(period, "period"))
            self._fits(self._ttl, "ttl")
            self._fits(self._lease, "lease")
        self._clock: Callable[[], datetime] = _utc
        self._hits = self._waits = self._misses = 0
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        """Take a new lock in a forked child, where nothing is being computed."""
        self._lock = threading.Lock()
        self._flights: dict[str, Future[_Answer | None]] = {}

    @property
    def stats(self) -> CacheStats:
        """How often this object had an answer, waited for one, and computed one."""
        with self._lock:
            return CacheStats(self._hits, self._waits, self._misses)

    def get(self, request: Any, default: Any = None) -> Any:
        """Return the answer to a request, or `default`. The cost of a read; not counted in
        `stats`."""
        answer = self._read(_key(request))
        return default if answer is None else answer.value

    def put(self, request: Any, answer: Any, *, ttl: float | timedelta | None = None) -> None:
        """Keep an answer, instead of any that is there. 1 request, or a read more."""
        kept, key = _kept(answer, self._clock() + self._lifetime(ttl)), _key(request)
        for memory in self._writable():
            memory.write(self._path, key, kept, index=False)

    def invalidate(self, request: Any) -> bool:
        """Delete the answer to a request; False when there is none. A read and 1 request."""
        key = _key(request)
        deleted = [memory.delete(self._path, key) for memory in self._readable()]
        return any(entry is not None for entry in deleted)

    def get_or_compute(
        self,
        request: Any,
        compute: Callable[[], Any],
        *,
        ttl: float | timedelta | None = None,
    ) -> Any:
        """Return the answer to a request: the kept one, or the result of `compute()`.

        While one caller computes, in this process or another, all others wait for its answer. When
        it fails, its own caller gets the error, and the next caller computes. An answer that could
        not be kept, because the store failed, is still returned, and the failure is logged (logger
        "amfs").

        A read for a kept answer; 2 requests more to compute one; while another process computes, a
        read up to 20 times a second, and less often the longer it takes. Raises what `compute`
        raises, and `InvalidValueError` for a request or an answer that is not JSON.
        """
        key, lifetime = _key(request), self._lifetime(ttl)
        waited = False
        while True:
            if (answer := self._read(key)) is not None:
                return self._counted(answer, waited)
            flight, leads = self._join(key)
            if not leads:
                waited = True
                if (answer := flight.result()) is not None:
                    return self._counted(answer, waited)
                continue
            try:
                pause = _FIRST_WAIT
                while (claim := self._claim(key)) is None:
                    waited = True
                    time.sleep(pause)
                    self._look(key)
                    pause = min(2 * pause, _LONGEST_WAIT)
                if isinstance(claim, _Answer):
                    answer = claim
                    return self._counted(answer, waited)
                try:
                    answer = self._keep(claim, compute(), lifetime)
                except BaseException:
                    self._release(claim)
                    raise
                return answer.value
            finally:
                self._leave(key, flight, answer)

    async def get_or_compute_async(
        self,
        request: Any,
        compute: Callable[[], Awaitable[Any]],
        *,
        ttl: float | timedelta | None = None,
    ) -> Any:
        """Do the same as `get_or_compute` with a coroutine function, without blocking the loop."""
        key, lifetime = _key(request), self._lifetime(ttl)
        waited = False
        while True:
            if (answer := await asyncio.to_thread(self._read, key)) is not None:
                return self._counted(answer, waited)
            flight, leads = self._join(key)
            if not leads:
                waited = True
                answer = await asyncio.shield(asyncio.wrap_future(flight))
                if answer is not None:
                    return self._counted(answer, waited)
                continue
            try:
                pause = _FIRST_WAIT
                while (claim := await self._claim_async(key)) is None:
                    waited = True
                    await asyncio.sleep(pause)
                    await asyncio.to_thread(self._look, key)
                    pause = min(2 * pause, _LONGEST_WAIT)
                if isinstance(claim, _Answer):
                    answer = claim
                    return self._counted(answer, waited)
                try:
                    value = await compute()
                    answer = await asyncio.to_thread(self._keep, claim, value, lifetime)
                except BaseException:
                    await asyncio.to_thread(self._release, claim)
                    raise
                return answer.value
            finally:
                self._leave(key, flight, answer)

    def sweep(self) -> Swept:
        """Erase the expired answers, with all their versions, and return how many.

        A stub of some 600 bytes stays of each version, so that its number is not used again.
        Answers that are valid or being computed stay. A listing, 1 request for each answer not read
        before, and for each to erase 2 and 2 for each of its versions.

        With a `period`, it instead removes the content of periods that ended at least two periods
        ago, so that nothing of it stays. 1 request, 1 for each period there is, 1 more and
        1 per 1,000 objects for each that is over, and 1 for each of its objects.
        """
        if self._periods is not None:
            return Swept(*self._periods.remove_over(self._clock()))
        answers = versions = 0
        for entry in self._memory.list(self._path):
            if entry.entity_path != self._path or _is_held(entry.value, self._clock()):
                continue
            try:
                versions += self._memory.purge(
                    self._path, entry.key, expected_version=entry.version
                )
            except VersionConflictError:  # claimed or put meanwhile
                continue
            answers += 1
        return Swept(answers, versions)

    def _readable(self) -> list[AgentMemory]:
        """Return the places where an answer may be, the newest place first."""
        return [self._memory] if self._periods is None else self._periods.readable(self._clock())

    def _writable(self) -> list[AgentMemory]:
        return [self._memory] if self._periods is None else self._periods.writable(self._clock())

    def _newest(self, key: str) -> Any:
        """Return the newest value, an answer or a claim; None for none."""
        for memory in self._readable():
            if (entry := memory.read(self._path, key)) is not None:
                return entry.value
        return None

    def _read(self, key: str) -> _Answer | None:
        return _answer(self._newest(key), self._clock())

    def _look(self, key: str) -> None:
        """Read the newest versions, because `_claim` decides by what this process has seen last."""
        self._newest(key)

    def _claim(self, key: str) -> _Claim | _Answer | None:
        """Claim an answer, and return the claim; the answer when there is one by now; None when
        another process has a claim."""

        def claim(old: Any) -> dict[str, Any]:
            now = self._clock()
            if _is_held(old, now):
                raise _HeldError(_answer(old, now))
            return {"computing_until": (now + self._lease).isoformat()}

        claimed: list[tuple[AgentMemory, MemoryEntry]] = []
        try:
            if self._periods is not None:
                claim(self._newest(key))  # perhaps in a period that is no longer written
            for memory in self._writable():
                claimed.append((memory, memory.update(self._path, key, claim)))
        except BaseException as error:
            self._release(_Claim(key, claimed))
            if isinstance(error, _HeldError):
                return error.answer
            raise
        return _Claim(key, claimed)

    async def _claim_async(self, key: str) -> _Claim | _Answer | None:
        task = asyncio.ensure_future(asyncio.to_thread(self._claim, key))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            claim = await task
            if isinstance(claim, _Claim):
                await asyncio.to_thread(self._release, claim)
            raise

    def _keep(self, claim: _Claim, value: Any, lifetime: timedelta) -> _Answer:
        try:
            self._replace(claim, _kept(value, self._clock() + lifetime))
        except InvalidValueError:
            raise
        except AMFSError as error:
            _log.warning("an answer could not be stored: %s", error)
        with self._lock:
            self._misses += 1
        return _Answer(value)

    def _release(self, claim: _Claim) -> None:
        """Let another process compute, without waiting for the lease to end."""
        try:
            self._replace(claim, {"computing_until": self._clock().isoformat()})
        except AMFSError as error:
            _log.warning("a claim could not be released, and expires by itself: %s", error)

    def _replace(self, claim: _Claim, value: dict[str, Any]) -> None:
        """Write a value in place of a claim, where that is still the newest version."""
        for memory, entry in claim.versions:
            # Not where the lease has ended, or where another answer was put.
            with contextlib.suppress(VersionConflictError):
                memory.write(
                    self._path, claim.key, value, index=False, expected_version=entry.version
                )

    def _join(self, key: str) -> tuple[Future[_Answer | None], bool]:
        """Return the future of the answer, and whether the caller must get it for all in this
        process."""
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None:
                return flight, False
            flight = self._flights[key] = Future()
            return flight, True

    def _leave(self, key: str, flight: Future[_Answer | None], answer: _Answer | None) -> None:
        with self._lock:
            self._flights.pop(key, None)
        flight.set_result(answer)

    def _counted(self, answer: _Answer, waited: bool) -> Any:
        with self._lock:
            if waited:
                self._waits += 1
            else:
                self._hits += 1
        return answer.value

    def _lifetime(self, ttl: float | timedelta | None) -> timedelta:
        return self._ttl if ttl is None else self._fits(_length(ttl, "ttl"), "ttl")

    def _fits(self, length: timedelta, what: str) -> timedelta:
        if self._periods is not None and length > self._periods.length:
            raise InvalidValueError(f"{what} must not be longer than the period")
        return length


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer, which may be None itself."""

    value: Any


@dataclass(frozen=True, slots=True)
class _Claim:
    """The right to compute an answer: a version in each place that is written."""

    key: str
    versions: list[tuple[AgentMemory, MemoryEntry]]


class _HeldError(Exception):
    """There is an answer, or (None) another process's claim; never leaves `_claim`."""

    def __init__(self, answer: _Answer | None) -> None:
        self.answer = answer


def _utc() -> datetime:
    return datetime.now(UTC)


def _kept(value: Any, until: datetime) -> dict[str, Any]:
    return {"answer": value, "expires_at": until.isoformat()}


def _answer(kept: Any, now: datetime) -> _Answer | None:
    """Return the answer in a memory's value, unless it has expired or is something else."""
    if type(kept) is dict and "answer" in kept and _is_later(kept.get("expires_at"), now):
        return _Answer(kept["answer"])
    return None


def _is_held(kept: Any, now: datetime) -> bool:
    """True for an answer or a claim that has not expired."""
    if _answer(kept, now) is not None:
        return True
    return type(kept) is dict and _is_later(kept.get("computing_until"), now)


def _is_later(text: Any, now: datetime) -> bool:
    try:
        return type(text) is str and datetime.fromisoformat(text) > now
    except (ValueError, TypeError):  # not of ours
        return False


def _key(request: Any) -> str:
    request = values.copied(request, "request")
    text = json.dumps(request, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _length(duration: float | timedelta, what: str) -> timedelta:
    length = arguments.lifetime(arguments.seconds(duration, what))
    assert length is not None
    return length
