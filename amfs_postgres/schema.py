"""The schema of a store or an index: found, identified, made and migrated.

Tables are made by one message of several statements, which is one transaction on the server and
leaves nothing when this process dies. See `docs/design/postgres.md`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import psycopg
from psycopg import errors, sql

from amfs_core.errors import BackendUnavailableError, ConfigurationError
from amfs_postgres.connections import Link

_LONGEST_NAME = 63
"""The most bytes of a name (PostgreSQL, "Identifiers and Key Words"), which cuts longer names
off."""

_OLDEST_SERVER = 130000  # the first release with transaction ids of 64 bits in SQL

_LOOK = b"""
SELECT current_setting('server_version_num')::int,
    pg_encoding_to_char(encoding),
    to_regnamespace(quote_ident(%(schema)s)) IS NOT NULL,
    EXISTS (SELECT FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace
        WHERE nspname = %(schema)s AND relname = %(table)s),
    EXISTS (SELECT FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace
        WHERE nspname = %(schema)s AND relname = 'migrations')
FROM pg_database WHERE datname = current_database()
"""

_LOCK = "SELECT pg_advisory_xact_lock({lock})"

_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE {schema}.migrations (
            version integer PRIMARY KEY,
            applied timestamptz NOT NULL DEFAULT clock_timestamp()
        )
        """,
        """
        CREATE TABLE {schema}.objects (
            key text COLLATE "C" PRIMARY KEY,
            body bytea NOT NULL,
            modified timestamptz NOT NULL DEFAULT clock_timestamp(),
            seq bigint GENERATED ALWAYS AS IDENTITY,
            xid xid8 NOT NULL DEFAULT pg_current_xact_id()
        )
        """,
        "CREATE UNIQUE INDEX objects_changes ON {schema}.objects (xid, seq)",
    ),
)
"""The statements that migrate one version of the tables to the next; the first makes version 1."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of schema. `table` is one of its tables; `migrations` lead from one version to the
    next, the first makes version 1. With `only_adds`, newer releases add tables beside those of
    older ones, so that both work."""

    name: str
    table: str
    migrations: tuple[tuple[str, ...], ...]
    only_adds: bool = False


STORE = Kind("store", "objects", _MIGRATIONS)

_CAME_SECOND = (
    errors.DuplicateTable,
    errors.DuplicateSchema,
    errors.DuplicateObject,
    errors.DuplicateColumn,
    errors.UniqueViolation,  # columns of the system's tables, or our versions
)
_ATTEMPTS = 10


class Schema:
    """One schema of a database, which need not exist yet."""

    def __init__(self, name: object, server: str, kind: Kind | None = None) -> None:
        self.name = _checked(name)
        self._kind = kind or STORE
        self._newest = len(self._kind.migrations)
        self._place = f"the schema {self.name!r} of {server}"
        self._version = 0
        self._is_there = False

    def is_ready(self, link: Link, *, make: bool) -> bool:
        """Whether the tables are there; with `make` they are made or migrated if necessary. Asks
        the server once, and then remembers.

        Raises `ConfigurationError` for tables of another kind or a newer version, and what psycopg
        raises.
        """
        for _ in range(_ATTEMPTS):
            if self._version >= self._newest or (self._version and not make):
                return True
            self._version = version = self.look(link)
            if version >= self._newest:
                return True
            if not make:
                return version > 0
            try:
                link.execute(self._migration(version))
            except _CAME_SECOND:  # another process was quicker, and ours was rolled back
                continue
        raise BackendUnavailableError(f"{self._place} is made and removed again and again")

    def forget(self) -> None:
        """Ask again next time: a table was not there."""
        self._version = 0

    def look(self, link: Link) -> int:
        """Return the version of the tables, 0 when there are none. 2 requests, or 1 if there are
        none."""
        cursor = link.execute(_LOOK, {"schema": self.name, "table": self._kind.table})
        server, encoding, has_schema, has_objects, has_migrations = cursor.fetchall()[0]
        if server < _OLDEST_SERVER:
            raise ConfigurationError(
                f"{self._place}: the server is PostgreSQL {server // 10000}",
                hint="use 13 or newer",
            )
        if encoding != "UTF8":
            raise ConfigurationError(
                f"{self._place}: the database is in {encoding}, which cannot carry every key",
                hint="create one with ENCODING 'UTF8'",
            )
        self._is_there = bool(has_schema)
        if not has_objects and not has_migrations:
            return 0
        if not (has_objects and has_migrations):
            raise ConfigurationError(
                f"{self._place} has tables of another program, and nothing was changed in it",
                hint=f"name another schema for the {self._kind.name}",
            )
        query = sql.SQL("SELECT max(version) FROM {}.migrations").format(sql.Identifier(self.name))
        ((version,),) = link.execute(query).fetchall()
        if not isinstance(version, int) or version < 1:
            raise ConfigurationError(
                f"{self._place} does not say the version of its tables",
                hint="its table 'migrations' is another program's, or lost its rows",
            )
        if version > self._newest and not self._kind.only_adds:
            raise ConfigurationError(
                f"{self._place} is of version {version}, and this AMFS knows versions up to "
                f"{self._newest}",
                hint="install a newer AMFS",
            )
        return version

    def _migration(self, version: int) -> bytes:
        """Return the message that migrates a version to the next."""
        statements = [_LOCK]
        # Only if it is not there: even IF NOT EXISTS takes the right to make schemas.
        if version == 0 and not self._is_there:
            statements.append("CREATE SCHEMA {schema}")
        statements += self._kind.migrations[version]
        statements.append("INSERT INTO {schema}.migrations (version) VALUES ({version})")
        whole = sql.SQL(";\n".join(statements)).format(
            schema=sql.Identifier(self.name),
            version=sql.Literal(version + 1),
            lock=sql.Literal(_lock(self.name)),
        )
        return whole.as_bytes()

    def __repr__(self) -> str:
        return f"Schema({self.name!r})"


def _checked(name: object) -> str:
    if not isinstance(name, str):
        raise ConfigurationError(f"schema must be text, not {type(name).__name__}")
    if not name:
        raise ConfigurationError("schema is empty", hint='the default is "amfs"')
    if "\0" in name or len(name.encode(errors="surrogatepass")) > _LONGEST_NAME:
        raise ConfigurationError(
            f"schema {name!r} cannot be a name", hint=f"names have up to {_LONGEST_NAME} bytes"
        )
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"schema {name!r} has a lone surrogate") from None
    if name.startswith("pg_") or name == "information_schema":
        raise ConfigurationError(
            f"schema {name!r} is PostgreSQL's own", hint="name another one, such as amfs"
        )
    return name


def _lock(schema: str) -> int:
    """Return the number of the advisory lock under which a schema is made."""
    digest = hashlib.sha256(f"amfs schema {schema}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)


def is_missing(error: psycopg.Error) -> bool:
    """Whether a statement failed because a table or its schema is not there."""
    return isinstance(error, errors.UndefinedTable | errors.InvalidSchemaName)
