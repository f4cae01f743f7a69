"""A reverse proxy in front of one S3 server: it counts the requests and injects faults.

    with FaultProxy(server.endpoint_url) as proxy:
        proxy.inject(Fault.LOST_ANSWER, match=lambda request: request.kind == "create")
        with proxy.counting() as counter:
            ...                                   # a client of proxy.endpoint_url
        assert counter == {"create": 2, "get": 1}

It passes the path, the query and the headers on as they came, Host too, because they are what
SigV4 signs. Only the hop-by-hop headers and Expect, which clients don't sign, are its own: it
answers `Expect: 100-continue` itself, because it has to read the body before it picks the fault.
Addresses are path-style: /bucket/key.
"""

from __future__ import annotations

import contextlib
import enum
import html
import http.client
import random
import re
import socket
import struct
import sys
import threading
import time
import urllib.parse
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import Any, Self

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import urllib3.util

HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
UPSTREAM_SECONDS = 60.0
_LISTED = re.compile(rb"<Contents>.*?<Key>(.*?)</Key>.*?</Contents>", re.DOTALL)
PIECE = 64 * 1024


class Fault(enum.Enum):
    """What can go wrong with a request. "Applied" means that the server carries it out."""

    LOST_ANSWER = "applied, then the connection ends with no answer"
    RESET = "not applied: the connection is reset"
    ERROR_503 = "not applied: 503 SlowDown"
    ERROR_503_APPLIED = "applied, yet 503 SlowDown is answered"
    ERROR_500 = "not applied: 500 InternalError"
    CONFLICT_409 = "not applied: 409 ConditionalRequestConflict"
    LATE = "the connection ends with no answer, and it is applied some time later"
    DELAY = "applied and answered, after a while"
    IGNORE_IF_NONE_MATCH = "applied as if If-None-Match had not been there"
    TRUNCATED_BODY = "applied, but half of the answer's body is missing (a bodiless one is whole)"
    LAGGING_LIST = "a listing without what was created in the last `lag_seconds`"

    def suits(self, request: Request) -> bool:
        """Whether a real server or network could do this to such a request."""
        if self in (Fault.CONFLICT_409, Fault.IGNORE_IF_NONE_MATCH):
            return request.kind == "create"
        if self is Fault.TRUNCATED_BODY:
            return request.kind in ("get", "list")
        if self is Fault.LAGGING_LIST:
            return request.kind == "list"
        return True


@dataclass(frozen=True, slots=True)
class Request:
    """One request that arrived, and what became of it.

    `status` is what the client was answered, `upstream_status` what the server answered; each is
    None when there was no answer (yet). `kind` is "create" (a PUT with If-None-Match), "put",
    "get", "head", "list" (a GET with list-type), "delete" (POST ?delete too) or "other".
    """

    method: str
    path: str
    query: str
    status: int | None = None
    kind: str = "other"
    fault: Fault | None = None
    upstream_status: int | None = None


Match = Callable[[Request], bool]


