"""`JoinedDoorbell`: one doorbell for several stores."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from amfs_core.storage import BackgroundDoorbell, Doorbell

_LOOK_SECONDS = 3600.0
_REST_SECONDS = 1.0


class JoinedDoorbell(BackgroundDoorbell):
    """A `Doorbell` that rings when any of several does."""

    def __init__(self, bells: Sequence[Doorbell]) -> None:
        super().__init__()
        self._bells = bells
        for bell in bells:
            threading.Thread(
                target=self._follow, args=(bell,), name="amfs-doorbells", daemon=True
            ).start()

    def stop(self) -> None:
        """Close all of them."""
        for bell in self._bells:
            bell.close()

    def _follow(self, bell: Doorbell) -> None:
        while not self.is_closed:
            if bell.wait(_LOOK_SECONDS):
                self.ring()
            else:  # one that is over does not wait as long as it is told
                self.rest(_REST_SECONDS)


def joined(bells: Sequence[Doorbell | None]) -> Doorbell | None:
    """Return one doorbell for several, None for none."""
    there = [bell for bell in bells if bell is not None]
    return JoinedDoorbell(there) if len(there) > 1 else next(iter(there), None)
