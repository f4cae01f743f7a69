"""The long-term memory of LangGraph: the items of its `SqliteStore` and `PostgresStore`.

An item becomes a memory under its key, with the labels of its namespace as the entity path. Place
and form are those of `AMFSStore`, so a graph can continue with its old items. LangGraph itself need
not be installed.

    store/users/alex profile    {"namespace": ["users", "alex"], "key": "profile", "value": …}
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar, NamedTuple, cast

from amfs.importers.source import attempted, under
from amfs_core import arguments
from amfs_core.errors import InvalidKeyError, InvalidValueError
from amfs_core.format import escape, strict_json
from amfs_core.memory import Record, Unreadable

MAX_LABEL_BYTES = 100
"""The longest label or key, escaped as in an object key."""

_EMPTY = "%"  # stands for an empty label; no other label looks like it, as a percent sign is %25
_POSTGRES = re.compile(r"postgres(ql)?://", re.IGNORECASE)


class Item(NamedTuple):
    """A row of the table `store`; `ttl` is in minutes."""

    prefix: str
    key: str
    value: str | bytes
    created_at: str | None
    updated_at: str | None
    expires_at: str | None
    ttl: float | None


class LangGraphStore:
    """A LangGraph store in a SQLite file or in PostgreSQL."""

    path: ClassVar[str] = "store"

    def __init__(self, source: str, into: str) -> None:
        name = "postgres" if _POSTGRES.match(source) else "sqlite"
        database = importlib.import_module(f"amfs.importers.langgraph_{name}")
        self.origin: str
        self.origin, self._items = cast(
            tuple[str, Callable[[], Iterator[Item]]], database.opened(source)
        )
        self._into = into

    def records(self) -> Iterator[Record | Unreadable]:
        """Yield the items sorted by name, from one snapshot of the database."""
        for item in self._items():
            place = f"{item.prefix} {item.key}"
            yield attempted(place, partial(self._record, place, item))

    def _record(self, place: str, item: Item) -> Record:
        namespace = item.prefix.split(".")
        value = strict_json.from_bytes(
            item.value if isinstance(item.value, bytes) else item.value.encode()
        )
        if type(value) is not dict:
            raise InvalidValueError("its value is not an object")
        kept: dict[str, Any] = {
            "namespace": namespace,
            "key": item.key,
            "value": value,
            "created_at": _time(item.created_at, "created_at").isoformat(),
            "updated_at": _time(item.updated_at, "updated_at").isoformat(),
        }
        if item.ttl is not None:
            kept["ttl"] = float(item.ttl)
        return Record(
            place,
            under(self._into, *(_label(name, "namespace label") for name in namespace)),
            _label(item.key, "key"),
            kept,
            expires_at=None if item.expires_at is None else _time(item.expires_at, "expires_at"),
        )


def _label(name: str, what: str) -> str:
    """Return a label or key as a segment of a memory's name."""
    label = arguments.segment(name, what) if name else _EMPTY
    if len(escape(label, what).encode()) > MAX_LABEL_BYTES:
        raise InvalidKeyError(f"its {what} {name!r:.40} takes more than {MAX_LABEL_BYTES} bytes")
    return label


def _time(text: str | None, what: str) -> datetime:
    """Return a time from the database; times from SQLite are in UTC but have no time zone."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError as error:
        raise InvalidValueError(f"its {what} is not a time: {text!r:.80}") from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
