"""What goes wrong: faults of the wire for a bucket, faults in the process for others."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from msgspec import structs

from amfs_core.errors import BackendUnavailableError, OutcomeUnknownError
from amfs_core.storage import Capabilities, ObjectInfo, StorageAdapter
from amfs_core.testing import Fault, FaultyAdapter
from tests.support import proxy

LATE_SECONDS = 2.0
LAG_SECONDS = 1.0
DELAY_SECONDS = 0.2

ON_THE_WIRE = (
    proxy.Fault.LOST_ANSWER,
    proxy.Fault.RESET,
    proxy.Fault.ERROR_503,
    proxy.Fault.ERROR_503_APPLIED,
    proxy.Fault.ERROR_500,
    proxy.Fault.CONFLICT_409,
    proxy.Fault.LATE,
    proxy.Fault.DELAY,
    proxy.Fault.TRUNCATED_BODY,
    proxy.Fault.LAGGING_LIST,
)

_CREATES = (
    Fault.LOST_ANSWER,
    Fault.LOST_REQUEST,
    Fault.CONFLICT,
    Fault.LATE,
    Fault.UNAVAILABLE,
)


class ChaosAdapter(FaultyAdapter):
    """Gives each call, with probability `rate`, a fault that suits it; a seed decides.

    Also delays, and listings without what was made in the last second. `note` is told of each.
    """

    def __init__(
        self, inner: StorageAdapter, seed: str, rate: float, note: Callable[[str], None]
    ) -> None:
        super().__init__(inner)
        self._dice = random.Random(seed)
        self._dice_lock = threading.Lock()
        self._rate = rate
        self._note = note
        # Where listings lag there is no change log: what is before a position must be listed.
        self._lags = not inner.capabilities.changes or self._dice.random() < 0.5

    @property
    def capabilities(self) -> Capabilities:
        inner = self.inner.capabilities
        return structs.replace(inner, changes=False) if self._lags else inner

    def after_fork(self) -> None:
        super().after_fork()
        self._dice_lock = threading.Lock()

    def create(self, key: str, data: bytes) -> bool:
        fault = self._fault(_CREATES)
        if fault is Fault.LATE:
            timer = threading.Timer(self._dice.uniform(0, LATE_SECONDS), self.deliver)
            timer.daemon = True
            timer.start()
        self._plan(fault, "create")
        return super().create(key, data)

    def deliver(self) -> int:
        """Deliver what is late; a server that is down at that moment never gets it."""
        try:
            return super().deliver()
        except (BackendUnavailableError, OutcomeUnknownError):
            return 0

    def get(self, key: str) -> bytes | None:
        self._plan(self._fault((Fault.UNAVAILABLE,)), "get")
        return super().get(key)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        fault = self._fault((Fault.UNAVAILABLE, *(("lag",) if self._lags else ())))
        self._plan(fault, "list")
        shown = super().list(prefix, start_after)
        if fault != "lag":
            yield from shown
            return
        since = datetime.now(UTC) - timedelta(seconds=LAG_SECONDS)
        yield from (info for info in shown if info.modified < since)

    def _fault(self, suitable: tuple[Fault | str, ...]) -> Fault | str | None:
        with self._dice_lock:
            if self._dice.random() >= self._rate:
                return None
            fault = self._dice.choice((*suitable, "delay"))
        self._note(fault if isinstance(fault, str) else fault.name.lower())
        if fault == "delay":
            time.sleep(DELAY_SECONDS * self._dice.random())
        return fault

    def _plan(self, fault: Fault | str | None, verb: str) -> None:
        if isinstance(fault, Fault):
            self.inject(fault, on=verb)
