"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import uuid


def put(file: str, data: bytes) -> None:
    """Create or replace a file; a crash leaves either the old content or the new."""
    temporary = f"{file}.{uuid.uuid4().hex[:8]}.part"
    try:
        with open(temporary, "xb") as part:
            part.write(data)
            part.flush()
            os.fsync(part.fileno())
        os.replace(temporary, file)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
