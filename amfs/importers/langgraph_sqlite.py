"""A LangGraph store in a SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from amfs.importers.langgraph import Item
from amfs.importers.source import regular_file
from amfs_core.errors import ConfigurationError
from amfs_sqlite.failures import translated

LOCK_SECONDS = 1.0
"""How long to wait for a writer; short, because Ctrl-C has no effect while SQLite waits."""

_COLUMNS = ("prefix", "key", "value", "created_at", "updated_at", "expires_at", "ttl_minutes")
_ADDED = ("expires_at", "ttl_minutes")  # by a later release of LangGraph


def opened(source: str) -> tuple[str, Callable[[], Iterator[Item]]]:
    """Return the identity of the store, and a function that yields its items."""
    path = regular_file(source.removeprefix("sqlite:///"), "langgraph")
    if not Path(path).exists():
        raise FileNotFoundError(2, "No such file or directory", source)
    return path, partial(_items, path)


def _items(path: str) -> Iterator[Item]:
    try:
        place = f"{Path(path).as_uri()}?mode=ro"
        with closing(sqlite3.connect(place, timeout=LOCK_SECONDS, uri=True)) as database:
            there = {row[1] for row in database.execute("PRAGMA table_info(store)")}
            if missing := [name for name in _COLUMNS if name not in {*there, *_ADDED}]:
                raise ConfigurationError(
                    f"{path} is not a LangGraph store: its table 'store' has no {missing[0]!r}"
                    if there
                    else f"{path} is not a LangGraph store: it has no table 'store'"
                )
            columns = ", ".join(name if name in there else f"NULL AS {name}" for name in _COLUMNS)
            for row in database.execute(f"SELECT {columns} FROM store ORDER BY prefix, key"):
                yield Item(*row)
    except sqlite3.Error as error:
        raise translated(error, path, "store", "read") from error
