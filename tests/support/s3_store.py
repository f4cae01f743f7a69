"""What the S3 tests share: adapters on a test server, the format without AMFS, worker processes.

Light to import, because every worker process does.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import multiprocessing
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import botocore.loaders

from amfs_core.memory import AgentMemory
from amfs_s3 import S3Adapter

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from mypy_boto3_s3 import S3Client

    from tests.support.servers import Server

JOIN_SECONDS = 120.0

_load_file = botocore.loaders.JSONFileLoader.load_file


@functools.cache
def _loaded(path: str) -> Any:
    return _load_file(botocore.loaders.JSONFileLoader(), path)


# Every adapter makes a session of boto3, and each session parses the same megabyte of JSON again:
# with the hundreds of adapters here, that is half of the tests' time. So each file is read once.
setattr(botocore.loaders.JSONFileLoader, "load_file", lambda _, path: _loaded(path))  # noqa: B010


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket of a test server, as a worker process needs it."""

    bucket: str
    endpoint_url: str
    access_key: str
    secret_key: str

    @classmethod
    def on(cls, server: Server, bucket: str, endpoint_url: str | None = None) -> Place:
        return cls(
            bucket, endpoint_url or server.endpoint_url, server.access_key, server.secret_key
        )

    def adapter(self, **options: Any) -> S3Adapter:
        arguments: dict[str, Any] = {
            "endpoint_url": self.endpoint_url,
            "region_name": "us-east-1",
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
            **options,
        }
        return S3Adapter(self.bucket, **arguments)

    def memory(
        self,
        agent_id: str = "tester",
        *,
        namespace: str = "default",
        patience: float = 10.0,
        **options: Any,
    ) -> AgentMemory:
        """A memory with an adapter, and so an empty cache, of its own."""
        return AgentMemory(
            agent_id,
            adapter=self.adapter(**options),
            namespace=namespace,
            patience=patience,
            owns_adapter=True,
        )


# --- the published format, written and read without AMFS -----------------------------------------


def sealed(fields: Mapping[str, Any]) -> bytes:
    """The body of a version: `fields`, then the SHA-256 of all bytes before it."""
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    covered = text[:-1].encode()
    return covered + f',"sha256":"{hashlib.sha256(covered).hexdigest()}"}}'.encode()


def chain(key: str, versions: int, entity_path: str = "deep") -> Iterator[tuple[str, bytes]]:
    """Object keys, below the prefix, and bodies of a memory with so many versions."""
    previous = None
    for version in range(1, versions + 1):
        body = sealed(
            {
                "format": 1,
                "namespace": "default",
                "entity_path": entity_path,
                "key": key,
                "version": version,
                "value": {"n": version},
                "confidence": 1.0,
                "tags": [],
                "memory_type": "fact",
                "expires_at": None,
                "deleted": False,
                "provenance": {
                    "agent_id": "loader",
                    "session_id": "s",
                    "written_at": f"2026-01-01T00:{version // 60:02}:{version % 60:02}.000000Z",
                    "write_id": f"{key}-{version}",
                    "pattern_refs": [],
                },
                "evidence": {"successes": 0, "failures": 0},
                "previous": previous,
            }
        )
        previous = json.loads(body)["sha256"]
        yield f"default/entries/{entity_path}/{key}/v{version}.json", body


def load(server: Server, bucket: str, objects: Iterator[tuple[str, bytes]]) -> None:
    """Put objects under `amfs/`, through no code of this project."""
    import obstore
    from obstore.store import S3Store

    store = S3Store(
        bucket,
        prefix="amfs/",
        endpoint=server.endpoint_url,
        access_key_id=server.access_key,
        secret_access_key=server.secret_key,
        region="us-east-1",
        client_options={"allow_http": True},
    )
    with ThreadPoolExecutor(16) as threads:
        for _ in threads.map(lambda pair: obstore.put(store, pair[0], pair[1]), objects):
            pass


