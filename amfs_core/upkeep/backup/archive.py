"""The archive: objects in parts that `tar` and `gzip` open, and the parts of their index."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import NoReturn

from amfs_core.errors import CorruptEntryError
from amfs_core.format import OUTCOME, VERSION
from amfs_core.upkeep.backup.index import Line, packed, unpacked
from amfs_core.upkeep.backup.manifest import Backup, Part, Run
from amfs_core.upkeep.backup.shelf import Shelf

PART_BYTES = 4 * 1024 * 1024
"""How large a part is, compressed, before the next one begins; one object is never split."""

_INDEX_BYTES = 256 * 1024
_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)

Keep = Callable[[str, bytes], None]
"""Told the name of a part and its bytes."""


class _Parts:
    """Parts of one kind, each of which is a gzip file, kept as soon as it is large enough."""

    def __init__(self, keep: Keep, suffix: str, limit: int) -> None:
        self._keep = keep
        self._suffix = suffix
        self._limit = limit
        self._number = 0
        self._begin()
        self.parts: list[Part] = []
        self.size = 0

    def _begin(self) -> None:
        self._gzip = zlib.compressobj(wbits=31)
        self._data = bytearray()
        self._objects = 0

    def add(self, *pieces: bytes) -> None:
        """Add one object to the part, and keep that when it is large enough."""
        for piece in pieces:
            self._data += self._gzip.compress(piece)
        self._objects += 1
        if len(self._data) >= self._limit:
            self.flush()

    def flush(self, end: bytes = b"") -> None:
        """Keep what there is, with an end of its own."""
        if not self._objects and not end:
            return
        data = bytes(self._data + self._gzip.compress(end) + self._gzip.flush())
        self._number += 1
        name = f"{self._number:05}{self._suffix}"
        self._keep(name, data)
        sha256 = hashlib.sha256(data).hexdigest()
        self.parts.append(Part(name, len(data), sha256, self._objects))
        self.size += len(data)
        self._begin()

    def taken(self) -> tuple[Part, ...]:
        """Return the parts since this was last asked."""
        parts, self.parts = tuple(self.parts), []
        return parts


class ArchiveWriter:
    """Writes runs of objects. It holds one part and one part of the index."""

    def __init__(self, keep: Keep) -> None:
        self._bodies = _Parts(keep, ".tar.gz", PART_BYTES)
        self._index = _Parts(keep, ".jsonl.gz", _INDEX_BYTES)
        self.runs: list[Run] = []

    @property
    def size(self) -> int:
        """Bytes of all parts so far."""
        return self._bodies.size + self._index.size

    def add(self, line: Line, body: bytes) -> None:
        """Add an object; those of a run come in their order."""
        header = tarfile.TarInfo(line.key)
        header.size = len(body)
        if line.modified is not None:
            header.mtime = int(line.modified.timestamp())
        padding = bytes(-len(body) % _BLOCK)
        self._bodies.add(header.tobuf(tarfile.PAX_FORMAT), body, padding)
        self._index.add(packed(line))

    def end_run(self, *, is_last: bool = False) -> None:
        """End a run; the last part of all has the end of a tar file."""
        self._bodies.flush(_END if is_last else b"")
        self._index.flush()
        run = Run(self._bodies.taken(), self._index.taken())
        if run.archive or run.index:
            self.runs.append(run)


# -- reading ---------------------------------------------------------------------------------


def lines_of(shelf: Shelf, name: str, run: Run) -> Iterator[Line]:
    """Yield the lines of a run, from the parts of its index alone. 1 request each."""
    for part in run.index:
        yield from unpacked(_checked(shelf, name, part))


def objects_of(shelf: Shelf, name: str, run: Run) -> Iterator[tuple[Line, bytes]]:
    """Yield the objects of a run with their lines, checked. 1 request for each part, one of which
    is held at a time.

    Raises `CorruptEntryError` for a part that is missing or damaged.
    """
    lines = lines_of(shelf, name, run)
    for part in run.archive:
        data = _checked(shelf, name, part)
        with tarfile.open(fileobj=io.BytesIO(data), mode="r|gz") as archive:
            while (member := archive.next()) is not None:
                # It keeps all of them, and nobody asks for them again.
                archive.members = []  # type: ignore[attr-defined]
                line = next(lines, None)
                file = archive.extractfile(member)
                body = b"" if file is None else file.read()
                if (
                    line is None
                    or line.key != member.name
                    or hashlib.sha256(body).hexdigest() != line.sha256
                ):
                    _refuse(shelf, name, part, f"it does not have {member.name} as its index")
                _require_kind(shelf, name, part, line.key)
                yield line, body


def _require_kind(shelf: Shelf, name: str, part: Part, object_key: str) -> None:
    """Raise unless an object belongs into a backup. Its key will be the name of a file or an object
    in the store that is restored, so no other name is believed."""
    parsed = shelf.layout.parse_any(object_key)
    if parsed is None or parsed.kind not in (VERSION, OUTCOME):
        problem = (
            f"it has {object_key!r:.300}, which is not a version or an outcome of the namespace"
        )
        _refuse(shelf, name, part, problem)


def _checked(shelf: Shelf, name: str, part: Part) -> bytes:
    """Return the bytes of a part, once they are those that were written."""
    data = shelf.store.get(shelf.part_key(name, part.name))
    if data is None:
        _refuse(shelf, name, part, "it is missing")
    if len(data) != part.size or hashlib.sha256(data).hexdigest() != part.sha256:
        _refuse(shelf, name, part, "its bytes do not match the manifest")
    return data


def require_parts(shelf: Shelf, backup: Backup) -> None:
    """Raise `CorruptEntryError` unless all parts are there, each with its size. 1 request per 1,000
    of them."""
    sizes = shelf.sizes(backup.name)
    for run in backup.runs:
        for part in (*run.archive, *run.index):
            if part.name not in sizes:
                _refuse(shelf, backup.name, part, "it is missing")
            if sizes[part.name] != part.size:
                _refuse(shelf, backup.name, part, "its size does not match the manifest")


def _refuse(shelf: Shelf, name: str, part: Part, problem: str) -> NoReturn:
    object_key = shelf.part_key(name, part.name)
    raise CorruptEntryError(
        f"{object_key}, a part of the backup {name}: {problem}",
        hint="restore a backup that does not build on that one, and make a full one",
        object_key=object_key,
    )
