"""`Sweeper`: a thread that erases expired items from time to time."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future

from amfs_core import fork
from amfs_core.errors import AMFSError

_log = logging.getLogger("amfs")


class Sweeper:
    """Calls `sweep`, a method, at intervals until it is stopped or the method's object is gone.

    A forked child has no thread; it may start one.
    """

    def __init__(self, sweep: Callable[[], int]) -> None:
        self._sweep = weakref.WeakMethod(sweep)
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        """Forget the thread, which the parent has."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._done: Future[None] = Future()

    def start(self, seconds: float) -> Future[None]:
        """Start the thread, unless it runs already. Return a future that ends with the thread;
        cancelling the future ends the thread."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive() and not self._stop.is_set():
                return self._done
            stop = self._stop = threading.Event()
            done: Future[None] = Future()
            self._done = done
            done.add_done_callback(lambda _: stop.set())
            self._thread = threading.Thread(
                target=_run, args=(self._sweep, seconds, stop, done), name="amfs-ttl", daemon=True
            )
            self._thread.start()
            return done

    def stop(self, timeout: float | None) -> bool:
        """End the thread after the sweep under way; False when that takes longer than `timeout`
        seconds."""
        with self._lock:
            thread = self._thread
            self._stop.set()
        if thread is not None:
            thread.join(timeout)
        return thread is None or not thread.is_alive()


def _run(
    method: weakref.WeakMethod[Callable[[], int]],
    seconds: float,
    stop: threading.Event,
    done: Future[None],
) -> None:
    while not stop.wait(seconds) and (sweep := method()) is not None:
        try:
            sweep()
        except AMFSError as error:
            _log.warning("expired items could not be erased, and are tried again: %s", error)
        del sweep  # otherwise the object would live as long as the thread
    if done.set_running_or_notify_cancel():
        done.set_result(None)
