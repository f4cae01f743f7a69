"""The requests to a server of AMFS, one method each, over libcurl."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from typing import NoReturn
from urllib.parse import quote

import msgspec
import pycurl

from amfs_core.errors import AMFSError
from amfs_core.storage import ObjectInfo
from amfs_curl import Answer, proxy_of
from amfs_curl.curl import Curl, Unanswered
from amfs_http.answers import (
    NotFromAMFS,
    object_in,
    objects_in,
    page_in,
    problem_in,
    require_removed,
    require_written,
)
from amfs_http.failures import of_answer, of_foreign, of_unanswered

PAGE = 1_000
_MILLISECONDS = 1_000
_MOST_BYTES = 256 * 1024**2
_ABSENT, _EXISTS = "no_object", "object_exists"


class Client:
    """One request per call, to one server. All raise the errors of the contract.

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
        self._curl = Curl(self._set_options)

    def create(self, key: str, data: bytes) -> bool:
        """PUT with `If-None-Match: *`; False when there is such an object.

        A refusal of a request that was perhaps sent twice may be the work of its first sending: the
        outcome is unknown then, as if the first answer had been lost.
        """
        what = self._what("create", key)
        answer = self._send("PUT", self._path(key), what, key, data, "If-None-Match: *")
        problem = problem_in(answer)
        if problem is not None and problem.code == _EXISTS:
            if answer.sent_twice:
                lost = Unanswered("sent", "the connection was lost on the way")
                raise of_unanswered(lost, what, key, creates=True)
            return False
        try:
            require_written(answer, key, len(data))
        except NotFromAMFS as error:
            self._refuse(answer, error, what, key, creates=True)
        return True

    def get(self, key: str) -> bytes | None:
        """GET; None when the server says that there is no such object."""
        what = self._what("get", key)
        answer = self._send("GET", self._path(key), what, key)
        problem = problem_in(answer)
        if problem is not None and problem.code == _ABSENT:
            return None
        try:
            return object_in(answer)
        except NotFromAMFS as error:
            self._refuse(answer, error, what, key)

    def get_many(self, keys: Sequence[str]) -> list[tuple[str, bytes | None]]:
        """POST the keys; as many objects as fit into an answer, one at least."""
        what = self._what("get", keys[0], len(keys))
        body = msgspec.json.encode({"keys": keys})
        json = "Content-Type: application/json"
        answer = self._send("POST", self._objects, what, keys[0], body, json)
        try:
            return objects_in(answer, keys)
        except NotFromAMFS as error:
            self._refuse(answer, error, what, keys[0])

    def page(self, prefix: str, after: str) -> tuple[list[ObjectInfo], str | None]:
        """GET a page of the objects under a prefix, and the position of the next page."""
        parameters = {"prefix": prefix, "after": after, "limit": str(PAGE)}
        query = "&".join(f"{name}={quote(text, safe='')}" for name, text in parameters.items())
        what = self._what("list", prefix)
        answer = self._send("GET", f"{self._objects}?{query}", what, prefix)
        try:
            return page_in(answer, prefix, after)
        except NotFromAMFS as error:
            self._refuse(answer, error, what, prefix)

    def put(self, key: str, data: bytes) -> None:
        """PUT without a condition."""
        what = self._what("replace", key)
        answer = self._send("PUT", self._path(key), what, key, data)
        try:
            require_written(answer, key, len(data))
        except NotFromAMFS as error:
            self._refuse(answer, error, what, key)

    def delete(self, key: str) -> None:
        """DELETE; no error when there is no such object."""
        what = self._what("delete", key)
        answer = self._send("DELETE", self._path(key), what, key)
        try:
            require_removed(answer, key)
        except NotFromAMFS as error:
            self._refuse(answer, error, what, key)

    def ask(self, path: str) -> Answer:
        """GET a path of the server's own, such as `/healthz`, and return whatever is answered."""
        return self._send("GET", self._url + path, f"cannot ask {self._url}{path}", "")

    def close(self) -> None:
        """Close the idle connections."""
        self._curl.close()

    def _send(
        self, method: str, url: str, what: str, key: str, body: bytes = b"", *headers: str
    ) -> Answer:
        creates = "If-None-Match: *" in headers
        sent = [*self._headers, *headers]
        try:
            return self._curl.request(method, url, sent, body, most_bytes=_MOST_BYTES)
        except Unanswered as error:
            failure: AMFSError = of_unanswered(error, what, key, creates=creates)
            raise failure from error

    def _refuse(
        self, answer: Answer, error: NotFromAMFS, what: str, key: str, *, creates: bool = False
    ) -> NoReturn:
        if problem_in(answer) is None:
            raise of_foreign(str(error), what, key, creates=creates) from None
        raise of_answer(answer, what, key, creates=creates) from None

    def _path(self, key: str) -> str:
        return f"{self._objects}/{quote(key, safe='/~')}"

    def _what(self, verb: str, key: str, count: int = 1) -> str:
        more = f" and {count - 1} more" if count > 1 else ""
        return f"cannot {verb} {key!r}{more} at {self._url}"

    def _set_options(self, handle: pycurl.Curl) -> None:
        """Set what is the same for every request."""
        timeout, connect_timeout = self._timeouts
        handle.setopt(pycurl.TIMEOUT_MS, max(1, round(timeout * _MILLISECONDS)))
        handle.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, round(connect_timeout * _MILLISECONDS)))
        handle.setopt(pycurl.USERAGENT, "amfs")
        handle.setopt(pycurl.PATH_AS_IS, 1)  # a key may have segments such as ".."
        handle.setopt(pycurl.PROXY, self._proxy or "")  # empty: none, whatever the variables say
        handle.setopt(pycurl.NOPROXY, "")
        system = ssl.get_default_verify_paths()
        if system.cafile:
            handle.setopt(pycurl.CAINFO, os.fsencode(system.cafile))
        elif system.capath:
            handle.setopt(pycurl.CAPATH, os.fsencode(system.capath))
