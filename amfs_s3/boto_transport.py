"""Requests through boto3: slower, but it works where obstore cannot.

That is in a child forked after obstore's first request (its Tokio runtime does not survive a fork;
tokio-rs/tokio#4301), and for listings with keys that obstore refuses to carry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from botocore.exceptions import HTTPClientError as BotoHTTPError

from amfs_core.storage import ObjectInfo
from amfs_s3.endpoint import Endpoint
from amfs_s3.failures import from_boto
from amfs_s3.transport import PAGE, RequestFailed

T = TypeVar("T")

_REFUSED = (409, 412)


class BotoTransport:
    """The path that survives everything. boto3's client is safe to share between threads."""

    def __init__(self, endpoint: Endpoint) -> None:
        settings = endpoint.settings
        self._client = endpoint.client
        self._bucket = settings.bucket
        self._encryption: dict[str, Any] = {}
        if settings.server_side_encryption:
            self._encryption["ServerSideEncryption"] = settings.server_side_encryption
        if settings.sse_kms_key_id:
            self._encryption["SSEKMSKeyId"] = settings.sse_kms_key_id

    def create(self, key: str, data: bytes) -> bool:
        """PUT with `If-None-Match: *`; False for 412 and 409."""
        try:
            self._put(key, data, IfNoneMatch="*")
        except RequestFailed as error:
            if error.failure.status in _REFUSED:
                return False
            raise
        return True

    def get(self, key: str) -> bytes | None:
        """GET; None when the server says that there is no such object."""
        try:
            return _do(lambda: self._read(key))
        except RequestFailed as error:
            if error.failure.is_absent_object:
                return None
            raise

    def list(self, prefix: str, start_after: str) -> Iterator[list[ObjectInfo]]:
        """ListObjectsV2, page by page."""
        options: dict[str, Any] = {"Bucket": self._bucket, "Prefix": prefix, "MaxKeys": PAGE}
        if start_after:
            options["StartAfter"] = start_after
        while True:
            page = _do(lambda: self._client.list_objects_v2(**options))
            found = [
                ObjectInfo(one["Key"], one["Size"], one["LastModified"])
                for one in page.get("Contents", [])
            ]
            if found:  # an empty page need not be the last one, but ends who reads them
                yield found
            if not page["IsTruncated"]:
                return
            options["ContinuationToken"] = page["NextContinuationToken"]

    def put(self, key: str, data: bytes) -> None:
        """PUT without a condition."""
        self._put(key, data)

    def delete(self, key: str) -> None:
        """DELETE; no error when there is no such object."""
        _do(lambda: self._client.delete_object(Bucket=self._bucket, Key=key))

    def _read(self, key: str) -> bytes:
        return self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()

    def _put(self, key: str, data: bytes, **conditions: str) -> None:
        options: dict[str, Any] = {**self._encryption, **conditions}
        _do(lambda: self._client.put_object(Bucket=self._bucket, Key=key, Body=data, **options))


def _do(request: Callable[[], T]) -> T:
    try:
        return request()
    except (BotoCoreError, ClientError, BotoHTTPError) as error:
        raise RequestFailed(from_boto(error)) from error
