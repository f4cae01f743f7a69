"""Events: every version once and in order, through restarts of the server and of the client."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import Any, NamedTuple

import httpx
import pytest

from amfs_core.memory import AgentMemory
from amfs_local import LocalAdapter
from amfs_server.event_log import EventLog
from amfs_server.hub import Hub
from tests.support.node import installed
from tests.support.served import Served, serving

WAIT_SECONDS = 30.0
MANY = 800


class Event(NamedTuple):
    id: str
    entry: dict[str, Any] | None  # None: only the id, where a client stands

    @property
    def name(self) -> tuple[str, str, int]:
        assert self.entry is not None
        return self.entry["entity_path"], self.entry["key"], self.entry["version"]


class Client:
    """Follows events in a thread, and can be asked what came."""

    def __init__(self, served: Served, query: str = "", last: str | None = None) -> None:
        self.events: Queue[Event] = Queue()
        self.status = 0
        self.last = last
        self.ended = threading.Event()
        self._opened = threading.Event()
        self._http = served.client(timeout=WAIT_SECONDS)
        self._path = f"/v1/default/watch{query}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._opened.wait(WAIT_SECONDS)

    def _run(self) -> None:
        headers = {} if self.last is None else {"last-event-id": self.last}
        try:
            with self._http.stream("GET", self._path, headers=headers) as stream:
                self.status = stream.status_code
                if stream.status_code != 200:
                    return
                self.headers = stream.headers
                network: Any = stream.extensions["network_stream"]
                self._socket = network.get_extra_info("socket")
                self._follow(stream)
        except httpx.HTTPError:
            pass
        finally:
            self.ended.set()
            self._opened.set()
            self._http.close()

    def _follow(self, stream: httpx.Response) -> None:
        identity, data = "", ""
        for line in _lines(stream):
            field, _, text = line.partition(": ")
            if field == "id":
                identity = text
            elif field == "data":
                data = text
            elif not line and identity:
                self.last = identity
                self.events.put(Event(identity, json.loads(data) if data else None))
                identity, data = "", ""
                self._opened.set()

    def next(self) -> Event:
        """Return the next event that has a version."""
        while True:
            event = self.events.get(timeout=WAIT_SECONDS)
            if event.entry is not None:
                return event

    def take(self, count: int) -> list[tuple[str, str, int]]:
        return [self.next().name for _ in range(count)]

    def nothing_more(self) -> bool:
        try:
            while True:
                if self.events.get(timeout=0.3).entry is not None:
                    return False
        except Empty:
            return True

    def leave(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        assert self.ended.wait(WAIT_SECONDS)


def _lines(stream: httpx.Response) -> Iterator[str]:
    """Split as the HTML standard does; `iter_lines` ends lines where Unicode does too."""
    rest = b""
    for part in stream.iter_bytes():
        *lines, rest = (rest + part).split(b"\n")
        yield from (line.decode() for line in lines)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def memory(root: Path) -> AgentMemory:
    return AgentMemory("writer", adapter=LocalAdapter(root))


@pytest.fixture
def served(root: Path) -> Iterator[Served]:
    with serving(root) as server:
        yield server


def names(entity_path: str, first: int, last: int) -> list[tuple[str, str, int]]:
    return [(entity_path, "k", version) for version in range(first, last + 1)]


def write(memory: AgentMemory, count: int, entity_path: str = "e") -> None:
    for number in range(count):
        memory.write(entity_path, "k", number)


def test_a_client_gets_what_is_written_from_now_on(memory: AgentMemory, served: Served) -> None:
    write(memory, 3)
    client = Client(served)
    assert client.headers["content-type"].startswith("text/event-stream")
    assert client.headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in client.headers
    write(memory, 3)
    assert client.take(3) == names("e", 4, 6)
    entry = memory.read("e", "k")
    assert entry is not None
    event_entry = Client(served, "?since=beginning")
    assert event_entry.take(6) == names("e", 1, 6)
    assert client.nothing_more()


def test_an_event_is_the_version_as_it_is_stored(memory: AgentMemory, served: Served) -> None:
    client = Client(served)
    entry = memory.write("e", "k", {"text": "a\nb\r\n\u2028ü"})
    assert client.next().entry == entry.to_dict()


def test_a_path_has_events_of_its_own(memory: AgentMemory, served: Served) -> None:
    client = Client(served, "?under=a/b")
    memory.write("a", "k", 1)
    memory.write("a/bc", "k", 1)
    memory.write("a/b", "k", 1)
    memory.write("a/b/c", "k", 1)
    assert client.take(2) == [("a/b", "k", 1), ("a/b/c", "k", 1)]
    assert client.nothing_more()


def test_a_client_that_comes_back_misses_nothing_and_gets_nothing_twice(
    memory: AgentMemory, served: Served
) -> None:
    client = Client(served)
    write(memory, 4)
    assert client.take(2) == names("e", 1, 2)
    second = client.last  # of what was read, whatever else came
    client.leave()
    write(memory, 3)
    again = Client(served, last=_id_of(client, served, 2) or second)
    assert again.take(5) == names("e", 3, 7)
    assert again.nothing_more()


def _id_of(client: Client, served: Served, version: int) -> str:
    """Return the id under which a version is known, from a client that begins with them all."""
    log, _, number = (client.last or "").partition("-")
    return f"{log}-{version}" if number else ""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_of_the_server_loses_and_doubles_nothing(
    root: Path, memory: AgentMemory, how: int
) -> None:
    seen: list[tuple[str, str, int]] = []
    last = None
    for _ in range(3):
        with serving(root) as server:
            client = Client(server, last=last)
            write(memory, 5)
            seen += client.take(5 if last is None else 10)
            last = client.last
            server.stop(how)
            assert client.ended.wait(WAIT_SECONDS)
        write(memory, 5)
    assert seen == names("e", 1, 25)


def test_the_beginning_goes_on_where_it_was_left(memory: AgentMemory, served: Served) -> None:
    for number in range(30):
        memory.write(f"e{number % 5}", f"k{number % 3}", number)
    expected = sorted(
        (entry.entity_path, entry.key, entry.version)
        for known in memory.list()
        for entry in memory.history(known.entity_path, known.key)
    )
    seen: list[tuple[str, str, int]] = []
    last, query = None, "?since=beginning"
    while len(seen) < 30:
        client = Client(served, query, last=last)
        event = client.next()
        seen.append(event.name)
        if len(seen) == 10:
            memory.write("e0", "k0", "meanwhile")  # it has a number, and comes after the rest
        last = event.id
        client.leave()
    assert seen == expected
    rest = Client(served, last=last)
    assert rest.take(1) == [("e0", "k0", 3)]
    assert rest.nothing_more()


def test_the_beginning_goes_on_after_the_server_was_killed(root: Path, memory: AgentMemory) -> None:
    with serving(root) as server:
        follower = Client(server)  # the log exists, and its cursor is as old as it
        items = [{"entity_path": "e", "key": f"k{n:04}", "value": n} for n in range(MANY)]
        memory.write_many(items)  # they are numbered, and not in the cursor that is kept
        follower.take(MANY)
        client = Client(server, "?since=beginning")
        first = client.next()
        server.stop(signal.SIGKILL)
    with serving(root) as server:
        rest = Client(server, last=first.id).take(MANY - 1)
    assert [first.name, *rest] == [("e", f"k{number:04}", 1) for number in range(MANY)]


def test_erased_and_deleted_versions_are_events_too(memory: AgentMemory, served: Served) -> None:
    client = Client(served)
    memory.write("e", "k", "xyzzyplugh")
    assert client.take(1) == names("e", 1, 1)
    memory.delete("e", "k")
    event = client.next()
    assert event.entry is not None and event.entry["deleted"]
    memory.purge("e", "k")
    assert client.take(1) == names("e", 3, 3)
    late = Client(served, "?since=beginning")
    told = [late.next().entry for _ in range(3)]
    assert "xyzzyplugh" not in json.dumps(told)


@pytest.mark.parametrize("last", ["00000000-1", "ffffffff-0"])
def test_an_id_of_another_log_is_gone(served: Served, last: str) -> None:
    client = Client(served, last=last)
    assert client.ended.wait(WAIT_SECONDS)
    assert client.status == 410


def test_an_id_that_is_ahead_of_the_log_is_gone(memory: AgentMemory, served: Served) -> None:
    client = Client(served)
    log = (client.last or "").partition("-")[0]
    ahead = Client(served, last=f"{log}-1000")
    assert ahead.ended.wait(WAIT_SECONDS)
    assert ahead.status == 410


def test_many_clients_cost_the_store_one_watch(memory: AgentMemory, served: Served) -> None:
    with ExitStack() as opened:
        clients = [Client(served) for _ in range(50)]
        for client in clients:
            opened.callback(client.leave)
        write(memory, 5)
        for client in clients:
            assert client.take(5) == names("e", 1, 5)
        with served.client() as http:
            counts = http.get("/metrics").text
        assert "amfs_watchers 1.0" in counts
        assert "amfs_event_clients 50.0" in counts
        # The manifest is one of them.
        assert 'amfs_store_requests_total{kind="get",namespace="default"} 6.0' in counts


@contextmanager
def silent(served: Served) -> Iterator[socket.socket]:
    """A client that asks for events and reads nothing of the answer."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=WAIT_SECONDS) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.sendall(b"GET /v1/default/watch HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        yield made


