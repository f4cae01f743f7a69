"""From SQLite's errors to those of the contract."""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile

from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    ConfigurationError,
    OutcomeUnknownError,
    PermissionDeniedError,
    StorageFullError,
)
from amfs_sqlite.database import primary

_TRIED_BYTES = 64 * 1024
_REFUSED = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)
_NOT_APPLIED = (
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL),
    *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_SCHEMA),
    *(sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG),
    *_REFUSED,
)
"""After these errors a statement has changed nothing. After others, such as an error of the disk,
its commit may be in the write-ahead log, where the next process to open the file after a crash
finds it."""


def translated(
    error: sqlite3.Error | OSError, path: str, key: str, verb: str, *, creates: bool = False
) -> AMFSError:
    """Return the error of the contract for one of SQLite's or the system's.

    `creates` says that a create was under way: if it may have been applied, its outcome is unknown.
    """
    what = f"cannot {verb} {key!r} in {path!r}: {error}"
    if isinstance(error, OSError):
        return _of_the_system(error, path, key, what)
    code = primary(error)
    if code == sqlite3.SQLITE_FULL or (
        code == sqlite3.SQLITE_IOERR and (_is_limited(path) or _is_over_quota(error, path))
    ):
        return StorageFullError(
            what,
            hint=(
                "free some space there, or raise the quota or the limit on the size of a "
                "file (ulimit -f)"
            ),
            says_written=True,
            object_key=key,
        )
    if code in _REFUSED or (code == sqlite3.SQLITE_CANTOPEN and not _is_allowed(path)):
        return PermissionDeniedError(
            what,
            hint=(
                "give this user access to the file, and to its directory, where SQLite keeps "
                "two more"
            ),
            object_key=key,
        )
    if code == sqlite3.SQLITE_CANTOPEN and not os.path.isfile(path) and os.path.exists(path):
        return ConfigurationError(what, hint="it is not a file, name another path", object_key=key)
    if code == sqlite3.SQLITE_NOTADB:
        return ConfigurationError(
            what, hint="nothing was changed in it, name another path for the store", object_key=key
        )
    if code == sqlite3.SQLITE_CORRUPT:
        return ConfigurationError(
            what,
            hint=(
                "the file is damaged: put a copy of it in its place, or take what can be "
                "read out of it (sqlite3's .recover) into a new one"
            ),
            object_key=key,
        )
    if creates and code not in _NOT_APPLIED:
        return OutcomeUnknownError(what, object_key=key)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        what += "; another process holds its lock, find out which and what it waits for"
    return BackendUnavailableError(what, object_key=key)


def _of_the_system(error: OSError, path: str, key: str, what: str) -> AMFSError:
    if isinstance(error, PermissionError):
        return PermissionDeniedError(
            what, hint=f"give this user access to {path!r}", object_key=key
        )
    if isinstance(error, NotADirectoryError):
        return ConfigurationError(
            what, hint="what is above it is not a directory, name another path", object_key=key
        )
    return BackendUnavailableError(what, object_key=key)


def _is_allowed(path: str) -> bool:
    """Whether this user may open the file, or make it where there is none."""
    if os.path.lexists(path):
        return os.access(path, os.R_OK)
    return os.access(os.path.dirname(path), os.W_OK | os.X_OK)


def _is_over_quota(error: sqlite3.Error, path: str) -> bool:
    """Whether a write failed because of a quota. SQLite tells a full disk by its errno and calls
    everything else an error of the disk, so a file beside the store is tried."""
    if error.sqlite_errorcode != sqlite3.SQLITE_IOERR_WRITE:
        return False
    try:
        with tempfile.TemporaryFile(dir=os.path.dirname(path), buffering=0) as tried:
            tried.write(bytes(_TRIED_BYTES))
            os.fsync(tried.fileno())
    except OSError as reason:
        return reason.errno in (errno.EDQUOT, errno.ENOSPC)
    return False


def _is_limited(path: str) -> bool:
    """Whether a file of the store has reached the size that this process may write."""
    try:
        import resource
    except ImportError:  # not on Windows
        return False
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit == resource.RLIM_INFINITY:
        return False
    files = [name for name in (path, f"{path}-wal", f"{path}-shm") if os.path.exists(name)]
    return any(os.path.getsize(name) > limit - 64 * 1024 for name in files)
