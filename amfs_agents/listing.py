"""Which memories there are, by their names alone."""

from __future__ import annotations

from amfs_core.format import Address
from amfs_core.memory import AgentMemory
from amfs_core.versions import reached


def newest_versions(memory: AgentMemory, entity_path: str) -> dict[Address, int]:
    """Return the memories under an entity path, those of deeper paths and deleted ones too, and the
    number of the newest version of each. 1 request per 1,000 objects; no contents are read."""
    engine = memory.engine
    numbers: dict[Address, list[int]] = {}
    for info in engine.versions.store.list(engine.layout.entity_prefix(entity_path)):
        parsed = engine.layout.parse(info.key)
        if parsed is not None and parsed[0].is_under(entity_path):
            numbers.setdefault(parsed[0], []).append(parsed[1])
    newest = {address: reached(versions) for address, versions in numbers.items()}
    return {address: version for address, version in newest.items() if version}
