"""Temporary files: on the file system of the root, never listed, and gone after a crash.

A writer holds an advisory lock on its temporary file while it lives; the kernel drops the lock with
the process. So the next writer can tell a crashed process's file from one in use. Removing a file
in use by mistake would lose nothing: its `link` fails and the writer writes it again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator

from amfs_core import fork

DIRECTORY = ".amfs-tmp"
"""Under the root. No escaped name begins with a dot, so no object is ever in it."""


class Scratch:
    """The temporary files of one adapter."""

    def __init__(self, root: str, *, durable: bool) -> None:
        self._directory = os.path.join(root, DIRECTORY)
        self._durable = durable
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        """Take names of its own in a forked child."""
        self._owner = uuid.uuid4().hex

    @contextlib.contextmanager
    def file(self, data: bytes) -> Iterator[str]:
        """Give the path of a file that holds `data`, flushed; it is removed at the end."""
        self._remove_leftovers()
        path = os.path.join(self._directory, f"{self._owner}-{uuid.uuid4().hex}")
        fd = self._open(path)
        try:
            # Another kernel lock on a file this new is a cleaner's, which is about to remove it.
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(fd, rest) :]
            if self._durable:
                os.fsync(fd)
            yield path
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            os.close(fd)

    def _open(self, path: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o666)  # less the umask, as for any file of the user's
        except FileNotFoundError:
            os.makedirs(self._directory, exist_ok=True)
            return os.open(path, flags, 0o666)

    def _remove_leftovers(self) -> None:
        """Remove the files of processes that are gone. Costs one look when there are none."""
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return
        for name in names:
            if not name.startswith(self._owner):
                self._remove_if_abandoned(os.path.join(self._directory, name))

    def _remove_if_abandoned(self, path: str) -> None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:  # gone already, or not ours to open
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
        except OSError:  # its writer lives, or another cleaner was quicker
            pass
        finally:
            os.close(fd)
