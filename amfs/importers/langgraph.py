"""The long-term memory of LangGraph: the items of its `SqliteStore` and `PostgresStore`.

An item becomes the memory of its key under the labels of its namespace, with the same value. When
it was created and updated are tags, as in `created=2026-11-27T07:24:25Z`. LangGraph itself is not
needed.

    langgraph/users/alex profile
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple, cast

from amfs.importers.source import attempted, under
from amfs_core import arguments
from amfs_core.errors import InvalidValueError
from amfs_core.format import strict_json
from amfs_core.memory.records import Record, Unreadable

_POSTGRES = re.compile(r"postgres(ql)?://", re.IGNORECASE)


class Item(NamedTuple):
    """A row of the table `store`."""

    prefix: str
    key: str
    value: str | bytes
    created_at: str | None
    updated_at: str | None
    expires_at: str | None


class LangGraphStore:
    """A store in a file of SQLite's, or in PostgreSQL."""

    def __init__(self, source: str, into: str) -> None:
        name = "postgres" if _POSTGRES.match(source) else "sqlite"
        database = importlib.import_module(f"amfs.importers.langgraph_{name}")
        self.origin: str
        self.origin, self._items = cast(
            tuple[str, Callable[[], Iterator[Item]]], database.opened(source)
        )
        self._into = into

    def records(self) -> Iterator[Record | Unreadable]:
        """Yield the items in the order of their names, as they were at one moment."""
        for item in self._items():
            place = f"{item.prefix} {item.key}"
            yield attempted(place, partial(self._record, place, item))

    def _record(self, place: str, item: Item) -> Record:
        value = item.value if isinstance(item.value, bytes) else item.value.encode()
        labels = [arguments.segment(label, "a label") for label in item.prefix.split(".")]
        times = {"created": item.created_at, "updated": item.updated_at}
        return Record(
            place,
            under(self._into, *labels),
            arguments.text(item.key, "its key"),
            strict_json.from_bytes(value),
            tuple(f"{name}={_time(at):%Y-%m-%dT%H:%M:%SZ}" for name, at in times.items() if at),
            None if item.expires_at is None else _time(item.expires_at),
        )


def _time(text: str) -> datetime:
    """Return the time that a database has; SQLite's own are in UTC and do not say so."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidValueError(f"{text!r:.80} is not a time") from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