@dataclass(frozen=True, slots=True)
class _Message:
    """A request as it came, body and all."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    chunked: bool

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    def without(self, name: str) -> _Message:
        kept = tuple((key, value) for key, value in self.headers if key.lower() != name)
        return replace(self, headers=kept)

    def as_request(self) -> Request:
        path, _, query = self.target.partition("?")
        kind = _kind(self.method, path, query, self.header("if-none-match") is not None)
        return Request(self.method, path, query, kind=kind)


def _kind(method: str, path: str, query: str, conditional: bool) -> str:
    names = {name for name, _ in urllib.parse.parse_qsl(query, keep_blank_values=True)}
    has_key = bool(path.strip("/").partition("/")[2])
    if method == "GET":
        return "list" if "list-type" in names else "get" if has_key else "other"
    if method == "PUT" and has_key:
        return "create" if conditional else "put"
    if method == "POST":
        return "delete" if "delete" in names else "other"
    return {"HEAD": "head", "DELETE": "delete"}.get(method, "other")


@dataclass(slots=True)
class _Injection:
    fault: Fault
    match: Match | None
    left: int | None  # None: until quiet()

    def strikes(self, request: Request) -> bool:
        if self.left == 0 or (self.match is not None and not self.match(request)):
            return False
        if self.left is not None:
            self.left -= 1
        return True


@dataclass(slots=True)
class _Chaos:
    seed: int
    rate: float
    faults: tuple[Fault, ...]
    ordinal: int = 0

    def pick(self, request: Request) -> Fault | None:
        # One generator for each ordinal: what an earlier request drew must not matter.
        dice = random.Random(f"{self.seed}:{self.ordinal}")
        self.ordinal += 1
        suitable = [fault for fault in self.faults if fault.suits(request)]
        return dice.choice(suitable) if suitable and dice.random() < self.rate else None


class FaultProxy:
    """The proxy in front of the server at `upstream_url`, listening while its `with` block lasts.

    `credentials`, an access key and a secret key, are needed for `Fault.IGNORE_IF_NONE_MATCH` only:
    that header is signed, so the request has to be signed again without it.
    """

    def __init__(self, upstream_url: str, *, credentials: tuple[str, str] | None = None) -> None:
        upstream = urllib.parse.urlsplit(upstream_url)
        if upstream.scheme != "http" or upstream.hostname is None:
            raise ValueError(f"the upstream must be an http:// address, not {upstream_url!r}")
        self.late_seconds = 1.0
        self.delay_seconds = 0.5
        self.lag_seconds = 1.0
        self.retry_after: int | None = None  # what refusals ask for, in seconds
        self._upstream = (upstream.hostname, upstream.port or 80)
        self._credentials = credentials
        self._lock = threading.Lock()
        self._requests: list[Request] = []
        self._counters: list[Counter[str]] = []
        self._injections: list[_Injection] = []
        self._chaos: _Chaos | None = None
        self._created: deque[tuple[float, str]] = deque()  # when, and the path
        self._late: list[threading.Thread] = []
        self._land_now = threading.Event()
        self._closing = threading.Event()
        self._breakdowns: list[BaseException] = []
        self._generation = 0

    # --- what tests ask

    @property
    def endpoint_url(self) -> str:
        """The address that clients use in place of the server's."""
        return f"http://127.0.0.1:{self._listener.server_address[1]}"

    @property
    def requests(self) -> list[Request]:
        """The requests since the start or the last `reset`, in the order of their arrival."""
        with self._lock:
            return list(self._requests)

    def count(self) -> Counter[str]:
        """How many requests of each kind arrived since the start or the last `reset`."""
        return Counter(request.kind for request in self.requests)

    def reset(self) -> None:
        """Forget the requests so far; injections stay."""
        with self._lock:
            self._requests.clear()
            self._generation += 1

    @contextlib.contextmanager
    def counting(self) -> Iterator[Counter[str]]:
        """Count by kind what arrives while the block lasts; the counter is live."""
        counter: Counter[str] = Counter()
        with self._lock:
            self._counters.append(counter)
        try:
            yield counter
        finally:
            with self._lock:
                # By identity: two counters with the same counts are equal.
                self._counters = [kept for kept in self._counters if kept is not counter]

    # --- what tests order

    def inject(self, fault: Fault, match: Match | None = None, times: int | None = 1) -> None:
        """Give `fault` to the next `times` requests that match; `times=None`: until `quiet`.

        Where several injections match a request, the earliest one strikes, and it alone.
        """
        self._check_can_inject(fault)
        with self._lock:
            self._injections.append(_Injection(fault, match, times))

    def chaos(self, seed: int, rate: float, faults: Sequence[Fault]) -> None:
        """Give each request, with probability `rate`, one of those `faults` that suit it.

        The seed and the request's ordinal since this call decide. Injections go first.
        """
        for fault in faults:
            self._check_can_inject(fault)
        with self._lock:
            self._chaos = _Chaos(seed, rate, tuple(faults))

    def quiet(self) -> None:
        """End all injections and chaos; what is late is still to land (see `settle`)."""
        with self._lock:
            self._injections.clear()
            self._chaos = None

    def settle(self, *, at_once: bool = False) -> None:
        """Wait until all late requests have landed; `at_once`: have them land now."""
        if at_once:
            self._land_now.set()
        with self._lock:
            late, self._late = self._late, []
        for landing in late:
            landing.join()
        self._land_now.clear()

    def _check_can_inject(self, fault: Fault) -> None:
        if fault is Fault.IGNORE_IF_NONE_MATCH and self._credentials is None:
            raise ValueError("IGNORE_IF_NONE_MATCH needs FaultProxy(…, credentials=…)")

    # --- life

    def __enter__(self) -> Self:
        self._listener = _Listener(self)
        self._acceptor = threading.Thread(
            target=self._listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._acceptor.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._land_now.set()
        self._listener.shutdown()
        self._acceptor.join()
        self._listener.hang_up()
        self._listener.server_close()
        self.settle()
        if self._breakdowns and error is None:
            raise RuntimeError("the proxy itself broke") from self._breakdowns[0]

    # --- what the connections' threads call

    def arrived(self, message: _Message) -> _Ticket:
        """Record and count a request, and decide its fault."""
        with self._lock:
            request = message.as_request()
            request = replace(request, fault=self._decide(request))
            self._requests.append(request)
            for counter in self._counters:
                counter[request.kind] += 1
            return _Ticket(self, request.fault, self._generation, len(self._requests) - 1)

    def _decide(self, request: Request) -> Fault | None:
        for injection in self._injections:
            if injection.strikes(request):
                return injection.fault
        return self._chaos.pick(request) if self._chaos is not None else None

    def amend(
        self, ticket: _Ticket, *, status: int | None = None, upstream_status: int | None = None
    ) -> None:
        """Add to the record of a request what became of it, unless a `reset` forgot it."""
        with self._lock:
            if ticket.generation == self._generation:
                record = self._requests[ticket.index]
                self._requests[ticket.index] = replace(
                    record,
                    status=status or record.status,
                    upstream_status=upstream_status or record.upstream_status,
                )

    def wait_delay(self) -> None:
        self._closing.wait(self.delay_seconds)

    def apply_late(self, message: _Message, ticket: _Ticket) -> None:
        """Have the server carry the request out `late_seconds` from now."""
        landing = threading.Thread(target=self._land, args=(message, ticket), daemon=True)
        with self._lock:
            self._late.append(landing)
            landing.start()

    def _land(self, message: _Message, ticket: _Ticket) -> None:
        self._land_now.wait(self.late_seconds)
        if self._closing.is_set():
            return
        connection = self.connect()
        # The server may be down by then: the request is lost, as it would be in a network.
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            contextlib.closing(connection),
        ):
            response = forward(connection, message)
            response.read()
            ticket.upstream_answered(response.status)

    def created(self, path: str) -> None:
        """Note that an object was created just now, for listings that lag."""
        now = time.monotonic()
        with self._lock:
            self._created.append((now, path))
            while self._created and self._created[0][0] < now - self.lag_seconds:
                self._created.popleft()

    def without_new(self, path: str, listing: bytes) -> bytes:
        """A listing of the bucket at `path`, as it was `lag_seconds` ago."""
        since = time.monotonic() - self.lag_seconds
        with self._lock:
            new = {
                urllib.parse.unquote(created_path)
                for when, created_path in self._created
                if when >= since
            }

        def kept(match: re.Match[bytes]) -> bytes:
            # Keys come escaped for XML, and for URLs too where that was asked for.
            key = html.unescape(match.group(1).decode())
            plain = (key, urllib.parse.unquote(key), urllib.parse.unquote_plus(key))
            names = {f"{path.rstrip('/')}/{name}" for name in plain}
            return b"" if names & new else match.group(0)

        return _LISTED.sub(kept, listing)

    def connect(self) -> http.client.HTTPConnection:
        host, port = self._upstream
        return http.client.HTTPConnection(host, port, timeout=UPSTREAM_SECONDS)

    def unconditional(self, message: _Message) -> _Message:
        """The request without If-None-Match, with a signature that is right again."""
        signed = re.search(r"SignedHeaders=([^,\s]*)", message.header("authorization") or "")
        stripped = message.without("if-none-match")
        if signed is None or "if-none-match" not in signed.group(1).split(";"):
            return stripped
        assert self._credentials is not None
        return _signed_again(stripped, self._credentials)

    def broke(self, error: BaseException) -> None:
        """Keep an error of the proxy's own, for the test to fail with."""
        self._breakdowns.append(error)


