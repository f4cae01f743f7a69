"""Finishing erasures that were ordered and then interrupted by a crash."""

from __future__ import annotations

from collections.abc import Iterable

from amfs_core.format import MemoryEntry
from amfs_core.memory import AgentMemory
from amfs_core.parallel import mapped

_THREADS = 32


def finish_purges(memory: AgentMemory, newest: Iterable[MemoryEntry]) -> None:
    """Purge those of these memories whose newest version orders it, if that was not carried out.

    1 request for each memory that was purged, and the cost of `AgentMemory.purge` for each that was
    not.
    """
    layout = memory.engine.layout
    # A purge goes from the first version to the last: where the last is erased, all are.
    last = (
        (layout.address(entry.entity_path, entry.key), entry.version - 1)
        for entry in newest
        if entry.purges and entry.version > 1
    )
    versions = memory.engine.versions
    left = [address for (address, _), entry in versions.get_each(last) if entry.erased is None]
    mapped(lambda address: memory.purge(address.entity_path, address.key), left, _THREADS)
