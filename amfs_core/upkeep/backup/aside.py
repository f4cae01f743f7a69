"""Bodies that are set aside until their turn comes to be written."""

from __future__ import annotations

import os
import tempfile
from typing import Self

_IN_MEMORY = 4 * 1024 * 1024


class Aside:
    """Bodies by object key: the first few MiB in memory, more of them in a file without a name."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[int, int]] = {}

    def __enter__(self) -> Self:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __getitem__(self, key: str) -> bytes:
        offset, size = self._places[key]
        self._file.seek(offset)
        return self._file.read(size)

    def __setitem__(self, key: str, body: bytes) -> None:
        self._places[key] = self._file.seek(0, os.SEEK_END), len(body)
        self._file.write(body)
