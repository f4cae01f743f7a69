"""The catalogs of many stores in one database, for all agents (docs/design/shared-index.md)."""

from amfs_postgres.index.index import PostgresIndex

__all__ = ["PostgresIndex"]
