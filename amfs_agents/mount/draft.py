"""A file that is being written, from its opening until it is stored."""

from __future__ import annotations

import errno
import threading
import time

from amfs import AgentMemory, MemoryEntry
from amfs_agents.files import content, is_binary, value_of
from amfs_agents.mount.names import Name
from amfs_core.errors import VersionConflictError, WriteOutcomeUnknownError
from amfs_core.versions import new_write_id


class Draft:
    """The content of a file that is open for writing, shared by all who have it open.

    It builds on a version, `base` (None if there is no live one). `store` makes it the next
    version, if no other writer has made that. Content that was only appended is put after the
    newest version's.
    """

    def __init__(self, memory: AgentMemory, name: Name, base: MemoryEntry | None) -> None:
        self.name = name
        self.lock = threading.RLock()
        self.data = bytearray()
        self.is_removed = False  # later writes are lost with the removed file
        self.written = time.time_ns()  # when it was last written to, in nanoseconds since 1970
        self.is_given_up = False  # the content is kept elsewhere, and no more is accepted
        self._memory = memory
        self._write_id: str | None = None  # of the try to store the present content
        self._unanswered: list[str] = []  # of tries that may have been stored after all
        self._has_news = False
        self._is_empty_news = base is None
        self.build_on(base)

    @property
    def is_stored(self) -> bool:
        """True when its version has all its content."""
        return not self._has_news and not self._is_empty_news

    @property
    def version(self) -> int:
        """The number of the version that it builds on, 0 for none."""
        return self._base

    @property
    def may_have_version(self) -> bool:
        """True when it builds on a live version, or may be one although its answer was lost."""
        return self._is_on_live or bool(self._unanswered)

    def build_on(self, base: MemoryEntry | None) -> None:
        """Begin with the content of a version."""
        self.data[:] = b"" if base is None else content(base.value)
        self._base = 0 if base is None else base.version
        self._is_on_live = base is not None
        self._appended_at: int | None = len(self.data)

    def refresh(self, newest: MemoryEntry | None) -> None:
        """Begin again with the newest version, if nothing is lost by that."""
        with self.lock:
            if self.is_stored and newest is not None and newest.version > self._base:
                self.build_on(newest)

    def empty(self) -> None:
        """Empty it. That alone does not store it before all writers have closed it."""
        with self.lock:
            self._is_empty_news = self._is_empty_news or bool(self.data)
            self.data.clear()
            self._appended_at = None
            self._is_new_try()

    def write(self, data: bytes, offset: int | None) -> None:
        """Write at an offset in bytes, or at the end (None)."""
        with self.lock:
            self._require_open()
            if offset is None:
                self.data += data
            else:
                self._appended_at = None
                self.data.extend(bytes(max(0, offset - len(self.data))))
                self.data[offset : offset + len(data)] = data
            self._change()

    def truncate(self, length: int) -> None:
        """Make it this many bytes long, with zeros at the end if necessary."""
        with self.lock:
            self._require_open()
            if length == 0:
                self.empty()
                return
            self._appended_at = None
            self.data.extend(bytes(max(0, length - len(self.data))))
            del self.data[length:]
            self._change()

    def store(self, *, even_if_empty: bool) -> MemoryEntry | None:
        """Make it a version and return that; None if there is nothing to store.

        With `even_if_empty` also when it was only made or emptied. 1 write; a read and a write more
        for each conflict. Raises `VersionConflictError` when another version came first,
        and `OSError` (ESTALE) once it is given up.
        """
        with self.lock:
            self._require_open()
            if self.is_removed or not (self._has_news or (even_if_empty and self._is_empty_news)):
                return None
            while True:
                try:
                    entry = self._write()
                except VersionConflictError as conflict:
                    settled = self._settle(conflict)
                    if settled is None:
                        continue
                    entry = settled
                except WriteOutcomeUnknownError:
                    if self._write_id is not None and self._write_id not in self._unanswered:
                        self._unanswered.append(self._write_id)
                    raise
                self._became(entry)
                return entry

    def became(self, entry: MemoryEntry, name: Name) -> None:
        """Note that its content was stored under another name, which is now its own."""
        self.name = name
        self._became(entry)

    def _require_open(self) -> None:
        if self.is_given_up:
            raise OSError(errno.ESTALE, "somebody else wrote a newer version")

    def _change(self) -> None:
        self._has_news = True
        self._is_new_try()

    def _is_new_try(self) -> None:
        self.written = time.time_ns()
        self._write_id = None

    def _write(self) -> MemoryEntry:
        value = value_of(bytes(self.data))
        self._write_id = self._write_id or new_write_id()
        return self._memory.write(
            self.name.directory,
            self.name.key,
            value,
            expected_version=self._base,
            write_id=self._write_id,
            index=not is_binary(value),
        )

    def _settle(self, conflict: VersionConflictError) -> MemoryEntry | None:
        """Return the version that this draft already is, or None to try again on another base;
        raise a real conflict."""
        own = self._own()
        if own is not None:
            if own.provenance.write_id == self._write_id:
                return own
            self._base, self._is_on_live = own.version, True
            self._unanswered.clear()
            if self._appended_at is not None:
                self._appended_at = len(content(own.value))
            return None
        newest = self._memory.read(self.name.directory, self.name.key)
        if newest is None:
            if self._is_on_live:  # it was removed meanwhile
                raise conflict
            self._base = conflict.actual  # a tombstone
            return None
        if self._appended_at is None:
            raise conflict
        appended = bytes(self.data[self._appended_at :])
        self.build_on(newest)
        self.data += appended
        self._is_new_try()
        return None

    def _own(self) -> MemoryEntry | None:
        """Return the version that the last try without an answer made after all."""
        for write_id in reversed(self._unanswered):
            entry = self._memory.find_write(self.name.directory, self.name.key, write_id)
            if entry is not None:
                return entry
        return None

    def _became(self, entry: MemoryEntry) -> None:
        self._base = entry.version
        self._is_on_live = True
        self._has_news = self._is_empty_news = False
        self._appended_at = len(self.data)
        self._write_id = None
        self._unanswered.clear()
