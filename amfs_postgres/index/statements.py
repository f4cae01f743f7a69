"""Statements of an index: `{memory}` in one is the table of this release's layout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import sql

from amfs_postgres.connections import Link
from amfs_postgres.index.tables import LAYOUT, TABLES

WRITING = b"BEGIN ISOLATION LEVEL READ COMMITTED"
LOOKING = b"BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"


class Statements:
    """Sends statements to the tables of one schema, and counts them."""

    def __init__(self, schema: str) -> None:
        self._names = {
            name: sql.Identifier(schema, f"{name}_{LAYOUT}").as_string() for name in TABLES
        }
        self._names |= {
            name: sql.Identifier(schema, name).as_string() for name in ("stores", "layouts")
        }
        self._texts: dict[str, bytes] = {}
        self.sent = 0

    def name(self, table: str) -> str:
        """Return the name of a table of this release's layout for use in a statement."""
        return self._names[table]

    def rows(self, link: Link, statement: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        """Return the rows of a statement. 1 request."""
        return self._sent(link, statement, parameters).fetchall()

    def run(self, link: Link, statement: str, parameters: tuple[Any, ...] = ()) -> int:
        """Send a statement, and return the number of affected rows. 1 request."""
        return self._sent(link, statement, parameters).rowcount

    @contextmanager
    def transaction(self, link: Link, begin: bytes) -> Iterator[None]:
        """Commit all statements inside, or none. 2 requests."""
        self.sent += 2
        link.execute(begin)
        try:
            yield
        except BaseException:
            if not link.closed:
                with suppress(psycopg.Error):
                    link.execute(b"ROLLBACK")
            raise
        link.execute(b"COMMIT")

    def _sent(
        self, link: Link, statement: str, parameters: tuple[Any, ...]
    ) -> psycopg.Cursor[tuple[Any, ...]]:
        text = self._texts.get(statement)
        if text is None:
            whole = statement
            for name, table in self._names.items():
                whole = whole.replace(f"{{{name}}}", table)
            text = whole.encode()
            if len(self._texts) < 1000:  # there are a few hundred combinations of filters
                self._texts[statement] = text
        self.sent += 1
        return link.execute(text, parameters, binary=True)
