"""The checks of `amfs doctor` for an index. They make nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from psycopg import sql

from amfs_core.doctor import Check, Diagnosis, ok, problem, size_text, warning
from amfs_postgres.index.tables import INDEX, LAYOUT, TABLES

if TYPE_CHECKING:
    from amfs_postgres.connections import Link
    from amfs_postgres.index.index import PostgresIndex

_SERVER = b"""
SELECT current_setting('server_version'), pg_is_in_recovery(), current_user::text,
    has_database_privilege(current_database(), 'CREATE'),
    EXISTS (SELECT FROM pg_extension WHERE extname = 'vector'),
    EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector')
"""
_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")


class IndexChecks:
    """The checks of one index."""

    def __init__(self, index: PostgresIndex) -> None:
        self._index = index

    def all(self) -> Iterator[Check]:
        """Yield the checks in order."""
        yield Check("index", self._find_server)
        yield Check("index tables", self._find_tables, ("index",))

    def _find_server(self) -> Diagnosis:
        ((version, is_replica, user, may_make, has_vectors, could),) = self._rows(_SERVER)
        finding = f"PostgreSQL {version} at {self._index.server}, as {user}"
        if is_replica:
            return problem(
                f"{finding}: a replica, which takes no writes",
                "name the primary, because every search may update the index",
            )
        if not self._index.version() and not may_make:
            return problem(
                f"{finding}: there is no schema {self._index.schema!r}, and this role may not make "
                "one",
                "let a role that may call PostgresIndex(dsn).prepare() once, and grant this one "
                "the tables (docs/security.md)",
            )
        if has_vectors:
            return ok(f"{finding}, with pgvector")
        return ok(
            f"{finding}, without pgvector"
            + (", which is made when it is needed" if could else "; vectors are compared here")
        )

    def _find_tables(self) -> Diagnosis:
        index = self._index
        version = index.version()
        if not version:
            return ok(f"{index.schema} is not there yet; the first search makes it")
        newest = len(INDEX.migrations)
        if version < newest:
            return ok(f"{index.schema} is of version {version}; the next search adds to it")
        names = [sql.Identifier(index.schema, f"{table}_{LAYOUT}").as_string() for table in TABLES]
        for name in names:
            rights = b"SELECT has_table_privilege(%s, right_) FROM unnest(%s::text[]) AS right_"
            allowed = [privilege for (privilege,) in self._rows(rights, (name, list(_RIGHTS)))]
            missing = [right for right, may in zip(_RIGHTS, allowed, strict=True) if not may]
            if missing:
                return warning(
                    f"{name} may not be used: there is no right to {', '.join(missing)}",
                    "grant it, because every search may update the index (docs/security.md)",
                )
        sizes = (
            b"SELECT sum(pg_total_relation_size(name::regclass))::bigint "
            b"FROM unnest(%s::text[]) AS name"
        )
        ((size,),) = self._rows(sizes, (names,))
        stores = sql.Identifier(index.schema, "stores").as_string()
        ((catalogs,),) = self._rows(f"SELECT count(*) FROM {stores} WHERE NOT gone".encode())
        memories = sql.Identifier(index.schema, f"total_{LAYOUT}").as_string()
        ((memory_count,),) = self._rows(
            f"SELECT coalesce(sum(memories), 0)::bigint FROM {memories}".encode()
        )
        return ok(
            f"{index.schema}: {memory_count:,} memories of {catalogs} catalogs, {size_text(size)}, "
            f"of version {version}"
        )

    def _rows(self, statement: bytes, values: Any = None) -> list[tuple[Any, ...]]:
        def ask(link: Link) -> list[tuple[Any, ...]]:
            return link.execute(statement, values).fetchall()

        return self._index.run_once(ask)
