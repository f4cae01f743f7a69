"""Every class of errors."""

from __future__ import annotations

from amfs_core import errors
from amfs_core.errors import AMFSError

EVERY_ERROR: list[type[AMFSError]] = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AMFSError)
]
