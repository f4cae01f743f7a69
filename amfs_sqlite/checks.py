"""The checks of `amfs doctor` for a file.

They only read the store. Everything else is tried in a scratch store in a directory beside it,
which is removed: on the same disk, with the same permissions.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from amfs_core.doctor import (
    LITTLE_SPACE,
    Check,
    Diagnosis,
    Trial,
    lasting,
    ok,
    problem,
    size_text,
    warning,
)
from amfs_core.mounts import mount_of

if TYPE_CHECKING:
    from amfs_sqlite.adapter import SqliteAdapter

_NO_PERMISSION = (errno.EACCES, errno.EPERM, errno.EROFS)
_BESIDE = ("-wal", "-shm")


class SqliteChecks:
    """The checks of one adapter. `open_store` opens a similar one with the given file."""

    def __init__(self, store: SqliteAdapter, open_store: Callable[[str], SqliteAdapter]) -> None:
        self._store = store
        self._path = store.path
        self._open_store = open_store
        self._directory = os.path.dirname(store.path)
        self._scratch = os.path.join(self._directory, f".amfs-doctor-{uuid.uuid4().hex}")

    def all(self) -> Iterator[Check]:
        """Yield the checks in order."""
        tried = self._open_store(os.path.join(self._scratch, "store.db"))
        try:
            yield Check("root", self._find_directory)
            yield Check("file", self._find_file, ("root",))
            yield Check("file system", self._find_file_system, ("root",))
            yield Check("space", self._measure_space, ("root",))
            yield Check("SQLite", _find_library)
            yield Check("writing", self._make_scratch, ("root", "file"))
            # Without a scratch store only reading can be tried, and that on the store itself.
            yield from Trial(self._readable(tried), "", ("root", "file"), ("writing",)).checks()
        finally:
            tried.close()
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _readable(self, tried: SqliteAdapter) -> SqliteAdapter:
        return tried if os.path.isdir(self._scratch) else self._store

    def _find_directory(self) -> Diagnosis:
        if os.path.isdir(self._directory):
            return ok(f"{self._directory} is there")
        return problem(
            f"{self._directory} is not a directory", "make it, or name another path for the store"
        )

    def _find_file(self) -> Diagnosis:
        self._store.look()  # raises what is wrong with it
        if not os.path.exists(self._path):
            return ok(f"{self._path} is not there yet; the first write makes it")
        status = os.stat(self._path)
        finding = f"{self._path}: a store of {size_text(status.st_size)}"
        if status.st_nlink > 1:
            return warning(
                f"{finding}, with {status.st_nlink} names (hard links): SQLite keeps a log for "
                "each, and what is written through one name is lost for the others",
                "leave it one name; for a second one use a symbolic link",
            )
        for name in _BESIDE:
            if os.path.exists(self._path + name) and not os.access(self._path + name, os.R_OK):
                return problem(f"{self._path}{name} may not be read", "give this user access to it")
        return ok(finding)

    def _find_file_system(self) -> Diagnosis:
        mount = mount_of(self._directory)
        if mount is None:
            return ok("this system does not tell its type")
        if mount.is_network:
            finding = f"{mount.kind}, mounted at {mount.place}"
            return problem(
                f"{finding}: machines share no memory, in which SQLite's write-ahead log has its "
                "locks, and would write over each other",
                "keep the file on a disk of one machine; use a bucket for several",
            )
        return lasting(mount)

    def _measure_space(self) -> Diagnosis:
        status = os.statvfs(self._directory)
        free = status.f_bavail * status.f_frsize
        finding = f"{size_text(free)} free"
        if not free:
            return problem(f"{finding}: nothing can be written", "free some, or use another disk")
        if free < LITTLE_SPACE:
            return warning(finding, "free some; all versions are kept")
        return ok(finding)

    def _make_scratch(self) -> Diagnosis:
        hint = "give this user write access to the file and its directory, or name another path"
        try:
            os.mkdir(self._scratch, 0o700)
        except OSError as error:
            if error.errno not in _NO_PERMISSION:
                return problem(
                    f"nothing can be written in {self._directory} ({error.strerror})",
                    "see what the disk or its quota says",
                )
            finding = f"{self._directory} may not be written ({error.strerror})"
            if not os.path.exists(self._path):  # so there is nothing to read either
                return problem(finding, hint)
            return warning(f"this store may only be read: {finding}", hint, blocks=True)
        if os.path.exists(self._path) and not os.access(self._path, os.W_OK):
            finding = f"this store may only be read: {self._path} may not be written"
            return warning(finding, hint, blocks=True)
        return ok(f"files can be made in {self._directory}")


def _find_library() -> Diagnosis:
    return ok(f"version {sqlite3.sqlite_version}")
