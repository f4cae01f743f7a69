"""Filters as SQL on the table `memory`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from amfs_core.catalog.filters import Filters
from amfs_core.format import time_text

Condition = tuple[str, tuple[Any, ...]]
"""A condition, and its parameters."""


def condition(filters: Filters) -> Condition:
    """Return the condition on the table `memory`, and its parameters."""
    now = time_text(datetime.now(UTC))
    # What `MemoryEntry.is_live` says, of columns.
    parts = ["memory.deleted = 0", "(memory.expires_at IS NULL OR memory.expires_at > ?)"]
    values: list[Any] = [now]
    if filters.entity_path is not None:
        below, parameters = under(filters.entity_path)
        parts.append(below)
        values += parameters
    for tag in filters.tags:
        parts.append("memory.id IN (SELECT memory FROM tag WHERE tag.tag = ?)")
        values.append(tag)
    if filters.memory_type is not None:
        parts.append("memory.memory_type = ?")
        values.append(filters.memory_type)
    if filters.agent_id is not None:
        parts.append("memory.agent_id = ?")
        values.append(filters.agent_id)
    if filters.since is not None:
        parts.append("memory.written_at >= ?")
        values.append(time_text(filters.since))
    if filters.until is not None:
        parts.append("memory.written_at < ?")
        values.append(time_text(filters.until))
    if filters.min_confidence > 0:
        parts.append("memory.confidence >= ?")
        values.append(filters.min_confidence)
    return " AND ".join(parts), tuple(values)


def under(entity_path: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the condition that a memory is at or below an entity path, by whole segments."""
    if entity_path is None:
        return "1", ()
    # "0" is the character after "/": between the two are the paths that go deeper.
    condition = "(memory.entity_path = ? OR memory.entity_path > ? AND memory.entity_path < ?)"
    return condition, (entity_path, f"{entity_path}/", f"{entity_path}0")
