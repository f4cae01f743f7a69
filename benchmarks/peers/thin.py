"""What a driver does with its peer. What a driver does not override, its peer cannot do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

Value = dict[str, Any]


class Item(NamedTuple):
    """One memory to be written."""

    path: str
    key: str
    value: Value


class Cannot(Exception):
    """The peer has no such ability; the message is what the page says of it."""


class Thin:
    """A peer, opened. `place` says where: a directory, or a bucket and how to reach it."""

    package: ClassVar[str] = ""
    """The distribution whose version is told; none for what comes with Python."""
    lasting: ClassVar[bool] = True
    """Whether anything outlives the process."""
    durability: str
    """What has happened to a write that returned, in a few words."""

    def __init__(self, place: dict[str, str]) -> None:
        raise NotImplementedError

    def write(self, path: str, key: str, value: Value) -> None:
        """Write a new version, or the first one."""
        raise NotImplementedError

    def fill(self, items: Sequence[Item]) -> None:
        """Write many at once, by the best means that the peer has."""
        for item in items:
            self.write(*item)

    def read(self, path: str, key: str) -> Value | None:
        """Return the newest value."""
        raise NotImplementedError

    def read_version(self, path: str, key: str, version: int) -> Value:
        """Return the value that a version has; the first is 1."""
        raise Cannot("no versions")

    def versions(self, path: str, key: str) -> list[Value]:
        """Return the values of all versions."""
        raise Cannot("no versions")

    def add_one(self, path: str, key: str) -> None:
        """Count up `value["count"]` so that no other process's counting is lost."""
        raise Cannot("no shared writers")

    def list(self) -> int:
        """Get every newest value and return how many there are."""
        raise Cannot("no list")

    def search(self, words: str) -> int:
        """Return how many are found for some words, at most 10."""
        raise Cannot("no text search")

    def search_seen(self, words: str) -> int:
        """Search among what was seen a while ago, if that is cheaper."""
        raise Cannot("no such choice")

    def watch(self, path: str, callback: Callable[[Value], None]) -> Callable[[], None]:
        """Have the callback called for what other processes write; return what ends that."""
        raise Cannot("no watch")

    def close(self) -> None:
        """Let go of everything."""
