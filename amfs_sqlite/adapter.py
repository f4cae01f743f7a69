"""`SqliteAdapter`: objects are rows of a table, in a file that the processes of a machine share.

The key of a row is `<prefix><key>` in UTF-8, whose order is that of a listing.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import compress, islice
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from amfs_core.arguments import expanded
from amfs_core.errors import AMFSError, ConfigurationError, OutcomeUnknownError
from amfs_core.format import checked_prefix
from amfs_core.storage import Capabilities, Doorbell, ObjectInfo, StorageAdapter
from amfs_sqlite.changes import TableLog
from amfs_sqlite.checkpoints import Checkpoints
from amfs_sqlite.connections import Connections, FileReplacedError
from amfs_sqlite.database import Database, changed, in_one_go, primary, rows
from amfs_sqlite.doorbell import FileDoorbell
from amfs_sqlite.failures import translated

if TYPE_CHECKING:
    from amfs_core.doctor import Check

T = TypeVar("T")
_Row = tuple[bytes, int, bytes]
_Rows = list[Any]  # tuples

_INSERT = "INSERT OR ROLLBACK INTO objects (key, modified, body) VALUES (?, ?, ?)"
_CREATE = "INSERT INTO objects (key, modified, body) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING"
_REPLACE = "INSERT OR REPLACE INTO objects (key, modified, body) VALUES (?, ?, ?)"
_GET = "SELECT body FROM objects WHERE key = ?"
_DELETE = "DELETE FROM objects WHERE key = ?"
_LIST = (
    "SELECT key, length(body), modified FROM objects WHERE key > ? AND key < ? "
    "ORDER BY key LIMIT 1000"
)
_TOGETHER = 32
_GET_MANY = f"SELECT key, body FROM objects WHERE key IN ({', '.join('?' * _TOGETHER)})"
_AFTER_ALL = b"\xff"  # no UTF-8 has it

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_log = logging.getLogger("amfs")


class SqliteAdapter(StorageAdapter):
    """One SQLite file as a store, for the processes of one machine.

    The first write makes `path`, in which `~` is the user's home; its directory must exist.
    `prefix` is put before every key. With `durability="fsync"` (the default) an acknowledged write
    survives a crash of the machine; with "none", which is for tests and caches, only a crash of the
    process.

    The file must be on a disk of this machine: SQLite's write-ahead log uses memory that its
    processes share. While a process has the file open there are two more files, `-wal` and `-shm`;
    they belong to it, and a copy of the file alone lacks their content.
    """

    backend_type = "sqlite"
    capabilities = Capabilities(
        paged=False, batch=True, location=True, doorbell=True, checks=True, changes=True
    )

    timeout: float = 2.0
    """Seconds that a call waits for the lock of another process, and a write for its turn."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        prefix: str = "",
        durability: Literal["fsync", "none"] = "fsync",
    ) -> None:
        if durability not in ("fsync", "none"):
            raise ConfigurationError(f'durability must be "fsync" or "none", not {durability!r}')
        self.path = os.path.abspath(_path(path))
        self.prefix = checked_prefix(prefix)
        self.durability = durability
        self._first = self.prefix.encode()
        self._database = Database(self.path, durable=durability == "fsync")
        self._connections = Connections(self._database)
        self._checkpoints = Checkpoints(self._connections, self.path)

    @property
    def location(self) -> str:
        """The file, with no links on the way to it, and the prefix."""
        return f"sqlite://{os.path.realpath(self.path)}/{self.prefix}"

    def create(self, key: str, data: bytes) -> bool:
        """Insert the row if there is none; True once it is durable, False when there is one."""
        values = self._row(key, data)
        created = self._write(
            lambda connection: changed(connection, _CREATE, values) == 1, key, creates=True
        )
        self._checkpoints.wrote(len(data), 1)
        return bool(created)

    def create_many(self, objects: Mapping[str, bytes]) -> list[str]:
        """Insert rows in one transaction, and return the keys of those that are created and durable
        now. `create` says why another was not."""
        now = _now()
        first = self._first
        values = [(first + key.encode(), now, data) for key, data in objects.items()]
        try:
            created = self._write(
                lambda connection: _inserted(connection, values), "", creates=True
            )
        except AMFSError as error:
            _log.debug("%d objects are created one by one: %s", len(values), error)
            return []
        self._checkpoints.wrote(sum(map(len, objects.values())), len(values))
        return list(compress(objects, created or ()))

    def get(self, key: str) -> bytes | None:
        """Return the row's bytes, or None when there is no such row, or no file."""
        for (body,) in self._read(_GET, (self._key(key),), key, "read"):
            return cast(bytes, body)
        return None

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Yield `(key, bytes or None)`, for up to 32 keys by one statement."""
        remaining = iter(keys)
        while some := list(islice(remaining, _TOGETHER)):
            names = [self._key(key) for key in some]
            padded = names + [None] * (_TOGETHER - len(names))
            bodies: dict[bytes, bytes] = dict(self._read(_GET_MANY, padded, some[0], "read"))
            for key, name in zip(some, names, strict=True):
                yield key, bodies.get(name)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects under a prefix in byte order of their keys. Up to 1,000 are read at a
        time, and no transaction is open between."""
        first = self._key(prefix)
        after = max(first, self._key(start_after))
        cut = len(self._first)
        while page := self._read(_LIST, (after, first + _AFTER_ALL), prefix, "list"):
            for name, size, modified in page:
                yield ObjectInfo(name[cut:].decode(), size, _moment(modified))
            after = page[-1][0]

    def replace(self, key: str, data: bytes) -> None:
        """Write the row, over an existing one too, in one step. Its old content is erased: from the
        file, and from the write-ahead log as soon as nobody reads it."""
        values = self._row(key, data)
        self._write(lambda connection: changed(connection, _REPLACE, values), key)
        self._checkpoints.erase()

    def delete(self, key: str) -> None:
        """Remove the row if there is one."""
        name = self._key(key)
        self._write(lambda connection: changed(connection, _DELETE, (name,)), key, make=False)

    def doorbell(self, prefix: str) -> Doorbell:
        """Return a doorbell for every change of the file, by any process of this machine."""
        return FileDoorbell(self.path)

    def changes(self) -> TableLog:
        """Return the log of all writes, by any process."""
        return TableLog(lambda sql, values: self._read(sql, values, "", "list"), self._first)

    def checks(self) -> Iterator[Check]:
        """Yield what `amfs doctor` looks at; a scratch directory is made, and removed."""
        from amfs_sqlite.checks import SqliteChecks

        return SqliteChecks(
            self, lambda path: SqliteAdapter(path, durability=self.durability)
        ).all()

    def look(self) -> None:
        """Read the file's header and table, if it is there. Raises what any read does."""
        self._read("SELECT seq FROM objects LIMIT 1", (), "", "open")

    def close(self) -> None:
        """Close the connections. SQLite removes `-wal` and `-shm` with the very last one."""
        self._connections.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return SqliteAdapter, (self.path, self.prefix, self.durability)

    def __repr__(self) -> str:
        return f"SqliteAdapter(path={self.path!r}, prefix={self.prefix!r})"

    def _key(self, key: str) -> bytes:
        return self._first + key.encode()

    def _row(self, key: str, data: bytes) -> _Row:
        return self._first + key.encode(), _now(), data

    def _read(self, sql: str, values: Iterable[Any], key: str, verb: str) -> _Rows:
        work = partial(rows, sql=sql, values=tuple(values))
        try:
            return self._patiently(partial(self._connections.run, work)) or []
        except (sqlite3.Error, OSError) as error:
            raise translated(error, self.path, key, verb) from error

    def _write(
        self,
        work: Callable[[sqlite3.Connection], T],
        key: str,
        *,
        creates: bool = False,
        make: bool = True,
    ) -> T | None:
        """Return `work(connection)`; None if there is no store and `make` is false."""
        attempt = partial(self._connections.run, work, make=make, write=True)
        until = time.monotonic() + self.timeout
        try:
            # Threads of one process take turns: SQLite would make them sleep and try again.
            with self._connections.turn:
                return self._patiently(attempt, until)
        except (sqlite3.Error, OSError) as error:
            raise translated(error, self.path, key, "write", creates=creates) from error
        except FileReplacedError as error:
            raise OutcomeUnknownError(
                f"{self.path!r} was removed or replaced while {key!r} was written", object_key=key
            ) from error

    def _patiently(self, attempt: Callable[[], T], until: float | None = None) -> T:
        """Return `attempt()`, repeated while another process has the lock and time is left."""
        while True:
            try:
                return attempt()
            except sqlite3.Error as error:
                if primary(error) != sqlite3.SQLITE_BUSY:
                    raise
                now = time.monotonic()
                until = now + self.timeout if until is None else until
                if now > until:
                    raise


