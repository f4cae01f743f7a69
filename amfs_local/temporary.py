"""Files on their way to their names: complete and flushed before anyone can see them.

Where the file system can (`O_TMPFILE` of Linux: ext4, XFS, Btrfs, tmpfs), a file has no name until
it is linked to its final one, so a crash leaves nothing behind. Elsewhere, and to write over an
object, it has a temporary name in a directory of the root. A writer holds an advisory lock on such
a file while it lives, and the kernel drops the lock with the process: that is how the next writer
tells the file of a crashed process from one in use. Removing one in use by mistake would lose
nothing: naming it fails, and its writer writes it again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from amfs_core import fork
from amfs_local.flush import FlushEach
from amfs_local.root import Root

DIRECTORY = ".amfs-tmp"
"""The directory of temporary files, under the root. No escaped name begins with a dot, so it never
holds an object."""

_NO_UNNAMED_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS)
_NO_LINKS = (
    *(errno.EPERM, errno.EACCES, errno.EMLINK, errno.EINVAL, errno.ENOSYS, errno.EXDEV),
    *(errno.EOPNOTSUPP, errno.ENOTSUP),
)
"""The errors of `link` where there are no hard links; file systems do not agree (link(2))."""

_NOT_LINKED = (
    *_NO_LINKS,
    *(errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EILSEQ),
)
"""After these errors the file has no name. After others, such as EIO and ETIMEDOUT of a network
file system or EINTR of an interruptible one, it may have: the request may have succeeded."""

_ATTEMPTS = 100
_SELDOM = 1.0
"""Seconds between two looks for leftovers where files have no temporary names: then only an erasure
that was killed leaves one."""


class NoHardLinksError(OSError):
    """The file system cannot give a file a second name."""


class UnknownLinkError(OSError):
    """The file may or may not have its name: another machine or a broken disk does not say."""


class Scratch:
    """Writes the files of one adapter and gives them their names."""

    def __init__(self, root: Root, *, durable: bool) -> None:
        self._root = root
        self._directory = os.path.join(root.path, DIRECTORY)
        self._durable = durable
        self._unnamed = hasattr(os, "O_TMPFILE") and os.path.isdir("/proc/self/fd")
        self._looked = -_SELDOM
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        """Use names of its own in a forked child."""
        self._owner = uuid.uuid4().hex

    def link(self, data: bytes, path: str) -> None:
        """Make `path` a new file that holds `data`; `FileExistsError` when it is taken."""
        if not self._unnamed or time.monotonic() - self._looked > _SELDOM:
            self._remove_leftovers()
        failed: OSError | None = None
        if self._unnamed:
            try:
                fd = self._unnamed_file(data, path)
                try:
                    if self._durable:
                        os.fsync(fd)
                    _name(fd, path)
                    return
                finally:
                    os.close(fd)
            except OSError as error:
                # A sandbox may refuse a link through /proc but allow the same link by a name.
                if error.errno not in (*_NO_UNNAMED_FILES, *_NO_LINKS):
                    raise
                failed = error
        with self._named(data) as temporary:
            self._root.require_directory(os.path.dirname(path))
            try:
                _link(temporary, path)
            except OSError as error:
                if error.errno in _NO_LINKS and _takes_files(os.path.dirname(path)):
                    raise NoHardLinksError(error.errno, error.strerror, path) from error
                raise
        if failed is not None:  # the link by name succeeded, so permissions are not the reason
            self._unnamed = False

    def link_many(self, files: Mapping[str, bytes], flush_each: FlushEach) -> list[str]:
        """Do the same for many files, and return the paths of those that were made. The caller
        tries the others again with `link`."""
        if not self._unnamed:
            return []
        self._remove_leftovers()
        opened: dict[int, str] = {}
        linked: list[str] = []
        try:
            for path, data in files.items():
                try:
                    opened[self._unnamed_file(data, path)] = path
                except OSError:
                    continue
            for fd in flush_each(list(opened)):
                try:
                    _name(fd, opened[fd])
                except OSError:
                    continue
                linked.append(opened[fd])
            return linked
        finally:
            for fd in opened:
                os.close(fd)

    def rename(self, data: bytes, path: str) -> None:
        """Make `path` a file that holds `data`, in place of an existing one."""
        self._remove_leftovers()
        with self._named(data) as temporary:
            self._root.require_directory(os.path.dirname(path))
            os.rename(temporary, path)
        with contextlib.suppress(OSError):  # others may be using it; then it stays
            os.rmdir(self._directory)

    def _unnamed_file(self, data: bytes, path: str) -> int:
        """Return a new file that holds `data`, in the directory where `path` is to be."""
        directory = path.rpartition(os.sep)[0]
        flags = os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC
        fd = os.open(directory, flags, 0o666)  # less the umask, as any file is
        try:
            self._root.require_unnamed(fd, directory)
            _fill(fd, data)
        except BaseException:
            os.close(fd)
            raise
        return fd

    @contextlib.contextmanager
    def _named(self, data: bytes) -> Iterator[str]:
        """Give the path of a temporary file that holds `data`, and remove that name at the end."""
        path = os.path.join(self._directory, f"{self._owner}-{uuid.uuid4().hex}")
        fd = self._create(path)
        try:
            # Only a cleaner can hold the lock; it is about to remove the file.
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _fill(fd, data)
            if self._durable:
                os.fsync(fd)
            yield path
        finally:
            with contextlib.suppress(OSError):  # then a later writer removes it
                os.unlink(path)
            os.close(fd)

    def _create(self, path: str) -> int:
        for _ in range(_ATTEMPTS):
            try:
                return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            except FileNotFoundError:  # the directory does not exist yet, or no longer
                with contextlib.suppress(FileExistsError):  # made and removed by others
                    os.makedirs(self._directory, exist_ok=True)
        raise FileNotFoundError(errno.ENOENT, "it is removed again and again", self._directory)

    def _remove_leftovers(self) -> None:
        """Remove the files of dead processes. Costs one look when there are none."""
        self._looked = time.monotonic()
        if not os.access(self._directory, os.F_OK):  # nearly always absent, and raising is slower
            return
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return
        for name in names:
            if not name.startswith(self._owner):
                _remove_if_abandoned(os.path.join(self._directory, name))


def _fill(fd: int, data: bytes) -> None:
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])


def _name(fd: int, path: str) -> None:
    # With a directory fd os.link is linkat(2), which follows the link of /proc.
    _link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)


def _link(source: str, path: str, **options: Any) -> None:
    try:
        os.link(source, path, **options)
    except OSError as error:
        if error.errno in _NOT_LINKED:
            raise
        raise UnknownLinkError(error.errno, error.strerror, path) from error


def _takes_files(directory: str) -> bool:
    """True when this user may make a file in a directory: then it was the file system that refused
    the link."""
    path = os.path.join(directory, f".amfs-{uuid.uuid4().hex}")
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        os.unlink(path)
    except OSError:
        return False
    return True


def _remove_if_abandoned(path: str) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # gone already, or this user may not open it
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except OSError:  # its writer is alive, or another cleaner was quicker
        pass
    finally:
        os.close(fd)
