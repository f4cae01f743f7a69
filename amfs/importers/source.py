"""What a source is: something that can be read as records."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import ClassVar, Protocol

from amfs_core.errors import AMFSError, ConfigurationError
from amfs_core.memory import Record, Unreadable


class Source(Protocol):
    """A place from which the records of one kind are read."""

    path: ClassVar[str]
    """The entity path that its memories are under unless another is named."""

    origin: str
    """What tells this source from others of its kind, the same in every run."""

    def records(self) -> Iterator[Record | Unreadable]:
        """Yield the records in an order that does not change, holding a few at a time.

        Raises `ConfigurationError` when the place is not such a source, `OSError` when it cannot be
        read.
        """
        ...


def attempted(place: str, make: Callable[[], Record]) -> Record | Unreadable:
    """Return a record; where it cannot be made, what is wrong with it."""
    try:
        return make()
    except AMFSError as error:
        return Unreadable(place, error.reason)


def under(into: str, *segments: str) -> str:
    """Return the entity path of segments under another entity path, which may be empty."""
    return "/".join([into, *segments] if into else segments)


def regular_file(path: str, kind: str) -> str:
    """Return the absolute path of a file; `ConfigurationError` for anything else that is there."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ConfigurationError(f"{path!r} is not a file", hint=f"--from {kind} reads a file")
    return os.path.abspath(path)
