"""The requests to a server of AMFS, one method each, over libcurl."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import quote

import msgspec
import pycurl

from amfs_core.storage import ObjectInfo
from amfs_curl import Answer, TrustedCertificates, proxy_of
from amfs_curl.curl import Curl, Unanswered
from amfs_http.answers import (
    NotFromAMFS,
    is_created,
    object_in,
    objects_in,
    page_in,
    require_removed,
    require_written,
)
from amfs_http.failures import of_answer, of_unanswered

PAGE = 1_000
_MILLISECONDS = 1_000
_MOST_BYTES = 256 * 1024**2
_CREATES = "If-None-Match: *"
_JSON = "Content-Type: application/json"

T = TypeVar("T")


class Client:
    """One request per call, to one server. Every method raises the errors of the contract.

    Safe to share between threads. A forked child must make a new one and leave this one alone.
    """

    def __init__(
        self, url: str, api_key: str | None, timeout: float, connect_timeout: float
    ) -> None:
        self._url = url
        self._objects = f"{url}/objects"
        self._headers = ["Expect:", "Content-Type:", "Accept:"]  # libcurl would add these
        if api_key is not None:
            self._headers.append(f"Authorization: Bearer {api_key}")
        self._timeouts = (timeout, connect_timeout)
        self._proxy = proxy_of(url)
        self._certificates = TrustedCertificates()
        self._curl = Curl(self._set_options)

    def create(self, key: str, data: bytes) -> bool:
        """PUT with `If-None-Match: *`; False when the object exists.

        When a request may have been sent twice, a refusal of the second may mean that the first was
        applied. The outcome is then unknown, as if the first answer had been lost.
        """
        what = self._what("create", key)

        def read(answer: Answer) -> bool:
            created = is_created(answer, key, len(data))
            if not created and answer.sent_twice:
                lost = Unanswered("sent", "the connection was lost on the way")
                raise of_unanswered(lost, what, key, creates=True)
            return created

        return self._ask(read, "PUT", self._path(key), key, _CREATES, what=what, body=data)

    def get(self, key: str) -> bytes | None:
        """GET; None when the server says that there is no such object."""
        return self._ask(object_in, "GET", self._path(key), key, what=self._what("get", key))

    def get_many(self, keys: Sequence[str]) -> list[tuple[str, bytes | None]]:
        """POST the keys; return as many objects as fit into an answer, at least one."""
        what = self._what("get", keys[0], len(keys))
        body = msgspec.json.encode({"keys": keys})

        def read(answer: Answer) -> list[tuple[str, bytes | None]]:
            return objects_in(answer, keys)

        return self._ask(read, "POST", self._objects, keys[0], _JSON, what=what, body=body)

    def page(self, prefix: str, after: str) -> tuple[list[ObjectInfo], str | None]:
        """GET a page of the objects under a prefix, and the position of the next page."""
        parameters = {"prefix": prefix, "after": after, "limit": str(PAGE)}
        query = "&".join(f"{name}={quote(text, safe='')}" for name, text in parameters.items())

        def read(answer: Answer) -> tuple[list[ObjectInfo], str | None]:
            return page_in(answer, prefix, after)

        url = f"{self._objects}?{query}"
        return self._ask(read, "GET", url, prefix, what=self._what("list", prefix))

    def put(self, key: str, data: bytes) -> None:
        """PUT without a condition."""

        def read(answer: Answer) -> None:
            require_written(answer, key, len(data))

        what = self._what("replace", key)
        self._ask(read, "PUT", self._path(key), key, what=what, body=data)

    def delete(self, key: str) -> None:
        """DELETE; no error when there is no such object."""

        def read(answer: Answer) -> None:
            require_removed(answer, key)

        self._ask(read, "DELETE", self._path(key), key, what=self._what("delete", key))

    def ask(self, path: str) -> Answer:
        """GET one of the server's own paths, such as `/healthz`, and return whatever comes."""
        return self._send("GET", self._url + path, "", what=f"cannot ask {self._url}{path}")

    def close(self) -> None:
        """Close the idle connections."""
        self._curl.close()

    def _ask(
        self,
        read: Callable[[Answer], T],
        method: str,
        url: str,
        key: str,
        *headers: str,
        what: str,
        body: bytes = b"",
    ) -> T:
        """Return what `read` makes of the answer to a request; raise the error that any other
        answer means."""
        answer = self._send(method, url, key, *headers, what=what, body=body)
        try:
            return read(answer)
        except NotFromAMFS as error:
            creates = _CREATES in headers
            raise of_answer(answer, str(error), what, key, creates=creates) from None

    def _send(
        self, method: str, url: str, key: str, *headers: str, what: str, body: bytes = b""
    ) -> Answer:
        sent = [*self._headers, *headers]
        try:
            return self._curl.request(method, url, sent, body, most_bytes=_MOST_BYTES)
        except Unanswered as error:
            raise of_unanswered(error, what, key, creates=_CREATES in headers) from error

    def _path(self, key: str) -> str:
        return f"{self._objects}/{quote(key, safe='/~')}"

    def _what(self, verb: str, key: str, count: int = 1) -> str:
        more = f" and {count - 1} more" if count > 1 else ""
        return f"cannot {verb} {key!r}{more} at {self._url}"

    def _set_options(self, handle: pycurl.Curl) -> None:
        """Set the options that are the same for every request."""
        timeout, connect_timeout = self._timeouts
        handle.setopt(pycurl.TIMEOUT_MS, max(1, round(timeout * _MILLISECONDS)))
        handle.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, round(connect_timeout * _MILLISECONDS)))
        handle.setopt(pycurl.USERAGENT, "amfs")
        handle.setopt(pycurl.PATH_AS_IS, 1)  # a key may have segments such as ".."
        handle.setopt(pycurl.PROXY, self._proxy or "")  # "": none, whatever the variables say
        handle.setopt(pycurl.NOPROXY, "")
        self._certificates.give_to(handle)
