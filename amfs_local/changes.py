"""The change log of a directory: one file that writers append to and readers follow.

`docs/design/changes.md` says what goes wrong without each step.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
import zlib
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

from amfs_core.mounts import mount_of

DIRECTORY = ".amfs-changes"
"""The log's directory, beside the objects. No escaped name begins with a dot, so it never holds an
object."""

LANDING_SECONDS = 10.0
"""A line announces a version that lands at most this many seconds later; after that, the writer
appends another."""

WINDOW_SECONDS = 60.0
"""For this many seconds a reader looks again for the version that a line announces."""

MOST_BYTES = 32 * 1024 * 1024
"""A writer removes a log longer than this; then every reader lists once."""

_LOCAL = frozenset(
    ("ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "ramfs", "overlay", "zfs", "f2fs", "bcachefs")
)
_MAGIC = b"amfs-changes 1"
_HEADER_BYTES = 128
_CHECKED_BYTES = 64
_BLOCK = 1024 * 1024
_ATTEMPTS = 10
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class _Header(NamedTuple):
    token: str
    size: int


class _Line(NamedTuple):
    offset: int
    stamp: int
    key: str


class UnpostedError(OSError):
    """A log that readers may follow can be neither appended to nor removed."""


class Notice:
    """Lines that were appended. The log stays open, so that no other file gets its inode number."""

    __slots__ = ("fd", "inode", "stamp")

    def __init__(self, fd: int, stamp: int) -> None:
        self.fd = fd
        self.stamp = stamp
        self.inode = _inode(os.fstat(fd))

    def close(self) -> None:
        """Close the log."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


class Notices:
    """The writer's side of the log. `base` is the directory of the store, with a slash."""

    def __init__(self, base: str) -> None:
        self._path = _path(base)

    def post(self, keys: Iterable[str]) -> Notice | None:
        """Append a line for each key that may soon be created; None when nobody follows a log.

        A log that cannot be appended to is removed, so that nobody relies on it. `OSError` if it
        cannot be removed either.
        """
        path = self._path
        if path is None:
            return None
        try:
            fd = os.open(path, _APPEND)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self._remove(error)
            return None
        try:
            notice = Notice(fd, _now())
        except BaseException:
            os.close(fd)
            raise
        try:
            data = b"".join(_line(notice.stamp, key) for key in keys)
            if os.write(fd, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            if os.fstat(fd).st_size > MOST_BYTES:
                self._remove(OSError(errno.EFBIG, os.strerror(errno.EFBIG), path))
        except OSError as error:
            notice.close()
            self._remove(error)
            return None
        except BaseException:
            notice.close()
            raise
        return notice

    def confirm(self, notice: Notice | None, keys: Iterable[str]) -> None:
        """Make sure that the log that readers follow now has lines for the created keys, none older
        than `LANDING_SECONDS`. Closes the notice."""
        path = self._path
        if path is None:
            return
        try:
            while True:
                try:
                    current = _inode(os.stat(path, follow_symlinks=False))
                except (FileNotFoundError, NotADirectoryError):
                    return
                if notice is not None:
                    if notice.inode == current and _now() - notice.stamp <= LANDING_SECONDS * 1000:
                        return
                    notice.close()
                notice = self.post(keys)
                if notice is None:
                    return
        finally:
            if notice is not None:
                notice.close()

    def _remove(self, reason: OSError) -> None:
        try:
            os.unlink(self._path or "")
        except FileNotFoundError:
            return
        except OSError:
            raise UnpostedError(reason.errno, reason.strerror, self._path) from reason


class DirectoryLog:
    """The reader's side, a `ChangeLog`. `base` is the directory of the store, with a slash."""

    audit = 60.0

    def __init__(self, base: str) -> None:
        self._base = base
        self._path = _path(base)

    def position(self, *, make: bool) -> str | None:
        """Return the end of the log, with the lines whose objects may still appear.

        Logs from before the last boot are removed: nobody follows them any more.
        """
        if self._path is None or not _is_local(self._base):
            return None
        with contextlib.suppress(OSError):
            self._remove_others(os.path.dirname(self._path))
        for _ in range(_ATTEMPTS):
            try:
                fd = os.open(self._path, _READ)
            except (FileNotFoundError, NotADirectoryError):
                if make and self._make():
                    continue
                return None
            except OSError:
                return None
            try:
                header = _header(fd)
                if header is not None:
                    end = _end(fd, header)
                    waiting = [line.offset for line in self._recent(fd, header, end)]
                    return self._text(fd, header, end, waiting)
            except OSError:
                return None
            finally:
                os.close(fd)
            if not make or not self._discard():  # it is damaged, or was copied from elsewhere
                return None
        return None

    def since(self, position: str) -> tuple[str, list[str]] | None:
        """Return where the log ends now, and the keys of its lines since a position."""
        if self._path is None:
            return None
        try:
            fd = os.open(self._path, _READ)
        except OSError:
            return None
        try:
            return self._since(fd, position)
        except (OSError, ValueError):
            return None
        finally:
            os.close(fd)

    def _since(self, fd: int, position: str) -> tuple[str, list[str]] | None:
        token, at, check, *offsets = position.split(".")
        start = int(at)
        header = _header(fd)
        if header is None or header.token != token or _check(fd, header, start) != check:
            return None
        lines = [line for offset in offsets for line in self._at(fd, int(offset))]
        end = _end(fd, header)
        lines += _lines(fd, start, end)
        keys: list[str] = []
        waiting: list[int] = []
        oldest = _now() - WINDOW_SECONDS * 1000
        for line in lines:
            if self._is_there(line.key):
                keys.append(line.key)
            elif line.stamp >= oldest:
                waiting.append(line.offset)
        return self._text(fd, header, end, waiting), keys

    def _at(self, fd: int, offset: int) -> list[_Line]:
        """Return the line at an offset."""
        text = os.pread(fd, 4096, offset).split(b"\n", 1)[0]
        line = _parsed(text, offset)
        return [] if line is None else [line]

    def _recent(self, fd: int, header: _Header, end: int) -> Iterator[_Line]:
        """Yield the lines of the last minute that have no object."""
        oldest = _now() - WINDOW_SECONDS * 1000
        block = _BLOCK
        while True:  # back to a line that is old enough, or to the beginning
            start = max(header.size, end - block)
            lines = list(_lines(fd, start, end))
            if start == header.size or any(line.stamp < oldest for line in lines):
                break
            block *= 4
        for line in lines:
            if line.stamp >= oldest and not self._is_there(line.key):
                yield line

    def _is_there(self, key: str) -> bool:
        return os.access(f"{self._base}{key}", os.F_OK)

    @staticmethod
    def _text(fd: int, header: _Header, end: int, waiting: Iterable[int]) -> str:
        return ".".join([header.token, str(end), _check(fd, header, end), *map(str, waiting)])

    def _make(self) -> bool:
        """Make an empty log if there is a store and this user may; True when a log exists now."""
        assert self._path is not None
        directory = os.path.dirname(self._path)
        temporary = os.path.join(directory, f"new-{secrets.token_hex(8)}")
        try:
            store = os.stat(self._base)
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory)
            try:
                _share(directory, store, 0o7777)
                fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            except OSError:
                os.rmdir(directory)
                raise
            try:
                _share(temporary, store, 0o666)
                token = secrets.token_hex(8).encode()
                os.write(fd, b"%b %b %d %d\n" % (_MAGIC, token, *_inode(os.fstat(fd))))
                with contextlib.suppress(FileExistsError):
                    os.link(temporary, self._path)
            finally:
                os.close(fd)
                os.unlink(temporary)
        except OSError:
            return False
        return True

    def _remove_others(self, directory: str) -> None:
        """Remove logs from before the last boot, and what a killed process left."""
        for name in os.listdir(directory):
            if name != os.path.basename(self._path or ""):
                with contextlib.suppress(OSError):
                    path = os.path.join(directory, name)
                    if not name.startswith("new-") or time.time() - os.stat(path).st_mtime > 60:
                        os.unlink(path)

    def _discard(self) -> bool:
        try:
            os.unlink(self._path or "")
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True


