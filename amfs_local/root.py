"""The root of a store. It may be a symbolic link, or lie below one; nothing inside it may."""

from __future__ import annotations

import errno
import os

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Root:
    """Tells whether a file or directory is where its path says, or was reached through a link below
    the root.

    The kernel knows the path of an open file (`/proc/self/fd`, 1 µs). Where there is no /proc, or
    the path differs because the root was moved or the file replaced meanwhile, every step of the
    path is looked at.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._length = len(path.rstrip(os.sep))
        self._real = self._resolved()

    def require_file(self, fd: int, path: str) -> None:
        """Raise ELOOP if a link below the root led to the file that is open as `fd`."""
        if _way(fd) != self._real + path[self._length :]:
            self._walk(path)

    def require_unnamed(self, fd: int, directory: str) -> None:
        """Raise ELOOP if a link below the root led to the directory of a file without a name."""
        if _way(fd).rpartition(os.sep)[0] != self._real + directory[self._length :]:
            self._walk(directory)

    def require_directory(self, path: str) -> None:
        """Raise ELOOP if a link below the root is on the way to a directory, which need not
        exist."""
        path = path.rstrip(os.sep) or os.sep
        try:
            fd = os.open(path, _DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return self._walk(path)
        try:
            self.require_file(fd, path)
        finally:
            os.close(fd)

    def _walk(self, path: str) -> None:
        self._real = self._resolved()  # the root may have been moved
        if os.path.realpath(path) != os.path.normpath(self._real + path[self._length :]):
            raise OSError(errno.ELOOP, "a directory on the way to it is a symbolic link", path)

    def _resolved(self) -> str:
        return os.path.realpath(self.path).rstrip(os.sep)


def _way(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:  # no /proc: not Linux, or a bare container
        return ""
