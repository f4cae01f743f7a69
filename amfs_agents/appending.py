"""Appending a version that depends on the one before it, for one request if no other writer
interferes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amfs_core.errors import VersionConflictError
from amfs_core.format import MemoryEntry
from amfs_core.memory import AgentMemory


def append(
    memory: AgentMemory,
    entity_path: str,
    key: str,
    change: Callable[[MemoryEntry | None], Any],
    **fields: Any,
) -> MemoryEntry | None:
    """Append what `change(newest)` returns, as exactly the version after that one; its entry.

    `newest` is the newest version, a tombstone too, or None when there is none. `change` is called
    again whenever another writer came first, and returns None to append nothing: then the newest is
    returned. `fields` are parameters of `AgentMemory.write`. Unlike `AgentMemory.update`, this
    assumes that a memory the process has not seen is new, until the store says otherwise.

    1 request for a new memory or one that this process knows; about 6 more for any other, and
    whenever another writer came first.
    """
    versions, address = memory.engine.versions, memory.engine.layout.address(entity_path, key)
    head = versions.cache.head(address)
    newest = versions.get(address, head.version) if head is not None and head.version else None
    while True:
        value = change(newest)
        if value is None:
            return newest
        expected = 0 if newest is None else newest.version
        try:
            return memory.write(entity_path, key, value, expected_version=expected, **fields)
        except VersionConflictError as conflict:
            newest = versions.get(address, conflict.actual) if conflict.actual else None
