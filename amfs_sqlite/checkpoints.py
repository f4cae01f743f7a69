"""Moving the content of the write-ahead log into the file.

SQLite moves it by itself, after a commit and while others write. Until 3.51.3 that had a race which
could lose commits (https://sqlite.org/wal.html, "The WAL-Reset Bug"), and most machines have an
older SQLite. Here this process holds the writers' lock meanwhile, so no other can restart the log
at that moment.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time

from amfs_core.errors import AMFSError
from amfs_sqlite.connections import Connections, FileReplacedError
from amfs_sqlite.database import rows

_BYTES = 4 * 1024 * 1024
"""The approximate length of the log at a checkpoint. SQLite then reuses the log from its beginning,
because overwriting a file costs half as much as extending it."""

_ROW_BYTES = 200  # beside the body: the key, twice
_COMMIT_BYTES = 16 * 1024  # the pages that every commit changes: of the table and its index
_ERASE_SECONDS = 2.0
_PAUSE_SECONDS = 0.005

_log = logging.getLogger("amfs")


class Checkpoints:
    """The checkpoints of one adapter: each process makes one after so many bytes of its own."""

    def __init__(self, connections: Connections, path: str) -> None:
        self._connections = connections
        self._path = path
        self._bytes = 0

    def wrote(self, size: int, objects: int) -> None:
        """Count the bytes of a commit, and make a checkpoint when there are enough. Raises nothing,
        because the commit is safe in the log and the next one tries again."""
        self._bytes += size + objects * _ROW_BYTES + _COMMIT_BYTES
        if self._bytes < _BYTES:
            return
        self._bytes = 0
        if not self._done("FULL"):
            self._bytes = _BYTES // 2  # soon again

    def erase(self) -> None:
        """Empty the log, which still has the old content of rows. Waits for present readers; a
        process that never stops reading keeps the content until the next checkpoint."""
        until = time.monotonic() + _ERASE_SECONDS
        while not self._done("TRUNCATE"):
            if time.monotonic() > until:
                _log.warning(
                    "erased content of %s stays in its -wal until no process reads it", self._path
                )
                return
            time.sleep(_PAUSE_SECONDS)

    def _done(self, how: str) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            ((busy, _, _),) = rows(connection, f"PRAGMA wal_checkpoint({how})")
            return not busy

        failures = (sqlite3.Error, OSError, AMFSError, FileReplacedError)
        with contextlib.suppress(*failures), self._connections.turn:
            return bool(self._connections.run(work))
        return False
