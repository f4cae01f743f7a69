"""The statements of a store: each is one message, and one transaction."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

_DURABLE = """
WITH durable AS MATERIALIZED (
    SELECT CASE WHEN current_setting('synchronous_commit') IN ('on', 'remote_apply') THEN 'as it is'
        ELSE set_config('synchronous_commit', 'on', true) END AS setting
)
"""
"""For this transaction alone: its commit is flushed before it is acknowledged, whatever the role,
the database or the server sets."""

_CREATE = (
    _DURABLE
    + """
INSERT INTO {objects} (key, body)
SELECT %t::text, %b::bytea FROM durable WHERE setting IS NOT NULL
ON CONFLICT (key) DO NOTHING
"""
)

_CREATE_MANY = (
    _DURABLE
    + """
INSERT INTO {objects} (key, body)
SELECT new.key, new.body FROM durable, unnest(%t::text[], %b::bytea[]) AS new (key, body)
WHERE setting IS NOT NULL
ON CONFLICT (key) DO NOTHING
RETURNING key
"""
)

_REPLACE = (
    _DURABLE
    + """
INSERT INTO {objects} (key, body)
SELECT %t::text, %b::bytea FROM durable WHERE setting IS NOT NULL
ON CONFLICT (key) DO UPDATE
SET body = excluded.body, modified = DEFAULT, seq = DEFAULT, xid = DEFAULT
"""
)

_LIST = """
SELECT key, octet_length(body), (extract(epoch FROM modified) * 1000000)::bigint
FROM {objects} WHERE key > %(after)t {before} ORDER BY key LIMIT 1000
"""

_HERE = (
    "(SELECT system_identifier FROM pg_control_system()) || '.' || "
    "(SELECT timeline_id FROM pg_control_checkpoint()) || '.' || pg_current_snapshot()::text"
)
"""The server and its timeline, and the present snapshot of its transactions."""

_SINCE = f"""
SELECT {_HERE}, ARRAY(
    SELECT key FROM {{objects}}
    WHERE xid >= pg_snapshot_xmin(%(snapshot)t::pg_snapshot)
        AND xid < pg_snapshot_xmax(pg_current_snapshot())
        AND NOT pg_visible_in_snapshot(xid, %(snapshot)t::pg_snapshot)
        AND starts_with(key, %(prefix)t)
    ORDER BY xid, seq
)
"""


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements for the methods of the contract. There are two for listings: below a prefix,
    and of everything."""

    create: bytes
    create_many: bytes
    replace: bytes
    get: bytes
    get_many: bytes
    delete: bytes
    list_below: bytes
    list_all: bytes
    position: bytes
    since: bytes

    @classmethod
    def of(cls, schema: str) -> Statements:
        """Return the statements for the table of a schema."""
        objects = sql.Identifier(schema, "objects").as_string()

        def statement(text: str, before: str = "") -> bytes:
            return text.replace("{objects}", objects).replace("{before}", before).encode()

        return cls(
            create=statement(_CREATE),
            create_many=statement(_CREATE_MANY),
            replace=statement(_REPLACE),
            get=statement("SELECT body FROM {objects} WHERE key = %t"),
            get_many=statement("SELECT key, body FROM {objects} WHERE key = ANY(%t)"),
            delete=statement("DELETE FROM {objects} WHERE key = %t"),
            list_below=statement(_LIST, "AND key < %(before)t"),
            list_all=statement(_LIST),
            position=f"SELECT {_HERE}".encode(),
            since=statement(_SINCE),
        )
