"""Filters as SQL on the table `memory`, which is `m` in every statement."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from amfs_core.catalog import Filters
from amfs_core.format import Layout, time_text
from amfs_postgres.index.tables import plain


class Condition(NamedTuple):
    """A condition, and its parameters."""

    where: str
    parameters: tuple[Any, ...]


def condition(store: int, layout: Layout, filters: Filters, at: datetime) -> Condition:
    """Return the condition of the filters, for memories that are live at a time."""
    below = under(store, layout, filters.entity_path)
    parts = [below.where, "NOT m.deleted", "(m.expires_at IS NULL OR m.expires_at > %s)"]
    parameters: list[Any] = [*below.parameters, time_text(at)]
    if filters.tags:
        parts.append("m.tags @> %s::text[]")
        parameters.append([plain(tag) for tag in filters.tags])
    if filters.memory_type is not None:
        parts.append("m.memory_type = %s")
        parameters.append(filters.memory_type)
    if filters.agent_id is not None:
        parts.append("m.agent_id = %s")
        parameters.append(plain(filters.agent_id))
    if filters.since is not None:
        parts.append("m.written_at >= %s")
        parameters.append(time_text(filters.since))
    if filters.until is not None:
        parts.append("m.written_at < %s")
        parameters.append(time_text(filters.until))
    if filters.min_confidence > 0:
        parts.append("m.confidence >= %s")
        parameters.append(filters.min_confidence)
    return Condition(" AND ".join(parts), tuple(parameters))


def under(store: int, layout: Layout, entity_path: str | None) -> Condition:
    """Return the condition that a memory is one of a store's, at or below an entity path."""
    if entity_path is None:
        return Condition("m.store = %s", (store,))
    # The memory e/k has exactly the prefix of the path e/k, and is not under it. "0" is the
    # character after "/".
    root = layout.entity_prefix(entity_path)
    return Condition(
        "m.store = %s AND m.prefix > %s AND m.prefix < %s", (store, root, f"{root[:-1]}0")
    )
