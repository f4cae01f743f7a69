"""The files that are being written, who has them open, and how they become versions."""

from __future__ import annotations

import errno
import logging
import os
import threading
from contextlib import AbstractContextManager, nullcontext

from amfs import AgentMemory, MemoryEntry
from amfs_agents.files import is_binary, value_of
from amfs_agents.mount.draft import Draft
from amfs_agents.mount.names import Name
from amfs_agents.mount.rescue import Rescue
from amfs_agents.mount.tree import Tree
from amfs_core.errors import AMFSError, VersionConflictError

_log = logging.getLogger("amfs")


def _locked(draft: Draft | None) -> AbstractContextManager[object]:
    return nullcontext() if draft is None else draft.lock


class Drafts:
    """The drafts of a mount, by memory."""

    def __init__(self, memory: AgentMemory, tree: Tree, rescue: Rescue) -> None:
        self._memory = memory
        self._tree = tree
        self._rescue = rescue
        self._lock = threading.Lock()
        self._drafts: dict[Name, Draft] = {}
        self._writers: dict[Draft, int] = {}

    def find(self, name: Name) -> Draft | None:
        """Return the draft of a file that is open for writing."""
        return self._drafts.get(name)

    def within(self, path: str) -> list[str]:
        """Return the keys of the drafts in a directory."""
        with self._lock:
            return [name.key for name in self._drafts if name.directory == path]

    def open(self, name: Name, flags: int) -> Draft:
        """Return the draft of a file, opened with the flags of the system call. 1 read.

        `close` ends what this begins. Raises `FileNotFoundError`, `FileExistsError`.
        """
        while True:
            draft = self.find(name)
            version = None if draft is None else draft.version
            newest = self._tree.read(name)
            with self._lock:
                if self._drafts.get(name) is not draft or (draft and draft.version != version):
                    continue  # another thread was quicker, and the version read here may be older
                draft = self._joined(name, draft, newest, flags)
                self._writers[draft] = self._writers.get(draft, 0) + 1
            draft.refresh(newest)
            if flags & os.O_TRUNC:
                draft.empty()
            return draft

    def store(self, draft: Draft, *, even_if_empty: bool) -> None:
        """Make a draft a version, if there is something new in it. 1 write.

        After a conflict the draft is abandoned, and kept as a file.
        """
        try:
            entry = draft.store(even_if_empty=even_if_empty)
        except VersionConflictError as conflict:
            self._give_up(draft, conflict)
            raise
        if entry is not None:
            self._tree.note(draft.name, entry)

    def close(self, draft: Draft) -> None:
        """Remove one writer. With the last one the draft ends: stored, or kept as a file."""
        with self._lock:
            self._writers[draft] -= 1
            if self._writers[draft]:
                return
        try:
            self.store(draft, even_if_empty=True)
        except Exception as error:
            with self._lock:
                is_open_again = bool(self._writers.get(draft))
            if not is_open_again:
                self._give_up(draft, error)
        with self._lock:
            if not self._writers.get(draft):
                self._drop(draft)

    def truncate(self, name: Name, length: int) -> None:
        """Truncate or extend a file that need not be open. A read and a write."""
        draft = self.open(name, os.O_WRONLY)
        try:
            draft.truncate(length)
            self.store(draft, even_if_empty=True)
        finally:
            self.close(draft)

    def remove(self, name: Name) -> None:
        """Remove a file: write a tombstone, and drop content that was not yet stored.

        1 delete. Raises `FileNotFoundError`.
        """
        draft = self.find(name)
        tombstone = None
        with _locked(draft):
            if draft is None or draft.may_have_version:
                tombstone = self._memory.delete(name.directory, name.key)
            self._replace(name, draft)
        if tombstone is None and draft is None:
            raise FileNotFoundError(errno.ENOENT, "it is gone")
        self._tree.note(name, tombstone)
        self._tree.make(name.directory)

    def rename(self, old: Name, new: Name, *, replaces: bool) -> None:
        """Rename a file, replacing any with the new name. A read, a write and a delete.

        A file open for writing continues under the new name. Raises `FileNotFoundError`, and with
        `replaces` false `FileExistsError`.
        """
        draft = self.find(old)
        with _locked(draft):
            was_stored = draft is None or draft.may_have_version
            if draft is None or draft.is_stored:
                source = self._tree.read(old)
                if source is None:
                    raise FileNotFoundError(errno.ENOENT, "it is gone")
                value = source.value  # structured values stay structured
                if draft is not None:
                    draft.refresh(source)
            else:
                value = value_of(bytes(draft.data))
            entry = self._move(old, new, value, replaces=replaces, was_stored=was_stored)
            if draft is None:
                return
            with self._lock:
                self._drafts.pop(old, None)
                self._drafts[new] = draft
            draft.became(entry, new)

    def close_all(self) -> None:
        """Store open drafts, or keep them as files: the end of the mount."""
        with self._lock:
            drafts = list(self._drafts.values())
        for draft in drafts:
            try:
                self.store(draft, even_if_empty=True)
            except Exception as error:
                self._give_up(draft, error)

    def _joined(
        self, name: Name, draft: Draft | None, newest: MemoryEntry | None, flags: int
    ) -> Draft:
        """Return the draft of an open file, or a new one, if the flags allow it."""
        if draft is not None and draft.is_stored and newest is None:
            draft = None  # another process removed the file: this is a new one
        if flags & os.O_EXCL and flags & os.O_CREAT and (draft or newest):
            raise FileExistsError(errno.EEXIST, "it is there already")
        if draft is None:
            if newest is None and not flags & os.O_CREAT:
                raise FileNotFoundError(errno.ENOENT, "it is gone")
            draft = self._drafts[name] = Draft(self._memory, name, newest)
        return draft

    def _move(
        self, old: Name, new: Name, value: object, *, replaces: bool, was_stored: bool
    ) -> MemoryEntry:
        replaced = self.find(new) if replaces else None
        with _locked(replaced):
            entry = self._write(new, value) if replaces else self._create(new, value)
            self._replace(new, replaced)
        self._tree.note(new, entry)
        if was_stored:
            self._tree.note(old, self._memory.delete(old.directory, old.key))
        self._tree.make(old.directory)
        return entry

    def _write(self, name: Name, value: object, expected: int | None = None) -> MemoryEntry:
        return self._memory.write(
            name.directory,
            name.key,
            value,
            expected_version=expected,
            index=not is_binary(value),
        )

    def _create(self, name: Name, value: object) -> MemoryEntry:
        expected = 0
        while True:
            if self.find(name) or self._tree.read(name):
                raise FileExistsError(errno.EEXIST, "it is there already")
            try:
                return self._write(name, value, expected)
            except VersionConflictError as conflict:
                expected = conflict.actual  # a tombstone, unless another process was quicker

    def _replace(self, name: Name, draft: Draft | None) -> None:
        """Detach a draft from its name: later writes to it are lost, as with a removed file."""
        if draft is None:
            return
        draft.is_removed = True
        with self._lock:
            if self._drafts.get(name) is draft:
                del self._drafts[name]

    def _drop(self, draft: Draft) -> None:
        self._writers.pop(draft, None)
        if self._drafts.get(draft.name) is draft:
            del self._drafts[draft.name]

    def _give_up(self, draft: Draft, error: Exception) -> None:
        """Keep the content of a draft as a file, and let nobody open the draft again."""
        with draft.lock:
            if draft.is_removed or draft.is_given_up:
                return
            draft.is_given_up = True
            data = bytes(draft.data)
        with self._lock:
            if self._drafts.get(draft.name) is draft:
                del self._drafts[draft.name]
        reason = error.reason if isinstance(error, AMFSError) else str(error)
        path = draft.name.path
        try:
            place = self._rescue.keep(draft.name, data)
        except OSError as failure:
            _log.error("%r: not stored (%s), and not kept: %s", path, reason, failure)
        else:
            _log.error("%r: not stored (%s); it is kept in %s", path, reason, place)
