"""`JoinedDoorbell`: one doorbell for several stores."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from amfs_core import fork
from amfs_core.flag import Flag
from amfs_core.storage import Doorbell

_LOOK_SECONDS = 3600.0
_REST_SECONDS = 1.0


class JoinedDoorbell:
    """A `Doorbell` that rings when any of several does. In a forked child it never rings."""

    def __init__(self, bells: Sequence[Doorbell]) -> None:
        self._bells = bells
        self._rung = Flag()
        self._closed = Flag()
        self._forked = False
        fork.register(self)
        for bell in bells:
            threading.Thread(
                target=self._follow, args=(bell,), name="amfs-doorbells", daemon=True
            ).start()

    def after_fork(self) -> None:
        """Be over in a forked child, as the threads are the parent's."""
        self._forked = True
        self._rung, self._closed = Flag(), Flag()
        self._closed.set()

    def wait(self, timeout: float) -> bool:
        """Block for up to `timeout` seconds; True when one rang since the last wait."""
        if self._closed.is_set() or not self._rung.wait(timeout):
            return False
        self._rung.clear()
        return not self._closed.is_set()

    def close(self) -> None:
        """Stop listening; a `wait` under way returns."""
        if self._closed.is_set() or self._forked:
            return
        self._closed.set()
        self._rung.set()
        for bell in self._bells:
            bell.close()

    def _follow(self, bell: Doorbell) -> None:
        while not self._closed.is_set():
            if bell.wait(_LOOK_SECONDS):
                self._rung.set()
            else:  # one that is over does not wait as long as it is told
                self._closed.wait(_REST_SECONDS)


def joined(bells: Sequence[Doorbell | None]) -> Doorbell | None:
    """Return one doorbell for several, None for none."""
    there = [bell for bell in bells if bell is not None]
    return JoinedDoorbell(there) if len(there) > 1 else next(iter(there), None)
