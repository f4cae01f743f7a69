"""The file of a store: recognised, made by the first write, and opened."""

from __future__ import annotations

import contextlib
import operator
import os
import sqlite3
import stat
import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, cast

from amfs_core.errors import BackendUnavailableError, ConfigurationError

APPLICATION = int.from_bytes(b"AMFS")
"""The value of `PRAGMA application_id` in a store: bytes 68 to 71 of the file, which file(1)
shows."""

VERSION = 1
"""The version of the tables, in `PRAGMA user_version`. A higher one belongs to a newer AMFS."""

_TABLE = """
CREATE TABLE objects (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB NOT NULL UNIQUE,
    modified INTEGER NOT NULL,
    body BLOB NOT NULL
)
"""

_GUARD = "CREATE TEMP TABLE guard (refused NOT NULL)"
_MUST_BE_EMPTY = "INSERT OR ROLLBACK INTO guard SELECT NULL FROM main.sqlite_master LIMIT 1"
"""Ends the transaction unless the file has no tables, because another process may have made some
since the last look."""

_BEGIN = "BEGIN IMMEDIATE"

_LOCK_SECONDS = 0.05
"""SQLite waits for a lock without noticing Ctrl-C, so it waits only this long and is then asked
again."""

_ATTEMPTS = 10

Inode = tuple[int, int]


