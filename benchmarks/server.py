"""The server beside the library on the same bucket, and many clients that follow events."""

from __future__ import annotations

import re
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from benchmarks.figure import Figure
from benchmarks.scale import Scale
from benchmarks.workplace import serving
from tests.support.s3_store import Place
from tests.support.served import Served
from tests.support.servers import MINIO_PUSHING

SECTION = "over HTTP"
_THREADS = 16
_MILLISECONDS = 1_000
_CLIENTS = 500
_EVENTS = 20


def over_http(scale: Scale) -> Iterator[Figure]:
    """Yield rates and times of the library and of the server, and what events cost."""
    with serving(MINIO_PUSHING) as minio, TemporaryDirectory() as directory:
        place = Place.on(minio, minio.new_bucket())
        variables = {
            "AMFS_S3_ENDPOINT": place.endpoint_url,
            "AWS_ACCESS_KEY_ID": place.access_key,
            "AWS_SECRET_ACCESS_KEY": place.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        served = Served(
            *("--state", directory),
            before=("--store", f"s3://{place.bucket}/amfs/"),
            **variables,
        )
        try:
            yield from _rates(scale, place, served)
            yield from _events(scale, served)
        finally:
            served.stop()


def _rates(scale: Scale, place: Place, served: Served) -> Iterator[Figure]:
    value = {"note": "x" * 300, "number": 7}
    clients = threading.local()

    def client() -> httpx.Client:
        if not hasattr(clients, "one"):
            clients.one = served.client()
        made: httpx.Client = clients.one
        return made

    with place.memory("library") as memory:

        def put(number: int) -> None:
            path = f"/v1/default/memories/http/k{number}"
            client().put(path, json={"value": value}).raise_for_status()

        def get(number: int) -> None:
            client().get(f"/v1/default/memories/http/k{number}").raise_for_status()

        ways: dict[str, dict[str, Callable[[int], object]]] = {
            "write": {
                "library": lambda number: memory.write("library", f"k{number}", value),
                "server": put,
            },
            "read": {
                "library": lambda number: memory.read("library", f"k{number}"),
                "server": get,
            },
        }
        count = scale.operations * 2
        for operation, peers in ways.items():
            for threads in (1, _THREADS):
                for peer, work in peers.items():
                    first = count * threads if operation == "write" else count
                    started = time.perf_counter()
                    times = _timed(work, range(first, first + count), threads)
                    rate = count / (time.perf_counter() - started)
                    name = f"{operation}, {threads} threads"
                    yield Figure(SECTION, name, peer, "/s", (rate,))
                    cuts = statistics.quantiles(times, n=100)
                    for what, cut in (("p50", cuts[49]), ("p99", cuts[98])):
                        yield Figure(SECTION, f"{name}, {what}", peer, "ms", (cut,))


def _timed(work: Callable[[int], object], numbers: range, threads: int) -> list[float]:
    def one(number: int) -> float:
        started = time.perf_counter()
        work(number)
        return (time.perf_counter() - started) * _MILLISECONDS

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, numbers))


def _events(scale: Scale, served: Served) -> Iterator[Figure]:
    """Follow with many clients, of which one tells how late events are."""
    before = _resident(served)
    request = b"GET /v1/default/watch?under=events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    opened: list[socket.socket] = []
    try:
        for _ in range(_CLIENTS if scale.name == "full" else 20):
            made = socket.create_connection(("127.0.0.1", served.port), timeout=60)
            made.sendall(request)
            opened.append(made)
        for follower in opened:
            heard = b""
            while b"\n\n" not in heard.partition(b"\r\n\r\n")[2]:
                heard += follower.recv(65536)  # until it follows
        memory = (_resident(served) - before) / len(opened)
        yield Figure(SECTION, "memory", f"{len(opened)} event clients", "KB", (memory,))
        idle = _lists(served)
        time.sleep(scale.idle * 2)
        lists = (_lists(served) - idle) * 60 / (scale.idle * 2)
        yield Figure(SECTION, "idle", f"{len(opened)} event clients", "LIST a minute", (lists,))
        with served.client() as client:
            delays = [_delay(client, opened) for _ in range(_EVENTS)]
        yield Figure(SECTION, "write to all", f"{len(opened)} event clients", "ms", tuple(delays))
    finally:
        for follower in opened:
            follower.close()


def _delay(client: httpx.Client, followers: list[socket.socket]) -> float:
    """Return how long it takes from a write to the last client that hears of it."""
    started = time.perf_counter()
    client.put("/v1/default/memories/events/k", json={"value": started}).raise_for_status()
    for follower in followers:
        heard = b""
        while b"data: " not in heard:
            heard += follower.recv(65536)
    return (time.perf_counter() - started) * _MILLISECONDS


def _lists(served: Served) -> float:
    with served.client() as client:
        text = client.get("/metrics").text
    match = re.search(r'amfs_store_requests_total\{kind="list",namespace="default"\} (\S+)', text)
    return float(match[1]) if match else 0.0


def _resident(served: Served) -> float:
    """Return the resident memory of the server, in KB."""
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match is not None
    return float(match[1])