def test_a_client_that_reads_nothing_holds_nobody_up(memory: AgentMemory, served: Served) -> None:
    with silent(served):
        client = Client(served)
        for number in range(20):
            memory.write("e", "k", "x" * 1_000_000 + str(number))
        assert client.take(20) == names("e", 1, 20)
        resident = Path(f"/proc/{served.process.pid}/status").read_text()
        (line,) = [line for line in resident.splitlines() if line.startswith("VmRSS")]
        assert int(line.split()[1]) < 500_000, line


def test_the_server_ends_while_clients_follow(memory: AgentMemory, served: Served) -> None:
    clients = [Client(served) for _ in range(10)]
    assert served.stop(signal.SIGTERM) == 0
    for client in clients:
        assert client.ended.wait(WAIT_SECONDS)
    assert not [line for line in served.lines if "Traceback" in line or "ERROR" in line]


def test_a_log_that_cannot_be_written_for_a_while_loses_no_event(
    memory: AgentMemory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = 2
    append = EventLog.append

    def full(log: EventLog, versions: Any, cursor: str | None = None) -> int:
        nonlocal failures
        if versions and failures:
            failures -= 1
            raise sqlite3.OperationalError("database or disk is full")
        return append(log, versions, cursor)

    async def run() -> list[tuple[str, str, int]]:
        hub = Hub(memory._engine, None, tmp_path / "events", 0.05, asyncio.get_running_loop())
        try:
            monkeypatch.setattr(EventLog, "append", full)
            await asyncio.to_thread(write, memory, 3)
            async with asyncio.timeout(WAIT_SECONDS):
                while hub.last < 3:
                    await hub.wait(hub.last, WAIT_SECONDS)
            return [event[1:] for event in hub.log.after(0, 10)]
        finally:
            await asyncio.to_thread(hub.end)

    assert asyncio.run(run()) == names("e", 1, 3)
    assert failures == 0


def test_there_is_a_limit_of_clients(served: Served) -> None:
    from amfs_server.settings import Settings

    assert Settings().max_streams == 2_000


def test_the_log_gives_each_version_one_number(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log")
    assert log.append([("e", "k", 1), ("e", "k", 2)], "cursor") == log.last()
    first = log.after(0, 10)
    log.append([("e", "k", 2), ("e", "k", 3)])
    again = EventLog(tmp_path / "log")
    assert again.id == log.id and again.cursor == "cursor"
    assert [event[1:] for event in again.after(0, 10)] == [("e", "k", n) for n in (1, 2, 3)]
    assert again.after(0, 10)[:2] == first
    assert again.numbered_after(first[0].number, "e", "k") == {2, 3}
    log.close()
    again.close()


NODE = """
import { EventSource } from 'eventsource'
const source = new EventSource(process.argv[2])
source.onmessage = event => {
  const entry = JSON.parse(event.data)
  console.log(`${entry.entity_path} ${entry.key} ${entry.version}`)
}
source.onopen = () => console.error('open')
source.onerror = event => console.error('error', event.code ?? '')
"""


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which Node finds an EventSource."""
    directory = installed(tmp_path_factory.mktemp("node"), "eventsource@4")
    (directory / "follow.js").write_text(NODE)
    return directory


def test_an_eventsource_in_node_goes_through_a_restart(
    root: Path, memory: AgentMemory, node: Path, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def served() -> Served:
        state = ("--state", str(tmp_path / "events"))
        return Served("--port", str(port), *state, before=("--store", str(root)))

    server = served()
    follower = subprocess.Popen(
        ["node", "follow.js", f"{server.url}/v1/default/watch"],
        cwd=node,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert follower.stdout is not None and follower.stderr is not None
        assert follower.stderr.readline().strip() == "open"
        lines: Queue[str] = Queue()
        read: Callable[[], None] = lambda: [lines.put(line) for line in follower.stdout]  # type: ignore[union-attr,func-returns-value]  # noqa: E731
        threading.Thread(target=read, daemon=True).start()
        write(memory, 3)
        seen = [lines.get(timeout=WAIT_SECONDS).strip() for _ in range(3)]
        server.stop(signal.SIGKILL)
        write(memory, 3)
        server = served()
        write(memory, 3)
        seen += [lines.get(timeout=WAIT_SECONDS).strip() for _ in range(6)]
        assert seen == [f"e k {version}" for version in range(1, 10)]
    finally:
        follower.kill()
        follower.communicate()
        server.stop()
