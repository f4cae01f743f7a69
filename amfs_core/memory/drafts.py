"""What callers give to `write` and `write_many`, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from amfs_core import arguments
from amfs_core.errors import InvalidValueError
from amfs_core.format import MEMORY_TYPES, Draft, MemoryEntry, Provenance, named, values
from amfs_core.spelling import did_you_mean
from amfs_core.versions import new_write_id

GIVEN = (
    *named(MemoryEntry, lambda field: field.given),
    *named(Provenance, lambda field: field.given),
)
"""The fields of an entry that a write takes."""

WRITE_PARAMETERS = (*GIVEN, "ttl", "expected_version")


def draft(
    agent_id: str,
    session_id: str,
    value: Any,
    *,
    confidence: float = 1.0,
    tags: Iterable[str] = (),
    memory_type: str = "fact",
    ttl: float | timedelta | None = None,
    expires_at: datetime | None = None,
    pattern_refs: Iterable[str] = (),
    write_id: str | None = None,
    index: bool = True,
) -> Draft:
    """Return a checked draft of a version."""
    value = values.copied(value)
    if ttl is not None and expires_at is not None:
        raise InvalidValueError("give ttl or expires_at, not both", says_written=True)
    if type(memory_type) is not str or memory_type not in MEMORY_TYPES:
        raise InvalidValueError(
            f"memory_type must be one of {', '.join(MEMORY_TYPES)}, not {values.shown(memory_type)}"
        )
    return Draft(
        new_write_id() if write_id is None else arguments.text(write_id, "write_id"),
        agent_id,
        session_id,
        value,
        arguments.fraction(confidence, "confidence"),
        () if tags == () else arguments.texts(tags, "tags"),
        memory_type,
        None if ttl is None else arguments.lifetime(ttl),
        None if expires_at is None else arguments.moment(expires_at, "expires_at"),
        () if pattern_refs == () else arguments.texts(pattern_refs, "pattern_refs"),
        index=arguments.flag(index, "index"),
    )


def items(batch: object) -> list[dict[str, Any]]:
    """Return what `write_many` takes: dicts with the names of `write`'s parameters."""
    if isinstance(batch, str | bytes | Mapping) or not isinstance(batch, Iterable):
        raise InvalidValueError(f"items must be a list of dicts, not {type(batch).__name__}")
    return [_item(parameters, index) for index, parameters in enumerate(batch)]


def _item(parameters: object, index: int) -> dict[str, Any]:
    if type(parameters) is not dict:
        raise InvalidValueError(f"item {index} must be a dict, not {type(parameters).__name__}")
    for name in parameters:
        if name not in WRITE_PARAMETERS:
            meant = did_you_mean(str(name), WRITE_PARAMETERS)
            raise InvalidValueError(f"item {index} has an unknown field {name!r}{meant}")
    for name in ("entity_path", "key", "value"):
        if name not in parameters:
            raise InvalidValueError(f"item {index} has no {name!r}")
    return parameters
