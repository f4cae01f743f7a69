"""The kernel's requests to a file system, answered from a memory: see `docs/design/mount.md`."""

from __future__ import annotations

import errno
import itertools
import os
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import mfusepy

from amfs import AgentMemory
from amfs_agents.files import content
from amfs_agents.mount import history
from amfs_agents.mount.draft import Draft
from amfs_agents.mount.drafts import Drafts
from amfs_agents.mount.failures import answered
from amfs_agents.mount.names import (
    HISTORY,
    Histories,
    History,
    Name,
    Place,
    Root,
    Version,
    hidden_directory,
    name_of,
    place_of,
)
from amfs_agents.mount.rescue import Rescue
from amfs_agents.mount.tree import Tree
from amfs_core.errors import InvalidKeyError

_BLOCK = 4096
_PLENTY = 2**28  # blocks: the room in a store is unknown
_NO_REPLACE = 1  # RENAME_NOREPLACE of renameat2(2)

Attributes = dict[str, int]


@dataclass(frozen=True, slots=True)
class _Open:
    """An open file: a version, which never changes, or a draft."""

    path: str
    data: bytes = b""
    draft: Draft | None = None
    is_writer: bool = False
    appends: bool = False


class Operations(mfusepy.Operations):  # type: ignore[misc]  # mfusepy has no types for others
    """The memories of a namespace as files.

    `writes` is whether files may be written; `max_age` is how old attributes may be, in seconds;
    `mounted` is called when the kernel asks for the first time.
    """

    use_ns = True  # times in nanoseconds
    flag_nopath = flag_nullpath_ok = True  # removed files can still be read and written

    def __init__(
        self,
        memory: AgentMemory,
        *,
        writes: bool,
        max_age: float,
        rescue: Rescue,
        mounted: Callable[[], None],
    ) -> None:
        self._memory = memory
        self._writes = writes
        self._mounted = mounted
        self._tree = Tree(memory, max_age)
        self._drafts = Drafts(memory, self._tree, rescue)
        self._largest = memory.engine.versions.max_value_bytes
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._open: dict[int, _Open] = {}
        self._directories: dict[int, str] = {}
        self._began = time.time_ns()

    def init(self, path: str) -> None:
        """Say that the mount is there."""
        self._mounted()

    def destroy(self, path: str) -> None:
        """Store what is still open for writing."""
        self._drafts.close_all()

    def path_of(self, number: int) -> str:
        """Return the path by which a file or directory was opened, given only its number."""
        file = self._open.get(number)
        return self._directories.get(number, "?") if file is None else file.path

    # -- looking -----------------------------------------------------------------------------

    @answered
    def getattr(self, path: str | None, fh: int | None = None) -> Attributes:
        """Return the attributes of a file or directory."""
        if fh is not None and (file := self._open.get(fh)) is not None and path is None:
            return self._file(_size(file), self._began)
        place = _place(path or "/")
        try:
            return self._attributes(place)
        except InvalidKeyError:  # an invalid name does not exist
            raise _absent() from None

    def opendir(self, path: str) -> int:
        """Open a directory."""
        with self._lock:
            number = next(self._numbers)
            self._directories[number] = path  # readdir does not get it
        return number

    def releasedir(self, path: str | None, fh: int) -> int:
        """Close a directory."""
        with self._lock:
            del self._directories[fh]
        return 0

    @answered
    def readdir(self, path: str | None, fh: int) -> list[tuple[str, int, int]]:
        """List a directory."""
        place = _place(self._directories[fh])
        if isinstance(place, Root | Name):
            names = self._listed(place.path)
        elif isinstance(place, Histories):
            names = {name_of(key): stat.S_IFDIR for key in self._tree.list(place.directory)[0]}
        elif isinstance(place, History):
            listed = history.names(self._memory, place.directory, place.key)
            names = dict.fromkeys(listed, stat.S_IFREG)
        else:
            raise OSError(errno.ENOTDIR, "a version is a file")
        everything = {".": stat.S_IFDIR, "..": stat.S_IFDIR, **names}
        return [(name, mode, 0) for name, mode in everything.items()]

    def statfs(self, path: str) -> dict[str, int]:
        """Report free space, and the longest name."""
        return {
            "f_bsize": _BLOCK,
            "f_frsize": _BLOCK,
            "f_blocks": _PLENTY,
            "f_bfree": _PLENTY,
            "f_bavail": _PLENTY,
            "f_namemax": 255,
        }

    # -- files -------------------------------------------------------------------------------

    @answered
    def open(self, path: str, flags: int) -> int:
        """Open an existing file."""
        place = _place(path)
        if isinstance(place, Version):
            _require(not _is_for_writing(flags), errno.EROFS)
            record = history.record(self._memory, place)
            if record is None:
                raise _absent()
            return self._opened(_Open(path, record.data))
        name = _named(place)
        if _is_for_writing(flags):
            return self._write_on(path, name, flags)
        draft = self._drafts.find(name)
        if draft is not None and not draft.is_stored:
            return self._opened(_Open(path, draft=draft))
        entry = self._tree.read(name)
        if entry is None:
            raise _absent()
        return self._opened(_Open(path, content(entry.value)))

    @answered
    def create(self, path: str, mode: int, flags: int) -> int:
        """Make a file and open it."""
        return self._write_on(path, self._changed(path), flags | os.O_CREAT)

    @answered
    def read(self, path: str | None, size: int, offset: int, fh: int) -> bytes:
        """Read a part of an open file."""
        file = self._open[fh]
        if file.draft is None:
            return file.data[offset : offset + size]
        with file.draft.lock:
            return bytes(file.draft.data[offset : offset + size])

    @answered
    def write(self, path: str | None, data: bytes, offset: int, fh: int) -> int:
        """Write to an open file."""
        file = self._open[fh]
        if file.draft is None or not file.is_writer:
            raise OSError(errno.EBADF, "it is open for reading")
        end = len(file.draft.data) if file.appends else offset
        _require(end + len(data) <= self._largest, errno.EFBIG)
        file.draft.write(data, None if file.appends else offset)
        return len(data)

    @answered
    def truncate(self, path: str | None, length: int, fh: int | None = None) -> int:
        """Truncate or extend a file."""
        _require(length <= self._largest, errno.EFBIG)
        file = None if fh is None else self._open.get(fh)
        if file is not None and file.draft is not None:
            file.draft.truncate(length)
        else:
            self._drafts.truncate(self._changed(path or "/"), length)
        return 0

    @answered
    def flush(self, path: str | None, fh: int) -> int:
        """Store the content: a process closes the file and learns whether it is stored."""
        file = self._open[fh]
        if file.draft is not None and file.is_writer:
            self._drafts.store(file.draft, even_if_empty=False)
        return 0

    @answered
    def fsync(self, path: str | None, datasync: int, fh: int) -> int:
        """Store the content, even of an empty file."""
        file = self._open[fh]
        if file.draft is not None and file.is_writer:
            self._drafts.store(file.draft, even_if_empty=True)
        return 0

    @answered
    def release(self, path: str | None, fh: int) -> int:
        """Release a file that nobody has open."""
        with self._lock:
            file = self._open.pop(fh)
        if file.draft is not None and file.is_writer:
            self._drafts.close(file.draft)
        return 0

    # -- changing what is there --------------------------------------------------------------

    @answered
    def unlink(self, path: str) -> int:
        """Remove a file."""
        self._drafts.remove(self._changed(path))
        return 0

    @answered
    def rename(self, old: str, new: str, flags: int = 0) -> int:
        """Rename a file."""
        _require(flags in (0, _NO_REPLACE), errno.EINVAL)
        self._require_writing()
        if stat.S_ISDIR(self._attributes(_place(old))["st_mode"]):
            raise OSError(errno.EXDEV, "a directory is moved file by file")
        source, target = self._changed(old), self._changed(new)
        if source != target:
            self._drafts.rename(source, target, replaces=not flags)
        return 0

    @answered
    def mkdir(self, path: str, mode: int) -> int:
        """Make a directory, which only this mount has until something is in it."""
        self._require_writing()
        place = _place(path, errno.EINVAL)
        _require(isinstance(place, Name), errno.EPERM)
        assert isinstance(place, Name)
        self._tree.list(place.path)  # refuses an invalid name
        self._tree.make(place.path)
        return 0

    @answered
    def rmdir(self, path: str) -> int:
        """Remove an empty directory."""
        self._require_writing()
        place = _place(path)
        _require(isinstance(place, Name), errno.EPERM)
        assert isinstance(place, Name)
        _require(not self._listed(place.path), errno.ENOTEMPTY)
        if not self._tree.remove(place.path):
            raise _absent()
        return 0

    def chmod(self, path: str, mode: int) -> int:
        """Do nothing: a memory has no mode."""
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        """Do nothing: a memory has no owner."""
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        """Do nothing: the time of a version is when it was written."""
        return 0

    def link(self, target: str, source: str) -> int:
        """Refuse: there are no links."""
        raise OSError(errno.EPERM, "there are no links")

    def symlink(self, target: str, source: str) -> int:
        """Refuse: there are no links."""
        raise OSError(errno.EPERM, "there are no links")

    # -- in terms of memories ----------------------------------------------------------------

    def _attributes(self, place: Place) -> Attributes:
        match place:
            case Root():
                return self._directory()
            case Histories():
                _require(self._tree.is_directory(place.directory), errno.ENOENT)
                return self._directory(is_writable=False)
            case History():
                there = history.exists(self._memory, place.directory, place.key)
                _require(there, errno.ENOENT)
                return self._directory(is_writable=False)
            case Version():
                record = history.record(self._memory, place)
                if record is None:
                    raise _absent()
                return self._file(len(record.data), record.written, is_writable=False)
            case Name():
                return self._named_attributes(place)

    def _named_attributes(self, name: Name) -> Attributes:
        draft = None if name.must_be_directory else self._drafts.find(name)
        if draft is not None and not draft.is_stored:
            return self._file(len(draft.data), draft.written)
        status = self._tree.is_file_or_directory(name)
        if status is False:
            raise _absent()
        if status is True:
            return self._directory()
        return self._file(status.size, status.written)

    def _listed(self, path: str) -> dict[str, int]:
        keys, segments = self._tree.list(path)
        files = {name_of(key) for key in (*keys, *self._drafts.within(path))}
        names = dict.fromkeys(sorted(files), stat.S_IFREG)
        for segment in segments:
            name = name_of(segment)
            names[hidden_directory(segment) if name in files else name] = stat.S_IFDIR
        return names

    def _write_on(self, path: str, name: Name, flags: int) -> int:
        self._require_writing()
        draft = self._drafts.open(name, flags)
        appends = bool(flags & os.O_APPEND)
        return self._opened(_Open(path, draft=draft, is_writer=True, appends=appends))

    def _opened(self, file: _Open) -> int:
        with self._lock:
            number = next(self._numbers)
            self._open[number] = file
        return number

    def _changed(self, path: str) -> Name:
        """Return the memory to change."""
        self._require_writing()
        return _named(_place(path, errno.EINVAL))

    def _require_writing(self) -> None:
        _require(self._writes, errno.EROFS)

    def _file(self, size: int, written: int, *, is_writable: bool = True) -> Attributes:
        mode = 0o644 if is_writable and self._writes else 0o444
        return {**self._common(written), "st_mode": stat.S_IFREG | mode, "st_nlink": 1} | {
            "st_size": size,
            "st_blocks": -(-size // 512),
        }

    def _directory(self, *, is_writable: bool = True) -> Attributes:
        mode = 0o755 if is_writable and self._writes else 0o555
        return {**self._common(self._began), "st_mode": stat.S_IFDIR | mode, "st_nlink": 2}

    @staticmethod
    def _common(moment: int) -> Attributes:
        return {
            "st_uid": os.getuid(),
            "st_gid": os.getgid(),
            "st_atime": moment,
            "st_mtime": moment,
            "st_ctime": moment,
        }


def _place(path: str, otherwise: int = errno.ENOENT) -> Place:
    place = place_of(path)
    if place is None:
        raise OSError(otherwise, "this is not a name that a memory could have")
    return place


def _named(place: Place) -> Name:
    """Return the memory that a path stands for; there are none in the root, nor in a history."""
    if isinstance(place, Name):
        _require(not place.must_be_directory, errno.EISDIR)
        _require(bool(place.directory), errno.EPERM)
        return place
    raise OSError(errno.EISDIR if isinstance(place, Root) else errno.EROFS, f"in {HISTORY}")


def _size(file: _Open) -> int:
    return len(file.data) if file.draft is None else len(file.draft.data)


def _is_for_writing(flags: int) -> bool:
    return flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC)


def _require(holds: bool, otherwise: int) -> None:
    if not holds:
        raise OSError(otherwise, os.strerror(otherwise))


def _absent() -> OSError:
    return FileNotFoundError(errno.ENOENT, "there is no such memory")
