"""Doorbells: they ring for creations, come back when they are lost, and nothing depends on them."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from amfs_core.memory import AgentMemory
from amfs_core.storage import Doorbell, ListeningDoorbell, NoDoorbell, StorageAdapter
from amfs_core.testing.cases import in_forked_child
from amfs_local import LocalAdapter
from tests.conftest import NOT_COVERED, REPOSITORY
from tests.s3.test_s3_errors import authority, tls_in_front_of  # noqa: F401
from tests.support import servers, waiting
from tests.support.s3_store import Answer, Place, answering, s3_error
from tests.support.servers import Server

SECONDS = 30.0
HOUR = 3600.0


until = partial(waiting.until, seconds=SECONDS)


def bells() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "amfs-doorbell"]


def quiet(bell: Doorbell) -> None:
    """Wait until it has begun to listen and rings no more."""
    assert bell.wait(SECONDS), "it never began to listen"
    while bell.wait(0.3):
        pass


@contextlib.contextmanager
def doorbell(adapter: StorageAdapter, prefix: str = "ns/entries/") -> Iterator[Doorbell]:
    bell = adapter.doorbell(prefix)
    assert bell is not None
    try:
        yield bell
    finally:
        bell.close()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    until(lambda: not bells())


# --- listening in the background -----------------------------------------------------------------


class Scripted:
    """A listener whose every `listen` does the next thing of a script."""

    def __init__(self, *script: Callable[[Callable[[], None]], None]) -> None:
        self.script = list(script)
        self.stopped = threading.Event()

    def listen(self, ring: Callable[[], None]) -> None:
        self.script.pop(0)(ring)

    def stop(self) -> None:
        self.stopped.set()


def test_a_listener_that_is_cut_off_listens_again() -> None:
    def cut(ring: Callable[[], None]) -> None:
        ring()
        raise ConnectionError("cut off")

    def listen(ring: Callable[[], None]) -> None:
        ring()
        listener.stopped.wait(SECONDS)

    listener = Scripted(cut, cut, listen)
    bell = ListeningDoorbell(listener, "a store")
    until(lambda: not listener.script)
    assert bell.wait(SECONDS)
    bell.close()
    assert not bells()


def test_a_listener_that_gives_up_is_not_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "amfs")

    def give_up(_: Callable[[], None]) -> None:
        raise NoDoorbell("there are no events")

    bell = ListeningDoorbell(Scripted(give_up), "a store")
    until(lambda: not bells())
    assert not bell.wait(0.01)
    bell.close()
    assert "there are no events" in caplog.text


def test_rings_that_nobody_waited_for_are_one() -> None:
    def ring_often(ring: Callable[[], None]) -> None:
        for _ in range(9):
            ring()
        rung.set()
        listener.stopped.wait(SECONDS)

    rung = threading.Event()
    listener = Scripted(ring_often)
    bell = ListeningDoorbell(listener, "a store")
    assert rung.wait(SECONDS)
    assert bell.wait(SECONDS)
    assert not bell.wait(0.05)
    bell.close()


# --- a directory ---------------------------------------------------------------------------------


def test_a_write_of_another_process_rings(tmp_path: Path) -> None:
    adapter = LocalAdapter(tmp_path)
    with AgentMemory("a", adapter=adapter) as memory:
        memory.write("e", "k", "of this process")
        with memory.watch(interval=HOUR) as watch:
            until_listening = threading.Thread(target=lambda: next(watch))
            until_listening.start()
            until(bells)
            memory.write("e", "k", "of this process")
            until_listening.join(SECONDS)
            program = (
                "import sys; from amfs_core.memory import AgentMemory;"
                "from amfs_local import LocalAdapter;"
                "AgentMemory('b', adapter=LocalAdapter(sys.argv[1])).write('e/new', 'n', 'other')"
            )
            subprocess.run(
                [sys.executable, "-c", program, str(tmp_path)], cwd=REPOSITORY, check=True
            )
            assert next(watch).value == "other"


def test_a_directory_may_come_later_and_go_and_come_again(tmp_path: Path) -> None:
    root = tmp_path / "not" / "yet"
    adapter = LocalAdapter(root)
    with doorbell(adapter) as bell:
        assert not bell.wait(0.2)
        for _ in range(2):
            adapter.create("ns/entries/e/k/v1.json", b"1")
            quiet(bell)
            adapter.create("ns/entries/e/deeper/and/deeper/v1.json", b"1")
            assert bell.wait(SECONDS)
            while bell.wait(0.3):
                pass
            shutil.rmtree(root)
            adapter = LocalAdapter(root)


def test_other_prefixes_and_hidden_names_ring_for_nothing(tmp_path: Path) -> None:
    adapter = LocalAdapter(tmp_path)
    adapter.create("ns/entries/e/k/v1.json", b"1")
    with doorbell(adapter, "ns/entries/e/") as bell:
        quiet(bell)
        adapter.create("ns/entries/f/k/v1.json", b"1")
        (tmp_path / "ns/entries/e/.hidden").mkdir()
        (tmp_path / "ns/entries/e/.hidden/v1.json").touch()
        list(adapter.list(""))
        assert adapter.get("ns/entries/e/k/v1.json") == b"1"
        assert not bell.wait(0.3)


def test_when_the_system_has_no_more_watches_it_is_polled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import watchfiles

    caplog.set_level(logging.DEBUG, "amfs")

    def refuse(*_: object, **__: object) -> Iterator[None]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield

    monkeypatch.setattr(watchfiles, "watch", refuse)
    with AgentMemory("a", adapter=LocalAdapter(tmp_path)) as memory:
        memory.write("e", "k", 1)
        with memory.watch(interval=0.05) as watch:
            memory.write("e", "k", 2)
            assert next(watch).value == 2
            until(lambda: not bells())
    assert os.strerror(errno.ENOSPC) in caplog.text


def test_a_doorbell_is_silent_in_a_forked_child(tmp_path: Path) -> None:
    adapter = LocalAdapter(tmp_path)
    adapter.create("ns/entries/e/k/v1.json", b"1")
    with doorbell(adapter) as bell:
        quiet(bell)

        def in_child() -> None:
            assert not bell.wait(SECONDS)
            bell.close()

        in_forked_child(in_child)
        adapter.create("ns/entries/e/k/v2.json", b"1")
        assert bell.wait(SECONDS)


def without(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("amfs_local.doorbell", "amfs_s3.doorbell"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, library, None)


def test_without_its_library_a_directory_has_no_doorbell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without("watchfiles", monkeypatch)
    adapter = LocalAdapter(tmp_path)
    assert adapter.doorbell("") is None
    with AgentMemory("a", adapter=adapter) as memory, memory.watch(interval=0.01) as watch:
        memory.write("e", "k", 1)
        assert next(watch).value == 1


# --- a MinIO -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pushing(clean_environment: None) -> Iterator[Server]:
    """A MinIO that sends events as they happen."""
    if not servers.locate("minio-pushing"):
        pytest.skip(f"{NOT_COVERED} a MinIO that pushes can't be had: doorbells of buckets")
    with servers.running(servers.MINIO_PUSHING) as server:
        yield server


@pytest.fixture
def bucket_of(pushing: Server) -> Place:
    return Place.on(pushing, pushing.new_bucket())


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["amfs/", "", "a b/é+%41/"])
def test_a_creation_under_the_prefix_rings_and_no_other(bucket_of: Place, prefix: str) -> None:
    adapter, other = bucket_of.adapter(prefix=prefix), bucket_of.adapter(prefix=prefix)
    with doorbell(adapter, "ns/entries/é %25+&/") as bell:
        quiet(bell)
        for number in range(3):
            assert other.create(f"ns/entries/é %25+&/k/v{number}.json", b"1")
            assert bell.wait(SECONDS)
            assert not bell.wait(0.1)
        other.create("ns/entries/f/v1.json", b"1")
        assert not bell.wait(0.3)
    adapter.close()
    other.close()


def test_a_write_to_the_bucket_comes_without_waiting_for_a_poll(bucket_of: Place) -> None:
    with bucket_of.memory("reader") as reader, bucket_of.memory("writer") as writer:
        with reader.watch(interval=HOUR) as watch:
            for number in range(3):
                writer.write("e", "k", number)
                assert next(watch).value == number
        assert not bells()


def test_closing_ends_a_read_that_waits_at_once(bucket_of: Place) -> None:
    adapter = bucket_of.adapter()
    bell = adapter.doorbell("")
    assert bell is not None
    quiet(bell)
    bell.close()
    assert not bells()
    adapter.close()


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize(
    "trust", ["AWS_CA_BUNDLE", "root_certificate", "allow_invalid_certificates"]
)
def test_it_trusts_what_the_data_path_trusts(
    pushing: Server,
    authority: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    trust: str,
) -> None:
    pem = authority / "authority.pem"
    options: dict[str, Any] = {
        "AWS_CA_BUNDLE": {},
        "root_certificate": {"root_certificate": pem.read_bytes()},
        "allow_invalid_certificates": {"allow_invalid_certificates": True},
    }
    if trust == "AWS_CA_BUNDLE":
        monkeypatch.setenv(trust, str(pem))
    with tls_in_front_of(pushing, authority) as url:
        place = Place.on(pushing, pushing.new_bucket(), url)
        adapter = place.adapter(client_options=options[trust])
        with doorbell(adapter) as bell:
            quiet(bell)
            adapter.create("ns/entries/e/k/v1.json", b"1")
            assert bell.wait(SECONDS)
        adapter.close()


class Tunnel:
    """Passes connections on to a server, and cuts them when told to."""

    def __init__(self, upstream: str) -> None:
        url = urlsplit(upstream)
        self._upstream = url.hostname or "", url.port or 80
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self._lock = threading.Lock()
        self.accepts = True
        self.endpoint_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        with self._lock:
            ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if not self.accepts:
                    near.close()
                    continue
                threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        with near, socket.create_connection(self._upstream) as far:
            with self._lock:
                self._ends += [near, far]
            back = threading.Thread(target=self._pass, args=(far, near), daemon=True)
            back.start()
            self._pass(near, far)
            back.join()

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def test_a_doorbell_that_was_cut_off_comes_back_and_rings_at_once(pushing: Server) -> None:
    """It rings when it is back, as nobody knows what happened meanwhile."""
    tunnel = Tunnel(pushing.endpoint_url)
    place = Place.on(pushing, pushing.new_bucket())
    far = Place.on(pushing, place.bucket, tunnel.endpoint_url)
    adapter, writer = far.adapter(), place.adapter()
    with doorbell(adapter) as bell:
        quiet(bell)
        for number in range(3):
            tunnel.accepts = False
            tunnel.cut()
            writer.create(f"ns/entries/missed/v{number}.json", b"1")
            tunnel.accepts = True
            quiet(bell)
            writer.create(f"ns/entries/heard/v{number}.json", b"1")
            assert bell.wait(SECONDS)
    tunnel.close()
    adapter.close()
    writer.close()


def test_a_watch_whose_doorbell_is_cut_off_again_and_again_misses_nothing(pushing: Server) -> None:
    tunnel = Tunnel(pushing.endpoint_url)
    place = Place.on(pushing, pushing.new_bucket())
    far = Place.on(pushing, place.bucket, tunnel.endpoint_url)
    with (
        far.memory("reader") as reader,
        place.memory("writer") as writer,
        reader.watch(interval=0.2) as watch,
    ):
        for number in range(1, 31):
            writer.write("e", "k", number)
            if number % 5 == 0:
                tunnel.cut()
            if number % 3 == 0:
                assert [next(watch).value for _ in range(3)] == [number - 2, number - 1, number]
    tunnel.close()


def test_a_server_that_restarts_rings_again(pushing: Server) -> None:
    with servers.running(servers.MINIO_PUSHING) as server:
        place = Place.on(server, server.new_bucket())
        with (
            place.memory("reader") as reader,
            place.memory("writer") as writer,
            reader.watch(interval=HOUR) as watch,
        ):
            writer.write("e", "k", 1)
            assert next(watch).value == 1
            server.kill()
            server.start()
            writer.write("e", "k", 2)
            assert next(watch).value == 2


# --- other servers -------------------------------------------------------------------------------


def test_versity_is_asked_once_and_polled(
    versity: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "amfs")
    place = Place.on(versity, versity.new_bucket())
    with (
        place.memory("reader") as reader,
        place.memory("writer") as writer,
        reader.watch(interval=0.05) as watch,
    ):
        for number in range(3):
            writer.write("e", "k", number)
            assert next(watch).value == number
        until(lambda: not bells())
    assert "polling alone" in caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        s3_error(501, "NotImplemented"),
        s3_error(403, "AccessDenied"),
        s3_error(400, "InvalidArgument"),
        Answer(200, "<ListBucketResult/>", {"Content-Type": "application/xml"}),
        Answer(307, "", {"Location": "http://127.0.0.1:9/"}),
    ],
    ids=lambda answer: str(answer.status),
)
def test_an_endpoint_without_events_is_asked_once(answer: Answer) -> None:
    asked: list[str] = []

    def script(request: BaseHTTPRequestHandler) -> Answer:
        asked.append(request.path)
        return answer

    with answering(script) as url:
        adapter = Place("bucket", url, "access", "secret").adapter()
        with doorbell(adapter) as bell:
            until(lambda: not bells())
            assert not bell.wait(0.01)
        adapter.close()
    assert len(asked) == 1 and "events=" in asked[0]


def test_a_server_that_is_busy_is_asked_again() -> None:
    asked: list[str] = []

    def script(request: BaseHTTPRequestHandler) -> Answer:
        asked.append(request.path)
        return s3_error(503, "SlowDown") if len(asked) < 3 else s3_error(501, "NotImplemented")

    with answering(script) as url:
        adapter = Place("bucket", url, "access", "secret").adapter()
        with doorbell(adapter):
            until(lambda: not bells())
        adapter.close()
    assert len(asked) == 3


def test_closing_does_not_wait_for_a_server_that_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        adapter = Place("bucket", url, "access", "secret").adapter()
        bell = adapter.doorbell("")
        assert bell is not None
        connection, _ = listener.accept()
        assert connection.recv(10)
        bell.close()
        assert not bells()
        connection.close()
        adapter.close()


def test_aws_is_never_asked() -> None:
    adapter = Place("bucket", "", "access", "secret").adapter()
    assert adapter.doorbell("") is None
    adapter.close()


def test_without_its_library_a_bucket_has_no_doorbell(monkeypatch: pytest.MonkeyPatch) -> None:
    without("minio", monkeypatch)
    adapter = Place("bucket", "http://127.0.0.1:9", "access", "secret").adapter()
    assert adapter.doorbell("") is None
    adapter.close()


def test_a_store_behind_a_proxy_or_on_a_path_has_no_doorbell() -> None:
    behind = Place("bucket", "http://127.0.0.1:9", "access", "secret")
    adapter = behind.adapter(client_options={"proxy_url": "http://127.0.0.1:8"})
    assert adapter.doorbell("") is None
    deep = Place("bucket", "http://127.0.0.1:9/s3", "access", "secret").adapter()
    assert deep.doorbell("") is None
    for store in (adapter, deep):
        store.close()