@dataclass(frozen=True, slots=True)
class _Ticket:
    """Which record belongs to a request on its way, and the fault that it is to get."""

    proxy: FaultProxy
    fault: Fault | None
    generation: int
    index: int

    def answered(self, status: int) -> None:
        self.proxy.amend(self, status=status)

    def upstream_answered(self, status: int) -> None:
        self.proxy.amend(self, upstream_status=status)


# --- upstream ------------------------------------------------------------------------------------


def forward(connection: http.client.HTTPConnection, message: _Message) -> http.client.HTTPResponse:
    """Send the request to the server, and return its answer with the body still unread."""
    if connection.sock is not None and urllib3.util.wait_for_read(connection.sock, timeout=0):
        connection.close()  # the server ended the idle connection (or itself): connect again
    connection.putrequest(message.method, message.target, skip_host=True, skip_accept_encoding=True)
    for name, value in message.headers:
        if name.lower() not in HOP_BY_HOP and name.lower() != "expect":
            connection.putheader(name, value)
    if message.chunked:
        connection.putheader("Transfer-Encoding", "chunked")
    # A server may refuse the request before it has read all of it, and hang up: what counts then is
    # its answer. If there is none, reading it fails.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.endheaders(message.body, encode_chunked=message.chunked)
    return connection.getresponse()


