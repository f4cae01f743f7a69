"""Records with named fields, as the values of memories."""

from __future__ import annotations

from typing import Any

from amfs_core.errors import InvalidValueError
from amfs_core.format import MemoryEntry


def value(**fields: Any) -> dict[str, Any]:
    """Return fields as the value of a memory, without those that are None."""
    return {name: field for name, field in fields.items() if field is not None}


def record(entry: MemoryEntry, what: str, among: str, **kinds: type) -> dict[str, Any]:
    """Return the value of a memory, if it is an object that has these fields.

    Raises `InvalidValueError` for anything else. Its message says that the value is not a `what`,
    and that the `among` belong under another path.
    """
    value = entry.value
    if type(value) is dict and all(type(value.get(name)) is kind for name, kind in kinds.items()):
        return value
    raise InvalidValueError(
        f"{entry.entity_path}/{entry.key} is not a {what}",
        hint=f"delete it, or keep {among} under another path",
        entity_path=entry.entity_path,
        key=entry.key,
    )
