"""Files by hand: temporary file, fsync, link, fsync of the directory."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable
from pathlib import Path

from objects import Objects

_numbers = itertools.count()


class Peer(Objects):
    """A directory. What durability costs at least, and nothing else."""

    durability = "fsync"  # of the file and of its directory

    def __init__(self, place: dict[str, str]) -> None:
        super().__init__()
        self._root = Path(place["directory"])

    def put(self, name: str, data: bytes) -> bool:
        final = self._root / name
        temporary = self._root / f".{os.getpid()}-{next(_numbers)}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        os.write(fd, data)
        os.fsync(fd)
        os.close(fd)
        try:
            self._link(temporary, final)
        except FileExistsError:
            return False
        finally:
            os.unlink(temporary)
        _sync(final.parent)
        return True

    def _link(self, temporary: Path, final: Path) -> None:
        try:
            os.link(temporary, final)
        except FileNotFoundError:
            made = final.parent
            os.makedirs(made, exist_ok=True)
            os.link(temporary, final)
            while made != self._root:  # a new directory is an entry of the one above it
                made = made.parent
                _sync(made)

    def get(self, name: str) -> bytes:
        return (self._root / name).read_bytes()

    def names(self, prefix: str) -> Iterable[str]:
        for directory, _, files in os.walk(self._root / prefix):
            with contextlib.suppress(ValueError):
                below = Path(directory).relative_to(self._root).as_posix()
                yield from (f"{below}/{file}" for file in files if file.startswith("v"))


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