def _path(base: str) -> str | None:
    """Return the path of a store's log; None on a system without an identifier of the boot."""
    boot = _boot()
    return None if boot is None else f"{base}{DIRECTORY}/{boot}"


@cache
def _boot() -> str | None:
    """Return the identifier of this boot (random(4)); None where there is none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read().decode().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _is_local(path: str) -> bool:
    """True on a file system of a kind that only one machine uses."""
    mount = mount_of(path)
    return mount is not None and mount.kind in _LOCAL


def _now() -> int:
    """Return milliseconds of a clock that also runs while the machine sleeps."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * 1000)


def _inode(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _share(path: str, store: os.stat_result, bits: int) -> None:
    """Let the writers of the store write here too; `OSError` if that is not possible."""
    status = os.stat(path)
    if store.st_mode & stat.S_IWGRP and status.st_gid != store.st_gid:
        os.chown(path, -1, store.st_gid)
    mode = stat.S_IMODE(status.st_mode)
    if wider := store.st_mode & bits & ~mode:
        os.chmod(path, mode | wider)


def _line(stamp: int, key: str) -> bytes:
    """Return a line between two line ends, so that a cut-off line before it does no harm."""
    text = b"%d %b" % (stamp, key.encode())
    return b"\n%08x %b\n" % (zlib.crc32(text), text)


def _parsed(text: bytes, offset: int) -> _Line | None:
    check, _, rest = text.partition(b" ")
    stamp, _, key = rest.partition(b" ")
    try:
        if int(check, 16) != zlib.crc32(rest):
            return None
        name = key.decode()
        if "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
            return None
        return _Line(offset, int(stamp), name)
    except ValueError:
        return None


def _lines(fd: int, start: int, end: int) -> Iterator[_Line]:
    """Yield the whole lines between two offsets that are beginnings or ends of lines."""
    rest, at = b"", start
    while at < end:
        block = os.pread(fd, min(_BLOCK, end - at), at)
        if not block:
            return
        offset = at - len(rest)
        at += len(block)
        *texts, rest = (rest + block).split(b"\n")
        for text in texts:
            line = _parsed(text, offset) if text else None
            if line is not None:
                yield line
            offset += len(text) + 1


def _end(fd: int, header: _Header) -> int:
    """Return the offset after the last whole line."""
    size = os.fstat(fd).st_size
    while size > header.size:
        start = max(header.size, size - 4096)
        newline = os.pread(fd, size - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        size = start
    return header.size


def _header(fd: int) -> _Header | None:
    """Return the content of the first line; None unless it is the line of a log in this file."""
    first, newline, _ = os.pread(fd, _HEADER_BYTES, 0).partition(b"\n")
    device, inode = _inode(os.fstat(fd))
    words = first.split(b" ")
    if not newline or len(words) != 5 or b" ".join(words[:2]) != _MAGIC:
        return None
    if words[3:] != [b"%d" % device, b"%d" % inode]:
        return None
    return _Header(words[2].decode("ascii", "replace"), len(first) + 1)


def _check(fd: int, header: _Header, end: int) -> str:
    """Return a checksum of the bytes before an offset; of nothing if the log is shorter."""
    start = max(0, end - _CHECKED_BYTES)
    data = os.pread(fd, end - start, start)
    return f"{zlib.crc32(data):08x}" if len(data) == end - start else ""
