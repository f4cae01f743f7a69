"""What the adapter needs of an HTTP client, in the terms of S3."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from amfs_core.storage import ObjectInfo
from amfs_s3.failures import Failure

PAGE = 1000
"""Keys per page: the most that ListObjectsV2 gives."""


class RequestFailed(Exception):  # never leaves the adapter
    """A request failed; the client's own exception is the cause."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class Transport(Protocol):
    """One request per call. Keys are whole object keys. All raise `RequestFailed`."""

    def create(self, key: str, data: bytes) -> bool:
        """PUT with `If-None-Match: *`; False for 412 and 409."""

    def get(self, key: str) -> bytes | None:
        """GET; None when the server says that there is no such object."""

    def list(self, prefix: str, start_after: str) -> Iterator[list[ObjectInfo]]:
        """ListObjectsV2, page by page, fetched as they are asked for."""

    def put(self, key: str, data: bytes) -> None:
        """PUT without a condition."""

    def delete(self, key: str) -> None:
        """DELETE; no error when there is no such object."""
