"""The directory where a user's commands keep catalogs between runs."""

from __future__ import annotations

import logging
import os

_log = logging.getLogger("amfs")


def catalogs() -> str | None:
    """Return a private cache directory of the user, creating it if necessary.

    Returns None when there cannot be one, for example without a home directory or on a read-only
    disk; then no catalog is kept.
    """
    try:
        import platformdirs

        directory = os.path.join(platformdirs.user_cache_dir("amfs", appauthor=False), "catalogs")
        if not os.path.isabs(directory):  # "~": the home directory is unknown
            return None
        os.makedirs(directory, mode=0o700, exist_ok=True)
        if not os.access(directory, os.W_OK | os.X_OK):
            return None
    except (ImportError, OSError, RuntimeError, KeyError) as error:
        _log.debug("cannot keep a catalog: %s", error)
        return None
    return directory
