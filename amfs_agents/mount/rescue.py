"""Content that could not be stored, kept in files of this machine."""

from __future__ import annotations

import os
import re
import uuid
from datetime import UTC, datetime

from amfs_agents.mount.names import Name

_UNSAFE = re.compile(r"[^\w.-]+")


class Rescue:
    """A directory of the user's, made when there is something to keep."""

    def __init__(self, directory: str) -> None:
        self.directory = os.path.abspath(directory)

    def keep(self, name: Name, data: bytes) -> str:
        """Write content into a new file that only the user may read; return its path. Raises
        `OSError`."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        readable = _UNSAFE.sub("-", name.path)[:60].strip("-.")
        path = os.path.join(self.directory, f"{moment}-{readable}-{uuid.uuid4().hex[:8]}")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return path
