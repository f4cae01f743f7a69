"""The three standard streams; a shell may have closed any of them (`amfs ls >&-`)."""

from __future__ import annotations

import os
import sys
from typing import IO

from amfs_core.errors import ConfigurationError


def prepare() -> None:
    """Make stdout and stderr able to print any text. Messages for a closed stderr are discarded."""
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal without UTF-8 is not a reason to fail
            stream.reconfigure(errors="backslashreplace")


def standard_input() -> IO[bytes]:
    """Return standard input; raises `ConfigurationError` when it is closed (not merely empty)."""
    if sys.stdin is None:
        raise ConfigurationError(
            "standard input is closed",
            hint="name a file, or pipe data into the command",
        )
    return sys.stdin.buffer


def somebody_types() -> bool:
    """True when standard input is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()
