"""Which memories are asked for: exact conditions on the newest versions, as SQL on the catalog."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from amfs_core import arguments
from amfs_core.errors import InvalidValueError
from amfs_core.format import MEMORY_TYPES, time_text, values


@dataclass(frozen=True, slots=True)
class Filters:
    """Conditions that all hold for a memory that is found; None and empty: no such condition.

    The entity path is matched by whole segments, at any depth. Every one of `tags` must be there.
    `since` is the first time and `until` the first time no more: since <= written_at < until.
    Deleted and expired memories are never found.
    """

    entity_path: str | None = None
    tags: tuple[str, ...] = ()
    memory_type: str | None = None
    agent_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    min_confidence: float = 0.0

    @classmethod
    def checked(
        cls,
        entity_path: str | None = None,
        *,
        tags: str | Iterable[str] | None = None,
        memory_type: str | None = None,
        agent_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        min_confidence: float = 0.0,
    ) -> Self:
        """Return the filters that a caller gave; `InvalidValueError` names a wrong one."""
        if memory_type is not None and memory_type not in MEMORY_TYPES:
            raise InvalidValueError(
                f"memory_type must be one of {', '.join(MEMORY_TYPES)}, "
                f"not {values.shown(memory_type)}"
            )
        return cls(
            entity_path,
            arguments.texts((tags,) if isinstance(tags, str) else tags or (), "tags"),
            memory_type,
            None if agent_id is None else arguments.text(agent_id, "agent_id"),
            None if since is None else arguments.moment(since, "since"),
            None if until is None else arguments.moment(until, "until"),
            arguments.fraction(min_confidence, "min_confidence"),
        )

    def sql(self) -> tuple[str, tuple[Any, ...]]:
        """Return the condition on the table `memory`, and its parameters."""
        now = time_text(datetime.now(UTC))
        parts = ["memory.deleted = 0", "(memory.expires_at IS NULL OR memory.expires_at > ?)"]
        given: list[Any] = [now]
        if self.entity_path is not None:
            condition, parameters = under(self.entity_path)
            parts.append(condition)
            given += parameters
        for tag in self.tags:
            parts.append("memory.id IN (SELECT memory FROM tag WHERE tag.tag = ?)")
            given.append(tag)
        if self.memory_type is not None:
            parts.append("memory.memory_type = ?")
            given.append(self.memory_type)
        if self.agent_id is not None:
            parts.append("memory.agent_id = ?")
            given.append(self.agent_id)
        if self.since is not None:
            parts.append("memory.written_at >= ?")
            given.append(time_text(self.since))
        if self.until is not None:
            parts.append("memory.written_at < ?")
            given.append(time_text(self.until))
        if self.min_confidence > 0:
            parts.append("memory.confidence >= ?")
            given.append(self.min_confidence)
        return " AND ".join(parts), tuple(given)


def under(entity_path: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the condition that a memory is at or below an entity path, by whole segments."""
    if entity_path is None:
        return "1", ()
    # "0" is the character after "/": between the two are the paths that go deeper.
    condition = "(memory.entity_path = ? OR memory.entity_path > ? AND memory.entity_path < ?)"
    return condition, (entity_path, f"{entity_path}/", f"{entity_path}0")
