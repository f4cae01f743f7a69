"""The SQLite database of a catalog: opened when it is needed, made again when it is damaged.

Everything in it can be fetched again, so it is never repaired: a damaged or missing file is
abandoned, and another one is made. `docs/design/catalog.md` says how processes agree on which.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from traceback import clear_frames
from typing import TypeVar

import msgspec

from amfs_core import fork
from amfs_core.catalog.contract import CatalogLost
from amfs_core.errors import AMFSError, ConfigurationError
from amfs_core.parallel import new_lock

T = TypeVar("T")

_BUSY_SECONDS = 30.0
_INTERRUPTIBLE_MILLISECONDS = 50  # SQLite waits for a lock in one piece, deaf to Ctrl-C
_CACHE_KIB = 64 * 1024
_MOST_LOSSES = 50  # without one answer in between; then somebody keeps destroying the file
_MOST_ODDITIES = 3  # errors that may come from damage, or be a mistake of ours
_SYSTEM_FAULTS = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM)
_ODDITIES = (ValueError, TypeError, LookupError, ArithmeticError, msgspec.MsgspecError)
_log = logging.getLogger("amfs")
_parents: list[sqlite3.Connection] = []
"""Connections of a parent process: a child must neither use nor close them."""


class Database:
    """One connection, used by many threads in turn.

    `directory` None: a private database that SQLite keeps in memory and, beyond 64 MiB, in a
    temporary file that has no name. With a directory, processes share a file in it. `schema` is the
    DDL; `identity` says what the content is about. Each pair of the two has files of its own.
    """

    def __init__(self, directory: Path | None, schema: str, identity: str) -> None:
        self._schema = schema
        self._version = int.from_bytes(hashlib.sha256(schema.encode()).digest()[:3]) + 1
        self._identity = identity
        self._wanted = self._directory = directory
        self._store = hashlib.sha256(identity.encode()).hexdigest()[:32]
        self._name = f"{self._store}-{self._version:07x}"
        self.path: Path | None = None
        self.number = 0  # of the databases that were opened in turn
        self._inode: tuple[int, int] | None = None
        self._losses = self._oddities = 0
        self._connection: sqlite3.Connection | None = None
        self.lock = new_lock()
        fork.register(self)

    def after_fork(self) -> None:
        """Open it again in a forked child: SQLite's connections must not cross a fork."""
        if self._connection is not None:
            _parents.append(self._connection)
        self._connection = None
        self.lock = new_lock()

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return `work(connection)`, with nobody else using the connection.

        Raises `CatalogLost` when the file turns out to be damaged, or cannot be used any more
        (full disk, another process that never lets go): the next call works on an empty database.
        However the work ends, even by Ctrl-C, no transaction is left open.
        """
        with self.lock:
            connection: sqlite3.Connection | None = None
            try:
                connection = self._open()
                try:
                    _end_transaction(connection)  # a second Ctrl-C may have come while one ended
                    return work(connection)
                except BaseException as error:
                    # A cursor that was not read to its end keeps the file locked for as long as
                    # the frames do that a traceback holds.
                    clear_frames(error.__traceback__)
                    raise
                finally:
                    _end_transaction(connection)
            except Exception as error:
                if not self._is_damage(error, connection):
                    raise
                if self._directory is None:
                    raise ConfigurationError(
                        f"the catalog cannot be kept: {error}",
                        hint=(
                            "free some memory and space for "
                            "temporary files, or give cache_dir a directory that has space"
                        ),
                    ) from error
                self._lose(error)
                raise CatalogLost from error

    def current(self) -> int:
        """Return the number of the database that is in use, opened if none is.

        Another thread may lose it at any moment, and later calls then use an empty one with another
        number. So a caller of several methods calls `require` at the end.
        """
        with self.lock:
            if self._connection is not None and not self._is_current():
                self._lose(None)
            self._open()
            return self.number

    def require(self, number: int) -> None:
        """Raise `CatalogLost` when the database with this number is not in use any more, or is not
        the file that everybody uses: it was removed, emptied, or replaced as it was damaged."""
        with self.lock:
            if self._connection is None or self.number != number or not self._is_current():
                raise CatalogLost
            self._losses = self._oddities = 0

    def _is_damage(self, error: Exception, connection: sqlite3.Connection | None) -> bool:
        """Whether an error comes from what is in the database, or where that is kept."""
        if isinstance(error, sqlite3.ProgrammingError | AMFSError | CatalogLost):
            return False
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
            # A file that was emptied has no tables. Else it is a statement that is wrong, or
            # another oddity.
            if str(error).startswith("no such table"):
                return True
        elif isinstance(error, sqlite3.DatabaseError):
            return True
        # Bytes that were overwritten may pass for rows: with too few columns, or with no JSON.
        is_odd = isinstance(error, (sqlite3.OperationalError, *_ODDITIES))
        if not is_odd or self._directory is None or connection is None:
            return False
        self._oddities += 1
        return self._oddities <= _MOST_ODDITIES or not _is_whole(connection)

    def _is_current(self) -> bool:
        if self._directory is None:
            return True
        try:
            status = os.stat(self.path or "")
        except OSError:
            return False
        is_whole = (status.st_dev, status.st_ino) == self._inode and status.st_size > 0
        return is_whole and self._pointed_at() == self.path

    @contextmanager
    def transaction(self, connection: sqlite3.Connection) -> Iterator[None]:
        """Commit all statements inside, or none; no other process writes meanwhile."""
        with self._between("BEGIN IMMEDIATE", connection):
            yield

    @contextmanager
    def snapshot(self, connection: sqlite3.Connection) -> Iterator[None]:
        """Let all statements inside see the same state, whatever other processes write."""
        with self._between("BEGIN", connection):
            yield

    @staticmethod
    @contextmanager
    def _between(begin: str, connection: sqlite3.Connection) -> Iterator[None]:
        _begin(begin, connection)
        try:
            yield
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def remove_others(self) -> None:
        """Remove all files of this store but the one that everybody uses: those of other releases
        and those that were replaced. They may contain content that must be erased, and no later
        purge would open them. A process that uses one makes another.

        A process that had to work without the file removes that too, because it cannot erase
        anything in it.
        """
        with self.lock:
            if self._wanted is None:
                return
            kept = set()
            if self._directory is not None and self.path is not None:
                name = self.path.name
                kept = {name, f"{name}-journal", self._pointer().name}
            with suppress(OSError):
                for path in self._wanted.glob(f"{self._store}*"):
                    if path.name not in kept:
                        with suppress(OSError):
                            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the connection; the next use would open it again."""
        with self.lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    # -- which file --------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = None
            if self._directory is not None:
                try:
                    connection = self._shared()
                except (sqlite3.DatabaseError, OSError) as error:
                    self._use_private(error)
            self.number += 1
            self._connection = connection or self._private()
        return self._connection

    def _lose(self, error: Exception | None) -> None:
        """Abandon the file. The next one is made beside it, so other users of this one find out
        themselves, and the journal of one file is never taken for that of another."""
        self.close()
        self._losses += 1
        if _is_of_the_system(error) or self._losses > _MOST_LOSSES:
            self._use_private(error or OSError("it is removed again and again"))
            return
        path, self.path = self.path, None
        if path is None:
            return
        if error is not None:
            _log.warning("the catalog %s is rebuilt: %s", path, error)
        if error is not None or self._pointed_at() != path:
            # Nobody opens it again, and it may contain content that must be erased one day.
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _use_private(self, error: Exception) -> None:
        _log.warning(
            "no catalog can be kept in %s (%s); using a private one", self._directory, error
        )
        self._directory = self.path = None

    def _shared(self) -> sqlite3.Connection:
        """Return a connection to the file that the pointer names, made if there is none that is
        whole. Others may be destroying files, or the directory, at the same time."""
        assert self._directory is not None
        trouble: Exception | None = None
        for _ in range(_MOST_LOSSES):
            try:
                self._directory.mkdir(parents=True, exist_ok=True)
                path = self._pointed_at()
                if path is not None:
                    try:
                        return self._connected(path)
                    except (sqlite3.DatabaseError, FileNotFoundError) as error:
                        if _is_of_the_system(error):
                            raise
                        if not isinstance(error, FileNotFoundError):
                            _log.warning("the catalog %s is rebuilt: %s", path, error)
                self._make(instead_of=path)
            except (sqlite3.DatabaseError, FileNotFoundError) as error:
                if _is_of_the_system(error):
                    raise
                trouble = error
        raise OSError("the file is destroyed again and again") from trouble

    def _pointer(self) -> Path:
        assert self._directory is not None
        return self._directory / f"{self._name}.current"

    def _pointed_at(self) -> Path | None:
        """Return the file in use now; None when nothing says which."""
        assert self._directory is not None
        try:
            name = self._pointer().read_bytes().decode()
        except (OSError, UnicodeDecodeError):
            return None
        is_ours = name.startswith(f"{self._name}-") and name.endswith(".sqlite")
        return self._directory / name if is_ours and "/" not in name else None

    def _make(self, instead_of: Path | None) -> None:
        """Make a file, whole before anybody can find it, and point at it."""
        assert self._directory is not None
        path = self._directory / f"{self._name}-{secrets.token_hex(4)}.sqlite"
        is_in_use = False
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # may be private
            connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                with self.transaction(connection):
                    self._create(connection)
            finally:
                connection.close()
            if self._pointed_at() == instead_of:  # otherwise another process made one meanwhile
                beside = self._pointer().with_suffix(f".{secrets.token_hex(4)}")
                beside.write_bytes(path.name.encode())
                os.replace(beside, self._pointer())
                is_in_use = True
        finally:
            if not is_in_use:
                path.unlink(missing_ok=True)
        if instead_of is not None:
            with suppress(OSError):
                instead_of.unlink(missing_ok=True)

    def _connected(self, path: Path) -> sqlite3.Connection:
        """Return a connection to a file that has this schema and identity."""
        status = os.stat(path)
        if not os.access(path, os.R_OK | os.W_OK):  # another user's: both would make it, in turn
            raise PermissionError(f"{path} belongs to another user")
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",  # never an empty one in place of a removed one
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            # A rollback journal, not a write-ahead log: that comes with a file which all processes
            # map into their memory, and to truncate a mapped file kills them.
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA synchronous = NORMAL")
            _set_up(connection)
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version != self._version:
                raise sqlite3.DatabaseError("it is not whole")
            ((identity,),) = connection.execute("SELECT identity FROM about").fetchall()
            if identity != self._identity:
                raise sqlite3.DatabaseError("it belongs to another store")
        except ValueError as error:  # no identity, or several
            connection.close()
            raise sqlite3.DatabaseError("it is not whole") from error
        except BaseException:
            connection.close()
            raise
        self.path, self._inode = path, (status.st_dev, status.st_ino)
        return connection

    def _private(self) -> sqlite3.Connection:
        connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = MEMORY")
            connection.execute("PRAGMA synchronous = OFF")
            _set_up(connection)
            with self.transaction(connection):
                self._create(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _create(self, connection: sqlite3.Connection) -> None:
        for statement in (
            *self._schema.split(";\n"),
            "CREATE TABLE about (identity TEXT NOT NULL)",
        ):
            connection.execute(statement)
        connection.execute("INSERT INTO about VALUES (?)", (self._identity,))
        connection.execute(f"PRAGMA user_version = {self._version}")


def _set_up(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute("PRAGMA secure_delete = ON")  # erased content must be gone


def _begin(statement: str, connection: sqlite3.Connection) -> None:
    """Begin a transaction. Others are waited for in pieces, between which Ctrl-C works."""
    until = time.monotonic() + _BUSY_SECONDS
    connection.execute(f"PRAGMA busy_timeout = {_INTERRUPTIBLE_MILLISECONDS}")
    try:
        while True:
            try:
                connection.execute(statement)
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(_BUSY_SECONDS * 1000)}")


def _end_transaction(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _is_whole(connection: sqlite3.Connection) -> bool:
    try:
        return connection.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)]
    except sqlite3.Error:
        return False


def _is_of_the_system(error: Exception | None) -> bool:
    """True for errors that another file in the same place would not change."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _SYSTEM_FAULTS
