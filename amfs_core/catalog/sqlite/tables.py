"""The tables of a catalog, and the row of one memory in them.

Rows are plain tuples, because a refresh makes or compares one for every object. The compared
columns are in one index, which it reads from end to end. Bodies have their own table, because a
scan of the other columns would otherwise read them all too.
"""

from __future__ import annotations

import json
from typing import Any

from amfs_core.format import Address, MemoryEntry, time_text

SCHEMA = """CREATE TABLE memory (
  id INTEGER PRIMARY KEY,
  prefix TEXT NOT NULL UNIQUE,
  version INTEGER NOT NULL,
  size INTEGER NOT NULL,
  modified REAL,
  entity_path TEXT NOT NULL,
  key TEXT NOT NULL,
  written_at TEXT NOT NULL,
  agent_id TEXT NOT NULL,
  memory_type TEXT NOT NULL,
  confidence REAL NOT NULL,
  tags TEXT NOT NULL,
  expires_at TEXT,
  deleted INTEGER NOT NULL,
  searchable INTEGER NOT NULL,
  indexed INTEGER NOT NULL
);
CREATE INDEX memory_sequence ON memory(entity_path, written_at, prefix);
CREATE INDEX memory_listed ON memory(prefix, version, size, modified);
CREATE INDEX memory_newest ON memory(written_at, prefix);
CREATE INDEX memory_unindexed ON memory(id) WHERE indexed = 0;
CREATE TABLE body (memory INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE tag (
  memory INTEGER NOT NULL, tag TEXT NOT NULL, PRIMARY KEY (memory, tag)
) WITHOUT ROWID;
CREATE INDEX tag_memory ON tag(tag, memory);
CREATE TABLE erased (prefix TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID"""

Row = tuple[Any, ...]
"""All columns of `memory` but the id."""

PREFIX, VERSION, TAGS, MODIFIED = 0, 3, 8, 12
"""Places in a row."""

_COLUMNS = (
    "prefix, entity_path, key, version, written_at, agent_id, memory_type, confidence, tags, "
    "expires_at, deleted, size, modified, searchable, indexed"
)
_NAMES = _COLUMNS.split(", ")
UPSERT = (
    f"INSERT INTO memory ({_COLUMNS}) VALUES ({', '.join('?' * len(_NAMES))}) "
    "ON CONFLICT (prefix) DO UPDATE SET "
    f"{', '.join(f'{column} = excluded.{column}' for column in _NAMES)}"
)


BODY = "INSERT OR REPLACE INTO body SELECT id, ? FROM memory WHERE prefix = ?"


def row(address: Address, entry: MemoryEntry, size: int, modified: float | None) -> Row:
    """Return the row of a memory whose newest version is this."""
    return (
        address.prefix,
        entry.entity_path,
        entry.key,
        entry.version,
        time_text(entry.provenance.written_at),
        entry.provenance.agent_id,
        entry.memory_type,
        entry.confidence,
        json.dumps(entry.tags) if entry.tags else "[]",
        entry.expires_at and time_text(entry.expires_at),
        not entry.has_content,
        size,
        modified,
        entry.index and entry.has_content,
        not entry.index or not entry.has_content,  # no search should find it
    )
