"""The check whether the configured `cache_dir` can keep a catalog."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile

from amfs_core.doctor import Diagnosis, ok, warning

_HINT = "set cache_dir (AMFS_CACHE_DIR) to a directory on a local disk, or leave it out"


def look(directory: str) -> Diagnosis:
    """Create and remove a scratch database in the directory, or in its nearest existing parent."""
    nearest = os.path.abspath(directory)
    while not os.path.lexists(nearest):
        nearest = os.path.dirname(nearest)
    if not os.path.isdir(nearest):
        return warning(f"{nearest} is not a directory: the catalog is kept in memory", _HINT)
    try:
        with tempfile.TemporaryDirectory(prefix=".amfs-doctor-", dir=nearest) as scratch:
            _make_database(os.path.join(scratch, "catalog"))
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return warning(f"{directory} cannot keep a catalog ({reason})", _HINT)
    made = "exists" if os.path.isdir(directory) else f"will be created in {nearest}"
    return ok(f"{directory} {made} and can keep a catalog")


def _make_database(path: str) -> None:
    """Create a SQLite database like the catalog: it needs file locks, which some disks lack."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE scratch (one INTEGER)")
        connection.commit()
