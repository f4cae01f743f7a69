"""Earlier versions as read-only files."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from amfs import AgentMemory, documents
from amfs_agents.files import content
from amfs_agents.mount.names import Version, version_name
from amfs_agents.mount.tree import nanoseconds


@dataclass(frozen=True, slots=True)
class Record:
    """A file of a history: its bytes, and when the version was written, in nanoseconds."""

    data: bytes
    written: int


def exists(memory: AgentMemory, entity_path: str, key: str) -> bool:
    """Return whether a memory was ever written. 1 request, 0 once it is known."""
    return memory.read(entity_path, key, version=1) is not None


def names(memory: AgentMemory, entity_path: str, key: str) -> list[str]:
    """Return the names of the files in the history of a memory. 1 `AgentMemory.history`."""
    made = []
    for entry in memory.history(entity_path, key):
        if entry.has_content:
            made.append(version_name(entry.version, is_document=False))
        made.append(version_name(entry.version, is_document=True))
    return made


def record(memory: AgentMemory, place: Version) -> Record | None:
    """Return a version as a file; None where there is none, and for the content of a deleted or
    erased version. 1 request, 0 once it is known."""
    entry = memory.read(place.directory, place.key, version=place.version)
    if entry is None:
        return None
    if place.is_document:
        document = msgspec.json.encode(documents.entry(entry)) + b"\n"
        return Record(document, nanoseconds(entry))
    return Record(content(entry.value), nanoseconds(entry)) if entry.has_content else None