class _SamePayload(botocore.auth.S3SigV4Auth):
    """SigV4 that keeps the payload hash that the client sent, whatever the body's encoding."""

    def __init__(self, keys: botocore.credentials.Credentials, region: str, payload: str) -> None:
        super().__init__(keys, "s3", region)
        self._payload = payload

    def payload(self, request: botocore.awsrequest.AWSRequest) -> str:
        return self._payload


def _signed_again(message: _Message, credentials: tuple[str, str]) -> _Message:
    scope = re.search(r"Credential=[^/]+/\d+/([^/]+)/", message.header("authorization") or "")
    payload = message.header("x-amz-content-sha256")
    if scope is None or payload is None or payload.startswith("STREAMING-AWS4"):
        raise ValueError("only SigV4 requests whose chunks are not signed can be signed again")
    request = botocore.awsrequest.AWSRequest(
        method=message.method,
        url=f"http://{message.header('host')}{message.target}",
        headers={key: value for key, value in message.headers if key.lower() not in HOP_BY_HOP},
    )
    keys = botocore.credentials.Credentials(*credentials)
    _SamePayload(keys, scope.group(1), payload).add_auth(request)
    return replace(message, headers=tuple(request.headers.items()))


# --- downstream ----------------------------------------------------------------------------------


class _Listener(ThreadingMixIn, TCPServer):
    """Accepts the clients, a thread for each connection.

    Not `ThreadingHTTPServer`: that looks its own name up in the DNS when it is bound.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self._sockets: set[socket.socket] = set()
        self._sockets_lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._sockets_lock:
            self._sockets.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._sockets_lock:
            self._sockets.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End every client's connection, so that no thread waits for its next request."""
        with self._sockets_lock:
            for connected in self._sockets:
                with contextlib.suppress(OSError):
                    connected.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exception()
        # A client may hang up whenever it likes. Anything else is a mistake in this file.
        if error is not None and not isinstance(error, OSError):
            self.proxy.broke(error)


