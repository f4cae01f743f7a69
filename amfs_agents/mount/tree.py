"""The known files and directories, so that not every look at a file is a request."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from amfs import AgentMemory, MemoryEntry
from amfs_agents.files import children, content
from amfs_agents.mount.names import Name

_MOST = 100_000
"""The number of files that are remembered without a listing."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """A file: its size in bytes, and when it was written, in nanoseconds since 1970."""

    version: int
    size: int
    written: int
    is_live: bool = True


class Tree:
    """Files and directories of a namespace.

    Attributes are remembered for `max_age` seconds. Absence is never remembered: the store is
    asked. A directory that was once seen counts as one until a listing shows otherwise (it is gone,
    or a memory has its name); directories made or emptied here count until they are removed here.
    """

    def __init__(self, memory: AgentMemory, max_age: float) -> None:
        self._memory = memory
        self._max_age = max_age
        self._lock = threading.Lock()
        self._files: dict[tuple[str, str], tuple[Attributes, float]] = {}
        self._most = _MOST
        self._seen: set[str] = set()
        self._made: set[str] = set()

    def read(self, name: Name) -> MemoryEntry | None:
        """Return the newest live version of a name's memory. 1 read."""
        if not name.directory or name.must_be_directory:  # every memory has a directory
            return None
        asked = time.monotonic()
        entry = self._memory.read(name.directory, name.key)
        self.note(name, entry, asked)
        return entry

    def is_file_or_directory(self, name: Name) -> Attributes | bool:
        """Return the attributes of a file, True for a directory, False where there is neither.

        At most a read, and a list for an absent name.
        """
        if name.must_be_directory:
            return self.is_directory(name.path)
        known = self._known(name)
        if known is None and self._is_seen(name.path) and not self._was_file(name):
            return True
        if known is None and (entry := self.read(name)) is not None:
            known = _attributes(entry)
        return known or self.is_directory(name.path)

    def is_directory(self, path: str) -> bool:
        """Return whether there is a directory. A list, or nothing."""
        if not path or self._is_seen(path):
            return True
        files, directories = self.list(path)
        return bool(files or directories)

    def list(self, path: str) -> tuple[list[str], list[str]]:
        """Return the keys of the files in a directory, and the segments of the directories. 1 list.

        The root is "". An absent directory is empty.
        """
        asked = time.monotonic()
        entries = self._memory.list(path or None)
        files, directories = children(entries, path)
        with self._lock:
            self._forget(path, asked)
            for entry in entries:
                self._keep((entry.entity_path, entry.key), _attributes(entry), asked)
                self._see(entry.entity_path)
            made = {directory for directory in self._made if directory.rpartition("/")[0] == path}
        return (
            [entry.key for entry in files],
            sorted({*directories, *(directory.rpartition("/")[2] for directory in made)}),
        )

    def note(self, name: Name, entry: MemoryEntry | None, asked: float | None = None) -> None:
        """Note the newest version of a memory, read at that time (by default now)."""
        if entry is None:
            return
        attributes = _attributes(entry)
        with self._lock:
            if len(self._files) > self._most:
                self._files.clear()
            moment = time.monotonic() if asked is None else asked
            self._keep((name.directory, name.key), attributes, moment)
            if attributes.is_live:
                self._see(name.directory)

    def make(self, path: str) -> None:
        """Let a directory and those above it exist even if they are empty."""
        with self._lock:
            while path:
                self._made.add(path)
                path = path.rpartition("/")[0]

    def remove(self, path: str) -> bool:
        """Forget an empty directory; False when there was none."""
        with self._lock:
            was_there = path in self._made or path in self._seen
            self._made.discard(path)
            self._seen.discard(path)
            return was_there

    def _known(self, name: Name) -> Attributes | None:
        attributes, asked = self._files.get((name.directory, name.key), (None, 0.0))
        if attributes is None or not attributes.is_live:
            return None
        return attributes if time.monotonic() - asked <= self._max_age else None

    def _was_file(self, name: Name) -> bool:
        return (name.directory, name.key) in self._files

    def _is_seen(self, path: str) -> bool:
        return path in self._made or path in self._seen

    def _see(self, path: str) -> None:
        while path and path not in self._seen:
            self._seen.add(path)
            path = path.rpartition("/")[0]

    def _keep(self, name: tuple[str, str], attributes: Attributes, asked: float) -> None:
        before = self._files.get(name)
        if before is None or before[0].version <= attributes.version:
            self._files[name] = (attributes, asked)

    def _forget(self, path: str, asked: float) -> None:
        """Forget everything known under a path, and everything too old elsewhere."""
        under = f"{path}/" if path else ""
        oldest = time.monotonic() - self._max_age
        self._files = {
            name: known
            for name, known in self._files.items()
            if known[1] >= asked
            or (
                not f"{name[0]}/".startswith(under)
                # The name of a directory is remembered as one to ask for.
                and (known[1] >= oldest or f"{name[0]}/{name[1]}" in self._seen)
            )
        }
        self._most = max(_MOST, 2 * len(self._files))
        self._seen = {
            directory
            for directory in self._seen
            if directory != path and not directory.startswith(under)
        }


def _attributes(entry: MemoryEntry) -> Attributes:
    return Attributes(
        entry.version,
        len(content(entry.value)) if entry.has_content else 0,
        nanoseconds(entry),
        is_live=entry.is_live(),
    )


def nanoseconds(entry: MemoryEntry) -> int:
    """Return when a version was written, in nanoseconds since 1970."""
    return int(entry.provenance.written_at.timestamp() * 1_000_000) * 1_000
