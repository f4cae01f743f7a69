"""What a server is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from amfs.config import Config
from amfs_core.storage import StorageAdapter

MEGABYTE = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the server works.

    `adapter` is the store, None: what the configuration says. `keys` is the file of keys; without
    one everybody who reaches the server may do everything, so it is bound to this machine.
    `origins` are those that a browser may come from, none by default. `state` is the directory
    where events are remembered for clients that come back; None: in memory. `events_interval` is
    how many seconds are between two polls where no doorbell rings.
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
        """The largest body of a request: a value, and what is around it."""
        return self.config.max_value_bytes + MEGABYTE