class Connection(sqlite3.Connection):
    """A connection that is registered from before it is opened until it is gone, so that a forked
    child overlooks none, whatever was interrupted by the signal handler that forked."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        if len(_connections) >= _MANY:
            for number, reference in list(_connections.items()):
                if reference() is None:
                    _connections.pop(number, None)
        # The reference has no callback, because an exception of a signal handler would be lost in
        # it.
        _connections[id(self)] = weakref.ref(self)
        super().__init__(*arguments, **options)


_connections: dict[int, weakref.ref[Connection]] = {}
_MANY = 64


def every_connection() -> list[Connection]:
    """Return the connections of this process, including some that are closed."""
    connections = (reference() for reference in list(_connections.values()))
    return [connection for connection in connections if connection is not None]


class Link:
    """One connection, and the file that it leads to.

    A `frozen` one is good for one read: it takes no locks, because it may not make the files for
    them.
    """

    __slots__ = ("broken", "connection", "file", "frozen")

    def __init__(self, connection: sqlite3.Connection, file: Inode, *, frozen: bool) -> None:
        self.connection = connection
        self.file = file
        self.frozen = frozen
        self.broken = False

    def close(self) -> None:
        """Close it, whatever its state."""
        self.broken = True
        with contextlib.suppress(sqlite3.Error):
            self.connection.close()


class Database:
    """The file at a path, which need not exist yet."""

    def __init__(self, path: str, *, durable: bool) -> None:
        self.path = path
        self._uri = Path(path).as_uri()
        # Without durability a crash of the machine may lose the newest commits, and nothing else.
        self._synchronous = "FULL" if durable else "NORMAL"
        self._durable = durable

    def inode(self) -> Inode | None:
        """Return which file is at the path; None when there is none."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def frozen_state(self) -> tuple[object, ...] | None:
        """Return marks that change with every write; None while a process has the file open."""
        if os.path.lexists(f"{self.path}-wal"):
            return None
        status = os.stat(self.path)
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def open(self, *, make: bool) -> Link | None:
        """Return a connection; None if there is no store yet and `make` is false.

        Raises `ConfigurationError` for a file that is not a store of this or an older version, or
        whose directory is absent, and what sqlite3 raises.
        """
        for _ in range(_ATTEMPTS):
            file = self.inode()
            if file is None:
                directory = os.path.dirname(os.path.realpath(self.path))
                if not os.path.isdir(directory):
                    raise ConfigurationError(
                        f"the store {self.path!r} is in no directory: make {directory!r}, or name "
                        "another path"
                    )
                if not make:
                    return None
                self._touch()
                file = self.inode()
            link = self._connected(file, make=make) if file is not None else None
            if link is None and not make:
                return None
            if link is not None and self.inode() == file:
                return link
            if link is not None:
                link.close()
        raise BackendUnavailableError(f"{self.path!r} is removed or replaced again and again")

    def _connected(self, file: Inode, *, make: bool) -> Link | None:
        connection = self._connection("rw")
        frozen = False
        try:
            try:
                is_made = self._is_ours(connection)
            except sqlite3.OperationalError as error:
                # There are no -wal and -shm files for locks, and this process may not make them: so
                # no process has the file open for writing, and one that opens it will make them.
                if make or error.sqlite_errorcode != sqlite3.SQLITE_READONLY_DIRECTORY:
                    raise
                connection.close()
                connection = self._connection("ro&immutable=1")
                frozen = True
                is_made = self._is_ours(connection)
            if not is_made and not make:
                connection.close()
                return None
            if not frozen:
                self._set_up(connection)
            if not is_made and not self._make(connection):
                connection.close()
                return None
        except BaseException:
            connection.close()
            raise
        return Link(connection, file, frozen=frozen)

    def _connection(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{self._uri}?mode={mode}",  # never an empty file in place of a removed one
            uri=True,
            timeout=_LOCK_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            factory=Connection,
        )

    def _touch(self) -> None:
        """Make an empty file that others may use too: SQLite gives a group no right to write.

        The file is not opened: closing it would end the locks that SQLite has in this process.
        """
        try:  # less the umask; not through a link, which leads nowhere yet
            os.mknod(os.path.realpath(self.path), stat.S_IFREG | 0o666)
        except FileExistsError:  # another process was quicker
            pass
        except OSError:  # not every system permits it to every user
            self._connection("rwc").close()

    def _is_ours(self, connection: sqlite3.Connection) -> bool:
        """Whether the file has our table; False when it is empty."""
        # In this order: another process makes a store in one step, so a process that sees a part of
        # it here also sees that it is a store.
        ((tables,),) = rows(connection, "SELECT count(*) FROM sqlite_master")
        ((version,),) = rows(connection, "PRAGMA user_version")
        ((application,),) = rows(connection, "PRAGMA application_id")
        if application == APPLICATION:
            if version > VERSION:
                raise ConfigurationError(
                    f"the store {self.path!r} is of version {version}, and this AMFS knows "
                    f"versions up to {VERSION}: install a newer AMFS"
                )
            return True
        if application or version or tables:
            raise ConfigurationError(
                f"{self.path!r} is a database of another program, and nothing was changed in it",
                hint="name another path for the store",
            )
        return False

    def _set_up(self, connection: sqlite3.Connection) -> None:
        for setting in (
            f"synchronous = {self._synchronous}",
            "fullfsync = ON",  # macOS: else its disk may keep what was flushed in its own memory
            "checkpoint_fullfsync = ON",
            "secure_delete = ON",  # erased data is overwritten by zeros
            "wal_autocheckpoint = 0",  # see `Checkpoints`
            "cache_spill = OFF",  # nothing is written before the commit
            "trusted_schema = OFF",
        ):
            rows(connection, f"PRAGMA {setting}")
        ((mode,),) = rows(connection, "PRAGMA journal_mode")
        if mode != "wal":
            try:
                ((mode,),) = rows(connection, "PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if primary(error) != sqlite3.SQLITE_READONLY:  # the file can be read as it is
                    raise
                return
        if mode != "wal":
            raise ConfigurationError(
                f"the file system of {self.path!r} has no memory that processes share, which "
                "SQLite's write-ahead log needs",
                hint="name a path on a local disk",
            )

    def _make(self, connection: sqlite3.Connection) -> bool:
        """Make the table; False when another process has made one meanwhile."""
        statements = (
            _MUST_BE_EMPTY,
            _TABLE,
            f"PRAGMA application_id = {APPLICATION}",
            f"PRAGMA user_version = {VERSION}",
        )
        changed(connection, _GUARD)
        try:
            in_one_go(
                connection, [partial(connection.execute, statement) for statement in statements]
            )
        except sqlite3.IntegrityError:
            return False
        changed(connection, "DROP TABLE temp.guard")
        if self._durable:
            above = os.path.dirname(os.path.realpath(self.path))
            directory = os.open(above, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        return True


def rows(
    connection: sqlite3.Connection, sql: str, values: Sequence[Any] = ()
) -> list[tuple[Any, ...]]:
    """Return all rows of a statement, which has then ended.

    This is one call into C: no signal handler runs before the statement has ended, and no exception
    of a handler leaves a cursor that keeps a transaction open.
    """
    return list(chain.from_iterable(map(connection.execute, (sql,), (values,))))


def changed(connection: sqlite3.Connection, sql: str, values: Sequence[Any] = ()) -> int:
    """Carry out a statement in its own transaction, and return how many rows it changed."""
    return next(map(_row_count, map(connection.execute, (sql,), (values,))))


def in_one_go(
    connection: sqlite3.Connection, steps: Iterable[Callable[[], sqlite3.Cursor]]
) -> list[int]:
    """Carry out statements, bound by `partial`, in one transaction; return how many rows each
    changed. If one fails, all are rolled back.

    This too is one call into C: between two bytecodes of Python there is never a transaction, nor a
    cursor, which would keep a connection half open that a forked child closes. A step that is
    expected to fail must end the transaction itself (`OR ROLLBACK`), as SQLite does for a disk that
    fails or is full: a signal handler may run before anything is done here.
    """
    begin, commit = partial(connection.execute, _BEGIN), partial(connection.execute, "COMMIT")
    all_steps: list[Callable[[], sqlite3.Cursor]] = [begin, *steps, commit]
    try:
        return list(map(_row_count, map(_call, all_steps)))[1:-1]
    finally:
        roll_back(connection)


_call = cast("Callable[[Callable[[], sqlite3.Cursor]], sqlite3.Cursor]", operator.call)
_row_count: Callable[[sqlite3.Cursor], int] = operator.attrgetter("rowcount")


def roll_back(connection: sqlite3.Connection) -> None:
    """End a transaction that failed, if there is one."""
    with contextlib.suppress(sqlite3.Error):  # some errors end the transaction themselves
        if connection.in_transaction:
            changed(connection, "ROLLBACK")


def primary(error: sqlite3.Error) -> int:
    """Return the kind of an error, without its details."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF
