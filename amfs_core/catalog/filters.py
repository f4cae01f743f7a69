"""Filters: exact conditions on the newest versions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from amfs_core import arguments
from amfs_core.errors import InvalidValueError
from amfs_core.format import MEMORY_TYPES, MemoryEntry, values


@dataclass(frozen=True, slots=True)
class Filters:
    """Conditions that every found memory satisfies; None or empty means no condition.

    The entity path is matched by whole segments, at any depth. All of `tags` must be present.
    `since` is inclusive and `until` exclusive: since <= written_at < until.
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

    def lets_through(self, entry: MemoryEntry, at: datetime) -> bool:
        """Whether a newest version satisfies all conditions and is live at a time."""
        path, written = self.entity_path, entry.provenance.written_at
        return (
            entry.is_live(at)
            and (
                path is None
                or entry.entity_path == path
                or entry.entity_path.startswith(f"{path}/")
            )
            and set(self.tags) <= set(entry.tags)
            and self.memory_type in (None, entry.memory_type)
            and self.agent_id in (None, entry.provenance.agent_id)
            and (self.since is None or written >= self.since)
            and (self.until is None or written < self.until)
            and entry.confidence >= self.min_confidence
        )
