"""Which memories there are, by their names alone."""

from __future__ import annotations

from functools import lru_cache

from amfs_core.format import Address, Layout
from amfs_core.memory import AgentMemory
from amfs_core.versions import reached


def newest_versions(memory: AgentMemory, entity_path: str) -> dict[Address, int]:
    """Return the memories under an entity path, those of deeper paths and deleted ones too, and the
    number of the newest version of each. 1 request per 1,000 objects; no contents are read."""
    engine = memory.engine
    layout = engine.layout
    numbers: dict[str, list[int]] = {}
    for info in engine.versions.store.list(layout.entity_prefix(entity_path)):
        place = layout.split(info.key)
        if place is not None:
            numbers.setdefault(place[0], []).append(place[1])
    newest = {}
    for prefix, versions in numbers.items():
        address = _address(layout, prefix)
        if address is not None and address.is_under(entity_path) and (last := reached(versions)):
            newest[address] = last
    return newest


@lru_cache(maxsize=16_384)  # who looks at a thread once does so again, with one checkpoint more
def _address(layout: Layout, prefix: str) -> Address | None:
    """Return the memory whose versions have a prefix; None where AMFS would not have made it."""
    parsed = layout.parse(f"{prefix}v1.json")
    return None if parsed is None else parsed[0]
