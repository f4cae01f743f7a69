"""`S3Adapter`: a bucket as a store. Objects are created by PUT with `If-None-Match: *`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeVar

from amfs_core import fork
from amfs_core.errors import AMFSError
from amfs_core.format import checked_prefix
from amfs_core.parallel import until_failure
from amfs_core.storage import (
    Capabilities,
    Doorbell,
    ListeningDoorbell,
    ObjectInfo,
    StorageAdapter,
)
from amfs_s3.client_options import checked
from amfs_s3.connection import Connection, Connector
from amfs_s3.failures import RequestFailed, redacted, redacted_cause, translate
from amfs_s3.settings import AddressingStyle, Settings

if TYPE_CHECKING:
    from amfs_core.doctor import Check
    from amfs_s3.transport import Transport

T = TypeVar("T")

_log = logging.getLogger("amfs")


class S3Adapter(StorageAdapter):
    """A bucket of AWS S3, or of any service with its API and conditional writes, as a store.

    `prefix` is put before every object key. Missing arguments are resolved as boto3 does: endpoint
    (`AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, the profile's), region, profile and credentials,
    which are refreshed when they expire. The first operation sends the first request.

    `timeout` and `connect_timeout` are seconds per request. `max_concurrency` is how many requests
    `get_many` sends at a time. `server_side_encryption` is "AES256" or "aws:kms", with
    `sse_kms_key_id` for your own key. `addressing_style` "auto" puts the bucket in the host name on
    AWS and in the path elsewhere. `content_checksum` sends a `Content-MD5` with each object, which
    buckets with a default retention require; None: on AWS only. `client_options` are options of the
    HTTP client, such as proxies and certificates (`docs/configuration.md`).

    Safe to share between threads, and usable after a fork (see `docs/design/fork.md`).
    """

    backend_type = "s3"
    capabilities = Capabilities(location=True, doorbell=True, checks=True)
    timeout: float

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
        content_checksum: bool | None = None,
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
            content_checksum=content_checksum,
        )
        self.bucket = bucket
        self.timeout = timeout
        self.prefix = checked_prefix(prefix)
        self._client_options = checked(client_options)
        self._connector = Connector(self._settings, self._client_options, self.prefix)
        fork.register(self)

    def after_fork(self) -> None:
        """Connect again in a forked child, and leave the parent's connections alone."""
        fork.keep_forever(self._connector)
        self._connector = Connector(self._settings, self._client_options, self.prefix)

    @property
    def location(self) -> str:
        """The endpoint, the bucket and the prefix. Resolves the endpoint; sends nothing to it."""
        return f"{self._connection().endpoint.place}/{self.bucket}/{self.prefix}"

    def create(self, key: str, data: bytes) -> bool:
        """Create the object if there is none. 1 request; the first one is preceded by a proof that
        the endpoint supports conditional creates (5 requests, at most once a day; none for AWS)."""
        connector = self._connector
        connection = connector.current or connector.connection()
        if not connector.is_proved:
            self._prove(connection, key)
        try:
            return connection.transport.create(self.prefix + key, data)
        except RequestFailed as error:
            failed = error
        return self._again(
            failed, connection, "create", key, lambda to: to.create(self.prefix + key, data)
        )

    def get(self, key: str) -> bytes | None:
        """Return the object's bytes, or None when there is no such object. 1 request."""
        connection = self._connector.current or self._connection()
        try:
            return connection.transport.get(self.prefix + key)
        except RequestFailed as error:
            failed = error
        return self._again(failed, connection, "get", key, lambda to: to.get(self.prefix + key))

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Yield `(key, bytes or None)`, with up to `max_concurrency` requests under way."""
        remaining = iter(keys)
        first = list(islice(remaining, 2))
        if len(first) == 1:  # no threads for a single object
            yield first[0], self.get(first[0])
            return
        wanted = chain(first, remaining)
        for done in until_failure(self.get, wanted, self._settings.max_concurrency, AMFSError):
            yield done.item, done.result()

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects under a prefix in byte order. 1 request per 1,000 objects."""
        after = self.prefix + start_after if start_after else ""
        connector, connection = self._connector, self._connection()
        pages = connection.transport.list(self.prefix + prefix, after)
        while True:
            if self._connector is not connector:  # forked since: the connections are the parent's
                connector, connection = self._connector, self._connection()
                pages = connection.transport.list(self.prefix + prefix, after)
            failed = None
            try:
                page = next(pages, None)
            except RequestFailed as error:
                failed = error
            if failed is not None:
                connection = self._renewed(failed, connection, "list", prefix)
                pages = connection.transport.list(self.prefix + prefix, after)
                continue
            if page is None:
                return
            after = page[-1].key
            for info in page:
                yield ObjectInfo(info.key[len(self.prefix) :], info.size, info.modified)

    def replace(self, key: str, data: bytes) -> None:
        """Write the object, replacing an existing one. 1 request."""
        self._request("replace", key, lambda to: to.put(self.prefix + key, data))

    def delete(self, key: str) -> None:
        """Remove the object; do nothing when it does not exist. 1 request."""
        self._request("delete", key, lambda to: to.delete(self.prefix + key))

    def doorbell(self, prefix: str) -> Doorbell | None:
        """Return a doorbell, which rings when an object is created under a prefix of a MinIO
        server.

        1 request tells whether the server is a MinIO; for any other the doorbell never rings. None
        for AWS, which is never asked, behind a proxy of `client_options`, and without the library
        minio (the extra `watch`).
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
        """Yield the checks of `amfs doctor`: about 19 requests; the scratch object they make is
        removed."""
        from amfs_core.doctor import DEADLINE
        from amfs_s3.doctor.checks import S3Checks

        connect = partial(self._connector.connection, DEADLINE)  # nothing here retries
        return S3Checks(self, connect, self._client_options, self.prefix).all()

    def close(self) -> None:
        """Close the idle connections. A later operation connects again."""
        self._connector.close()

    def __reduce__(self) -> tuple[Any, ...]:
        # Keys passed as arguments are included, or the copy could not work elsewhere. Keys from the
        # environment, a profile or a role are looked up again where the copy is made.
        options = {field.name: getattr(self._settings, field.name) for field in fields(Settings)}
        options |= {"prefix": self.prefix, "client_options": self._client_options}
        return partial(S3Adapter, **options), ()

    def __repr__(self) -> str:
        return f"S3Adapter(bucket={self.bucket!r}, prefix={self.prefix!r})"

    def _connection(self) -> Connection:
        return self._connector.connection()

    def _prove(self, connection: Connection, key: str) -> None:
        try:
            self._connector.prove()
        except RequestFailed as error:
            failed = error
        else:
            return
        # The scratch object is not the caller's: a failure with it leaves nothing unknown.
        self._again(failed, connection, "write", key, lambda _: self._connector.prove())

    def _request(self, verb: str, key: str, request: Callable[[Transport], T]) -> T:
        connection = self._connection()
        try:
            return request(connection.transport)
        except RequestFailed as error:
            failed = error
        return self._again(failed, connection, verb, key, request)

    def _again(
        self,
        failed: RequestFailed,
        connection: Connection,
        verb: str,
        key: str,
        request: Callable[[Transport], T],
    ) -> T:
        """Send a request once more if other credentials than the refused ones are available;
        otherwise raise the error of AMFS. A request refused for its credentials was not applied."""
        renewed = self._renewed(failed, connection, verb, key)
        try:
            return request(renewed.transport)
        except RequestFailed as error:
            failed = error
        raise self._error(failed, renewed, verb, key)

    def _renewed(
        self, failed: RequestFailed, connection: Connection, verb: str, key: str
    ) -> Connection:
        renewed = None
        if failed.failure.is_about_credentials:
            renewed = self._connector.renew(connection)
        if renewed is None:
            raise self._error(failed, connection, verb, key)
        return renewed

    def _error(
        self, failed: RequestFailed, connection: Connection, verb: str, key: str
    ) -> AMFSError:
        """Return the error to raise. Called outside any `except` block: the client's own exception
        repeats parts of the request, so it must not become the context of ours."""
        endpoint = connection.endpoint
        failure = redacted(failed.failure, endpoint)
        error = translate(failure, verb, endpoint.where, self.prefix + key)
        cause = redacted_cause(failed.__cause__, endpoint)
        error.__cause__ = cause if cause is not None else RequestFailed(failure)
        return error
