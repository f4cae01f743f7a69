"""The connections of one adapter, lent to threads without a lock.

`docs/design/postgres.md` says why this is not psycopg's pool.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import psycopg
from psycopg import pq
from psycopg.rows import tuple_row

from amfs_core import fork
from amfs_postgres.dsn import Dsn

T = TypeVar("T")

_LONGEST_IDLE = 60.0
_LONGEST_LIFE = 1800.0
_CANCEL_SECONDS = 1.0
_LEAST_SECONDS = 0.1


class NoAnswerError(psycopg.OperationalError):
    """The server did not answer in time; the connection is useless."""


class BusyError(psycopg.OperationalError):
    """Other threads use all connections, and none was returned in time."""


class Link(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits for an answer for `limit` seconds, and that is registered while it is
    open, so that a forked child can close it."""

    limit: float | None = None
    born = 0.0

    def __init__(self, pgconn: pq.abc.PGconn, row_factory: Any = tuple_row) -> None:
        super().__init__(pgconn, row_factory)
        for number, reference in list(_links.items()):
            if reference() is None:
                _links.pop(number, None)
        _links[id(self)] = weakref.ref(self)

    def __del__(self, _warn: Any = None) -> None:
        """Nothing: its socket is closed by what it is made of. psycopg warns here of one that a
        signal handler lost that raised."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Return the result of one of psycopg's generators; `NoAnswerError` after `limit`
        seconds."""
        if timeout is not None or self.limit is None:
            return super().wait(gen, interval, timeout)
        until = time.monotonic() + self.limit
        try:
            return super().wait(gen, interval, self.limit)
        except psycopg.OperationalError as error:
            if error.sqlstate is not None or time.monotonic() < until:
                raise
        limit, self.limit = self.limit, None
        with contextlib.suppress(psycopg.Error):
            self.cancel_safe(timeout=_CANCEL_SECONDS)
        self.close()
        raise NoAnswerError(f"no answer within {limit:.1f} s")

    @property
    def is_at_rest(self) -> bool:
        """Whether the server waits for the next statement, outside of a transaction."""
        return not self.closed and self.info.transaction_status == pq.TransactionStatus.IDLE

    @property
    def is_quiet(self) -> bool:
        """Whether no data came while the connection was idle: a server that hangs up sends a
        message, or just closes."""
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(self.fileno(), select.POLLIN)
            return not poll.poll(0)
        ready, _, _ = select.select([self.fileno()], [], [], 0)
        return not ready


_links: dict[int, weakref.ref[Link]] = {}


class _Use:
    """A call of a thread, which exists as long as its frame: Ctrl-C may end that at any point. It
    is nested when a signal handler that interrupted another call makes it."""

    __slots__ = ("__weakref__", "has_place", "is_nested")

    def __init__(self, *, is_nested: bool) -> None:
        self.is_nested = is_nested
        self.has_place = False


class Connections:
    """Lends connections to threads, one call at a time, up to `most` at once.

    Idle connections wait in a queue, and so do the places for those in use. Taking or returning one
    is an atomic step, so a signal handler, or a thread that it starts, never meets a held lock.
    """

    def __init__(self, dsn: Dsn, *, most: int, timeout: float, connect_timeout: float) -> None:
        self._most = most
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._parameters = {
            "fallback_application_name": "amfs",
            **dsn.parameters,
            "client_encoding": "UTF8",
            # libpq takes less than 2 seconds as 2.
            "connect_timeout": str(max(2, round(connect_timeout))),
        }
        self._begin()
        fork.register(self)

    def _begin(self) -> None:
        self._idle: deque[tuple[Link, float]] = deque()  # and since when
        self._places: SimpleQueue[None] = SimpleQueue()
        for _ in range(self._most):
            self._places.put(None)
        self._uses: dict[int, weakref.ref[_Use]] = {}

    def run(self, work: Callable[[Link], T]) -> T:
        """Return `work(link)`. Raises what it raises, and psycopg's errors of connecting."""
        thread = threading.get_ident()
        use = _Use(is_nested=self._is_in_call(thread))
        if not use.is_nested:
            self._uses[thread] = weakref.ref(use)
        begun = time.monotonic()
        idle = self._idle  # a new one after the store was closed or forked
        link: Link | None = None
        is_good = False
        try:
            if not use.is_nested:
                self._take_place(use)
            link = self._idle_one() or self.connect()
            link.limit = max(_LEAST_SECONDS, self._timeout - (time.monotonic() - begun))
            answer = work(link)
            is_good = True
            return answer
        except Exception as error:
            is_good = not _leads_elsewhere(error)
            if not is_good:
                self.close()
            raise
        finally:  # an interrupt may have come anywhere, so the connection is not used again
            if link is not None:
                if is_good and idle is self._idle and link.is_at_rest and len(idle) < self._most:
                    idle.append((link, time.monotonic()))
                else:
                    link.close()
            if use.has_place:
                use.has_place = False
                self._places.put(None)
            if not use.is_nested:
                self._uses.pop(thread, None)

    def connect(self) -> Link:
        """Return a separate connection, which the caller closes."""
        link = Link.connect(**self._parameters, autocommit=True, prepare_threshold=None)  # type: ignore[arg-type]
        link.born = time.monotonic()
        link.limit = self._timeout
        return link

    def close(self) -> None:
        """Close the idle connections; the others are closed when they are returned."""
        idle, self._idle = self._idle, deque()
        while idle:
            try:
                link, _ = idle.pop()
            except IndexError:  # another thread was quicker
                return
            link.close()

    def after_fork(self) -> None:
        """Begin without connections in a forked child."""
        fork.keep_forever(self._idle)
        self._begin()

    def _is_in_call(self, thread: int) -> bool:
        """Whether a signal handler has interrupted a call of this thread."""
        outer = self._uses.get(thread)
        return outer is not None and outer() is not None

    def _take_place(self, use: _Use) -> None:
        """Wait until another call returns its place."""
        try:
            self._places.get(timeout=self._connect_timeout)
        except Empty:
            uses = [reference() for reference in list(self._uses.values())]
            if sum(other is not None and other.has_place for other in uses) >= self._most:
                raise BusyError(
                    f"all {self._most} connections were busy for {self._connect_timeout:.1f} s"
                ) from None
            # An interrupt came just when a place was taken: the place is there again after this
            # call.
        use.has_place = True

    def _idle_one(self) -> Link | None:
        """Return the idle connection that was used last; None when none is usable."""
        now = time.monotonic()
        while self._idle:
            try:
                link, since = self._idle.pop()
            except IndexError:  # another thread was quicker
                return None
            if now - since < _LONGEST_IDLE and now - link.born < _LONGEST_LIFE:
                if not link.closed and link.is_quiet:
                    return link
                # It was cut off while it was idle, and probably the others too.
                self.close()
            link.close()
        return None


def _leads_elsewhere(error: Exception) -> bool:
    """Whether this error makes all other connections useless too: the server has become one that
    can only be read."""
    return isinstance(error, psycopg.errors.ReadOnlySqlTransaction)


def _after_fork_in_child() -> None:
    """Close the sockets of the parent. Code that was interrupted by a signal handler that forked
    continues here with these connections, and finds them cut off."""
    links = [link for reference in list(_links.values()) if (link := reference()) is not None]
    _links.clear()
    if not links:
        return
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        for link in links:
            with contextlib.suppress(psycopg.Error, OSError):
                os.dup2(nowhere, link.fileno(), inheritable=False)
    finally:
        os.close(nowhere)


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
