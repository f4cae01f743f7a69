"""How an adapter gets its endpoint, credentials and transport, and new ones when they expire."""

from __future__ import annotations

# boto3 imports this module, which registers an exit handler. That fails when a bucket is first used
# while the interpreter exits, so the module is imported here.
import concurrent.futures.thread  # noqa: F401
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amfs_core.errors import BackendUnavailableError
from amfs_s3 import imports
from amfs_s3.background import Background, StillAtWork
from amfs_s3.settings import Settings

if TYPE_CHECKING:
    from amfs_s3.endpoint import Endpoint
    from amfs_s3.transport import Transport

_LOOK_AGAIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Connection:
    """A resolved endpoint and the transport to it."""

    endpoint: Endpoint
    transport: Transport


class Connector:
    """Resolves an endpoint and proves it once, for all threads. Failures are not remembered."""

    def __init__(self, settings: Settings, client_options: Mapping[str, Any], prefix: str) -> None:
        self._settings = settings
        self._client_options = client_options
        self._prefix = prefix
        self.current: Connection | None = None
        self.is_proved = False
        self._connecting = Background(self._connect)
        self._proving = Background(self._prove)
        self._resolved_at = 0.0
        self._sources: object = None

    def connection(self, seconds: float | None = None) -> Connection:
        """Return the connection, which the first call makes.

        Raises `BackendUnavailableError` if that takes longer than this many seconds, by default
        `connect_timeout`; the work continues in the background, and the next call waits again.
        """
        return self.current or self._wait(
            self._connecting, seconds or self._settings.connect_timeout, "finding its credentials"
        )

    def prove(self) -> None:
        """Return once creates are proved to be conditional at this endpoint."""
        self._wait(
            self._proving,
            self._settings.timeout + self._settings.connect_timeout,
            "the proof of conditional writes",
        )

    def renew(self, refused: Connection) -> Connection | None:
        """Return a connection with other credentials than those the server refused, if there are
        any by now: a tool may have renewed the shared file."""
        if self.current is refused:
            sources = _state_of_shared_files()
            looked_just_now = time.monotonic() - self._resolved_at < _LOOK_AGAIN_SECONDS
            if self._settings.aws_access_key_id or (looked_just_now and sources == self._sources):
                return None
            self.current = None
        renewed = self.connection()
        before, after = (connection.endpoint.known[-1] for connection in (refused, renewed))
        return None if before == after else renewed

    def close(self) -> None:
        """Drop the connection; the next call makes another."""
        connection, self.current = self.current, None
        if connection is not None:
            connection.transport.close()

    def _connect(self) -> Connection:
        # The imports are here because they are slow.
        with imports.under_way():
            import boto3.s3.inject  # noqa: F401 (boto3 itself imports it late)
            import botocore.session  # noqa: F401

            import amfs_s3.proof  # noqa: F401
            from amfs_s3.endpoint import resolve
            from amfs_s3.transport import Transport

        self._sources, self._resolved_at = _state_of_shared_files(), time.monotonic()
        endpoint = resolve(self._settings)
        self.current = Connection(endpoint, Transport(endpoint, self._client_options))
        return self.current

    def _prove(self) -> None:
        from amfs_s3.proof import require_conditional_writes

        connection = self.connection()
        require_conditional_writes(connection.endpoint, connection.transport, self._prefix)
        self.is_proved = True

    def _wait(self, work: Background[Any], seconds: float, what: str) -> Any:
        try:
            return work.result(seconds)
        except StillAtWork:
            problem = (
                f"bucket {self._settings.bucket!r} cannot be used yet: {what} takes longer than "
                f"{seconds:g} s"
            )
        raise BackendUnavailableError(
            problem, hint="check the profile's credential_process, SSO or metadata service"
        )


def _state_of_shared_files() -> object:
    """Return a value that changes whenever the files with credentials do."""
    names = (
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
        os.environ.get("AWS_CONFIG_FILE", "~/.aws/config"),
    )
    states: list[object] = []
    for name in names:
        try:
            status = os.stat(os.path.expanduser(name))
        except OSError:
            states.append(None)
        else:
            states.append((status.st_mtime_ns, status.st_size, status.st_ino))
    return states
