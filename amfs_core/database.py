"""The SQLite database that a catalog lives in: opened when it is needed, made anew when it is bad.

Everything in it can be fetched again, so it is never mended: a file that is damaged, was made by
another version of AMFS or belongs to another store is thrown away.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from amfs_core import fork
from amfs_core.errors import ConfigurationError

T = TypeVar("T")

_BUSY_SECONDS = 30.0
_TRUNCATE_MILLISECONDS = 50  # it is tried again with the next refresh
_CACHE_KIB = 64 * 1024
_log = logging.getLogger("amfs")
_parents: list[sqlite3.Connection] = []
"""Connections of a parent process: a child must neither use nor close them."""


class DatabaseLost(Exception):
    """What was in the database is gone: begin again, on an empty one."""


class Database:
    """One connection, used by many threads in turn.

    `path` None: a private database that SQLite keeps in memory and, beyond 64 MiB, in a temporary
    file that has no name. With a path, processes share the file (write-ahead log). `schema` is the
    DDL; `identity` says what the content is about, and a file with another one is made anew.
    """

    def __init__(self, path: Path | None, schema: str, identity: str) -> None:
        self.path = path
        self._schema = schema
        self._version = int.from_bytes(hashlib.sha256(schema.encode()).digest()[:3]) + 1
        self._identity = identity
        self._connection: sqlite3.Connection | None = None
        self.lock = threading.RLock()
        fork.register(self)

    def after_fork(self) -> None:
        """Open anew in a forked child: SQLite's connections must not cross a fork."""
        if self._connection is not None:
            _parents.append(self._connection)
        self._connection = None
        self.lock = threading.RLock()

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return `work(connection)`, with nobody else using the connection.

        Raises `DatabaseLost` when the file turns out to be damaged, or cannot be used any more
        (full disk, another process that never lets go): the next call works on an empty database.
        """
        with self.lock:
            try:
                return work(self._open())
            except sqlite3.DatabaseError as error:
                if _is_mistake(error):
                    raise
                if self.path is None:
                    raise ConfigurationError(
                        f"the catalog cannot be kept: {error}; free some memory and space for "
                        "temporary files, or give cache_dir a directory that has space"
                    ) from error
                self._connection = self._replaced(error)
                raise DatabaseLost from error

    @contextmanager
    def transaction(self, connection: sqlite3.Connection) -> Iterator[None]:
        """Commit what is done inside, or nothing of it; no other process writes meanwhile."""
        with self._between("BEGIN IMMEDIATE", connection):
            yield

    @contextmanager
    def snapshot(self, connection: sqlite3.Connection) -> Iterator[None]:
        """Have all statements inside see the same state, whatever other processes write."""
        with self._between("BEGIN", connection):
            yield

    @staticmethod
    @contextmanager
    def _between(begin: str, connection: sqlite3.Connection) -> Iterator[None]:
        connection.execute(begin)
        try:
            yield
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def truncate_log(self) -> bool:
        """Have what was overwritten be in no file any more; False when others are using it."""
        if self.path is None:
            return True

        def truncate(connection: sqlite3.Connection) -> bool:
            connection.execute(f"PRAGMA busy_timeout = {_TRUNCATE_MILLISECONDS}")
            try:
                ((busy, _, _),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                connection.execute(f"PRAGMA busy_timeout = {int(_BUSY_SECONDS * 1000)}")
            return not busy

        return self.run(truncate)

    def close(self) -> None:
        """Close the connection; the next use would open it again."""
        with self.lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                self._connection = self._prepared()
            except (sqlite3.DatabaseError, OSError) as error:
                self._connection = self._replaced(error)
        return self._connection

    def _replaced(self, error: Exception) -> sqlite3.Connection:
        """Return a connection to an empty database instead of one that failed: a new file when
        the old one was bad, a private database when the file system is."""
        self.close()
        if self.path is not None and isinstance(error, sqlite3.OperationalError | OSError):
            _log.warning("no catalog can be kept in %s (%s); using a private one", self.path, error)
            self.path = None
        elif self.path is not None:
            _log.warning("the catalog %s is made anew: %s", self.path, error)
            for suffix in ("", "-wal", "-shm"):
                with suppress(OSError):
                    os.unlink(f"{self.path}{suffix}")
        try:
            return self._prepared()
        except (sqlite3.DatabaseError, OSError) as again:
            if self.path is None:
                raise
            return self._replaced(sqlite3.OperationalError(str(again)))

    def _prepared(self) -> sqlite3.Connection:
        """Return a connection to a database that has this schema and identity."""
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self.path or "", timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            connection.execute("PRAGMA secure_delete = ON")  # erased content must be gone
            if self.path is not None:
                os.chmod(self.path, 0o600)  # memories may be private
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
            else:
                connection.execute("PRAGMA journal_mode = MEMORY")
                connection.execute("PRAGMA synchronous = OFF")
            with self.transaction(connection):
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                if version == 0:
                    self._create(connection)
                elif version != self._version:
                    raise sqlite3.DatabaseError("it was made by another version of AMFS")
            ((identity,),) = connection.execute("SELECT identity FROM about")
            if identity != self._identity:
                raise sqlite3.DatabaseError("it belongs to another store")
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


def _is_mistake(error: sqlite3.DatabaseError) -> bool:
    """True for what a new file would not mend: statements that are wrong."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, sqlite3.ProgrammingError) or code == sqlite3.SQLITE_ERROR
