"""The three standard streams; a shell may have closed each of them (`amfs ls >&-`)."""

from __future__ import annotations

import os
import sys
from typing import IO

from amfs_core.errors import ConfigurationError


def prepare() -> None:
    """Make stdout and stderr fit for all that is printed. A closed stderr wants to hear nothing."""
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal without UTF-8 is not a reason to fail
            stream.reconfigure(errors="backslashreplace")


def standard_input() -> IO[bytes]:
    """Return standard input; `ConfigurationError` when it is closed, which is not the same as
    empty."""
    if sys.stdin is None:
        raise ConfigurationError(
            "standard input is closed",
            hint="name a file, or send something into it",
        )
    return sys.stdin.buffer


def somebody_types() -> bool:
    """True when standard input is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()
