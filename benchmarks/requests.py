"""What each operation asks of a bucket, counted at the wire by the tests' proxy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from benchmarks.figure import Figure
from benchmarks.peer import ON_S3, CannotError, Driver, Peer, drivers, places
from benchmarks.scale import Scale
from benchmarks.workplace import serving
from tests.support.proxy import FaultProxy
from tests.support.servers import MINIO, Server

SECTION = "requests"
TIMES = 10
ENTRIES = 200
KINDS = {"create": "PUT", "put": "PUT", "get": "GET", "head": "GET", "list": "LIST"}
"""What the bill calls them; it counts HEAD as GET and COPY as PUT, and DELETE is free."""
UNITS = ("LIST", "GET", "PUT", "DELETE")

_FEW: dict[str, Any] = {"count": TIMES, "seconds": 30.0}
_STEPS: tuple[tuple[str, bool, int, dict[str, Any]], ...] = (
    # the operation, whether by a process that knows nothing, how often, and the order
    ("write, new key", False, TIMES, {"do": "write", "keys": "new", **_FEW}),
    ("write, known key", False, TIMES, {"do": "write", "keys": "new", **_FEW}),
    ("write, cold", True, TIMES, {"do": "write", "keys": "new", **_FEW}),
    ("read, known key", False, TIMES, {"do": "read", "keys": "new", **_FEW}),
    ("read, cold", True, TIMES, {"do": "read", "keys": "new", **_FEW}),
    ("read, by version", True, TIMES, {"do": "read_version", "keys": "new", **_FEW}),
    ("update, known key", False, TIMES, {"do": "add", "key": "counter", **_FEW}),
    (f"list {ENTRIES}, cold", True, 1, {"do": "list", "most": 1, "seconds": 60.0}),
    (f"list {ENTRIES}, again", False, 1, {"do": "list", "most": 1, "seconds": 60.0}),
    (f"search {ENTRIES}, again", False, 2, {"do": "search", "most": 1, "seconds": 60.0}),
)


def counted(scale: Scale) -> Iterator[Figure]:
    """Yield requests per operation, by what the bill calls them. They are exact."""
    with (
        serving(MINIO) as server,
        FaultProxy(server.endpoint_url) as proxy,
        places() as made,
        drivers(ON_S3, made.root) as started,
    ):
        for peer, driver in started.items():
            where = made.bucket(server, proxy.endpoint_url)
            yield from _counted(peer, driver, where, server, proxy)


def _counted(
    peer: Peer, driver: Driver | str, where: dict[str, str], server: Server, proxy: FaultProxy
) -> Iterator[Figure]:
    broken = ""
    try:
        if isinstance(driver, str):
            raise CannotError(driver)
        driver.ask("open", place={**where, "endpoint_url": server.endpoint_url})
        driver.ask("fill", source="notes", count=ENTRIES - TIMES - 2, seconds=60.0)
        driver.ask("open", place=where)
        driver.ask("write", keys="first", count=1, seconds=30.0)  # asks once what the server can do
        _known_counter(driver)
    except CannotError as reason:
        broken = str(reason)
    for operation, cold, times, order in _STEPS:
        note = broken
        made: Counter[str] = Counter()
        try:
            if note or isinstance(driver, str):
                raise CannotError(note)
            if cold:
                driver.ask("reopen")
            with proxy.counting() as counter:
                driver.ask(**order)
            for kind, number in counter.items():
                made[KINDS.get(kind, kind.upper())] += number
        except CannotError as reason:
            note = str(reason)
        for unit in UNITS:
            samples = () if note else (made[unit] / times,)
            yield Figure(SECTION, operation, peer.name, unit, samples, note)


def _known_counter(driver: Driver) -> None:
    try:
        driver.ask("add", key="counter", count=1, seconds=30.0)
    except CannotError:  # and the operation itself says so again; the number of memories stays
        driver.ask("write", keys="instead", count=1, seconds=30.0)