def keys_of(client: S3Client, bucket: str) -> list[str]:
    """All keys of a bucket, by a plain client."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [info["Key"] for page in pages for info in page.get("Contents", [])]


def contents_of(client: S3Client, bucket: str) -> dict[str, bytes]:
    """All objects of a bucket, by a plain client."""
    keys = keys_of(client, bucket)
    with ThreadPoolExecutor(16) as threads:
        bodies = threads.map(
            lambda key: client.get_object(Bucket=bucket, Key=key)["Body"].read(), keys
        )
        return dict(zip(keys, bodies, strict=True))


# --- a server that says what it is told to -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: str = ""
    headers: Mapping[str, str] = ()  # type: ignore[assignment]


Script = Callable[[BaseHTTPRequestHandler], Answer]


def s3_error(status: int, code: str, more: str = "") -> Answer:
    """What S3 answers for an error."""
    body = f"<Error><Code>{code}</Code><Message>{code}.</Message>{more}</Error>"
    return Answer(status, f'<?xml version="1.0" encoding="UTF-8"?>\n{body}')


@contextlib.contextmanager
def answering(script: Script) -> Iterator[str]:
    """The address of a server that answers every request as `script` says."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def serve(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = script(self)
            body = answer.body.encode()
            self.send_response(answer.status)
            for name, value in dict(answer.headers).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = serve  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        listener.daemon_threads = True
        thread = threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.server_address[1]}"
        finally:
            listener.shutdown()
            thread.join()


# --- worker processes ----------------------------------------------------------------------------

Work = Callable[..., Any]


class Worker:
    """A process that runs `work(*arguments, tell)`; what it tells arrives here, in order.

    "forkserver" starts a fresh process quickly, "spawn" starts it from nothing, "fork" copies this
    one with all that it holds.
    """

    def __init__(self, work: Work, *arguments: Any, method: str = "forkserver") -> None:
        context = multiprocessing.get_context(method)
        if method == "forkserver":
            context.set_forkserver_preload([__name__, "boto3", "botocore.session", "tenacity"])
        self._told: list[Any] = []
        self._mine, theirs = context.Pipe(duplex=False)
        process: BaseProcess = context.Process(  # type: ignore[attr-defined]
            target=_run, args=(work, arguments, theirs), daemon=True
        )
        process.start()
        self._process = process
        theirs.close()

    def wait_told(self, count: int) -> list[Any]:
        """All that it has told, once that is `count` things; less only if it ended before."""
        with contextlib.suppress(EOFError):
            while len(self._told) < count:
                if not self._mine.poll(JOIN_SECONDS):
                    raise TimeoutError("the worker tells nothing")
                self._take()
        return list(self._told)

    def listen(self, seconds: float) -> None:
        """Take what it tells for so long."""
        with contextlib.suppress(EOFError):
            while self._mine.poll(seconds):
                seconds = 0
                self._take()

    def kill(self) -> list[Any]:
        """SIGKILL it, and return all that it had told by then."""
        self._process.kill()
        return self._rest()

    def result(self) -> list[Any]:
        """All that it told, once it has ended by itself and well."""
        told = self._rest()
        assert self._process.exitcode == 0, f"the worker ended with {self._process.exitcode}"
        return told

    def _rest(self) -> list[Any]:
        with contextlib.suppress(EOFError):
            while True:
                if not self._mine.poll(JOIN_SECONDS):
                    self._process.kill()
                    raise TimeoutError("the worker hangs")
                self._take()
        self._process.join(JOIN_SECONDS)
        self._mine.close()
        return self._told

    def _take(self) -> None:
        told = self._mine.recv()
        if isinstance(told, _Broke):
            raise AssertionError(f"the worker broke: {told.text}")
        self._told.append(told)


@dataclass(frozen=True, slots=True)
class _Broke:
    text: str


def _run(work: Work, arguments: tuple[Any, ...], told: Connection) -> None:
    try:
        work(*arguments, told.send)
    except BaseException:
        told.send(_Broke(traceback.format_exc()))
        raise
    finally:
        told.close()


Tell = Callable[[Any], None]


def write_numbers(place: Place, agent_id: str, key: str, count: int, tell: Tell) -> None:
    """Write so many versions of one memory, and tell (version, write_id) of each."""
    with place.memory(agent_id, patience=60) as memory:
        for number in range(count):
            entry = memory.write("load", key, [agent_id, number])
            tell((entry.version, entry.provenance.write_id))


def count_up(place: Place, agent_id: str, key: str, count: int, tell: Tell) -> None:
    """Add one to a memory so many times, and tell the value that each made."""
    with place.memory(agent_id, patience=60) as memory:
        for _ in range(count):
            tell(memory.update("load", key, lambda old: (old or 0) + 1).value)


def write_for_ever(place: Place, agent_id: str, tell: Tell) -> None:
    """Write to a shared memory and to one of its own until killed; tell each acknowledgement."""
    with place.memory(agent_id, patience=60) as memory:
        number = 0
        while True:
            for key in ("shared", agent_id):
                number += 1
                value = {"by": agent_id, "n": number, "text": "x" * 2000}
                entry = memory.write("killed", key, value)
                tell((key, entry.version, entry.provenance.write_id, value))
