"""The connections of one adapter: psycopg's pool while all is well, else one for each call.

`docs/design/postgres.md` says why the pool is not used when it is not, nor across a fork.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
from psycopg import pq
from psycopg.rows import tuple_row
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from amfs_core import fork
from amfs_postgres.dsn import Dsn

T = TypeVar("T")

_LONGEST_IDLE = 60.0
_LONGEST_LIFE = 1800.0
_END_SECONDS = 0.5
_CANCEL_SECONDS = 1.0
_LEAST_SECONDS = 0.1

# What its threads could not do is said by our errors, and by the pool to whoever listens.
logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())

_log = logging.getLogger("amfs")


class NoAnswerError(psycopg.OperationalError):
    """The server did not answer in time; the connection is of no use any more."""


class BusyError(psycopg.OperationalError):
    """Other threads have all connections, and did not give one back in time."""


class Link(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits for an answer for `limit` seconds, and that is known while it is
    open, so that a forked child can let go of it."""

    limit: float | None = None

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
        """Return what a generator of psycopg's gives; `NoAnswerError` after `limit` seconds."""
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
        """Whether the server waits for the next statement, in no transaction."""
        return not self.closed and self.info.transaction_status == pq.TransactionStatus.IDLE

    @property
    def is_quiet(self) -> bool:
        """Whether nothing came while nobody asked: a server that hangs up says so, or just does."""
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(self.fileno(), select.POLLIN)
            return not poll.poll(0)
        ready, _, _ = select.select([self.fileno()], [], [], 0)
        return not ready


_links: dict[int, weakref.ref[Link]] = {}


class _Use:
    """A call of a thread, for as long as its frame lives: Ctrl-C may end that at any point. It is
    nested when a signal handler makes it that interrupted another one."""

    __slots__ = ("__weakref__", "is_nested", "pool")

    def __init__(self, *, is_nested: bool) -> None:
        self.is_nested = is_nested
        self.pool: ConnectionPool[Link] | None = None  # whose connection it has


class Connections:
    """Lends connections to threads, one call at a time."""

    def __init__(self, dsn: Dsn, *, most: int, timeout: float, connect_timeout: float) -> None:
        self._most = most
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._parameters = {
            "fallback_application_name": "amfs",
            **dsn.parameters,
            "client_encoding": "UTF8",
            # Below 2 seconds libpq takes it for 2.
            "connect_timeout": str(max(2, round(connect_timeout))),
        }
        self._pool: ConnectionPool[Link] | None = None
        self._making = threading.Lock()
        self._uses: dict[int, weakref.ref[_Use]] = {}
        fork.register(self)

    def run(self, work: Callable[[Link], T]) -> T:
        """Return `work(link)`. Raises what it raises, and psycopg's errors of connecting."""
        thread = threading.get_ident()
        use = _Use(is_nested=self._is_in_call(thread))
        if not use.is_nested:
            self._uses[thread] = weakref.ref(use)
        begun = time.monotonic()
        link: Link | None = None
        try:
            link = self._take(use)
            link.limit = max(_LEAST_SECONDS, self._timeout - (time.monotonic() - begun))
            answer = work(link)
            if use.pool is None and not use.is_nested:
                with contextlib.suppress(RuntimeError):  # no threads, as when Python ends
                    self._make_pool()
            return answer
        except Exception as error:
            if _leads_elsewhere(error):
                self._drop(self._pool, is_nested=use.is_nested)
            raise
        except BaseException:  # it may have come anywhere, within the pool too
            self._drop(self._pool, is_nested=use.is_nested)
            raise
        finally:
            if link is not None:
                self._give_back(use, link)
            if not use.is_nested:
                self._uses.pop(thread, None)

    def connect(self) -> Link:
        """Return a connection of one's own, which the caller closes."""
        link = Link.connect(**self._parameters, autocommit=True, prepare_threshold=None)  # type: ignore[arg-type]
        link.limit = self._timeout
        return link

    def close(self) -> None:
        """Close those that nobody uses now; the others are closed when they come back."""
        self._drop(self._pool, is_nested=self._is_in_call(threading.get_ident()))

    def after_fork(self) -> None:
        """Begin without connections in a forked child."""
        if self._pool is not None:
            fork.keep_forever(self._pool)
        self._pool = None
        self._making = threading.Lock()
        self._uses = {}

    def _is_in_call(self, thread: int) -> bool:
        """Whether this thread is in a call, which a signal handler interrupted."""
        outer = self._uses.get(thread)
        return outer is not None and outer() is not None

    def _take(self, use: _Use) -> Link:
        pool = None if use.is_nested else self._pool
        if pool is not None:
            try:
                link = pool.getconn(self._connect_timeout)
            except (PoolTimeout, PoolClosed):
                if self._lent(pool) >= self._most:
                    raise BusyError(
                        f"all {self._most} connections were busy for {self._connect_timeout:.1f} s"
                    ) from None
                # None can be made: a connection of its own says why.
                self._drop(pool, is_nested=False)
            else:
                use.pool = pool
                if link.is_quiet:
                    return link
                # It was cut off while it was idle, and so were the others, most likely.
                self._drop(pool, is_nested=False)
                use.pool = None
                link.close()
        return self.connect()

    def _lent(self, pool: ConnectionPool[Link]) -> int:
        """Return how many calls have a connection of a pool."""
        uses = [reference() for reference in list(self._uses.values())]
        return sum(use is not None and use.pool is pool for use in uses)

    def _give_back(self, use: _Use, link: Link) -> None:
        pool = use.pool
        if pool is None or pool is not self._pool:
            link.close()
        elif link.is_at_rest:
            pool.putconn(link)
        else:
            self._drop(pool, is_nested=use.is_nested)
            link.close()

    def _make_pool(self) -> None:
        """Make a pool, now that the server has answered."""
        with self._making:
            if self._pool is not None:
                return
            self._pool = ConnectionPool(
                connection_class=Link,
                kwargs={**self._parameters, "autocommit": True, "prepare_threshold": None},
                min_size=0,
                max_size=self._most,
                max_idle=_LONGEST_IDLE,
                max_lifetime=_LONGEST_LIFE,
                reconnect_timeout=0.0,
                num_workers=1,
                name="amfs",
                open=True,
            )

    def _drop(self, pool: ConnectionPool[Link] | None, *, is_nested: bool) -> None:
        """Close a pool, unless somebody else did. A signal handler only lets go of it: what it
        interrupted may hold the pool's locks."""
        if pool is None or pool is not self._pool:
            return
        self._pool = None
        if not is_nested:
            pool.close(_END_SECONDS)


def _leads_elsewhere(error: Exception) -> bool:
    """Whether other connections are of no more use than the one that had this error: the server is
    another one than before, one that may only be read."""
    return isinstance(error, psycopg.errors.ReadOnlySqlTransaction)


def _after_fork_in_child() -> None:
    """Let go of the sockets that are the parent's. Code that a signal handler interrupted which
    forked goes on with them here: it finds that they are cut off."""
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
