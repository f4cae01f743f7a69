"""Answers that S3 did not give are never believed: not as success, not as absence.

Real servers do not give them, so a stand-in does: it keeps objects as S3 does, until it is told to
answer some kind of request with something else.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    ConfigurationError,
    OutcomeUnknownError,
    WriteOutcomeUnknownError,
)
from amfs_core.memory import AgentMemory
from amfs_core.upkeep.copy import copy
from amfs_local import LocalAdapter
from amfs_s3 import S3Adapter

TOKEN = "session-token-of-nobody-else"
PAGE = b"<!DOCTYPE html><html><body>Sign in to the network</body></html>"
ERROR = b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>no</Message></Error>"
Told = tuple[int, dict[str, str], bytes]
Trick = Callable[["StandIn", str, Told], Told]


class StandIn:
    """A server with S3's answers, and tricks: by kind of request (create, get, list, delete)."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.tricks: dict[str, Trick] = {}
        self.heard: list[tuple[str, str, dict[str, str], bytes]] = []
        self.elsewhere: list[tuple[str, str, dict[str, str], bytes]] = []
        self.address = self.other_address = ""

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Told:
        parts = urlsplit(target)
        key = unquote(parts.path).removeprefix("/bucket").lstrip("/")
        query = {name: texts[0] for name, texts in parse_qs(parts.query).items()}
        self.heard.append((method, target, headers, body))
        kind = "list" if "list-type" in query else {"PUT": "create"}.get(method, method.lower())
        told = self._genuine(kind, key, query, headers, body)
        trick = self.tricks.get(kind)
        return trick(self, key, told) if trick and ".amfs-probe" not in target else told

    def _genuine(
        self, kind: str, key: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> Told:
        if kind == "list":
            return 200, {"content-type": "application/xml"}, self.listing(query)
        if kind == "create":
            if headers.get("if-none-match") == "*" and key in self.objects:
                return 412, {}, ERROR.replace(b"InternalError", b"PreconditionFailed")
            if "create" not in self.tricks or ".amfs-probe" in key:
                self.objects[key] = body
            return 200, {"etag": f'"{hashlib.md5(body).hexdigest()}"'}, b""
        if kind == "delete":
            self.objects.pop(key, None)
            return 204, {}, b""
        if key not in self.objects:
            return 404, {}, ERROR.replace(b"InternalError", b"NoSuchKey")
        data = self.objects[key]
        return 200, {**_object_headers(data), "content-type": "binary/octet-stream"}, data

    def listing(self, query: dict[str, str], **fields: str) -> bytes:
        prefix = query.get("prefix", "")
        keys = sorted(key for key in self.objects if key.startswith(prefix))
        keys = [key for key in keys if key > query.get("start-after", "")]
        return page(prefix, keys, **fields)


def page(prefix: str, keys: list[str], **fields: str) -> bytes:
    named = {"Name": "bucket", "Prefix": prefix, "IsTruncated": "false", **fields}
    head = "".join(f"<{name}>{text}</{name}>" for name, text in named.items() if text)
    contents = "".join(
        f"<Contents><Key>{key}</Key><Size>5</Size>"
        "<LastModified>2026-11-21T04:27:20.000Z</LastModified></Contents>"
        for key in keys
    )
    return f"<ListBucketResult>{head}{contents}</ListBucketResult>".encode()


def _object_headers(data: bytes) -> dict[str, str]:
    return {
        "etag": f'"{hashlib.md5(data).hexdigest()}"',
        "last-modified": "Sat, 21 Nov 2026 04:27:20 GMT",
    }


@contextmanager
def listening(answer: Callable[[str, str, dict[str, str], bytes], Told]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): text for name, text in self.headers.items()}
            status, response_headers, content = answer(self.command, self.path, headers, body)
            self.send_response(status)
            for name, text in {"content-length": str(len(content)), **response_headers}.items():
                if text:
                    self.send_header(name, text)
            self.end_headers()
            self.wfile.write(content)
            self.close_connection = response_headers.get("connection") == "close"

        do_GET = do_PUT = do_DELETE = do_POST = serve  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def server() -> Iterator[StandIn]:
    stand_in = StandIn()

    def elsewhere(method: str, target: str, headers: dict[str, str], body: bytes) -> Told:
        stand_in.elsewhere.append((method, target, headers, body))
        return 200, {"content-type": "text/html", **_object_headers(PAGE)}, PAGE

    with listening(elsewhere) as other, listening(stand_in.answer) as address:
        stand_in.address, stand_in.other_address = address, other
        yield stand_in


