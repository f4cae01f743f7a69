"""Going on with what a crash interrupted: an erasure that was ordered and not carried out."""

from __future__ import annotations

from collections.abc import Iterable

from amfs_core.format import MemoryEntry
from amfs_core.memory import AgentMemory
from amfs_core.parallel import mapped

_THREADS = 32


def finish_purges(memory: AgentMemory, newest: Iterable[MemoryEntry]) -> None:
    """Purge again those of these memories whose newest version orders it and is not obeyed yet.

    1 request for each that was purged, and what `AgentMemory.purge` costs for what is left.
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
    mapped(lambda one: memory.purge(one.entity_path, one.key), left, _THREADS)