def _path(path_like: object) -> str:
    """Return the path with `~` expanded; `ConfigurationError` for an impossible path."""
    if not isinstance(path_like, str | os.PathLike):
        raise ConfigurationError(f"path must be a path, not {type(path_like).__name__}")
    path = os.fspath(path_like)
    if not isinstance(path, str):
        raise ConfigurationError("path must be a path of text, not of bytes")
    if not path:
        raise ConfigurationError("path is empty", hint="name a file, which the first write makes")
    if "\0" in path:
        raise ConfigurationError("path has a NUL character, which no path has")
    if path == ":memory:":
        raise ConfigurationError(
            "path must be a file: what SQLite keeps in memory goes with its connection"
        )
    if _URL.match(path):
        raise ConfigurationError(
            "path must be a file, not a URL", hint='amfs.open_store("sqlite:///FILE") takes one'
        )
    if path.endswith(os.sep):
        raise ConfigurationError(f"path {path!r} names a directory", hint="name a file in it")
    return expanded(path, "path")


def _inserted(connection: sqlite3.Connection, values: list[_Row]) -> list[bool]:
    """Insert rows in one transaction, and return for each whether it was created: False if its key
    is taken."""
    try:
        in_one_go(connection, [partial(connection.executemany, _INSERT, values)])
    except sqlite3.IntegrityError:  # some are there, and all were rolled back
        steps = [partial(connection.execute, _CREATE, row) for row in values]
        return [count == 1 for count in in_one_go(connection, steps)]
    return [True] * len(values)


def _now() -> int:
    return time.time_ns() // 1000


def _moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
