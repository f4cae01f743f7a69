"""`S3Adapter`: a bucket as a store, created to by PUT with `If-None-Match: *`."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from amfs_core import fork
from amfs_core.doorbell import ListeningDoorbell
from amfs_core.errors import AMFSError, ConfigurationError
from amfs_core.layout import checked_prefix
from amfs_core.storage import Doorbell, ObjectInfo
from amfs_s3 import runtime
from amfs_s3.client_options import checked
from amfs_s3.endpoint import Endpoint, resolve
from amfs_s3.failures import redacted, translate
from amfs_s3.settings import AddressingStyle, Settings
from amfs_s3.transport import RequestFailed, Transport

if TYPE_CHECKING:
    from amfs_core.diagnosis import Check

T = TypeVar("T")

_log = logging.getLogger("amfs")


@dataclass(frozen=True, slots=True)
class _Connection:
    endpoint: Endpoint
    transport: Transport


class S3Adapter:
    """A bucket of AWS S3, or of any service with its API and conditional writes, as a store.

    `prefix` is put before every object key. What is not given is resolved as by boto3: endpoint
    (`AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, the profile's), region, profile and credentials,
    which are refreshed when they expire. No request is made before the first operation.

    `timeout` and `connect_timeout` are seconds per request. `max_concurrency` is how many requests
    `get_many` has under way. `server_side_encryption` is "AES256" or "aws:kms", with
    `sse_kms_key_id` for a key of your own. `addressing_style` "auto" puts the bucket in the host
    name on AWS and in the path elsewhere. `client_options` go to obstore's HTTP client (proxies,
    certificates: `obstore.store.ClientConfig`).

    Safe to share between threads, and usable after a fork (see `docs/design/fork.md`).
    """

    backend_type = "s3"
    paged = True

    def __init__(
        self,
        bucket: str,
        prefix: str = "amfs/",
        endpoint_url: str | None = None,
        region_name: str | None = None,
        *,
        profile_name: str | None = None,
        aws_access_key_id: str | None = None,
        aws_secret_access_key: str | None = None,
        aws_session_token: str | None = None,
        timeout: float = 10.0,
        connect_timeout: float = 3.0,
        max_concurrency: int = 32,
        server_side_encryption: str | None = None,
        sse_kms_key_id: str | None = None,
        addressing_style: AddressingStyle = "auto",
        client_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._settings = Settings(
            bucket=bucket,
            endpoint_url=endpoint_url or None,
            region_name=region_name or None,
            profile_name=profile_name or None,
            aws_access_key_id=aws_access_key_id,
            aws_secret_access_key=aws_secret_access_key,
            aws_session_token=aws_session_token,
            timeout=timeout,
            connect_timeout=connect_timeout,
            max_concurrency=max_concurrency,
            server_side_encryption=server_side_encryption or None,
            sse_kms_key_id=sse_kms_key_id,
            addressing_style=addressing_style,
        )
        if type(prefix) is not str:
            raise ConfigurationError(f"prefix must be text, not {type(prefix).__name__}")
        self.bucket = bucket
        self.timeout = timeout
        self.prefix = checked_prefix(prefix)
        self._client_options = checked(client_options)
        self._connected: _Connection | None = None
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        """Connect anew in a forked child."""
        if self._connected is not None:
            runtime.keep_for_ever(self._connected)
        self._connected = None
        self._lock = threading.Lock()
        self._proved = False
        self._pool: ThreadPoolExecutor | None = None

    @property
    def location(self) -> str:
        """The endpoint, the bucket and the prefix. Resolves the endpoint; sends nothing to it."""
        return f"{self._connection().endpoint.place}/{self.bucket}/{self.prefix}"

    def create(self, key: str, data: bytes) -> bool:
        """Create the object if there is none. 1 request, and before the first one the proof that
        the endpoint can do that (3 requests at most once a day; none for AWS)."""
        connection = self._connected or self._connection()
        if not self._proved:
            self._prove(connection, key)
        try:
            return connection.transport.create(self.prefix + key, data)
        except RequestFailed as error:
            failed = self._failed(error, connection, "create", self.prefix + key)
        raise failed

    def get(self, key: str) -> bytes | None:
        """Return the object's bytes, or None when there is no such object. 1 request."""
        connection = self._connected or self._connection()
        try:
            return connection.transport.get(self.prefix + key)
        except RequestFailed as error:
            failed = self._failed(error, connection, "get", self.prefix + key)
        raise failed

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Yield `(key, bytes or None)`, with up to `max_concurrency` requests under way."""
        remaining = iter(keys)
        first = list(islice(remaining, 2))
        if len(first) == 1:  # no threads for a single object
            yield first[0], self.get(first[0])
            return
        pool = self._threads()
        under_way: deque[tuple[str, Future[bytes | None]]] = deque()
        try:
            for key in [*first, *islice(remaining, 2 * self._settings.max_concurrency)]:
                under_way.append((key, pool.submit(self.get, key)))
            failure: AMFSError | None = None
            while under_way:
                key, future = under_way.popleft()
                try:
                    data = None if future.cancelled() else future.result()
                except AMFSError as error:  # what was answered is given all the same
                    failure = failure or error
                    for _, waiting in under_way:
                        waiting.cancel()
                    continue
                if future.cancelled():
                    continue
                yield key, data
                for following in islice(remaining, 1 if failure is None else 0):
                    under_way.append((following, pool.submit(self.get, following)))
            if failure is not None:
                raise failure
        finally:
            for _, future in under_way:
                future.cancel()

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects under a prefix in byte order. 1 request per 1,000 objects."""
        connection = self._connection()
        after = self.prefix + start_after if start_after else ""
        pages = connection.transport.list(self.prefix + prefix, after)
        while page := self._request(connection, "list", prefix, lambda _: next(pages, None)):
            for info in page:
                yield ObjectInfo(info.key[len(self.prefix) :], info.size, info.modified)

    def replace(self, key: str, data: bytes) -> None:
        """Write the object, over one that is there too. 1 request."""
        connection = self._connection()
        self._request(connection, "replace", key, lambda to: to.put(self.prefix + key, data))

    def delete(self, key: str) -> None:
        """Remove the object if there is one. 1 request."""
        connection = self._connection()
        self._request(connection, "delete", key, lambda to: to.delete(self.prefix + key))

    def doorbell(self, prefix: str) -> Doorbell | None:
        """Return what rings for creations under a prefix where the server is a MinIO.

        A server that is none is found out by 1 request; it never rings. None for AWS, which is
        never asked, behind a proxy of `client_options`, and without the library minio (the extra
        `watch`).
        """
        endpoint = self._connection().endpoint
        if endpoint.is_aws or "proxy_url" in self._client_options:
            return None
        try:
            from amfs_s3.doorbell import BucketListener

            listener = BucketListener(endpoint, self._client_options, self.prefix + prefix)
        except (ImportError, ValueError) as error:
            _log.debug("no doorbell for %s: %s", endpoint.where, error)
            return None
        return ListeningDoorbell(listener, endpoint.where)

    def checks(self) -> Iterator[Check]:
        """Yield what `amfs doctor` looks at: about 19 requests; a scratch object is removed."""
        from amfs_s3.checks import S3Checks

        return S3Checks(self, self._connection, self._client_options, self.prefix).all()

    def close(self) -> None:
        """Drop the connections and threads. The next operation would connect again."""
        with self._lock:
            pool, self._pool = self._pool, None
            self._connected = None
        if pool:
            pool.shutdown()

    def __repr__(self) -> str:
        return f"S3Adapter(bucket={self.bucket!r}, prefix={self.prefix!r})"

    def _connection(self) -> _Connection:
        connected = self._connected
        if connected is None:
            with self._lock:
                connected = self._connected or self._connect()
                self._connected = connected
        return connected

    def _connect(self) -> _Connection:
        """Resolve the endpoint and choose a client. The imports are here because they are slow."""
        endpoint = resolve(self._settings)
        if runtime.obstore_works():
            from amfs_s3.obstore_transport import ObstoreTransport

            return _Connection(endpoint, ObstoreTransport(endpoint, self._client_options))
        from amfs_s3.boto_transport import BotoTransport

        return _Connection(endpoint, BotoTransport(endpoint))

    def _prove(self, connection: _Connection, key: str) -> None:
        from amfs_s3.proof import require_conditional_writes

        with self._lock:
            if self._proved:
                return
            try:
                require_conditional_writes(connection.endpoint, connection.transport, self.prefix)
                self._proved = True
                return
            except RequestFailed as error:
                # The scratch object is not the caller's: its failure leaves nothing unknown.
                failed = self._failed(error, connection, "write", key)
        raise failed

    def _request(
        self, connection: _Connection, verb: str, key: str, request: Callable[[Transport], T]
    ) -> T:
        try:
            return request(connection.transport)
        except RequestFailed as error:
            failed = self._failed(error, connection, verb, self.prefix + key)
        raise failed

    @staticmethod
    def _failed(
        error: RequestFailed, connection: _Connection, verb: str, object_key: str
    ) -> AMFSError:
        """Return the error to raise, outside the handler: so no credentials that the client's own
        exception may repeat hang on it as its context."""
        failed = translate(error.failure, verb, connection.endpoint.where, object_key)
        failed.__cause__ = redacted(error.__cause__, connection.endpoint)
        return failed

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(
                    self._settings.max_concurrency, thread_name_prefix="amfs-s3"
                )
            return self._pool
