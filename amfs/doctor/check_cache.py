"""Whether the catalog can be kept where the configuration says."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile

from amfs_core.doctor import Diagnosis, ok, warning

_MEND = "set cache_dir (AMFS_CACHE_DIR) to a directory of a local disk, or leave it out"


def look(directory: str) -> Diagnosis:
    """Make a scratch database there, or where the directory would be made, and remove it."""
    nearest = os.path.abspath(directory)
    while not os.path.lexists(nearest):
        nearest = os.path.dirname(nearest)
    if not os.path.isdir(nearest):
        return warning(f"{nearest} is not a directory: the catalog is kept in memory", _MEND)
    try:
        with tempfile.TemporaryDirectory(prefix=".amfs-doctor-", dir=nearest) as scratch:
            _make_database(os.path.join(scratch, "catalog"))
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return warning(f"{directory}: no catalog can be kept there ({reason})", _MEND)
    made = "is there" if os.path.isdir(directory) else f"will be made in {nearest}"
    return ok(f"{directory} {made}; a catalog can be kept in it")


def _make_database(path: str) -> None:
    """Make a database as the catalog is: it needs file locks, which not all disks have."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE scratch (one INTEGER)")
        connection.commit()
