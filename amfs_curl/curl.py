"""HTTP requests through libcurl, each complete and sent once: nothing is followed, repeated or
decompressed.

libcurl signs requests itself (AWS Signature Version 4), shows the complete answer, and can be
interrupted. `docs/design/dependencies.md` says why AMFS uses it and not another client.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from io import BytesIO
from typing import Any, Literal

import pycurl

from amfs_curl.answer import Answer

_MOST_IDLE = 64
_WITH_BODY = ("PUT", "POST")
_CONNECT_CODES = (
    pycurl.E_COULDNT_RESOLVE_PROXY,
    pycurl.E_COULDNT_RESOLVE_HOST,
    pycurl.E_COULDNT_CONNECT,
)
_TLS_CODES = (
    pycurl.E_SSL_CONNECT_ERROR,
    pycurl.E_SSL_CERTPROBLEM,
    pycurl.E_SSL_CIPHER,
    pycurl.E_PEER_FAILED_VERIFICATION,
    pycurl.E_SSL_CACERT_BADFILE,
    pycurl.E_SSL_ISSUER_ERROR,
    pycurl.E_SSL_ENGINE_NOTFOUND,
    pycurl.E_SSL_ENGINE_SETFAILED,
)


class Unanswered(Exception):  # never leaves the adapter
    """A request without a complete answer. `stage` is how far it got: "connect", "tls" or
    "sent"."""

    def __init__(self, stage: Literal["connect", "tls", "sent"], reason: str) -> None:
        super().__init__(reason)
        self.stage: Literal["connect", "tls", "sent"] = stage


class Curl:
    """Requests with the same options, from any thread.

    Idle handles, each with its connection, wait in a queue. Taking or returning a handle is one
    atomic step, so no lock is needed, and a signal handler that makes a request while another one
    is interrupted takes its own handle.
    """

    def __init__(self, options: Callable[[pycurl.Curl], None]) -> None:
        self._options = options
        self._idle: deque[tuple[pycurl.Curl, bool]] = deque()  # and whether it is connected

    def request(
        self,
        method: str,
        url: str,
        headers: list[str],
        body: bytes,
        *,
        user: str = "",
        password: str = "",
        most_bytes: int,
    ) -> Answer:
        """Send a request and return its answer, whatever its status, with a body of at most so many
        bytes. Raises `Unanswered`."""
        try:
            # The handle used last: its connection is the most likely to be alive.
            handle, is_connected = self._idle.pop()
        except IndexError:
            handle, is_connected = self._new(), False
        received = BytesIO()
        lines: list[bytes] = []
        handle.setopt(pycurl.URL, url)
        handle.setopt(pycurl.HTTPHEADER, headers)
        handle.setopt(pycurl.USERNAME, user)
        handle.setopt(pycurl.PASSWORD, password)
        handle.setopt(pycurl.WRITEDATA, received)
        handle.setopt(pycurl.HEADERFUNCTION, lines.append)
        handle.setopt(pycurl.MAXFILESIZE_LARGE, most_bytes)
        if method in _WITH_BODY:
            handle.setopt(pycurl.POSTFIELDS, body)
        else:
            handle.setopt(pycurl.POSTFIELDS, b"")  # otherwise libcurl would sign the previous body
            handle.setopt(pycurl.HTTPGET, 1)
        handle.setopt(pycurl.CUSTOMREQUEST, method)
        # Signal handlers run between the steps of Python in the main thread. libcurl calls this
        # when a signal comes and once a second, so Ctrl-C need not wait for an answer.
        interruptible = threading.get_ident() == threading.main_thread().ident
        handle.setopt(pycurl.NOPROGRESS, 0 if interruptible else 1)
        try:
            handle.perform()
            status = handle.getinfo(pycurl.RESPONSE_CODE)
            connects = handle.getinfo(pycurl.NUM_CONNECTS)
        except pycurl.error as error:
            handle.close()
            raise _unanswered(error) from None
        except BaseException:  # from a signal handler: the outcome of the request is unknown
            handle.close()
            raise
        content = received.getvalue()
        received.close()  # the handle would keep it, and may stay idle for long
        if method in _WITH_BODY:
            handle.setopt(pycurl.POSTFIELDS, b"")
        answered = _headers(lines)
        if len(self._idle) < _MOST_IDLE:
            self._idle.append((handle, answered.get("connection", "").lower() != "close"))
        else:
            handle.close()
        # When a kept connection turns out to be lost before any answer, libcurl connects again and
        # repeats the request. No option forbids that.
        sent_twice = connects > (0 if is_connected else 1)
        return Answer(status, answered, content, sent_twice)

    def close(self) -> None:
        """Close the idle connections. Requests under way go on, and later ones connect again."""
        while self._idle:
            try:
                handle, _ = self._idle.pop()
            except IndexError:
                return
            handle.close()

    def _new(self) -> pycurl.Curl:
        handle = pycurl.Curl()
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.FOLLOWLOCATION, 0)
        handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        handle.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        handle.setopt(pycurl.TCP_NODELAY, 1)
        handle.setopt(pycurl.XFERINFOFUNCTION, _go_on)
        self._options(handle)
        return handle


def _go_on(*_: Any) -> None:
    """Let the transfer go on; that it is called lets Python run signal handlers."""


def _headers(lines: list[bytes]) -> dict[str, str]:
    """Return the headers of the last answer: one that only says to go on (1xx) comes before."""
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, content = line.decode("latin-1").partition(":")
        if colon:
            headers[name.strip().lower()] = content.strip()
        elif name.startswith("HTTP/"):
            headers = {}
    return headers


def _unanswered(error: pycurl.error) -> Unanswered:
    details: tuple[Any, ...] = error.args
    code, text = details[0], str(details[1])
    if code in _CONNECT_CODES or (
        code == pycurl.E_OPERATION_TIMEDOUT and text.startswith(_NOT_CONNECTED)
    ):
        return Unanswered("connect", text)
    return Unanswered("tls" if code in _TLS_CODES else "sent", text)


_NOT_CONNECTED = (
    "Connection timed out",
    "Connection timeout",
    "SSL connection timeout",
    "Resolving",
)
"""How libcurl begins its message for a time-out before there was a connection (lib/connect.c)."""
