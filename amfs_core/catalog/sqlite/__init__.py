"""The catalog in SQLite: in memory, or a file that processes share."""
