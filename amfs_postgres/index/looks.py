"""When a catalog was complete under which path: one row for each path, shared by all users.

A refreshing process has a lease on the row for as long as it renews it. The lease keeps others from
doing the same work; nothing else relies on it, because two refreshes do no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from amfs_core.catalog import CatalogLost, Known
from amfs_core.changes import Page
from amfs_core.format import Layout
from amfs_postgres.connections import Link
from amfs_postgres.index.statements import Statements

LEASE_SECONDS = 10.0
KEEP_SECONDS = 2.0

_LOOK = (
    "SELECT s.id, l.scope, l.begun, l.ended, "
    "coalesce(extract(epoch FROM clock_timestamp() - l.ended_at), 0)::float8, l.listed, "
    "coalesce(extract(epoch FROM clock_timestamp() - l.listed_at), 0)::float8, l.position, "
    "l.again, coalesce(extract(epoch FROM l.due - clock_timestamp()), 0)::float8 "
    "FROM {stores} s LEFT JOIN {look} l ON l.store = s.id AND l.scope = ANY(%s::text[]) "
    "WHERE s.id = %s AND NOT s.gone"
)
_BEGIN = (
    "INSERT INTO {look} AS l (store, scope, begun, working, worker, working_since, working_until) "
    "VALUES (%s, %s, 1, 1, %s, clock_timestamp(), clock_timestamp() + %s * interval '1 second') "
    "ON CONFLICT (store, scope) DO UPDATE SET begun = l.begun + 1, working = l.begun + 1, "
    "worker = excluded.worker, working_since = excluded.working_since, "
    "working_until = excluded.working_until "
    "WHERE l.worker IS NULL OR l.worker = excluded.worker OR l.working_until < clock_timestamp() "
    "RETURNING working"
)
_KEEP = (
    "UPDATE {look} SET working_until = clock_timestamp() + %s * interval '1 second' "
    "WHERE store = %s AND scope = %s AND working = %s"
)
_FREE = "working = NULL, worker = NULL, working_since = NULL, working_until = NULL"
_ENDED = "ended = %s, ended_at = working_since, position = %s, again = %s"
_LISTED = (
    "listed = %s, listed_at = working_since, due = clock_timestamp() + %s * interval '1 second'"
)
_MINE = "WHERE store = %s AND scope = %s AND working = %s"


def scope_text(layout: Layout, entity_path: str | None) -> str:
    """Return a path's name in the table."""
    return layout.entity_prefix(entity_path)


def look(
    link: Link, statements: Statements, store: int, layout: Layout, paths: Sequence[str | None]
) -> dict[str | None, Known]:
    """Return what is known of these paths. 1 request; `CatalogLost` when the store's rows are no
    longer in use."""
    names = {scope_text(layout, path): path for path in paths}
    rows = statements.rows(link, _LOOK, (list(names), store))
    if not rows:
        raise CatalogLost
    known = dict.fromkeys(paths, Known())
    for _, scope, begun, ended, age, listed, listed_age, position, again, due_in in rows:
        if scope is not None:
            known[names[scope]] = Known(
                begun, ended, age, listed, listed_age, position, _page(again), due_in
            )
    return known


def begin(link: Link, statements: Statements, store: int, scope: str, worker: str) -> int | None:
    """Take the free lease of a path; return the number of the refresh. 1 request."""
    rows = statements.rows(link, _BEGIN, (store, scope, worker, LEASE_SECONDS))
    return rows[0][0] if rows else None


def keep(link: Link, statements: Statements, store: int, scope: str, number: int) -> None:
    """Renew a lease. 1 request."""
    statements.run(link, _KEEP, (LEASE_SECONDS, store, scope, number))


def let_go(link: Link, statements: Statements, store: int, scope: str, number: int) -> None:
    """Give up a lease. 1 request."""
    statements.run(link, f"UPDATE {{look}} SET {_FREE} {_MINE}", (store, scope, number))


def end(
    link: Link,
    statements: Statements,
    store: int,
    scope: str,
    number: int,
    *,
    position: str | None,
    again: Page,
    due_in: float | None,
) -> None:
    """Note a finished refresh, and give up its lease. If another process has taken the lease, the
    refresh is not noted, because it is older. 1 request."""
    versions = {prefix: version for prefix, (version, _, _) in again.items()}
    columns = [_ENDED]
    values: list[Any] = [number, position, msgspec.json.encode(versions).decode()]
    if due_in is not None:
        columns.append(_LISTED)
        values += [number, due_in]
    statement = f"UPDATE {{look}} SET {', '.join((*columns, _FREE))} {_MINE}"
    statements.run(link, statement, (*values, store, scope, number))


def _page(again: str) -> Page:
    try:
        versions = msgspec.json.decode(again, type=dict[str, int])
    except msgspec.MsgspecError:
        return {}
    return {prefix: (version, 0, None) for prefix, version in versions.items()}
