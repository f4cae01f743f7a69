"""The requests of S3 that the adapter needs, one method each, over libcurl."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from math import ceil
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pycurl
from botocore.credentials import RefreshableCredentials

from amfs_core.storage import ObjectInfo
from amfs_curl import Answer, proxy_of
from amfs_curl.curl import Curl, Unanswered
from amfs_s3.answers import (
    NotFromS3,
    error_in,
    object_in,
    page_in,
    require_applied,
    require_removed,
)
from amfs_s3.background import Background, StillAtWork
from amfs_s3.client_options import seconds
from amfs_s3.endpoint import Endpoint, virtual_host_url
from amfs_s3.failures import Failure, RequestFailed, answered, not_from_s3
from amfs_s3.trust import trusted

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

PAGE = 1000
"""Keys per page: the most that ListObjectsV2 gives."""

_MOST_OBJECT_BYTES = 5 * 1024**3
"""The most that one PUT can store (Amazon S3, "Uploading objects")."""

_MOST_BYTES = 64 * 1024**2
"""The most bytes of any other answer: a page of 1,000 keys of 1,024 bytes takes 4 MB."""

_MOST_EMPTY_PAGES = 100
_REFUSED = (409, 412)
_STILL_GOOD_SECONDS = 60  # botocore refreshes 15 minutes before credentials end
_MILLISECONDS = 1000


class Transport:
    """One request per call, to one bucket. Keys are whole object keys. All raise `RequestFailed`.

    Safe to share between threads. A forked child must make a new one and leave this one alone:
    closing its connections would end them for the parent.
    """

    def __init__(self, endpoint: Endpoint, client_options: Mapping[str, Any]) -> None:
        settings = endpoint.settings
        self._endpoint = endpoint
        self._url = f"{endpoint.place}/{settings.bucket}"
        if endpoint.virtual_hosted:
            self._url = virtual_host_url(endpoint)
        # libcurl would add these; a header without a value is one that it leaves out.
        self._headers = ["Expect:", "Content-Type:", "Accept:"]
        headers: Mapping[str, str | bytes] = client_options.get("default_headers") or {}
        for name, content in headers.items():
            text = content.decode("latin-1") if isinstance(content, bytes) else content
            self._headers.append(f"{name}: {text}")
        self._put_headers = list(self._headers)
        if content_type := client_options.get("default_content_type"):
            self._put_headers[1] = f"Content-Type: {content_type}"
        if encryption := settings.server_side_encryption:
            self._put_headers.append(f"x-amz-server-side-encryption: {encryption}")
        if key_id := settings.sse_kms_key_id:
            self._put_headers.append(f"x-amz-server-side-encryption-aws-kms-key-id: {key_id}")
        checksum = settings.content_checksum
        self._checksum = endpoint.is_aws if checksum is None else checksum
        self._certificates = trusted(endpoint.ca_bundle, client_options)
        self._proxy = proxy_of(self._url, client_options.get("proxy_url"))
        self._client_options = client_options
        self._curl = Curl(self._set_options)
        self._refreshing = Background(endpoint.frozen_credentials)

    def create(self, key: str, data: bytes) -> bool:
        """PUT with `If-None-Match: *`; False for 412 and 409.

        If libcurl may have sent the request twice, a refusal may come from the first sending: then
        the outcome is unknown, as if the first answer had been lost.
        """
        answer = self._send("PUT", self._path(key), data, "If-None-Match: *")
        if answer.status in _REFUSED and (error_in(answer) is not None or not answer.body):
            if answer.sent_twice:
                raise RequestFailed(Failure("sent", text="the connection was lost on the way"))
            return False
        self._require_applied(answer)
        return True

    def get(self, key: str) -> bytes | None:
        """GET; None when the server says that there is no such object."""
        answer = self._send("GET", self._path(key), most_bytes=_MOST_OBJECT_BYTES)
        try:
            return object_in(answer)
        except NotFromS3 as error:
            failure = self._failure(answer, error)
        if failure.is_absent_object:
            return None
        raise RequestFailed(failure)

    def list(self, prefix: str, start_after: str) -> Iterator[list[ObjectInfo]]:
        """ListObjectsV2, page by page, fetched as they are asked for."""
        bucket = self._endpoint.settings.bucket
        token, after = "", start_after
        seen: set[str] = set()
        empty = 0
        while True:
            answer = self._send("GET", self._listing(prefix, start_after, token))
            try:
                page = page_in(answer, bucket, prefix, after)
                empty = 0 if page.objects else empty + 1
                if page.following in seen or empty > _MOST_EMPTY_PAGES:
                    raise NotFromS3(f"{answer.description} (it goes on without end)")
            except NotFromS3 as error:
                raise RequestFailed(self._failure(answer, error)) from None
            if page.objects:  # an empty page need not be the last, but callers take it for the end
                after = max(after, *(info.key for info in page.objects))
                yield page.objects
            if page.following is None:
                return
            token = page.following
            seen.add(token)

    def put(self, key: str, data: bytes) -> None:
        """PUT without a condition."""
        self._require_applied(self._send("PUT", self._path(key), data))

    def delete(self, key: str) -> None:
        """DELETE; no error when there is no such object."""
        answer = self._send("DELETE", self._path(key))
        try:
            require_removed(answer)
        except NotFromS3 as error:
            failure = self._failure(answer, error)
            if not failure.is_absent_object:
                raise RequestFailed(failure) from None

    def close(self) -> None:
        """Close the idle connections."""
        self._curl.close()

    def _require_applied(self, answer: Answer) -> None:
        try:
            require_applied(answer)
        except NotFromS3 as error:
            raise RequestFailed(self._failure(answer, error)) from None

    @staticmethod
    def _failure(answer: Answer, error: NotFromS3) -> Failure:
        """Return what an answer other than the expected one means."""
        return answered(answer) or not_from_s3(str(error), answer)

    def _send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *headers: str,
        most_bytes: int = _MOST_BYTES,
    ) -> Answer:
        frozen = self._current_credentials()
        sent = [*(self._put_headers if method == "PUT" else self._headers), *headers]
        if frozen.token:
            sent.append(f"x-amz-security-token: {frozen.token}")
        if method == "PUT" and self._checksum:
            digest = hashlib.md5(body, usedforsecurity=False).digest()
            sent.append(f"Content-MD5: {base64.b64encode(digest).decode()}")
        try:
            return self._curl.request(
                method,
                self._url + path,
                sent,
                body,
                user=frozen.access_key or "",
                password=frozen.secret_key or "",
                most_bytes=most_bytes,
            )
        except Unanswered as error:
            raise RequestFailed(Failure(error.stage, text=str(error))) from error

    def _current_credentials(self) -> ReadOnlyCredentials:
        """Return the credentials for a request. Those that expire are refreshed in the background:
        botocore would ask in this thread, for as long as a process or a service takes."""
        credentials = self._endpoint.credentials
        if not isinstance(credentials, RefreshableCredentials):
            return self._endpoint.frozen_credentials()
        try:
            if not credentials.refresh_needed():
                return self._endpoint.known[-1]
            # Only one request waits: while a refresh hangs, the others use credentials that are
            # still valid.
            if self._refreshing.is_late and not credentials.refresh_needed(_STILL_GOOD_SECONDS):
                return self._endpoint.known[-1]
            return self._refreshing.result(self._endpoint.settings.connect_timeout)
        except StillAtWork:
            if not credentials.refresh_needed(_STILL_GOOD_SECONDS):
                return self._endpoint.known[-1]
            failure = Failure("connect", text="its credentials take long to be refreshed")
        except Exception as error:  # botocore's providers raise errors of any kind
            reason = str(error).partition("\n")[0]
            raise RequestFailed(Failure("credentials", text=reason)) from error
        raise RequestFailed(failure)

    @staticmethod
    def _path(key: str) -> str:
        return "/" + quote(key, safe="/~")

    @staticmethod
    def _listing(prefix: str, start_after: str, token: str) -> str:
        # Sorted by name, as the signature requires.
        parameters = {
            "continuation-token": token,
            "encoding-type": "url",  # a key may have characters that XML cannot carry
            "list-type": "2",
            "max-keys": str(PAGE),
            "prefix": prefix,
            "start-after": "" if token else start_after,
        }
        named = (f"{name}={quote(text, safe='~')}" for name, text in parameters.items() if text)
        return "?" + "&".join(named)

    def _set_options(self, handle: pycurl.Curl) -> None:
        """Set the options that are the same for every request."""
        settings, options = self._endpoint.settings, self._client_options
        timeout = seconds(options, "timeout", settings.timeout)
        connect_timeout = seconds(options, "connect_timeout", settings.connect_timeout)
        handle.setopt(pycurl.AWS_SIGV4, f"aws:amz:{self._endpoint.region}:s3")
        handle.setopt(pycurl.TIMEOUT_MS, max(1, round(timeout * _MILLISECONDS)))
        handle.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, round(connect_timeout * _MILLISECONDS)))
        if "read_timeout" in options:  # this long without a byte
            handle.setopt(pycurl.LOW_SPEED_LIMIT, 1)
            handle.setopt(pycurl.LOW_SPEED_TIME, ceil(seconds(options, "read_timeout", 0.0)))
        if options.get("allow_http") is False:
            handle.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTPS)
        handle.setopt(pycurl.USERAGENT, options.get("user_agent", "amfs"))
        if "pool_idle_timeout" in options:
            idle = seconds(options, "pool_idle_timeout", 0.0)
            handle.setopt(pycurl.MAXAGE_CONN, max(1, round(idle)))
        handle.setopt(pycurl.PROXY, self._proxy or "")  # empty: no proxy, despite any variables
        # Set even when empty: otherwise libcurl would read NO_PROXY, which `proxy_of` has already
        # applied.
        handle.setopt(pycurl.NOPROXY, options.get("proxy_excludes", ""))
        self._certificates.give_to(handle)
