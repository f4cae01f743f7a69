"""The checks of `amfs doctor` for a directory. They make only a scratch directory, and remove it.

The scratch directory is in the root, or where the root would be made: on the same file system, with
the same permissions. Its name begins with a dot, so nobody lists or watches it.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
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
from amfs_local.filesystem_probe import Abilities

if TYPE_CHECKING:
    from amfs_core.storage import StorageAdapter

_FEW_FILES = 10_000
_SOME_BYTES = 64 * 1024
_FEW_WATCHES = 8_192
_INOTIFY = "/proc/sys/fs/inotify/max_user_watches"
_NO_PERMISSION = (errno.EACCES, errno.EPERM, errno.EROFS)


class LocalChecks:
    """The checks of one adapter. `open_store` opens another one like it, with its root there."""

    def __init__(self, root: str, open_store: Callable[[str], StorageAdapter]) -> None:
        self._root = root
        self._open_store = open_store
        self._base = _nearest(root)
        self._scratch = os.path.join(self._base, f".amfs-doctor-{uuid.uuid4().hex}")

    def all(self) -> Iterator[Check]:
        """Yield the checks in order."""
        tried = Abilities(self._scratch)
        writing = ("root", "writing")
        try:
            yield Check("root", self._find_root)
            yield Check("file system", self._find_file_system, ("root",))
            yield Check("space", self._measure_space, ("root",))
            yield Check("writing", self._make_scratch, ("root",))
            yield Check("hard links", tried.link, writing)
            yield Check("locks", tried.lock, writing)
            yield Check("fsync", tried.flush, writing)
            yield Check("unnamed files", tried.unnamed, writing)
            yield Check("letter case", tried.case, writing)
            store = self._open_store(os.path.join(self._scratch, "store"))
            yield from Trial(store, needs=("root",), to_write=("writing",)).checks()
            yield Check("inotify", _find_inotify, ("root",))
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _find_root(self) -> Diagnosis:
        if self._base == self._root:
            if not os.access(self._root, os.R_OK | os.X_OK):
                return problem(f"{self._root} may not be read", "give this user access to it")
            return ok(f"{self._root} is there")
        above = os.path.join(self._base, os.path.relpath(self._root, self._base).split(os.sep)[0])
        if os.path.lexists(above):
            return problem(
                f"{above} is not a directory", "name another root, or move that file away"
            )
        return ok(f"{self._root} is not there yet; the first write makes it in {self._base}")

    def _find_file_system(self) -> Diagnosis:
        mount = mount_of(self._base)
        if mount is None:
            return ok("this system does not tell its type")
        if mount.is_network:
            finding = f"{mount.kind}, mounted at {mount.place}"
            return warning(
                f"{finding}: other machines may write there too, and caches of the network file "
                "system decide when one sees what another wrote",
                "NFSv4 keeps creates exclusive; mount it with sync and without nolock, or use a "
                "bucket for several machines",
            )
        return lasting(mount)

    def _measure_space(self) -> Diagnosis:
        status = os.statvfs(self._base)
        free = status.f_bavail * status.f_frsize
        finding = f"{size_text(free)} free"
        counts_files = status.f_files > 0  # Btrfs, for example, has no such limit
        if counts_files:
            finding += f", {status.f_favail:,} more files"
        if not free or (counts_files and not status.f_favail):
            return problem(f"{finding}: nothing can be written", "free some, or use another disk")
        if free < LITTLE_SPACE or (counts_files and status.f_favail < _FEW_FILES):
            return warning(finding, "free some; every version is a file, and all are kept")
        return ok(finding)

    def _make_scratch(self) -> Diagnosis:
        try:
            os.mkdir(self._scratch, 0o700)
            with open(os.path.join(self._scratch, "filled"), "xb", buffering=0) as file:
                file.write(bytes(_SOME_BYTES))
        except OSError as error:
            if error.errno not in _NO_PERMISSION:
                return problem(
                    f"nothing can be written in {self._base} ({error.strerror})",
                    "see what the disk or its quota says",
                )
            finding = f"{self._base} may not be written ({error.strerror})"
            hint = "give this user write access to it, or name another root"
            if self._base != self._root:  # so there is nothing to read either
                return problem(finding, hint)
            return warning(f"this store may only be read: {finding}", hint, blocks=True)
        return ok(f"files can be made in {self._base}")


def _find_inotify() -> Diagnosis:
    if importlib.util.find_spec("watchfiles") is None:
        return ok("watchfiles is not installed: `watch` polls (pip install 'amfs[watch]')")
    try:
        with open(_INOTIFY, encoding="ascii") as file:
            watches = int(file.read())
    except (OSError, ValueError):
        return ok("watchfiles is installed; this system tells no limit")
    finding = f"up to {watches:,} directories can be watched"
    if watches < _FEW_WATCHES:
        return warning(
            f"{finding}, all programs of this user together",
            "raise fs.inotify.max_user_watches; beyond it `watch` polls",
        )
    return ok(finding)


def _nearest(path: str) -> str:
    """Return the path, or the nearest directory above it that exists."""
    while not os.path.isdir(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path
