"""`LocalAdapter`: objects are files under a directory, made by `link(2)`, which never overwrites.

The path of an object is `<root>/<prefix><key>`, so a copy of the directory in a bucket is the same
store.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from amfs_core.arguments import expanded
from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    ConfigurationError,
    OutcomeUnknownError,
    PermissionDeniedError,
    StorageFullError,
)
from amfs_core.format import checked_prefix
from amfs_core.storage import (
    Capabilities,
    Doorbell,
    ListeningDoorbell,
    ObjectInfo,
    StorageAdapter,
)
from amfs_local.changes import DIRECTORY, DirectoryLog, Notices, UnpostedError
from amfs_local.directories import Directories
from amfs_local.flush import FlushEach, flush_each
from amfs_local.root import Root
from amfs_local.temporary import NoHardLinksError, Scratch, UnknownLinkError

if TYPE_CHECKING:
    from amfs_core.doctor import Check

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # opening a FIFO must not block
_NO_FILE = (errno.ELOOP, errno.ENXIO, errno.EOPNOTSUPP)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_ATTEMPTS = 10
_MOST_WARNINGS = 100
_OPEN_FILES = 256  # at a time, a quarter of what a process may have by default
_Found = list[tuple[bytes, "os.DirEntry[str]"]]

_log = logging.getLogger("amfs")


class LocalAdapter(StorageAdapter):
    """A directory as a store: on one machine, or on a file system that its machines share.

    The first write makes `root`, where a leading `~` means the user's home. `prefix` is put before
    every key. With `durability="fsync"` (the default) an acknowledged write survives a crash of the
    machine; with "none", which is for tests and caches, it survives only a crash of the process.

    Needs hard links and `flock`: ext4, XFS, Btrfs, tmpfs, overlayfs, APFS and NFSv4 have them.
    """

    backend_type = "local"
    capabilities = Capabilities(
        paged=False, batch=True, location=True, doorbell=True, checks=True, changes=True
    )

    def __init__(
        self,
        root: str | os.PathLike[str] = ".amfs",
        prefix: str = "",
        durability: Literal["fsync", "none"] = "fsync",
    ) -> None:
        if durability not in ("fsync", "none"):
            raise ConfigurationError(f'durability must be "fsync" or "none", not {durability!r}')
        self.root = os.path.abspath(_root(root))
        self.prefix = checked_prefix(prefix)
        self.durability = durability
        durable = durability == "fsync"
        self._base = os.path.join(self.root, self.prefix)  # ends with a slash
        self._root = Root(self.root)
        self._directories = Directories(self.root, durable=durable)
        self._scratch = Scratch(self._root, durable=durable)
        self._notices = Notices(self._base)
        self._late = False  # the last create came after another's
        self._links: set[str] = set()  # links to directories that a warning named

    @property
    def location(self) -> str:
        """The directory, with no links in it."""
        return f"file://{os.path.realpath(self.root)}/{self.prefix}"

    def create(self, key: str, data: bytes) -> bool:
        """Create the file if there is none; True once it is durable, False when there is one."""
        path = self._path(key)
        directory = path.rpartition(os.sep)[0]
        created = False
        notice = None
        try:
            self._directories.make(directory)
            notice = self._notices.post((key,))
            # A writer that lost a race may lose again: a look is cheaper than writing a file in
            # vain.
            if not (self._late and os.access(path, os.F_OK)):
                try:
                    self._name(self._scratch.link, data, path, directory)
                    created = True
                except FileExistsError:
                    pass
            self._late = not created
            # Even when the file exists: its writer may have crashed before flushing the directory.
            self._directories.flush(directory)
            self._notices.confirm(notice, (key,))
        except OSError as error:
            self._directories.forget(directory)
            failed = self._translated(error, key, "write")
            # The file has its name but may not survive a crash of the machine; or `link` did not
            # say whether it has its name.
            if created or isinstance(error, UnknownLinkError):
                raise OutcomeUnknownError(str(failed), object_key=key) from error
            raise failed from error
        finally:
            if notice is not None:
                notice.close()
        return created

    def create_many(self, objects: Mapping[str, bytes]) -> list[str]:
        """Create files together, so that they share flushes. Return the keys of the files that are
        created and durable; for any other, `create` says what went wrong."""
        created: list[str] = []
        remaining = iter(objects)
        flush: FlushEach = flush_each if self.durability == "fsync" else set
        while keys := list(islice(remaining, _OPEN_FILES)):
            some = {self._path(key): objects[key] for key in keys}
            try:
                notice = self._notices.post(keys)
                done = self._create_together(some, flush)
                self._notices.confirm(notice, keys)
            except OSError as error:
                _log.debug("%d objects are created one by one: %s", len(keys), error)
                continue
            created += [key for key, path in zip(keys, some, strict=True) if path in done]
        return created

    def _create_together(self, files: Mapping[str, bytes], flush_each: FlushEach) -> set[str]:
        directories = {path: path.rpartition(os.sep)[0] for path in files}
        try:
            self._directories.make_many(directories.values())
        except OSError:
            return set()
        linked = self._scratch.link_many(files, flush_each)
        durable = self._directories.flush_many((directories[path] for path in linked), flush_each)
        return {path for path in linked if directories[path] in durable}

    def get(self, key: str) -> bytes | None:
        """Return the file's bytes, or None when there is no such file.

        A link, a pipe or a directory in the place of a file reads as empty: no object is empty, so
        the reader knows that it is damaged, and never waits for it. A file reached through a link
        to a directory below the root is refused.
        """
        path = self._path(key)
        try:
            fd = os.open(path, _READ)
        except FileNotFoundError:
            return None
        except NotADirectoryError as error:
            if os.path.isdir(self.root):
                return None
            raise self._translated(error, key, "read") from error
        except OSError as error:
            # ELOOP: a symbolic link; ENXIO, EOPNOTSUPP: a socket, or a device without a driver.
            if error.errno in _NO_FILE and not _is_file(path):
                return b""
            raise self._translated(error, key, "read") from error
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return b""
            self._root.require_file(fd, path)
            data = os.read(fd, status.st_size + 1)
            if len(data) == status.st_size:  # else a file too big for one read
                return data
            with open(fd, "rb", buffering=0, closefd=False) as file:
                return data + file.read()
        except OSError as error:
            raise self._translated(error, key, "read") from error
        finally:
            os.close(fd)

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Yield `(key, bytes or None)`, one after another: concurrency gains nothing on a local
        disk."""
        for key in keys:
            yield key, self.get(key)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """Yield the files under a prefix in byte order of their keys.

        Links are not followed. Links, pipes and the like are yielded as they are, so that `verify`
        can name them. Names that begin with a dot are not objects. A directory is read whole before
        its first file is yielded.
        """
        try:
            self._root.require_directory(self._path(prefix))
            yield from self._walk(prefix, start_after.encode())
        except OSError as error:
            raise self._translated(error, prefix, "list") from error

    def replace(self, key: str, data: bytes) -> None:
        """Write the file, replacing an existing one atomically."""
        path = self._path(key)
        directory = os.path.dirname(path)
        try:
            self._directories.make(directory)
            self._name(self._scratch.rename, data, path, directory)
            self._directories.flush(directory)
        except OSError as error:
            self._directories.forget(directory)
            raise self._translated(error, key, "write") from error

    def delete(self, key: str) -> None:
        """Remove the file if there is one."""
        path = self._path(key)
        try:
            self._root.require_directory(os.path.dirname(path))
            os.unlink(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._translated(error, key, "delete") from error

    def doorbell(self, prefix: str) -> Doorbell | None:
        """Return a doorbell, which rings for changes under a prefix by any process of this machine.

        None without the library watchfiles (the extra `watch`).
        """
        try:
            from amfs_local.doorbell import DirectoryListener
        except ImportError:
            _log.debug("no doorbell for %s: watchfiles is not installed", self.root)
            return None
        directory = self._path(prefix)
        return ListeningDoorbell(DirectoryListener(directory), directory)

    def changes(self) -> DirectoryLog:
        """Return the log of what is created here, on a file system of this machine."""
        return DirectoryLog(self._base)

    def checks(self) -> Iterator[Check]:
        """Yield the checks of `amfs doctor`. They make a scratch directory and remove it."""
        from amfs_local.checks import LocalChecks

        return LocalChecks(
            self.root, lambda root: LocalAdapter(root, durability=self.durability)
        ).all()

    def close(self) -> None:
        """Do nothing: the adapter keeps no file open between calls."""

    def __reduce__(self) -> tuple[Any, ...]:
        return LocalAdapter, (self.root, self.prefix, self.durability)

    def __repr__(self) -> str:
        return f"LocalAdapter(root={self.root!r}, prefix={self.prefix!r})"

    def _name(
        self, give: Callable[[bytes, str], None], data: bytes, path: str, directory: str
    ) -> None:
        """Write a file and give it its name; try again if another process removes its directory."""
        for _ in range(_ATTEMPTS):
            try:
                return give(data, path)
            except FileNotFoundError:  # a directory or the temporary file was removed
                self._directories.forget(directory)
                self._directories.make(directory)
        raise FileNotFoundError(errno.ENOENT, "its directory is removed again and again", path)

    def _walk(self, prefix: str, after: bytes) -> Iterator[ObjectInfo]:
        """Yield what is under a prefix, one directory at a time.

        Sorting names as if directories ended with `/` gives the byte order of whole keys.
        """
        waiting = self._directory(prefix, after)  # sorted, the first at the end
        while waiting:
            sort_key, entry = waiting.pop()
            key = sort_key.decode()
            if key.endswith("/"):
                waiting += self._directory(key, after)
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # replaced or removed since the directory was read
                continue
            if stat.S_ISLNK(status.st_mode):
                self._warn_of_link(key)
            modified = datetime.fromtimestamp(status.st_mtime, UTC)
            yield ObjectInfo(key, status.st_size, modified)

    def _warn_of_link(self, key: str) -> None:
        """Warn once about each link to a directory, whose content is not listed."""
        path = self._path(key)
        if key in self._links or len(self._links) >= _MOST_WARNINGS or not os.path.isdir(path):
            return
        self._links.add(key)
        _log.warning(
            "%s is a symbolic link, which is not followed below the root of a store: the memories "
            "that it leads to are not listed, found or read. Move the directory back to its place",
            path,
        )

    def _directory(self, prefix: str, after: bytes) -> _Found:
        """Return the entries of a directory that can come after a key, in descending order."""
        keyed_entries: _Found = []
        try:
            with os.scandir(self._path(prefix)) as entries:
                for entry in entries:
                    sort_key = self._sort_key(prefix, entry)
                    if sort_key is not None and _reaches(sort_key, after):
                        keyed_entries.append((sort_key, entry))
        except FileNotFoundError:
            return []
        if len(keyed_entries) > 1:
            keyed_entries.sort(key=_first, reverse=True)
        return keyed_entries

    @staticmethod
    def _sort_key(prefix: str, entry: os.DirEntry[str]) -> bytes | None:
        """Return the key of a file, or of a directory ending in `/`; None for names that are not
        keys."""
        if entry.name.startswith("."):
            return None
        try:
            if entry.is_dir(follow_symlinks=False):
                return f"{prefix}{entry.name}/".encode()
            return f"{prefix}{entry.name}".encode()
        except UnicodeEncodeError:  # a name that is not UTF-8 was not made by AMFS
            return None

    def _path(self, key: str) -> str:
        return f"{self._base}{key}"

    def _translated(self, error: OSError, key: str, verb: str) -> AMFSError:
        """Translate an error of the operating system into an error of the contract."""
        what = f"cannot {verb} {self._path(key)!r}: {error.strerror or error}"
        if isinstance(error, UnpostedError):
            return PermissionDeniedError(
                f"{what}: readers follow the log {error.filename!r}, which this user can neither "
                "append to nor remove",
                hint=f"give this user the same access to {DIRECTORY!r} as to the store",
                object_key=key,
            )
        if isinstance(error, NoHardLinksError):
            return ConfigurationError(
                what,
                hint=(
                    f"the file system of {self.root!r} has no hard links, without which two "
                    "writers could overwrite each other. Nothing was written: name a root on ext4, "
                    "XFS, Btrfs, tmpfs, APFS or NFS"
                ),
                object_key=key,
            )
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return PermissionDeniedError(
                what,
                hint="give this user access to it, or name another root",
                object_key=key,
            )
        if error.errno in (errno.ENAMETOOLONG, errno.EILSEQ):
            return ConfigurationError(
                what,
                hint=(
                    f"the file system of {self.root!r} does not take such a name: use a "
                    "shorter root, shorter or plainer entity paths and keys, or another file system"
                ),
                object_key=key,
            )
        if error.errno == errno.EFBIG:
            return StorageFullError(
                what,
                hint=(
                    "raise the limit on the size of a file (ulimit -f), or use a file system "
                    "that takes larger ones"
                ),
                says_written=True,
                object_key=key,
            )
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StorageFullError(
                what,
                hint="free some space there, or raise the quota",
                says_written=True,
                object_key=key,
            )
        if error.errno in (errno.EMFILE, errno.ENFILE):
            shortage = BackendUnavailableError(
                what,
                hint="raise the limit (ulimit -n), or find out what keeps so many files open",
                object_key=key,
            )
            shortage.origin = "process"
            return shortage
        if error.errno == errno.ENOENT and not os.path.isdir(self.root):
            return ConfigurationError(
                what,
                hint=f"the root {self.root!r} cannot be made there, name another one",
                object_key=key,
            )
        if error.errno in (errno.ENOTDIR, errno.EXDEV, errno.EISDIR, errno.ELOOP):
            return ConfigurationError(
                what,
                hint=(
                    f"the root {self.root!r} must be a directory of one file system, "
                    "with nothing in it but AMFS's own files"
                ),
                object_key=key,
            )
        return BackendUnavailableError(what, object_key=key)


def _root(root: object) -> str:
    """Return the root, `~` expanded; `ConfigurationError` if it cannot be the path of a
    directory."""
    if not isinstance(root, str | os.PathLike):
        raise ConfigurationError(f"root must be a path, not {type(root).__name__}")
    path = os.fspath(root)
    if not isinstance(path, str):
        raise ConfigurationError("root must be a path of text, not of bytes")
    if not path:
        raise ConfigurationError(
            "root is empty",
            hint=('name a directory, "." for the working directory'),
        )
    if "\0" in path:
        raise ConfigurationError("root has a NUL character, which no path has")
    if _URL.match(path):
        raise ConfigurationError(
            "root must be a directory, not a URL",
            hint="S3Adapter opens a bucket",
        )
    return expanded(path, "root")


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:  # a loop of links above it, which another error reports
        return True


def _first(pair: tuple[bytes, object]) -> bytes:
    return pair[0]


def _reaches(sort_key: bytes, after: bytes) -> bool:
    """True when the key, or anything in the directory, can come after `after`."""
    return sort_key > after or (sort_key.endswith(b"/") and after.startswith(sort_key))
