"""The settings of a server."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from amfs.config import Config
from amfs_core.storage import StorageAdapter

MEGABYTE = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the server works.

    `adapter` is the store; None means the configured one. `keys` is the file of keys; without it,
    every client may do everything, so the server must be bound to this machine. `hosts` are the
    host names to which a server without keys answers. `origins` are the origins whose pages may use
    the server in a browser. `state` is the directory that remembers events for returning clients;
    None keeps them in memory. `events_interval` is the number of seconds between two polls of a
    store without a doorbell. `max_streams` limits the clients that follow events, `threads` the
    requests that use the store at the same time, `body_seconds` the time for a request's body.
    """

    config: Config = field(default_factory=Config)
    adapter: StorageAdapter | None = None
    keys: Path | None = None
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "::1")
    origins: tuple[str, ...] = ()
    state: Path | None = None
    events_interval: float = 5.0
    max_streams: int = 2_000
    threads: int = 64
    body_seconds: float = 30.0

    @property
    def max_body_bytes(self) -> int:
        """The largest size of a request's body: a value and its envelope."""
        return self.config.max_value_bytes + MEGABYTE
