"""The versions that a session has read: an outcome without `entries` is about them."""

from __future__ import annotations

from collections import OrderedDict, deque
from contextlib import suppress

from amfs_core import fork
from amfs_core.format import Address
from amfs_core.parallel import new_lock

MAX_MEMORIES = 10_000
"""How many memories are remembered; the ones not read for longest are forgotten first."""

_MOST_WAITING = 1_000


class SessionReads:
    """The newest version that was read of each memory, up to 10,000 memories.

    Safe to share between threads, whose notes wait in a queue, as those of `Meter` do. Empty in a
    forked child: that is another session of work.
    """

    def __init__(self) -> None:
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        """Start empty: the parent may have been changing it at the moment of the fork."""
        self._lock = new_lock()
        self._waiting: deque[tuple[Address, int]] = deque()
        self._provisional: dict[Address, str] = {}
        self._versions: OrderedDict[str, tuple[Address, int]] = OrderedDict()

    def note_provisional(self, address: Address, write_id: str) -> None:
        """Remember that a version was read whose number may change: by what it is found by when it
        has landed."""
        if len(self._provisional) < MAX_MEMORIES:
            self._provisional[address] = write_id

    def note(self, address: Address, version: int) -> None:
        """Remember that a version was read."""
        if self._provisional:
            self._provisional.pop(address, None)
        self._waiting.append((address, version))
        if len(self._waiting) > _MOST_WAITING:
            with self._lock:
                self._take_in()

    def provisional(self) -> dict[Address, str]:
        """Return the `write_id` of each memory's version that was read last, where that was not in
        the primary store yet."""
        return self._provisional.copy()

    def newest(self) -> dict[Address, int]:
        """Return the newest version read of each memory."""
        with self._lock:
            self._take_in()
            return dict(self._versions.values())

    def _take_in(self) -> None:
        for _ in range(len(self._waiting)):
            # A signal handler that interrupts this takes in the rest, and what is in hand here is
            # taken in after it: the newest version of each memory is kept in any order.
            try:
                address, version = self._waiting.popleft()
            except IndexError:
                return
            prefix = address.prefix
            known = self._versions.get(prefix)
            if known is None or version > known[1]:
                self._versions[prefix] = address, version
            with suppress(KeyError):
                self._versions.move_to_end(prefix)
            if len(self._versions) > MAX_MEMORIES:
                self._versions.popitem(last=False)
