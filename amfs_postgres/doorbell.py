"""The doorbell of a schema: `NOTIFY` after a commit, `LISTEN` on a direct connection."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import psycopg
from psycopg import sql

from amfs_core.flag import Flag
from amfs_core.storage import NoDoorbell
from amfs_postgres.connections import Connections, Link

_QUIET_SECONDS = 0.02
"""A process notifies at most this often. Listeners look a second time after a notification, which
finds commits in between."""

_ECHO_SECONDS = _QUIET_SECONDS + 0.005
_RING_SECONDS = 1.0  # the acknowledgement of the commit waits no longer
_STEP_SECONDS = 0.2
_PROOF_SECONDS = 15.0

_log = logging.getLogger("amfs")


class Bell:
    """The sender of one adapter's notifications. The channel has the name of the schema."""

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._rung = float("-inf")

    def ring(self, link: Link) -> None:
        """Notify others of a commit, unless a notification was sent just now. Raises nothing,
        because processes that hear nothing poll."""
        now = time.monotonic()
        if now - self._rung < _QUIET_SECONDS:
            return
        self._rung = now
        link.limit = _RING_SECONDS
        try:
            link.execute(b"SELECT pg_notify(%s, '')", (self._channel,))
        except psycopg.Error as error:
            _log.debug("nobody is notified in %s: %s", self._channel, type(error).__name__)


class ChannelListener:
    """Listens on its own connection; see `amfs_core.storage.doorbell.Listener`."""

    def __init__(self, connections: Connections, channel: str) -> None:
        self._connections = connections
        self._channel = channel
        self._stopped = Flag()

    def listen(self, ring: Callable[[], None]) -> None:
        """Listen until stopped or cut off."""
        with self._connections.connect() as link:
            self._begin(link)
            ring()
            proved, is_echo_due = time.monotonic(), False
            while not self._stopped.is_set():
                step = _ECHO_SECONDS if is_echo_due else _STEP_SECONDS
                has_rung = any(True for _ in link.notifies(timeout=step, stop_after=1))
                if has_rung or is_echo_due:
                    ring()
                is_echo_due = has_rung
                if time.monotonic() - proved > _PROOF_SECONDS:  # a dead connection is silent too
                    link.execute(b"SELECT 1")
                    proved = time.monotonic()

    def stop(self) -> None:
        """Make `listen` return within 0.2 seconds."""
        self._stopped.set()

    def _begin(self, link: Link) -> None:
        try:
            ((own,),) = link.execute(b"SELECT pg_backend_pid()").fetchall()
            if own != link.info.backend_pid:
                raise NoDoorbell("a pooler is in between: name the server itself with listen_dsn")
            link.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
        except (psycopg.errors.ReadOnlySqlTransaction, psycopg.NotSupportedError) as error:
            raise NoDoorbell("the server is a replica, which notifies nobody") from error
