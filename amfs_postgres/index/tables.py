"""The tables of an index, and the row of one memory in them.

`stores` and `layouts` are an agreement between releases, and never change. A release whose tables
differ makes its own beside these, with their own number and their own catalogs. By these two tables
it finds the rows that it must erase elsewhere.
"""

from __future__ import annotations

from typing import Any

from amfs_core.format import Address, MemoryEntry, time_text
from amfs_postgres.schema import Kind

LAYOUT = 1
"""The number of this release's tables. A change of their content, such as the terms of a text,
takes the next number."""

TABLES = ("memory", "content", "erased", "posting", "total", "look", "vector")

_MIGRATIONS = (
    (
        """
        CREATE TABLE {schema}.migrations (
            version integer PRIMARY KEY,
            applied timestamptz NOT NULL DEFAULT clock_timestamp()
        )
        """,
        """
        CREATE TABLE {schema}.stores (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            layout integer NOT NULL,
            identity text COLLATE "C" NOT NULL,
            gone boolean NOT NULL DEFAULT false
        )
        """,
        "CREATE UNIQUE INDEX stores_in_use ON {schema}.stores (layout, identity) WHERE NOT gone",
        "CREATE TABLE {schema}.layouts (layout integer PRIMARY KEY, tables text[] NOT NULL)",
        "INSERT INTO {schema}.layouts VALUES (1, '{{"
        + ",".join(f"{name}_1" for name in TABLES)
        + "}}')",
        """
        CREATE TABLE {schema}.memory_1 (
            store bigint NOT NULL,
            id bigint NOT NULL,
            prefix text COLLATE "C" NOT NULL,
            version bigint NOT NULL,
            size bigint NOT NULL,
            modified double precision,
            path text COLLATE "C" NOT NULL,
            written_at text COLLATE "C" NOT NULL,
            agent_id text COLLATE "C" NOT NULL,
            memory_type text COLLATE "C" NOT NULL,
            confidence double precision NOT NULL,
            tags text[] COLLATE "C" NOT NULL,
            expires_at text COLLATE "C",
            deleted boolean NOT NULL,
            searchable boolean NOT NULL,
            length integer NOT NULL,
            PRIMARY KEY (store, id)
        )
        """,
        """
        CREATE UNIQUE INDEX memory_1_listed ON {schema}.memory_1 (store, prefix)
            INCLUDE (id, version, size, modified)
        """,
        """
        CREATE INDEX memory_1_sequence ON {schema}.memory_1 (store, path, written_at, prefix)
            INCLUDE (id)
        """,
        "CREATE INDEX memory_1_newest ON {schema}.memory_1 (store, written_at DESC, prefix)",
        "CREATE INDEX memory_1_tags ON {schema}.memory_1 USING gin (tags)",
        """
        CREATE TABLE {schema}.content_1 (
            store bigint NOT NULL,
            id bigint NOT NULL,
            body bytea NOT NULL,
            terms text NOT NULL,
            PRIMARY KEY (store, id)
        )
        """,
        """
        CREATE TABLE {schema}.erased_1 (
            store bigint NOT NULL,
            prefix text COLLATE "C" NOT NULL,
            version bigint NOT NULL,
            PRIMARY KEY (store, prefix)
        )
        """,
        """
        CREATE TABLE {schema}.posting_1 (
            store bigint NOT NULL,
            term text COLLATE "C" NOT NULL,
            block integer NOT NULL,
            postings bytea NOT NULL,
            PRIMARY KEY (store, term, block)
        )
        """,
        "ALTER TABLE {schema}.posting_1 ALTER COLUMN postings SET STORAGE EXTERNAL",
        """
        CREATE TABLE {schema}.total_1 (
            store bigint PRIMARY KEY,
            last_id bigint NOT NULL DEFAULT 0,
            memories bigint NOT NULL DEFAULT 0,
            length bigint NOT NULL DEFAULT 0
        )
        """,
        """
        CREATE TABLE {schema}.look_1 (
            store bigint NOT NULL,
            scope text COLLATE "C" NOT NULL,
            begun bigint NOT NULL DEFAULT 0,
            ended bigint NOT NULL DEFAULT 0,
            ended_at timestamptz,
            listed bigint NOT NULL DEFAULT 0,
            listed_at timestamptz,
            position text,
            again text NOT NULL DEFAULT '{{}}',
            due timestamptz,
            working bigint,
            worker text,
            working_since timestamptz,
            working_until timestamptz,
            PRIMARY KEY (store, scope)
        )
        """,
        """
        CREATE TABLE {schema}.vector_1 (
            store bigint NOT NULL,
            embedder text NOT NULL,
            id bigint NOT NULL,
            data real[] NOT NULL,
            PRIMARY KEY (store, embedder, id)
        )
        """,
        "ALTER TABLE {schema}.vector_1 ALTER COLUMN data SET STORAGE EXTERNAL",
    ),
)

INDEX = Kind("index", "stores", _MIGRATIONS, only_adds=True)

Row = tuple[Any, ...]
"""The columns of `memory` from `prefix` to `searchable`."""

COLUMNS = {
    "prefix": "text",
    "version": "bigint",
    "size": "bigint",
    "modified": "float8",
    "path": "text",
    "written_at": "text",
    "agent_id": "text",
    "memory_type": "text",
    "confidence": "float8",
    "tags": "text",
    "expires_at": "text",
    "deleted": "bool",
    "searchable": "bool",
}


def row(address: Address, entry: MemoryEntry, size: int, modified: float | None) -> Row:
    """Return the row of a memory whose newest version is this."""
    return (
        address.prefix,
        entry.version,
        size,
        modified,
        path_of(address.prefix),
        time_text(entry.provenance.written_at),
        plain(entry.provenance.agent_id),
        entry.memory_type,
        entry.confidence,
        _array(entry.tags),
        entry.expires_at and time_text(entry.expires_at),
        entry.deleted,
        bool(entry.index and not entry.deleted),
    )


def path_of(prefix: str) -> str:
    """Return the part of a memory's prefix that names its entity path."""
    return prefix[: prefix.rindex("/", 0, -1) + 1]


def plain(text: str) -> str:
    """Return a text in a form for PostgreSQL, which takes neither NUL nor half a surrogate pair:
    these are written after a backslash, and a backslash is doubled."""
    safe = text.replace("\\", "\\\\").replace("\0", "\\0")
    return safe.encode("utf-8", "backslashreplace").decode()


def _array(texts: tuple[str, ...]) -> str:
    """Return texts as an array in PostgreSQL's notation."""
    quoted = (plain(text).replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{text}"' for text in quoted) + "}"
