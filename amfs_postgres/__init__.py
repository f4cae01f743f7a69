"""The PostgreSQL adapter: a table of a schema as a store."""

try:
    from amfs_postgres.adapter import PostgresAdapter
except ImportError as error:  # psycopg, or the libpq that it needs
    raise ImportError(
        f"amfs_postgres needs its extra: pip install 'amfs[postgres]' ({error})"
    ) from error

__all__ = ["PostgresAdapter"]
