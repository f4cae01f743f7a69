"""Directories that survive a crash of the machine.

A file is durable when it and every directory entry on the way to it have been flushed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from amfs_local.flush import FlushEach

_MAX_KNOWN = 100_000
_ATTEMPTS = 10


class Directories:
    """Makes and flushes directories under a root, and remembers which are known to be durable."""

    def __init__(self, root: str, *, durable: bool) -> None:
        self._root = root
        self._inside = f"{root}{os.sep}"  # what the paths of all directories in it begin with
        self._durable = durable
        self._known: set[str] = set()

    def make(self, path: str) -> None:
        """Make a directory and its parents; every entry is durable when this returns."""
        if path not in self._known:
            self.make_many([path])

    def make_many(self, paths: Iterable[str]) -> None:
        """Do the same for many directories: those with the same parent share its flush."""
        missing = [path for path in dict.fromkeys(paths) if path not in self._known]
        if not missing:
            return
        parents = {path: path.rpartition(os.sep)[0] or os.sep for path in missing}
        # Parents first: nothing is made beyond a link.
        self.make_many(parents[path] for path in missing if path.startswith(self._inside))
        made = [path for path in missing if self._made(path)]
        # Even if the directory existed: the process that made it may not have flushed its entry
        # yet.
        for parent in {parents[path] for path in made}:
            self.flush(parent)
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known.update(path for path in missing if f"{path}{os.sep}".startswith(self._inside))

    def _made(self, path: str) -> bool:
        """Make a directory, absent parents first; False if it is the root or above it and
        existed."""
        for _ in range(_ATTEMPTS):
            try:
                os.mkdir(path)
            except FileNotFoundError:
                self.forget(path)
                self.make(os.path.dirname(path))
            except FileExistsError:
                if not os.path.isdir(path):
                    raise NotADirectoryError(errno.ENOTDIR, "not a directory", path) from None
                inside = path.startswith(self._inside)
                if inside and os.path.islink(path):  # it could lead out of the root
                    raise OSError(errno.ELOOP, "a directory is a symbolic link", path) from None
                return inside  # False for the root, and for what is above it
            else:
                return True
        # Others keep removing it, or its parent takes no directories, as in /proc.
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def flush(self, path: str) -> None:
        """Make every present entry of the directory durable."""
        if not self._durable:
            return
        fd = _opened(path)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def flush_many(self, paths: Iterable[str], flush_each: FlushEach) -> set[str]:
        """Make the entries of many directories durable, several at a time; return the directories
        for which it succeeded."""
        if not self._durable:
            return set(paths)
        opened: dict[int, str] = {}
        try:
            for path in dict.fromkeys(paths):
                try:
                    opened[_opened(path)] = path
                except OSError:
                    continue
            return {opened[fd] for fd in flush_each(list(opened))}
        finally:
            for fd in opened:
                os.close(fd)

    def forget(self, path: str) -> None:
        """Forget a directory that turned out to be gone."""
        while path.startswith(self._root):
            self._known.discard(path)
            path = os.path.dirname(path)


def _opened(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