@pytest.fixture
def adapter(server: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> S3Adapter:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return S3Adapter(
        "bucket",
        endpoint_url=server.address,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="the-secret",
        aws_session_token=TOKEN,
        connect_timeout=30.0,  # the first request imports the SDK, and a busy machine is slow
    )


@pytest.fixture
def memory(adapter: S3Adapter) -> AgentMemory:
    memory = AgentMemory("a", adapter=adapter, patience=0)
    memory.write("e", "k", "first")
    memory.commit_outcome("o", "success", entries=[])
    return memory


# -- what else may answer --------------------------------------------------------------------


def redirect(status: int) -> Trick:
    def trick(server: StandIn, key: str, told: Told) -> Told:
        return status, {"location": f"{server.other_address}/sign-in?token={TOKEN}"}, b""

    return trick


def fixed(status: int, headers: dict[str, str], body: bytes) -> Trick:
    return lambda server, key, told: (status, headers, body)


HTML = {"content-type": "text/html; charset=utf-8"}
ANYWHERE: dict[str, Trick] = {
    **{f"a redirect, {status}": redirect(status) for status in (301, 302, 303, 307, 308)},
    "200 with an error": fixed(200, {"content-type": "application/xml", "etag": '"x"'}, ERROR),
    "200 with a page": fixed(200, HTML, PAGE),
    "200 with a page that has a validator": fixed(200, {**HTML, **_object_headers(PAGE)}, PAGE),
    "200 with nothing": fixed(200, {}, b""),
    "201": fixed(201, {}, b"{}"),
    "a proxy's 403": fixed(403, HTML, PAGE),
    "a proxy's 404": fixed(404, HTML, PAGE),
    "a proxy's 412": fixed(412, HTML, PAGE),
    "304": fixed(304, {}, b""),
}


def later(server: StandIn, key: str, told: Told) -> Told:
    return 206, {**told[1], "content-range": f"bytes 0-3/{len(told[2])}"}, told[2][:4]


def zipped(server: StandIn, key: str, told: Told) -> Told:
    return told[0], {**told[1], "content-encoding": "gzip"}, gzip.compress(told[2])


def cut(server: StandIn, key: str, told: Told) -> Told:
    length = {"content-length": str(len(told[2]) + 9), "connection": "close"}
    return told[0], {**told[1], **length}, told[2]


def anonymous(server: StandIn, key: str, told: Told) -> Told:
    return told[0], {"content-type": "binary/octet-stream"}, told[2]


def until_the_end(server: StandIn, key: str, told: Told) -> Told:
    return told[0], {**told[1], "content-length": "", "connection": "close"}, told[2][:9]


FOR_GET = {
    "a part": later,
    "gzip": zipped,
    "cut off": cut,
    "without headers": anonymous,
    "as long as the connection": until_the_end,
}


def listed(**fields: str) -> Trick:
    def trick(server: StandIn, key: str, told: Told) -> Told:
        (prefix,) = re.findall("<Prefix>(.*)</Prefix>", told[2].decode()) or [""]
        return told[0], told[1], page(prefix, [], **fields)

    return trick


FOR_LIST: dict[str, Trick] = {
    "another bucket": listed(Name="other"),
    "another prefix": listed(Prefix="some/where/else/"),
    "nobody knows whether it goes on": listed(IsTruncated=""),
    "it goes on, and not where": listed(IsTruncated="true"),
    "the same token forever": listed(IsTruncated="true", NextContinuationToken="again"),
    "a document type": lambda server, key, told: (
        200,
        told[1],
        b"<!DOCTYPE x [<!ENTITY a 'b'>]>" + told[2],
    ),
    "a document type in UTF-16": lambda server, key, told: (
        200,
        told[1],
        ("<!DOCTYPE x [<!ENTITY a 'b'>]>" + told[2].decode()).encode("utf-16"),
    ),
    "half of it": lambda server, key, told: (200, told[1], told[2][:-9]),
    "another document": fixed(200, {"content-type": "application/xml"}, b"<Listing/>"),
    "json": fixed(200, {"content-type": "application/json"}, b"{}"),
}

LOOKS: dict[str, Callable[[AgentMemory], object]] = {
    "list": lambda memory: memory.list(),
    "list under a path": lambda memory: memory.list("e"),
    "search": lambda memory: memory.search("first"),
    "history": lambda memory: memory.history("e", "k"),
    "list_outcomes": lambda memory: memory.list_outcomes(),
    "stats": lambda memory: memory.stats(),
    "verify": lambda memory: memory.verify(),
    "watch": lambda memory: memory.watch(),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
@pytest.mark.parametrize(
    "trick", [*ANYWHERE.values(), *FOR_LIST.values()], ids=[*ANYWHERE, *FOR_LIST]
)
def test_an_answer_that_is_not_a_listing_is_not_an_empty_store(
    memory: AgentMemory, server: StandIn, trick: Trick, look: Callable[[AgentMemory], object]
) -> None:
    server.tricks["list"] = trick
    with pytest.raises(
        BackendUnavailableError, match="something that is not S3 answered"
    ) as raised:
        look(memory)
    assert TOKEN not in str(raised.value)
    assert not server.elsewhere


@pytest.mark.parametrize("trick", ANYWHERE.values(), ids=ANYWHERE)
def test_health_does_not_call_a_sign_in_page_healthy(
    memory: AgentMemory, server: StandIn, trick: Trick
) -> None:
    server.tricks["list"] = trick
    assert not memory.health().ok


@pytest.mark.parametrize("trick", ANYWHERE.values(), ids=ANYWHERE)
def test_a_copy_from_a_sign_in_page_is_not_done(
    memory: AgentMemory, server: StandIn, adapter: S3Adapter, trick: Trick, tmp_path: Path
) -> None:
    server.tricks["list"] = trick
    with pytest.raises(BackendUnavailableError):
        copy(adapter, LocalAdapter(tmp_path / "copy"), patience=0)


@pytest.mark.parametrize("trick", ANYWHERE.values(), ids=ANYWHERE)
def test_an_odd_answer_to_a_write_is_not_an_acknowledgement(
    memory: AgentMemory, server: StandIn, trick: Trick
) -> None:
    before = dict(server.objects)
    server.tricks["create"] = trick
    with pytest.raises(WriteOutcomeUnknownError, match="something that is not S3 answered"):
        memory.write("e", "k", "second")
    assert server.objects == before
    del server.tricks["create"]
    assert [entry.value for entry in memory.history("e", "k")] == ["first"]


def test_an_acknowledgement_with_a_body_is_none_even_with_the_right_validator(
    adapter: S3Adapter, server: StandIn
) -> None:
    server.tricks["create"] = lambda server, key, told: (200, told[1], ERROR)
    with pytest.raises(OutcomeUnknownError):
        adapter.create("default/entries/e/k/v1.json", b"hello")


@pytest.mark.parametrize(
    "trick", [*ANYWHERE.values(), *FOR_GET.values()], ids=[*ANYWHERE, *FOR_GET]
)
def test_an_answer_that_is_not_an_object_is_neither_absent_nor_damaged(
    memory: AgentMemory, adapter: S3Adapter, server: StandIn, trick: Trick
) -> None:
    server.tricks["get"] = trick
    stranger = AgentMemory("b", adapter=adapter, patience=0)
    with pytest.raises(BackendUnavailableError) as raised:
        stranger.read("e", "k", version=1)
    assert not re.search("purge|restore", str(raised.value))
    assert not server.elsewhere


@pytest.mark.parametrize("name", sorted({*ANYWHERE} - {"200 with nothing"}))
def test_an_answer_that_does_not_acknowledge_a_removal_is_an_error(
    adapter: S3Adapter, server: StandIn, name: str
) -> None:
    server.tricks["delete"] = ANYWHERE[name]
    with pytest.raises(AMFSError):
        adapter.delete("default/scratch")


@pytest.mark.parametrize("kind", ["create", "get", "list", "delete"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed_and_no_token_travels(
    adapter: S3Adapter, server: StandIn, kind: str, status: int
) -> None:
    server.tricks[kind] = redirect(status)
    requests: dict[str, Callable[[], object]] = {
        "create": lambda: adapter.create("default/x", b"body"),
        "get": lambda: adapter.get("default/x"),
        "list": lambda: list(adapter.list("default/")),
        "delete": lambda: adapter.delete("default/x"),
    }
    with pytest.raises(AMFSError, match=re.escape("redirect to '127.0.0.1'")) as raised:
        requests[kind]()
    assert TOKEN not in str(raised.value)
    assert server.elsewhere == []
    assert any(headers.get("x-amz-security-token") == TOKEN for _, _, headers, _ in server.heard)


def test_a_redirect_of_s3_itself_says_where_the_bucket_is(
    adapter: S3Adapter, server: StandIn
) -> None:
    body = ERROR.replace(b"InternalError", b"PermanentRedirect").replace(
        b"</Error>", b"<Region>eu-west-1</Region></Error>"
    )
    server.tricks["list"] = fixed(301, {"location": server.other_address}, body)
    with pytest.raises(ConfigurationError, match="set region_name to 'eu-west-1'"):
        list(adapter.list("default/"))


def test_a_listing_whose_tokens_change_for_ever_ends(adapter: S3Adapter, server: StandIn) -> None:
    count = iter(range(10**9))

    def trick(server: StandIn, key: str, told: Told) -> Told:
        return (
            200,
            told[1],
            page("amfs/default/", [], IsTruncated="true", NextContinuationToken=f"t{next(count)}"),
        )

    server.tricks["list"] = trick
    with pytest.raises(BackendUnavailableError, match="goes on without end"):
        list(adapter.list("default/"))
    assert next(count) <= 200


def test_a_listing_that_repeats_its_page_ends(adapter: S3Adapter, server: StandIn) -> None:
    count = iter(range(10**9))

    def trick(server: StandIn, key: str, told: Told) -> Told:
        keys = ["amfs/default/a"]
        return (
            200,
            told[1],
            page(
                "amfs/default/", keys, IsTruncated="true", NextContinuationToken=f"t{next(count)}"
            ),
        )

    server.tricks["list"] = trick
    with pytest.raises(BackendUnavailableError, match="a page that was there before"):
        list(adapter.list("default/"))


def test_no_variable_takes_a_request_past_a_proxy_that_was_given(
    server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")
    adapter = S3Adapter(
        "bucket",
        endpoint_url="http://bucket.invalid",
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="the-secret",
        client_options={"proxy_url": server.address},
    )
    adapter.get("default/x")
    assert server.heard[0][1].startswith("http://bucket.invalid/bucket/")


@pytest.mark.parametrize("kind", ["create", "list", "delete"])
def test_an_answer_that_is_far_too_long_ends(
    adapter: S3Adapter, server: StandIn, kind: str
) -> None:
    adapter.create("default/x", b"body")
    server.tricks[kind] = lambda server, key, told: (200, told[1], bytes(80 * 1024**2))
    requests: dict[str, Callable[[], object]] = {
        "create": lambda: adapter.create("default/y", b"body"),
        "list": lambda: list(adapter.list("default/")),
        "delete": lambda: adapter.delete("default/x"),
    }
    with pytest.raises((BackendUnavailableError, OutcomeUnknownError), match="file size"):
        requests[kind]()


def test_idle_connections_keep_no_bodies(adapter: S3Adapter, server: StandIn) -> None:
    body = bytes(1024**2)
    references, taken = sys.getrefcount(body), []
    adapter.create("default/x", body)
    assert sys.getrefcount(body) == references
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        taken.append(adapter.get("default/x"))
        taken.clear()
        assert tracemalloc.get_traced_memory()[0] - before < len(body) / 2
    finally:
        tracemalloc.stop()


def test_a_listing_goes_on_in_a_forked_child_on_connections_of_its_own(
    adapter: S3Adapter, server: StandIn
) -> None:
    def paged(server: StandIn, key: str, told: Told) -> Told:
        query = parse_qs(urlsplit(server.heard[-1][1]).query)
        prefix = query["prefix"][0]
        last = int(query.get("continuation-token", query.get("start-after", ["0"]))[0][-1])
        if last == 3:
            return told[0], told[1], page(prefix, [])
        fields = {"IsTruncated": "true", "NextContinuationToken": f"t{last + 1}"}
        return told[0], told[1], page(prefix, [f"{prefix}{last + 1}"], **fields)

    server.tricks["list"] = paged
    listing = adapter.list("default/")
    assert next(listing).key == "default/1"
    inherited = adapter._connector
    assert inherited.current is not None
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            del inherited.current.transport._curl  # whoever asks it fails
            os.write(write, repr([info.key for info in listing]).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    assert os.read(read, 1000).decode() == repr(["default/2", "default/3"])
    assert [info.key for info in listing] == ["default/2", "default/3"]


def _in_child(adapter: S3Adapter, told: Any) -> None:
    outcomes: list[str] = []
    for attempt in (
        lambda: adapter.create("default/y", b"body"),
        lambda: list(adapter.list("default/")),
        lambda: adapter.get("default/x"),
    ):
        try:
            outcomes.append(repr(attempt()))
        except AMFSError as error:
            outcomes.append(type(error).__name__)
    told.send(outcomes)


def test_a_forked_child_believes_no_more(adapter: S3Adapter, server: StandIn) -> None:
    adapter.create("default/x", b"body")
    server.tricks = dict.fromkeys(("create", "list", "get"), ANYWHERE["200 with a page"])
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_in_child, args=(adapter, theirs))
    child.start()
    assert mine.poll(30)
    unavailable = "BackendUnavailableError"
    assert mine.recv() == ["OutcomeUnknownError", unavailable, unavailable]
    child.join()


def test_a_forked_child_asks_for_no_checksum(adapter: S3Adapter, server: StandIn) -> None:
    adapter.create("default/x", b"body")
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_in_child, args=(adapter, theirs))
    server.heard.clear()
    child.start()
    assert mine.poll(30)
    assert mine.recv()[2] == repr(b"body")
    child.join()
    assert server.heard
    for _, _, headers, _ in server.heard:
        assert not {name for name in headers if "checksum" in name or name == "content-md5"}


def test_a_checksum_is_sent_with_each_object_when_asked_for(
    server: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    adapter = S3Adapter(
        "bucket",
        endpoint_url=server.address,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        content_checksum=True,
    )
    adapter.create("default/x", b"body")
    adapter.replace("default/x", b"other")
    puts = [(headers, body) for method, _, headers, body in server.heard if method == "PUT"]
    assert len(puts) == 4
    for headers, body in puts:
        digest = hashlib.md5(body).digest()
        assert headers["content-md5"] == base64.b64encode(digest).decode()
        assert "content-md5" in headers["authorization"]


def test_an_unknown_refusal_shows_the_servers_own_words(
    adapter: S3Adapter, server: StandIn
) -> None:
    words = f"Content-MD5 is required for this bucket {TOKEN}".encode()
    body = b"<Error><Code>InvalidRequest</Code><Message>" + words + b"</Message></Error>"
    server.tricks["create"] = fixed(400, {}, body)
    with pytest.raises(ConfigurationError, match="400 InvalidRequest: Content-MD5 is") as raised:
        adapter.create("default/x", b"body")
    assert TOKEN not in str(raised.value) and "[redacted]" in str(raised.value)


@pytest.mark.parametrize("variable", ["AWS_CONDITIONAL_PUT", "AWS_SKIP_SIGNATURE"])
@pytest.mark.parametrize("value", ["disabled", "true"])
def test_a_variable_of_another_client_changes_nothing(
    adapter: S3Adapter,
    server: StandIn,
    variable: str,
    value: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(variable, value)
    assert adapter.create("default/x", b"body")
    assert not adapter.create("default/x", b"body")
    for method, _, headers, _ in server.heard:
        assert headers["authorization"].startswith("AWS4-HMAC-SHA256 ")
        assert method != "PUT" or headers["if-none-match"] == "*"


def test_ctrl_c_ends_a_request_that_nobody_answers(adapter: S3Adapter, server: StandIn) -> None:
    adapter.create("default/x", b"body")
    asked, answer = threading.Event(), threading.Event()

    def silent(server: StandIn, key: str, told: Told) -> Told:
        asked.set()
        answer.wait(30)
        return told

    def interrupt() -> None:
        asked.wait(30)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    server.tricks["get"] = silent
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            adapter.get("default/x")
        assert time.monotonic() - started < 5  # the timeout of a request is 10 s
    finally:
        answer.set()
    del server.tricks["get"]
    assert adapter.get("default/x") == b"body"


def test_an_endpoint_that_contains_the_bucket_is_refused_before_anything_is_written(
    adapter: S3Adapter, server: StandIn
) -> None:
    """Such a server takes the bucket for the beginning of the key, and a listing for an object."""
    server.tricks["get"] = server.tricks["list"] = lambda server, key, told: told
    doubled = S3Adapter(
        "bucket",
        endpoint_url=f"{server.address}/bucket",
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    genuine = server.answer

    def answer(method: str, target: str, headers: dict[str, str], body: bytes) -> Told:
        if target.startswith("/bucket/bucket?"):
            return 404, {}, ERROR.replace(b"InternalError", b"NoSuchKey")
        return genuine(method, target, headers, body)

    with listening(answer) as address:
        doubled = S3Adapter(
            "bucket",
            endpoint_url=f"{address}/bucket",
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
        )
        memory = AgentMemory("a", adapter=doubled, patience=0)
        with pytest.raises(ConfigurationError, match="bucket a part of endpoint_url already"):
            memory.write("e", "k", 1)
    assert server.objects == {}


@pytest.mark.parametrize("status", [302, 307])
def test_the_doorbell_follows_no_redirect(adapter: S3Adapter, server: StandIn, status: int) -> None:
    server.tricks["get"] = redirect(status)
    bell = adapter.doorbell("default/")
    assert bell is not None
    deadline = time.monotonic() + 30
    while not any("events" in target for _, target, _, _ in server.heard):
        assert time.monotonic() < deadline
        bell.wait(0.05)
    bell.close()
    assert server.elsewhere == []
