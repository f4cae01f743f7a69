"""A LangGraph store in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from amfs.importers.langgraph import Item
from amfs_core.errors import ConfigurationError

try:
    import psycopg

    from amfs_postgres.dsn import Dsn
    from amfs_postgres.failures import said, translated
except ImportError as error:
    raise ConfigurationError(
        f"a LangGraph store in PostgreSQL needs an extra ({error})",
        hint="pip install 'amfs[postgres]'",
    ) from error

ROWS = 20
"""Rows fetched at a time; few, because each may be large."""

_TIME = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
_TIMES = ", ".join(_TIME.format(name) for name in ("created_at", "updated_at", "expires_at"))
_SELECT = f"SELECT prefix, key, value::text, {_TIMES}, ttl_minutes FROM store ORDER BY prefix, key"


def opened(source: str) -> tuple[str, Callable[[], Iterator[Item]]]:
    """Return the identity of the store, and a function that yields its items."""
    dsn = Dsn.parse(source, "the source")
    options = dsn.parameters.get("options", "")  # may select another schema
    return f"{dsn.server} {options}".rstrip(), partial(_items, dsn)


def _items(dsn: Dsn) -> Iterator[Item]:
    parameters = {"fallback_application_name": "amfs", **dsn.parameters, "client_encoding": "UTF8"}
    try:
        with psycopg.connect(**parameters) as connection:  # type: ignore[arg-type]
            connection.read_only = True
            # A server-side cursor: the client holds a few rows at a time.
            with connection.cursor("amfs_import") as cursor:
                cursor.itersize = ROWS
                cursor.execute(_SELECT)
                for row in cursor:
                    yield Item(*row)
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        raise ConfigurationError(
            f"{dsn.server} has no LangGraph store: {said(error)}",
            hint="name its schema, as in postgresql://HOST/DATABASE?options=-csearch_path%3DNAME",
        ) from error
    except psycopg.Error as error:
        raise translated(error, dsn.redacted(said(error)), "", "read", dsn.server) from error
