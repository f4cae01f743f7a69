"""Doorbells that threads ring: one that listens, and listens again when it was cut off.

For adapters: what differs between stores is how to listen, a `Listener`.
"""

from __future__ import annotations

import logging
import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

from amfs_core import fork
from amfs_core.flag import Flag

_FIRST_WAIT = 0.1
_LONGEST_WAIT = 30.0
_END_SECONDS = 0.5

_log = logging.getLogger("amfs")


class SilentDoorbell:
    """Stands in for a doorbell where there is none: it never rings."""

    def __init__(self) -> None:
        self._closed = Flag()

    def wait(self, timeout: float) -> bool:
        """Block for `timeout` seconds, or until closed; False."""
        self._closed.wait(timeout)
        return False

    def close(self) -> None:
        """Make a `wait` under way return."""
        self._closed.set()


class BackgroundDoorbell(ABC):
    """A `Doorbell` that threads of this process ring; derive from it and say how they end.

    In a forked child it never rings: the threads are the parent's, and so is what they listen to.
    """

    def __init__(self) -> None:
        self._forked = False
        self._rung = Flag()
        self._closed = Flag()
        fork.register(self)

    def after_fork(self) -> None:
        """Be over in a forked child."""
        self._forked = True
        self._rung, self._closed = Flag(), Flag()
        self._closed.set()

    @property
    def is_closed(self) -> bool:
        """Whether the threads are to end."""
        return self._closed.is_set()

    def ring(self) -> None:
        """Make the `wait` under way, or the next one, return True."""
        self._rung.set()

    def rest(self, seconds: float) -> None:
        """Block a thread for some time, or until this is closed."""
        self._closed.wait(seconds)

    def wait(self, timeout: float) -> bool:
        """Block for up to `timeout` seconds; True when it rang since the last wait."""
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
        self.stop()

    @abstractmethod
    def stop(self) -> None:
        """Make the threads end soon. Called once, when this is closed."""


class NoDoorbell(Exception):  # never leaves the doorbell
    """The store cannot say when something changed, and never will; the message says why."""


class Listener(Protocol):
    """How to listen to one store."""

    def listen(self, ring: Callable[[], None]) -> None:
        """Listen until stopped or cut off. Rings once it listens, as something may have changed
        before, and then for every change. May be called again after it returned or raised.

        Raises `NoDoorbell` to give up forever; any other error counts as being cut off.
        """

    def stop(self) -> None:
        """Make `listen` return soon, from another thread; it may not have been called yet."""


class ListeningDoorbell(BackgroundDoorbell):
    """A `Doorbell` that rings when its listener says so.

    Listening begins at once, in the background. When it ends it begins again, after 0.1 s at first
    and up to 30 s after repeated failures. If the listener gave up forever, this never rings.
    `close` waits half a second for the thread to end. The thread is a daemon: if it is stuck in a
    connect, it ends with the process.
    """

    def __init__(self, listener: Listener, name: str) -> None:
        super().__init__()
        self._listener = listener
        self._name = name
        self._rings = 0
        self._thread = threading.Thread(target=self._run, name="amfs-doorbell", daemon=True)
        self._thread.start()

    def ring(self) -> None:
        """Ring, and note that the listener got through."""
        self._rings += 1
        super().ring()

    def stop(self) -> None:
        """Stop the listener."""
        self._listener.stop()
        if self._thread is not threading.current_thread():
            self._thread.join(_END_SECONDS)

    def _run(self) -> None:
        failures = 0
        while not self.is_closed:
            rings = self._rings
            reason: object = "it ended"
            try:
                self._listener.listen(self.ring)
                failures = 0
            except NoDoorbell as end:
                _log.debug("no doorbell for %s: %s; polling alone", self._name, end)
                return
            except Exception as error:
                reason = error
                failures = 1 if self._rings > rings else failures + 1
            if self.is_closed:
                return
            _log.debug("the doorbell of %s listens again: %s", self._name, reason)
            wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** min(failures, 20))
            self.rest(random.uniform(0.5, 1.0) * wait)
