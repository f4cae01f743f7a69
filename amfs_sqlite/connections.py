"""The connections of one adapter: one thread at a time uses each, and none crosses a fork.

`docs/design/sqlite.md` says what happens to a connection that crosses a fork.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable
from typing import TypeVar

from amfs_core.errors import BackendUnavailableError
from amfs_core.parallel import new_lock
from amfs_sqlite.database import (
    Connection,
    Database,
    Link,
    every_connection,
    primary,
    roll_back,
)

T = TypeVar("T")

_MOST_IDLE = 8
_LONGEST_FORK_SECONDS = 10.0
_PAUSE_SECONDS = 0.001
_ATTEMPTS = 10

_abandoned: list[Connection] = []
"""Connections of a parent process that a thread was using when it forked."""


class _Use:
    """A call of a thread, which exists as long as its frame: Ctrl-C may end that at any point."""

    __slots__ = ("__weakref__", "link", "thread")

    def __init__(self, thread: int) -> None:
        self.thread = thread
        self.link: Link | None = None


class Connections:
    """Lends connections to threads. Nothing here waits for a lock: a signal handler may call it at
    any moment, and gets its own connection."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._idle: list[Link] = []
        self._uses: dict[int, weakref.ref[_Use]] = {}  # by `id`; the frames of some are gone
        self._round = 0  # counts calls of `close`
        self._spoilt = False
        self.turn = new_lock()
        _register(self)

    def run(
        self, work: Callable[[sqlite3.Connection], T], *, make: bool = False, write: bool = False
    ) -> T | None:
        """Return `work(connection)`; None if there is no store and `make` is false.

        Raises `FileReplacedError` if the write went to a file that is no longer in use.
        """
        for _ in range(_ATTEMPTS):
            use, begun = _Use(threading.get_ident()), self._round
            link: Link | None = None
            try:
                self._enter(use)
                use.link = link = self._take(make=make)
                if link is None:
                    return None
                if link.frozen:
                    state = self._database.frozen_state()
                    answer = work(link.connection)
                    if state is None or state != self._database.frozen_state():
                        continue  # another process wrote meanwhile
                    return answer
                answer = work(link.connection)
                if write and self._database.inode() != link.file:
                    raise FileReplacedError
                return answer
            except BaseException as error:
                if link is not None:
                    roll_back(link.connection)
                    if not _leaves_whole(error):
                        link.broken = True
                raise
            finally:
                if link is not None:
                    self._put(link, begun)
                self._uses.pop(id(use), None)
        raise BackendUnavailableError(f"{self._database.path!r} changes again and again")

    def close(self) -> None:
        """Close the idle connections; the others are closed when they are returned."""
        self._round += 1
        if self._spoilt:
            return
        use = _Use(threading.get_ident())
        self._enter(use)  # so that no thread forks in the middle of it
        self._close_idle()
        self._uses.pop(id(use), None)

    def _enter(self, use: _Use) -> None:
        """Register this thread as a user, once no other thread forks."""
        if self._spoilt:
            raise BackendUnavailableError(
                f"this process was forked while a call on {self._database.path!r} was stuck, and "
                "SQLite cannot be used in it",
                hint="start another",
            )
        number = id(use)
        while True:
            self._uses[number] = weakref.ref(use)
            # A forking thread registers first, and then looks for users, so one of the two sees the
            # other.
            if not _forking or all(thread == use.thread for thread in list(_forking)):
                return
            del self._uses[number]
            time.sleep(_PAUSE_SECONDS)

    def _take(self, *, make: bool) -> Link | None:
        while True:
            try:
                link = self._idle.pop()
            except IndexError:
                return self._database.open(make=make)
            if link.file == self._database.inode():
                return link
            link.close()  # the file was removed or replaced

    def _put(self, link: Link, begun: int) -> None:
        is_over = link.broken or link.frozen or self._round != begun
        if is_over or len(self._idle) >= _MOST_IDLE:
            link.close()
        else:
            self._idle.append(link)

    def _close_idle(self) -> None:
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:  # another thread was quicker
                return

    # -- forks -------------------------------------------------------------------------------

    def before_fork(self, until: float) -> None:
        """Wait until no other thread is inside SQLite, and close unused connections."""
        while not self.is_quiet():
            if time.monotonic() > until:
                return
            time.sleep(_PAUSE_SECONDS)
        self._close_idle()

    def _current(self) -> list[_Use]:
        uses = (reference() for reference in list(self._uses.values()))
        return [use for use in uses if use is not None]

    def is_quiet(self) -> bool:
        """Whether no other thread is inside SQLite."""
        own = threading.get_ident()
        return all(use.thread == own for use in self._current())

    def after_fork(self, *, spoilt: bool) -> None:
        """Begin without connections in a forked child."""
        self._spoilt = self._spoilt or spoilt
        for use in self._current():  # calls interrupted by the signal handler that forked
            if use.link is not None:
                use.link.broken = True
        self._idle = []
        self._uses.clear()
        self.turn = new_lock()


class FileReplacedError(Exception):
    """The path now leads to another file than the one that was written."""


def _leaves_whole(error: BaseException) -> bool:
    """Whether a connection is as good as before after an error."""
    if not isinstance(error, sqlite3.Error):
        return not isinstance(error, FileReplacedError)
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_IOERR_WRITE:
        return True  # usually a limit on the size of files, which the files show
    return primary(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL)


# -- hooks of forks ------------------------------------------------------------------------------

_all: dict[int, weakref.ref[Connections]] = {}
_forking: dict[int, int] = {}  # threads that fork now, and their depth


def _register(made: Connections) -> None:
    for number, reference in list(_all.items()):
        if reference() is None:
            _all.pop(number, None)
    _all[id(made)] = weakref.ref(made)


def _known() -> list[Connections]:
    pools = (reference() for reference in list(_all.values()))
    return [pool for pool in pools if pool is not None]


def _before_fork() -> None:
    own = threading.get_ident()
    _forking[own] = _forking.get(own, 0) + 1
    until = time.monotonic() + _LONGEST_FORK_SECONDS
    for pool in _known():
        pool.before_fork(until)


def _after_fork_in_parent() -> None:
    own = threading.get_ident()
    _forking[own] -= 1
    if not _forking[own]:
        del _forking[own]


def _after_fork_in_child() -> None:
    """Close inherited connections, whose calls were interrupted by the signal handler that forked.
    Each is between two statements, outside of a transaction, and no thread of this process uses
    it."""
    _forking.clear()
    known = _known()
    inherited = every_connection()
    spoilt = not all(pool.is_quiet() for pool in known)
    if spoilt:  # a thread of the parent was using one: it is neither used nor closed here
        _abandoned.extend(inherited)
    else:
        for connection in inherited:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
    for pool in known:
        pool.after_fork(spoilt=spoilt)


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
