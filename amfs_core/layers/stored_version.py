"""What an object is, by its key and its bytes: a version, or something else."""

from __future__ import annotations

from functools import lru_cache

from amfs_core.errors import CorruptEntryError, InvalidKeyError
from amfs_core.format import Address, Layout, MemoryEntry, decode_entry, unescape


@lru_cache(maxsize=256)
def _layout(segment: str) -> Layout | None:
    try:
        name = unescape(segment)
        return None if name is None else Layout(name)
    except InvalidKeyError:
        return None


def version_of(key: str) -> tuple[Layout, Address, int] | None:
    """Return what version of what memory an object is; None for anything else."""
    layout = _layout(key.partition("/")[0])
    parsed = None if layout is None else layout.parse(key)
    return None if layout is None or parsed is None else (layout, *parsed)


def decoded(key: str, body: bytes) -> MemoryEntry | None:
    """Return the version in a body; None unless it is that version, whole."""
    version = version_of(key)
    if version is None:
        return None
    layout, address, number = version
    try:
        return decode_entry(body, layout.namespace, address, number)
    except CorruptEntryError:
        return None
