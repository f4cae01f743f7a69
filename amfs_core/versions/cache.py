"""The versions that this process remembers: they are immutable, so the cache stays true."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from msgspec.structs import replace

from amfs_core import fork
from amfs_core.format import Address, MemoryEntry
from amfs_core.parallel import new_lock

MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_MEMORIES = 200_000
MAX_APPENDED = 10_000
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_NEVER = float("-inf")  # on the monotonic clock


class Head(msgspec.Struct, frozen=True, gc=False):
    """The newest version of a memory that this process knows of; version 0: it knows of none.

    The next version builds on it. `checked` is when it was last known to be the newest, on the
    monotonic clock. `purged` is the newest known order to erase every earlier version.
    """

    version: int = 0
    sha256: str | None = None
    written_at: datetime = _LONG_AGO
    checked: float = _NEVER
    purged: int = 0

    @classmethod
    def of(cls, newest: MemoryEntry | None) -> Head:
        """Return the head that the version after `newest` builds on."""
        if newest is None:
            return NONE_KNOWN
        return cls(newest.version, newest.sha256, newest.provenance.written_at)


NONE_KNOWN = Head()


class _Memory(msgspec.Struct, gc=False):
    """One remembered memory: its head, and bodies by version."""

    head: Head
    bodies: dict[int, bytes]


class Cache:
    """Up to 200,000 memories, and up to 64 MiB of their bodies; oldest out first.

    The table is a plain dict, which keeps the order in which memories came. Its content changes
    only under the lock; readers, and the first entry of a memory, need no lock.
    """

    def __init__(self) -> None:
        self._forget_everything()
        fork.register(self)

    def after_fork(self) -> None:
        """Start empty: the parent may have been changing it at the moment of the fork."""
        self._forget_everything()

    def _forget_everything(self) -> None:
        self._lock = new_lock()
        self._changing = False
        self._postponed: deque[Callable[[], None]] = deque()
        self._memories: dict[str, _Memory] = {}
        self._size = 0
        self._appended: deque[tuple[Address, int]] = deque(maxlen=MAX_APPENDED)

    def head(self, address: Address) -> Head | None:
        """Return the newest version known, None when this process never looked."""
        memory = self._memories.get(address.prefix)
        return None if memory is None else memory.head

    def body(self, address: Address, version: int) -> bytes | None:
        """Return a version's bytes if the cache holds them."""
        memory = self._memories.get(address.prefix)
        return None if memory is None else memory.bodies.get(version)

    def keep(
        self, address: Address, entry: MemoryEntry, body: bytes, *, newest: bool = False
    ) -> None:
        """Remember a version that exists; `newest` says that this process has just appended it.

        A tombstone that purges makes the cache forget older versions, and not keep their content
        again, which may still be there while the purge is under way. So does a version after some
        that were never read, since one of those may be such a tombstone.
        """
        version, prefix, fresh = entry.version, address.prefix, None
        checked = time.monotonic() if newest else _NEVER
        memory = self._memories.get(prefix)
        if memory is None:
            # What comes first takes no lock, which between two requests costs more than all of this
            # (`speed.md`): `setdefault` is one step for all threads, and a size that is lost
            # between two of them is found again when room is made.
            written_at, purged = entry.provenance.written_at, version if entry.purges else 0
            head = Head(version, entry.sha256, written_at, checked, purged)
            fresh = _Memory(head, {version: body})
            memory = self._memories.setdefault(prefix, fresh)
        if memory is fresh:
            self._size += len(body)
        else:
            self._change(lambda: self._keep_more(prefix, entry, body, checked))
        if newest:
            self._appended.append((address, version))
        if self._size > MAX_BODY_BYTES or len(self._memories) > MAX_MEMORIES:
            self._change(self._make_room)

    def _change(self, change: Callable[[], None]) -> None:
        """Make a whole change under the lock.

        A signal handler may interrupt a thread in the middle of a change and ask for another: the
        second is made after the first, or a head could go back and purged content be kept again.
        """
        with self._lock:
            if self._changing:
                self._postponed.append(change)
                return
            while True:
                try:
                    self._changing = True
                    change()
                finally:
                    self._changing = False
                try:
                    change = self._postponed.popleft()
                except IndexError:
                    return

    def _keep_more(self, prefix: str, entry: MemoryEntry, body: bytes, checked: float) -> None:
        version, memory = entry.version, self._memory(prefix)
        known = memory.head
        purged = max(known.purged, version) if entry.purges else known.purged
        if entry.purges or 0 < known.version < version - 1:
            self._drop_before(memory, version)
        if version not in memory.bodies and (version >= purged or entry.erased is not None):
            memory.bodies[version] = body
            self._size += len(body)
        if version > known.version:
            memory.head = Head(version, entry.sha256, entry.provenance.written_at, checked, purged)
        elif purged > known.purged:
            memory.head = replace(known, purged=purged)

    def checked(self, address: Address, version: int) -> None:
        """Note that `version` (0: none) was the newest just now."""
        now = time.monotonic()

        def note() -> None:
            memory = self._memory(address.prefix)
            if memory.head.version == version:
                memory.head = replace(memory.head, checked=now)
            if len(self._memories) > MAX_MEMORIES:
                self._make_room()

        self._change(note)

    def forget_before(self, address: Address, version: int) -> None:
        """Drop the bodies of all versions before this one: their content must go."""

        def drop() -> None:
            memory = self._memories.get(address.prefix)
            if memory is not None:
                self._drop_before(memory, version)

        self._change(drop)

    def note_appended(self, address: Address, version: int) -> None:
        """Note a version that this process appended: a listing may lag behind it."""
        self._appended.append((address, version))

    @property
    def has_appended(self) -> bool:
        """Whether `take_appended` would return anything."""
        return bool(self._appended)

    def take_appended(self, into: dict[Address, int]) -> bool:
        """Add the newest version of each memory noted since the last call; False when there were
        more than are remembered (10,000), so that some are missing.

        One thread at a time may call this. After an interruption the next call returns the same.
        """
        appended = self._appended
        is_complete = len(appended) < MAX_APPENDED
        while appended:
            address, version = appended[0]
            into[address] = max(version, into.get(address, 0))
            appended.popleft()
        return is_complete

    def look_at_appended(self, into: dict[Address, int]) -> bool:
        """Do the same as `take_appended`, but keep what was noted."""
        noted = self._appended.copy()  # one step, for all threads
        for address, version in noted:
            into[address] = max(version, into.get(address, 0))
        return len(noted) < MAX_APPENDED

    def _memory(self, prefix: str) -> _Memory:
        known = self._memories.get(prefix)
        return known or self._memories.setdefault(prefix, _Memory(NONE_KNOWN, {}))

    def _make_room(self) -> None:
        """Drop the oldest eighth of what there is too much of: one by one would cost more."""
        if len(self._memories) > MAX_MEMORIES:
            for prefix in list(self._memories)[: MAX_MEMORIES // 8]:
                del self._memories[prefix]
        memories = list(self._memories.values())
        self._size = sum(len(body) for memory in memories for body in memory.bodies.values())
        if self._size > MAX_BODY_BYTES:
            for memory in memories:
                for version in list(memory.bodies):
                    if self._size <= MAX_BODY_BYTES * 7 // 8:
                        return
                    self._size -= len(memory.bodies.pop(version))

    def _drop_before(self, memory: _Memory, version: int) -> None:
        for older in [number for number in memory.bodies if number < version]:
            self._size -= len(memory.bodies.pop(older))
