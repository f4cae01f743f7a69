"""Requests through obstore: Rust, connection pooling, and the GIL released while it waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import obstore
from botocore.credentials import RefreshableCredentials
from obstore.exceptions import AlreadyExistsError, BaseError, InvalidPathError
from obstore.store import S3Store

from amfs_core.errors import ConfigurationError
from amfs_core.storage import ObjectInfo
from amfs_s3.boto_transport import BotoTransport
from amfs_s3.endpoint import Endpoint, virtual_host_url
from amfs_s3.failures import from_obstore
from amfs_s3.transport import PAGE, RequestFailed

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from obstore.store import ClientConfig, S3Config, S3Credential

T = TypeVar("T")

_HTTP_CONFLICT = 409


class ObstoreTransport:
    """The fast path. Must not be used in a child forked after its first request: see `runtime`."""

    def __init__(self, endpoint: Endpoint, client_options: Mapping[str, Any]) -> None:
        self._endpoint = endpoint
        settings = endpoint.settings
        options: ClientConfig = {
            "allow_http": True,  # the URL's scheme decides
            "timeout": timedelta(seconds=settings.timeout),
            "connect_timeout": timedelta(seconds=settings.connect_timeout),
            "user_agent": "amfs",
        }
        if endpoint.ca_bundle:
            options["root_certificate"] = Path(endpoint.ca_bundle).read_bytes()
        config: S3Config = {
            "endpoint": virtual_host_url(endpoint) if endpoint.virtual_hosted else endpoint.url,
            "region": endpoint.region,
            "virtual_hosted_style_request": endpoint.virtual_hosted,
        }
        if settings.server_side_encryption:
            config["server_side_encryption"] = settings.server_side_encryption
        if settings.sse_kms_key_id:
            config["sse_kms_key_id"] = settings.sse_kms_key_id
        try:
            self._store = S3Store(
                settings.bucket,
                config=config,
                client_options=cast("ClientConfig", {**options, **client_options}),
                retry_config={"max_retries": 0},  # what may be repeated is decided above
                credential_provider=_CredentialProvider(endpoint.credentials),
            )
        except (BaseError, ValueError, TypeError) as error:
            refused = str(error).partition("\n")[0]  # what follows repeats values
        else:
            return
        raise ConfigurationError(
            f"the HTTP client for {endpoint.where} cannot be set up ({refused}); check "
            "client_options and AWS_CA_BUNDLE"
        )

    def create(self, key: str, data: bytes) -> bool:
        """PUT with `If-None-Match: *`; False for 412 and 409."""
        try:
            obstore.put(self._store, key, data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        except (BaseError, OSError, ValueError) as error:
            failure = from_obstore(error)
            if failure.status == _HTTP_CONFLICT:
                return False
            raise RequestFailed(failure) from error
        return True

    def get(self, key: str) -> bytes | None:
        """GET; None when the server says that there is no such object."""
        try:
            return obstore.get(self._store, key).bytes().to_bytes()
        except (BaseError, OSError, ValueError) as error:
            failure = from_obstore(error)
            if failure.is_absent_object:
                return None
            raise RequestFailed(failure) from error

    def list(self, prefix: str, start_after: str) -> Iterator[list[ObjectInfo]]:
        """ListObjectsV2, page by page; by boto3 from the page on that has a key which obstore
        cannot carry, such as another tool's with an empty segment or a control character, or
        perhaps alters: it drops the slash of a "folder", an empty object."""
        if start_after.endswith("/"):  # obstore would drop the slash and start before it
            yield from BotoTransport(self._endpoint).list(prefix, start_after)
            return
        stream = obstore.list(
            self._store, prefix or None, offset=start_after or None, chunk_size=PAGE
        )
        while True:
            try:
                page = next(stream, None)
            except InvalidPathError:
                yield from BotoTransport(self._endpoint).list(prefix, start_after)
                return
            except (BaseError, OSError, ValueError) as error:
                raise RequestFailed(from_obstore(error)) from error
            if page is None:
                return
            if not all(one["size"] for one in page):
                yield from BotoTransport(self._endpoint).list(prefix, start_after)
                return
            yield [ObjectInfo(one["path"], one["size"], one["last_modified"]) for one in page]
            start_after = page[-1]["path"]

    def put(self, key: str, data: bytes) -> None:
        """PUT without a condition."""
        self._do(lambda: obstore.put(self._store, key, data, use_multipart=False))

    def delete(self, key: str) -> None:
        """DELETE; no error when there is no such object."""
        self._do(lambda: obstore.delete(self._store, key))

    def _do(self, request: Callable[[], T]) -> T:
        try:
            return request()
        except (BaseError, OSError, ValueError) as error:
            raise RequestFailed(from_obstore(error)) from error


class _CredentialProvider:
    """Asks botocore for credentials: before each request when they can expire, else seldom.

    botocore knows when to refresh; a copy held longer here could be one that has expired.
    """

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        refreshed = isinstance(credentials, RefreshableCredentials)
        self._held = timedelta(0) if refreshed else timedelta(days=1)

    def __call__(self) -> S3Credential:
        """Return the credentials for the next request."""
        frozen = self._credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key or "",
            "secret_access_key": frozen.secret_key or "",
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + self._held,
        }
