"""Where the commands of one user keep catalogs between runs."""

from __future__ import annotations

import logging
import os

_log = logging.getLogger("amfs")


def catalogs() -> str | None:
    """Return a directory of the user's that nobody else may read, made if need be; None where there
    cannot be one, as without a home directory or on a read-only disk: then nothing is kept."""
    try:
        import platformdirs

        directory = os.path.join(platformdirs.user_cache_dir("amfs", appauthor=False), "catalogs")
        if not os.path.isabs(directory):  # "~", as nobody knows the home directory
            return None
        os.makedirs(directory, mode=0o700, exist_ok=True)
        if not os.access(directory, os.W_OK | os.X_OK):
            return None
    except (ImportError, OSError, RuntimeError, KeyError) as error:
        _log.debug("no catalog is kept: %s", error)
        return None
    return directory
