"""The PostgreSQL adapter: a table of a schema as a store."""

from amfs_postgres.adapter import PostgresAdapter

__all__ = ["PostgresAdapter"]
