"""The SQLite adapter: one file as a store."""

from amfs_sqlite.adapter import SqliteAdapter

__all__ = ["SqliteAdapter"]
