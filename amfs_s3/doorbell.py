"""The doorbell of a bucket: MinIO pushes an event for every object that is created.

`ListenBucketNotification` is MinIO's own: one GET whose answer, `text/event-stream`, never ends. It
has a line for each event, and a blank twice a second so that each side sees that the other is alive
(https://min.io/docs/minio/linux/developers/python/API.html#listen_bucket_notification, and
`cmd/listen-notification-handlers.go` of the server). Any other service answers something else; it
is only polled. `docs/design/watch.md` says what can be lost.
"""

from __future__ import annotations

import contextlib
import io
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.credentials.credentials import Credentials
from minio.credentials.providers import Provider
from urllib3.connection import HTTPConnection, HTTPSConnection

from amfs_core.storage import NoDoorbell
from amfs_s3.endpoint import Endpoint
from amfs_s3.trust import trust

if TYPE_CHECKING:
    from botocore.credentials import Credentials as BotoCredentials

_SILENCE_SECONDS = 3.0
"""Seconds without a byte after which a connection counts as dead: a live one sends two a second."""

_CHUNK = 64 * 1024
_STREAM = "text/event-stream"
_OK = 200
_NOT_IMPLEMENTED = 501
_PASSING = (408, 429)


class BucketListener:
    """Listens for objects created under a prefix, the adapter's own included.

    Raises `ValueError` for an endpoint that the client of MinIO cannot be made for.
    """

    def __init__(self, endpoint: Endpoint, client_options: Mapping[str, Any], prefix: str) -> None:
        url = urlsplit(endpoint.url)
        self._pool = _Pool(endpoint, client_options)
        self._bucket = endpoint.settings.bucket
        self._prefix = prefix
        self._client = Minio(
            url.netloc + url.path,
            secure=_is_secure(endpoint),
            region=endpoint.region,  # otherwise the library asks the server for it
            credentials=_Current(endpoint.credentials),
            http_client=self._pool,
        )
        if endpoint.virtual_hosted:
            self._client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]

    def listen(self, ring: Callable[[], None]) -> None:
        """Listen until stopped or cut off; the end of the stream is an error like any other."""
        self._pool.begin(ring)
        events = self._client.listen_bucket_notification(
            self._bucket, prefix=self._prefix, events=("s3:ObjectCreated:*",)
        )
        with events:
            for _ in events:
                ring()

    def stop(self) -> None:
        """End a waiting read by shutting its connection down."""
        self._pool.stop()


class _Current(Provider):
    """The adapter's credentials, refreshed by botocore when they expire."""

    def __init__(self, credentials: BotoCredentials) -> None:
        self._credentials = credentials

    def retrieve(self) -> Credentials:
        """Return the credentials for the next request."""
        frozen = self._credentials.get_frozen_credentials()
        return Credentials(frozen.access_key or "", frozen.secret_key or "", frozen.token)


class _Pool(urllib3.PoolManager):
    """Makes one request at a time, and can end it from another thread."""

    def __init__(self, endpoint: Endpoint, client_options: Mapping[str, Any]) -> None:
        connect = endpoint.settings.connect_timeout
        super().__init__(
            num_pools=1,
            retries=False,
            timeout=urllib3.Timeout(connect=connect, read=_SILENCE_SECONDS),
            ssl_context=trust(endpoint.ca_bundle, client_options) if _is_secure(endpoint) else None,
            cert_reqs="CERT_NONE"
            if client_options.get("allow_invalid_certificates")
            else "CERT_REQUIRED",
        )
        self._is_stopped = False
        self._socket: socket.socket | None = None
        self._ring: Callable[[], None] = lambda: None
        self._asked = False
        self._has_streamed = False
        self.pool_classes_by_scheme = {"http": self._http_pool(), "https": self._https_pool()}

    def begin(self, ring: Callable[[], None]) -> None:
        """Allow one request; its answer rings when it begins."""
        self._ring = ring
        self._asked = False

    def stop(self) -> None:
        """Shut down the connection, and prevent another."""
        self._is_stopped = True
        connected = self._socket
        if connected is not None:
            with contextlib.suppress(OSError):  # it may have closed already
                connected.shutdown(socket.SHUT_RDWR)

    def urlopen(  # type: ignore[override]
        self, method: str, url: str, redirect: bool = True, **options: Any
    ) -> urllib3.BaseHTTPResponse:
        """Return the answer once it is known to be a stream of events; the stream stays open."""
        if self._asked:  # the client of MinIO would connect again at once, forever
            raise ConnectionError("the stream of events has ended")
        self._asked = True
        # A redirect would carry the session token to whatever host it names.
        answer = super().urlopen(method, url, False, **options)
        kind = answer.headers.get("content-type", "")
        if answer.status == _OK and kind.startswith(_STREAM):
            # The server listens from before its answer begins; earlier changes must be looked for.
            self._has_streamed = True
            self._ring()
            answer.readline = io.BufferedReader(_Body(answer), _CHUNK).readline  # type: ignore[method-assign]
        elif not self._has_streamed and not _is_passing(answer.status):
            answer.close()
            raise NoDoorbell(f"the endpoint has no events: it answered {answer.status} {kind}")
        return answer

    def _http_pool(self) -> type[urllib3.HTTPConnectionPool]:
        pool = self

        class Connection(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                pool._connected(self.sock)

        class Pool(urllib3.HTTPConnectionPool):
            ConnectionCls = Connection

        return Pool

    def _https_pool(self) -> type[urllib3.HTTPSConnectionPool]:
        pool = self

        class Connection(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                pool._connected(self.sock)

        class Pool(urllib3.HTTPSConnectionPool):
            ConnectionCls = Connection

        return Pool

    def _connected(self, connected: socket.socket) -> None:
        self._socket = connected
        if self._is_stopped:  # stopped before there was a connection to shut down
            raise ConnectionError("no longer wanted")


class _Body(io.RawIOBase):
    """The bytes of an answer as they arrive; urllib3's own `readline` fetches them one by one."""

    def __init__(self, answer: urllib3.BaseHTTPResponse) -> None:
        self._answer = answer

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Wait for some bytes. The end of the stream is an error, because a stream of events has
        none."""
        data = self._answer.read1(len(buffer))
        if not data:
            raise ConnectionError("the stream of events was cut off")
        buffer[: len(data)] = data
        return len(data)


def _is_passing(status: int) -> bool:
    """True for a failure that is likely to pass soon."""
    return status in _PASSING or (status >= 500 and status != _NOT_IMPLEMENTED)


def _is_secure(endpoint: Endpoint) -> bool:
    return endpoint.url.startswith("https://")
