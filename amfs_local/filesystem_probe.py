"""Capabilities of a file system, tried with scratch files in a directory made for that."""

from __future__ import annotations

import fcntl
import os

from amfs_core.doctor import Diagnosis, ok, problem, warning

_OTHER_PLACE = "put the root on a file system that has them: ext4, XFS, Btrfs, APFS, NFSv4"


class Abilities:
    """Tries out a directory. Each method leaves files in it; the caller removes the directory."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def link(self) -> Diagnosis:
        """Try hard links, which make creates exclusive."""
        source, target = self._made("linked"), self._path("link")
        try:
            os.link(source, target)
        except OSError as error:
            return problem(f"no hard links here ({error.strerror})", _OTHER_PLACE)
        try:
            os.link(source, target)
        except FileExistsError:
            return ok("work, and never overwrite")
        return problem("a hard link replaced a file: writes could be lost", _OTHER_PLACE)

    def lock(self) -> Diagnosis:
        """Try flock(2), which tells a crashed writer's files from a live one's."""
        path = self._made("locked")
        with open(path, "rb") as first, open(path, "rb") as second:
            try:
                fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                finding = f"no flock here ({error.strerror})"
                return warning(f"{finding}: temporary files of crashes stay", _OTHER_PLACE)
            try:
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return ok("flock works")
        return warning(
            "flock does not keep others out: temporary files may be removed while in use, which "
            "costs time and no data",
            _OTHER_PLACE,
        )

    def flush(self) -> Diagnosis:
        """Try fsync(2) of a file and of its directory, which makes writes durable."""
        for path in (self._made("flushed"), self._directory):
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            except OSError as error:
                return problem(
                    f"fsync fails ({error.strerror})",
                    'use another file system, or durability "none" where a crash may cost data',
                )
            finally:
                os.close(fd)
        return ok("files and directories can be flushed")

    def unnamed(self) -> Diagnosis:
        """Try O_TMPFILE (open(2)): files that have no name until they are complete."""
        if not hasattr(os, "O_TMPFILE"):
            return ok("none on this system: temporary files have names")
        try:
            os.close(os.open(self._directory, os.O_WRONLY | os.O_TMPFILE))
        except OSError as error:
            return ok(f"none here ({error.strerror}): temporary files have names")
        return ok("O_TMPFILE works: a crash leaves no temporary files")

    def case(self) -> Diagnosis:
        """Find out whether names that differ only in case are different files."""
        self._made("case")
        if os.path.lexists(self._path("CASE")):
            return warning(
                "names that differ only in case are the same file here",
                "use a case-sensitive volume, or let no two names differ only in case",
            )
        return ok("names that differ only in case are different files")

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)

    def _made(self, name: str) -> str:
        path = self._path(name)
        with open(path, "xb") as file:
            file.write(b"scratch")
        return path
