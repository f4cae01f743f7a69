"""The checks of `amfs doctor` for a database."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from psycopg import sql

from amfs_core.doctor import Check, Diagnosis, Trial, ok, problem, size_text, warning
from amfs_core.errors import AMFSError

if TYPE_CHECKING:
    from amfs_postgres.adapter import PostgresAdapter
    from amfs_postgres.connections import Link

_SERVER = b"""
SELECT current_setting('server_version'), pg_is_in_recovery(), pg_backend_pid(), current_user::text
"""
_DURABILITY = b"""
SELECT current_setting('fsync'), current_setting('full_page_writes'),
    current_setting('synchronous_commit')
"""
_CONNECTIONS = b"""
SELECT current_setting('max_connections')::int,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')
"""
_RIGHTS = b"""
SELECT has_table_privilege(%(t)s, 'INSERT'), has_table_privilege(%(t)s, 'UPDATE')
"""
_NEARLY_ALL = 0.9


class PostgresChecks:
    """The checks of one adapter. `open_store` opens a similar one in the given schema."""

    def __init__(
        self, store: PostgresAdapter, open_store: Callable[[str], PostgresAdapter]
    ) -> None:
        self._store = store
        self._scratch = open_store(f"amfs_doctor_{uuid.uuid4().hex}")
        self._is_there = False
        self._is_made = False

    def all(self) -> Iterator[Check]:
        """Yield the checks in order."""
        try:
            yield Check("server", self._find_server)
            yield Check("durability", self._find_durability, ("server",))
            yield Check("connections", self._count_connections, ("server",))
            yield Check("schema", self._find_schema, ("server",))
            yield Check("writing", self._find_rights, ("schema",))
            tried = self._store if self._is_there else self._scratch
            yield from Trial(tried, "", ("server", "schema"), ("writing",)).checks()
        finally:
            with contextlib.suppress(AMFSError):
                if self._is_made:
                    drop = sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE")
                    name = sql.Identifier(self._scratch.schema)
                    self._scratch.ask(lambda link: link.execute(drop.format(name)))
            self._scratch.close()

    def _find_server(self) -> Diagnosis:
        def look(link: Link) -> tuple[Any, ...]:
            row = link.execute(_SERVER).fetchall()[0]
            return *row, link.info.backend_pid, link.pgconn.ssl_in_use

        version, is_replica, own, user, seen, is_encrypted = self._store.ask(look)
        finding = f"PostgreSQL {version} at {self._store.server}, as {user}"
        finding += ", encrypted" if is_encrypted else ", not encrypted"
        if is_replica:
            return warning(
                f"{finding}: a replica, which may lag, so acknowledged memories may seem absent",
                "name the primary, or several with target_session_attrs=read-write",
            )
        if own != seen:
            finding += ", through a pooler"
            if not self._store.listens_directly:
                return warning(
                    f"{finding}, which passes no notifications on: `watch` polls",
                    "name the server itself with listen_dsn",
                )
        return ok(finding)

    def _find_durability(self) -> Diagnosis:
        ((fsync, pages, synchronous),) = self._rows(_DURABILITY)
        if "off" in (fsync, pages):
            return problem(
                f"fsync {fsync}, full_page_writes {pages}: a crash of the machine may take or "
                "damage anything",
                "turn both on; only a database for tests can do without",
            )
        finding = f"fsync on, synchronous_commit {synchronous}"
        if synchronous not in ("on", "remote_apply"):
            return ok(f"{finding}, which is turned on for each write of ours")
        return ok(finding)

    def _count_connections(self) -> Diagnosis:
        ((most, open_now),) = self._rows(_CONNECTIONS)
        finding = f"{open_now} of {most} are open"
        if open_now > most * _NEARLY_ALL:
            return warning(finding, "raise max_connections, or put PgBouncer before the server")
        return ok(f"{finding}; this process keeps up to {self._store.max_connections}")

    def _find_schema(self) -> Diagnosis:
        name = self._store.schema
        version = self._store.version()
        self._is_there = version > 0
        if not version:
            return ok(f"{name} is not there yet; the first write makes it")
        table = self._table()
        ((size,),) = self._rows(b"SELECT pg_total_relation_size(%s)", (table,))
        return ok(f"{name}: a store of {size_text(size)}, of version {version}")

    def _find_rights(self) -> Diagnosis:
        if not self._is_there:
            self._is_made = True
            self._scratch.prepare()
            return ok("a schema can be made")
        ((may_insert, may_update),) = self._rows(_RIGHTS, {"t": self._table()})
        if not may_insert:
            return warning(
                "this store may only be read: there is no right to INSERT",
                "grant it, if this agent is to write",
                blocks=True,
            )
        if not may_update:
            return ok("INSERT is granted, UPDATE is not, which `amfs purge` needs")
        return ok("INSERT and UPDATE are granted")

    def _table(self) -> str:
        return sql.Identifier(self._store.schema, "objects").as_string()

    def _rows(self, statement: bytes, values: Any = None) -> list[tuple[Any, ...]]:
        return self._store.ask(lambda link: link.execute(statement, values).fetchall())
