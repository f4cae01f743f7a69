"""Polling a feed: when to ask next, what to do when the store does not answer, and the doorbell."""

from __future__ import annotations

import logging
import random
import threading
import time
import weakref

from amfs_core.errors import BackendUnavailableError
from amfs_core.flag import Flag
from amfs_core.storage import Doorbell, SilentDoorbell, StorageAdapter
from amfs_core.watch.feed import Feed

_JITTER = (0.8, 1.2)
_LEAST_GAP = 0.02
_LONGEST_WAIT = 60.0  # after failures
_LONGEST_REST = 3600.0  # in one go: the system refuses waits of centuries

_log = logging.getLogger("amfs")


class Poller:
    """Polls a feed every `interval` seconds, and at once when the store's doorbell rings.

    `over` ends it. With `tolerant`, failures that waiting does not cure are logged like others.
    """

    def __init__(
        self, feed: Feed, adapter: StorageAdapter, interval: float, *, listed: bool, tolerant: bool
    ) -> None:
        self.feed = feed
        self.over = Flag()
        self.error: BaseException | None = None
        self._adapter = adapter
        self._interval = interval
        self._tolerant = tolerant
        self._failures = 0
        self._gap = _LEAST_GAP
        self._polled = time.monotonic()
        self._due = self._polled + (self._wait_seconds() if listed else 0.0)
        self._start_unheard()

    def after_fork(self, *, over: bool) -> None:
        """Take new locks and have no doorbell in a forked child; `over`: and end there."""
        over = over or self.over.is_set()
        self.over = Flag()
        if over:
            self.over.set()
        if self._hang_up is not None:
            self._hang_up.detach()
        self._start_unheard()
        self.feed.after_fork()

    def _start_unheard(self) -> None:
        self._filling = threading.RLock()
        self._lock = threading.RLock()
        self._bell: Doorbell | None = None
        self._hang_up: weakref.finalize[[], Poller] | None = None

    def end(self) -> None:
        """End it: a `fill` under way returns, at once unless a request is under way."""
        self.over.set()
        self.drop_bell()

    def fill(self, abandoned: Flag, *, once: bool = False) -> None:
        """Wait and poll until something can be delivered, it is over, or nobody waits any more;
        with `once` only until the next poll has ended, whatever it brought.

        Raises failures that waiting does not cure, unless tolerant.
        """
        with self._filling:
            while not self.over.is_set() and not abandoned.is_set() and not self.feed.first():
                if time.monotonic() < self._due:
                    self._wait(abandoned)
                else:
                    # It must listen before the poll: a version that comes after the listing rings.
                    self._listen(abandoned)
                    self._poll()
                    if once:
                        return

    def _wait(self, abandoned: Flag) -> None:
        """Wait until the next poll is due, or the doorbell makes it due."""
        bell = self._listen(abandoned)
        if bell is None:
            return
        if bell.wait(min(_LONGEST_REST, max(0.0, self._due - time.monotonic()))):
            # The first ring after a quiet time is answered at once; a bell that never stops takes
            # no more than half of the time for polls.
            self._due = min(self._due, self._polled + self._gap)
        elif self._bell is bell:  # over, or a bell that does not wait as long as it is told
            self.over.wait(min(_LEAST_GAP, max(0.0, self._due - time.monotonic())))

    def _poll(self) -> None:
        started = time.monotonic()
        more = False
        try:
            more = self.feed.fetch()
        except Exception as error:
            if self.over.is_set():
                return
            passing = isinstance(error, BackendUnavailableError)
            self._note_failure(error, passing=passing)
            if not passing and not self._tolerant:
                raise
        else:
            if self._failures:
                _log.info("a watch polls again")
            self._failures, self.error = 0, None
            self._gap = max(_LEAST_GAP, time.monotonic() - started)
        finally:
            self._polled = time.monotonic()
            self._due = self._polled + (0.0 if more else self._wait_seconds())

    def _wait_seconds(self) -> float:
        longest = max(_LONGEST_WAIT, self._interval)
        wait = min(longest, self._interval * 2.0 ** min(self._failures, 20))
        return wait * random.uniform(*_JITTER)

    def _note_failure(self, error: Exception, *, passing: bool) -> None:
        if type(error) is not type(self.error):  # once for each streak
            level = logging.WARNING if passing else logging.ERROR
            _log.log(level, "a poll of a watch failed, and will be tried again: %s", error)
        self._failures += 1
        self.error = error
        if not passing:  # what the doorbell gave up for may be fixed together with it
            self.drop_bell()

    # -- the doorbell ------------------------------------------------------------------------

    def _listen(self, abandoned: Flag) -> Doorbell | None:
        """Return the doorbell, made now if need be; None when nobody waits any more."""
        if self._bell is not None:
            return self._bell
        bell = self._new_bell()
        with self._lock:
            if not self.over.is_set() and not abandoned.is_set():
                self._bell = bell
                # For a watch that is dropped without being cancelled.
                self._hang_up = weakref.finalize(self, bell.close)
                if not self.over.is_set():  # ended by a signal handler just now
                    return bell
                self._bell = None
        bell.close()
        return None

    def _new_bell(self) -> Doorbell:
        try:
            bell = self._adapter.doorbell(self.feed.prefix)
        except Exception as error:  # what is wrong, a poll will say
            _log.debug("no doorbell for a watch: %s", error)
            bell = None
        return SilentDoorbell() if bell is None else bell

    def drop_bell(self) -> None:
        """Stop listening; a wait for the bell ends. The next wait has a new bell."""
        with self._lock:
            bell, self._bell = self._bell, None
            if self._hang_up is not None:
                self._hang_up.detach()
        if bell is not None:
            bell.close()
