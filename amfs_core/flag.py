"""A flag that threads wait for, and that a signal handler may set at any moment."""

from __future__ import annotations

from queue import Empty, SimpleQueue


class Flag:
    """The same as `threading.Event`, without its lock.

    An `Event` takes a plain lock to be set and to be waited for: a signal handler that sets it
    while the interrupted thread does either waits for itself. A `SimpleQueue` is re-entrant, and
    keeps what was put into it before anybody waits.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._woken: SimpleQueue[None] = SimpleQueue()

    def is_set(self) -> bool:
        """Whether it has been set and not cleared since."""
        return self._is_set

    def set(self) -> None:
        """Set it; waiting threads continue."""
        self._is_set = True
        self._woken.put(None)

    def clear(self) -> None:
        """Unset it."""
        self._is_set = False
        try:
            while True:
                self._woken.get_nowait()
        except Empty:
            pass

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, or for `timeout` seconds; return whether it is set."""
        if self._is_set:
            return True
        try:
            self._woken.get(timeout=timeout)
        except Empty:
            return self._is_set
        self._woken.put(None)  # for the next who waits
        return self._is_set
