"""`Backlog`: what is still to be brought to a mirror, and the thread that brings it."""

from __future__ import annotations

import _thread
import atexit
import logging
import random
import time
import weakref
from collections import deque
from collections.abc import Iterable
from enum import IntEnum
from itertools import islice
from typing import NamedTuple

from amfs_core import fork
from amfs_core.errors import AMFSError
from amfs_core.flag import Flag
from amfs_core.layers.mirror import MirrorStore
from amfs_core.parallel import each, new_lock
from amfs_core.storage import StorageAdapter

MOST_WAITING = 10_000
"""Objects; what comes on top of them is left out, and found by `amfs copy`."""

CLOSE_SECONDS = 10.0
"""For so long a store that closes, and the end of the interpreter, wait for what waits here."""

_BATCH = 64
_AT_ONCE = 16
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0
_JITTER = (0.8, 1.2)

_log = logging.getLogger("amfs")


class Verb(IntEnum):
    """What was done to an object in the primary; of several, the highest counts."""

    CREATED = 1
    REPLACED = 2
    DELETED = 3


class _Waiting(NamedTuple):
    verb: Verb
    key: str
    since: float


class Backlog:
    """Names of objects that changed in the primary, brought to a mirror one batch after the other.

    Bodies do not wait: each is read from the primary when its turn comes, so that the mirror gets
    what is there then. The thread lives while there is something to do. In a forked child nothing
    waits: what does is the parent's.
    """

    def __init__(self, primary: StorageAdapter, mirror: MirrorStore) -> None:
        self._primary = primary
        self._mirror = mirror
        self.left_out = 0
        self.after_fork()
        fork.register(self)
        _open.add(self)

    def after_fork(self) -> None:
        """Begin with nothing in a forked child."""
        self._lock = new_lock()
        self._waiting: deque[_Waiting] = deque()
        self._is_running = False
        self._done = Flag()
        self._stopped = Flag()

    @property
    def waiting(self) -> int:
        """How many objects are still to be brought."""
        return len(self._waiting)

    @property
    def seconds(self) -> float:
        """Since when the oldest of them waits."""
        try:
            return time.monotonic() - self._waiting[0].since
        except IndexError:
            return 0.0

    def add(self, verb: Verb, keys: Iterable[str]) -> None:
        """Have objects brought to the mirror soon. Never waits, never raises."""
        now = time.monotonic()
        with self._lock:
            for key in keys:
                if len(self._waiting) >= MOST_WAITING:
                    self._leave_out(1)
                else:
                    self._waiting.append(_Waiting(verb, key, now))
            if self._is_running or not self._waiting:
                return
            self._is_running = True
            self._done.clear()
            self._stopped.clear()
        try:
            # Not `threading.Thread`: a signal handler may come in the middle of its locks.
            _thread.start_new_thread(self._run, ())
        except RuntimeError:  # the interpreter ends, or the system has no more threads
            self._run(once=True)

    def drain(self) -> None:
        """Wait until nothing waits; no longer than `CLOSE_SECONDS`, and not for a mirror that
        fails. What is left then is given up, counted and warned of."""
        until = time.monotonic() + CLOSE_SECONDS
        while self._is_running and self._mirror.error is None:
            left = until - time.monotonic()
            if left <= 0 or self._done.wait(min(left, 0.1)):
                break
        self._stopped.set()
        with self._lock:
            left_out = len(self._waiting)
            self._waiting.clear()
            if left_out:
                self._leave_out(left_out)

    def _leave_out(self, count: int) -> None:
        if not self.left_out:
            _log.warning(
                "%s does not get all objects any more: run `amfs copy` from the primary store to "
                "it. The last failure: %s",
                self._mirror.name,
                self._mirror.error or "none; more is written than can be brought there",
            )
        self.left_out += count

    def _run(self, *, once: bool = False) -> None:
        pause = 0.0
        while batch := self._next():
            try:
                self._bring(batch)
            except Exception as error:  # also of an adapter that breaks the contract
                self._failed(error)
                pause = min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)
                if once or self._stopped.wait(pause * random.uniform(*_JITTER)):
                    with self._lock:
                        self._is_running = False
                    return
                continue
            except BaseException:
                with self._lock:
                    self._is_running = False
                raise
            pause = 0.0
            if self._mirror.error is not None:
                self._mirror.error = None
                _log.warning("%s gets objects again", self._mirror.name)
            with self._lock:
                for change in batch:
                    if self._waiting and self._waiting[0] is change:  # not given up meanwhile
                        self._waiting.popleft()

    def _next(self) -> list[_Waiting]:
        """Return what is to be brought next; nothing, and the thread is over, when nothing is."""
        with self._lock:
            batch = list(islice(self._waiting, _BATCH))
            if not batch:
                self._is_running = False
                self._done.set()
            return batch

    def _failed(self, error: Exception) -> None:
        before = self._mirror.error
        if isinstance(error, AMFSError):
            self._mirror.error = error
        else:
            self._mirror.error = AMFSError(f"{type(error).__name__}: {error}")
            self._mirror.error.__cause__ = error
        if before is None:
            _log.warning(
                "%s cannot be brought up to date, and is tried again: %s", self._mirror.name, error
            )

    def _bring(self, batch: list[_Waiting]) -> None:
        """Have the mirror hold what the primary holds of some objects."""
        verbs: dict[str, Verb] = {}
        for change in batch:
            verbs[change.key] = max(change.verb, verbs.get(change.key, change.verb))
        bodies = dict(self._primary.get_many(list(verbs)))
        created = {
            key: body
            for key, body in bodies.items()
            if body is not None and verbs[key] is Verb.CREATED
        }
        here = self._mirror.create_together(created)
        rest = [key for key in verbs if key not in here]
        for done in each(lambda key: self._bring_one(key, bodies[key], verbs[key]), rest, _AT_ONCE):
            done.result()

    def _bring_one(self, key: str, body: bytes | None, verb: Verb) -> None:
        if body is None:
            if verb is Verb.DELETED:
                self._mirror.adapter.delete(key)
        elif verb is Verb.CREATED:
            self._mirror.create(key, body, self._primary)
        else:
            self._mirror.client.replace(key, body)


_open: weakref.WeakSet[Backlog] = weakref.WeakSet()


def _drain_all() -> None:
    for backlog in list(_open):
        backlog.drain()


atexit.register(_drain_all)
