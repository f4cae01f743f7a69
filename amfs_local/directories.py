"""Directories that survive a crash of the machine.

A file is durable when it and every directory entry on the way to it have been flushed. Writers that
flush the same directory at the same moment share one flush.
"""

from __future__ import annotations

import errno
import os
import threading

from amfs_core import fork

_MAX_KNOWN = 100_000
_ATTEMPTS = 10


class _Flush:
    """The flushing of one directory: at most one runs, and those who come meanwhile share the next.

    A flush covers what was linked before it began, so a writer may not join one that runs.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.begun = 0  # flushes begun so far
        self.users = 0


class Directories:
    """Makes and flushes the directories under a root, remembering which are known to be durable."""

    def __init__(self, root: str, *, durable: bool) -> None:
        self._root = root
        self._durable = durable
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        """Start anew in a forked child: flushes that were under way there are not ours."""
        self._lock = threading.Lock()
        self._known: set[str] = set()
        self._flushes: dict[str, _Flush] = {}

    def make(self, path: str) -> None:
        """Make a directory and its parents, each entry durable before this returns."""
        if path in self._known:
            return
        inside = path.startswith(f"{self._root}{os.sep}")
        if inside:
            self.make(os.path.dirname(path))  # first: nothing is made beyond a link
        try:
            self._mkdir(path)
        except FileExistsError:
            if not os.path.isdir(path):
                raise NotADirectoryError(errno.ENOTDIR, "not a directory", path) from None
            if inside and os.path.islink(path):  # it may lead out of the root
                raise OSError(errno.ELOOP, "a directory is a symbolic link", path) from None
            if not inside:  # the root and what is above it were there before
                if path == self._root:
                    self._remember(path)
                return
        if self._durable:
            # Also when it was there already: its maker may not have flushed its entry yet.
            self.flush(os.path.dirname(path))
        if inside:
            self._remember(path)

    def _mkdir(self, path: str) -> None:
        """Make a directory, its parents first where they are absent."""
        for _ in range(_ATTEMPTS):
            try:
                return os.mkdir(path)
            except FileNotFoundError:
                self.forget(path)
                self.make(os.path.dirname(path))
        # Removed again and again; or its parent is there and takes no directories, as in /proc.
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def flush(self, path: str) -> None:
        """Make durable every entry that is in the directory now."""
        if not self._durable:
            return
        with self._lock:
            flush = self._flushes.get(path) or self._flushes.setdefault(path, _Flush())
            flush.users += 1
            seen = flush.begun
        try:
            with flush.lock:
                if flush.begun <= seen:  # no flush began after we came, so this one is ours
                    flush.begun += 1
                    try:
                        _fsync(path)
                    except OSError:
                        flush.begun -= 1  # it served nobody: each waiter flushes for itself
                        raise
        finally:
            with self._lock:
                flush.users -= 1
                if not flush.users:
                    self._flushes.pop(path, None)

    def forget(self, path: str) -> None:
        """Forget a directory that turned out to be gone."""
        while path.startswith(self._root):
            self._known.discard(path)
            path = os.path.dirname(path)

    def _remember(self, path: str) -> None:
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known.add(path)


def _fsync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
