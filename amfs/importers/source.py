"""The contract of a source: something that can be read as records."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import ClassVar, Protocol

from amfs_core.errors import AMFSError, ConfigurationError
from amfs_core.memory import Record, Unreadable


class Source(Protocol):
    """A place with records of one kind."""

    path: ClassVar[str]
    """The default entity path for its memories."""

    origin: str
    """Identifies this source among others of its kind; the same in every run."""

    def records(self) -> Iterator[Record | Unreadable]:
        """Yield the records in a stable order, holding only a few in memory.

        Raises `ConfigurationError` when the place is not such a source, `OSError` when it cannot be
        read.
        """
        ...


def attempted(place: str, make: Callable[[], Record]) -> Record | Unreadable:
    """Return the record that `make` returns, or the reason why it cannot be made."""
    try:
        return make()
    except AMFSError as error:
        return Unreadable(place, error.reason)


def under(into: str, *segments: str) -> str:
    """Return the entity path of segments under the entity path `into`, which may be empty."""
    return "/".join([into, *segments] if into else segments)


def regular_file(path: str, kind: str) -> str:
    """Return the absolute path of a file; raises `ConfigurationError` if it is anything else."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ConfigurationError(f"{path!r} is not a file", hint=f"--from {kind} reads a file")
    return os.path.abspath(path)