class _Cut(Exception):
    """Ends the client's connection with no (further) answer."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    status: int
    code: str
    text: str

    def body(self, path: str) -> bytes:
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error><Code>{self.code}</Code><Message>{self.text}</Message>"
            f"<Resource>{path}</Resource><RequestId>{uuid.uuid4().hex}</RequestId></Error>"
        ).encode()


_SLOW_DOWN = _Refusal(503, "SlowDown", "Please reduce your request rate.")
_REFUSALS = {
    Fault.ERROR_503: _SLOW_DOWN,
    Fault.ERROR_503_APPLIED: _SLOW_DOWN,
    Fault.ERROR_500: _Refusal(
        500, "InternalError", "We encountered an internal error. Please try again."
    ),
    Fault.CONFLICT_409: _Refusal(
        409,
        "ConditionalRequestConflict",
        "The conditional request cannot succeed due to a conflicting operation against this "
        "resource.",
    ),
}


class _Connection(BaseHTTPRequestHandler):
    """One client's connection, and the connection to the server that goes with it."""

    server: _Listener
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # an answer's head and body leave together

    def setup(self) -> None:
        super().setup()
        self.proxy = self.server.proxy
        self.upstream = self.proxy.connect()

    def finish(self) -> None:
        self.upstream.close()
        with contextlib.suppress(OSError):
            super().finish()

    def handle_expect_100(self) -> bool:
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _serve(self) -> None:
        try:
            message = self._received()
            self._treat(message, self.proxy.arrived(message))
            self.wfile.flush()
        except (_Cut, OSError, http.client.HTTPException):
            # A client or a server that ended the connection: the other side sees the same.
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_OPTIONS = do_PATCH = _serve  # noqa: N815

    # --- the request

    def _received(self) -> _Message:
        chunked = "chunked" in self.headers.get("Transfer-Encoding", "").lower()
        body = (
            self._chunks() if chunked else self._exactly(int(self.headers["Content-Length"] or 0))
        )
        return _Message(
            method=self.command,
            # Not self.path, in which the standard library has merged leading slashes.
            target=self.requestline.split(" ")[1],
            headers=tuple(self.headers.items()),
            body=body,
            chunked=chunked,
        )

    def _exactly(self, size: int) -> bytes:
        data = self.rfile.read(size)
        if len(data) < size:
            raise _Cut
        return data

    def _chunks(self) -> bytes:
        pieces = []
        while size := int(self._line().partition(b";")[0], 16):
            pieces.append(self._exactly(size))
            self._line()
        while self._line().strip():
            pass  # trailers
        return b"".join(pieces)

    def _line(self) -> bytes:
        line = self.rfile.readline(PIECE)
        if not line.endswith(b"\n"):
            raise _Cut
        return line

    # --- the fault

    def _treat(self, message: _Message, ticket: _Ticket) -> None:
        match ticket.fault:
            case None:
                self._relay(message, ticket)
            case Fault.DELAY:
                self.proxy.wait_delay()
                self._relay(message, ticket)
            case Fault.IGNORE_IF_NONE_MATCH:
                self._relay(self.proxy.unconditional(message), ticket)
            case Fault.RESET:
                self._reset()
            case Fault.LATE:
                self.proxy.apply_late(message, ticket)
                raise _Cut
            case Fault.LOST_ANSWER:
                self._apply(message, ticket)
                raise _Cut
            case Fault.TRUNCATED_BODY:
                self._truncate(message, ticket)
            case Fault.LAGGING_LIST:
                self._lag(message, ticket)
            case Fault.ERROR_503_APPLIED:
                self._apply(message, ticket)
                self._refuse(_SLOW_DOWN, message, ticket)
            case _:
                self._refuse(_REFUSALS[ticket.fault], message, ticket)

    def _reset(self) -> None:
        # With a linger of zero seconds, closing sends RST in place of FIN. It is closed here,
        # because socketserver would shut it down first, and that sends FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.close(self.connection.detach())
        raise _Cut

    def _refuse(self, refusal: _Refusal, message: _Message, ticket: _Ticket) -> None:
        body = refusal.body(message.as_request().path)
        ticket.answered(refusal.status)
        headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
        if self.proxy.retry_after is not None:
            headers.append(("Retry-After", str(self.proxy.retry_after)))
        self._head(refusal.status, "", headers)
        if message.method != "HEAD":
            self.wfile.write(body)

    # --- the answer

    def _ask(self, message: _Message, ticket: _Ticket) -> http.client.HTTPResponse:
        response = forward(self.upstream, message)
        ticket.upstream_answered(response.status)
        request = message.as_request()
        if request.kind == "create" and response.status == 200:
            self.proxy.created(request.path)
        return response

    def _apply(self, message: _Message, ticket: _Ticket) -> None:
        self._ask(message, ticket).read()

    def _truncate(self, message: _Message, ticket: _Ticket) -> None:
        response = self._ask(message, ticket)
        body = response.read()
        ticket.answered(response.status)
        self._whole(response, body[: len(body) // 2], len(body))
        if body:
            raise _Cut

    def _lag(self, message: _Message, ticket: _Ticket) -> None:
        response = self._ask(message, ticket)
        body = self.proxy.without_new(message.as_request().path, response.read())
        ticket.answered(response.status)
        self._whole(response, body, len(body))

    def _relay(self, message: _Message, ticket: _Ticket) -> None:
        response = self._ask(message, ticket)
        if response.length is None:
            ticket.answered(response.status)
            self._stream(response)
        else:
            body = response.read()
            ticket.answered(response.status)
            self._whole(response, body, len(body))

    def _whole(self, response: http.client.HTTPResponse, body: bytes, length: int) -> None:
        headers = _passed_on(response)
        if length:
            # A chunked answer, read whole, has none; that of a HEAD has one and no body: kept.
            headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
            headers.append(("Content-Length", str(length)))
        self._head(response.status, response.reason, headers)
        self.wfile.write(body)

    def _stream(self, response: http.client.HTTPResponse) -> None:
        # MinIO's bucket notifications, for one, never end: each piece goes on as it comes.
        headers = [*_passed_on(response), ("Transfer-Encoding", "chunked")]
        self._head(response.status, response.reason, headers)
        self.wfile.flush()
        while piece := response.read1(PIECE):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def _head(self, status: int, reason: str, headers: Sequence[tuple[str, str]]) -> None:
        # Without a reason, the standard library knows one.
        self.send_response_only(status, reason or None)
        for name, value in headers:
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()


def _passed_on(response: http.client.HTTPResponse) -> list[tuple[str, str]]:
    return [
        (name, value) for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP
    ]
