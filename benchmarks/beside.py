"""The same operations by every peer: on a directory, on a bucket, and far from a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks.delay import MILLISECONDS, delayed
from benchmarks.figure import Figure
from benchmarks.peer import (
    ON_DISK,
    ON_S3,
    CannotError,
    Driver,
    Peer,
    Place,
    Places,
    drivers,
    places,
)
from benchmarks.scale import Scale
from benchmarks.workplace import serving
from tests.support.servers import MINIO, Server

ABILITIES = "durability"
AWAY = f"{MILLISECONDS} ms"
DISK, NEAR, FAR = "on a directory", "on a bucket", f"on a bucket {AWAY} away"
READ_COLD = "read, cold"
THREADS = 32
KNOWN = 50
"""Keys that are written and read in turns where a process knows its keys."""
ENTRIES = 100
"""Memories that are listed far from the bucket."""

Order = dict[str, Any]


def on_disk(scale: Scale) -> Iterator[Figure]:
    """Yield rates, and the CPU of the peer's process for each operation."""
    with places() as made:
        where: dict[Peer, Place] = {peer: made.directory() for peer in ON_DISK}
        yield from _compared(DISK, where, scale, made)


def on_s3(scale: Scale) -> Iterator[Figure]:
    """Yield the same on a MinIO of this machine."""
    with serving(MINIO) as server, places() as made:
        where: dict[Peer, Place] = {peer: made.bucket(server) for peer in ON_S3}
        yield from _compared(NEAR, where, scale, made)


def far_away(scale: Scale) -> Iterator[Figure]:
    """Yield milliseconds where every answer comes 20 ms late: there, round trips decide."""
    with (
        serving(MINIO) as server,
        delayed(server.endpoint_url) as address,
        places() as made,
        drivers(ON_S3, made.root) as started,
    ):
        for peer, driver in started.items():
            yield from _far(peer, driver, made.bucket(server, address), server, scale)


@dataclass(slots=True)
class _Series:
    """What one peer did of one operation, a sample for each repetition."""

    rates: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    reason: str = ""

    def figures(self, section: str, operation: str, peer: Peer) -> Iterator[Figure]:
        """Yield the rate and the CPU; if it can't be done, the reason instead."""
        if self.reason:
            yield Figure(section, operation, peer.name, "/s", note=self.reason)
            return
        yield Figure(section, operation, peer.name, "/s", tuple(self.rates))
        yield Figure(section, operation, peer.name, "µs CPU", tuple(self.costs))


def _compared(
    section: str, where: dict[Peer, Place], scale: Scale, made: Places
) -> Iterator[Figure]:
    operations = [name for name, _ in _orders(0, scale)]
    series = {(name, peer): _Series() for name in operations for peer in where}
    with drivers(tuple(where), made.root) as started:
        ready: list[tuple[Peer, Driver]] = []
        for peer, driver in started.items():
            try:
                opened = _opened(driver)
                durability = opened.ask("open", place=where[peer])["durability"]
                opened.ask("write", keys="known", count=KNOWN, seconds=60.0)
                ready.append((peer, opened))
            except CannotError as reason:
                for name in operations:
                    series[name, peer].reason = str(reason)
            else:
                yield Figure(ABILITIES, section, peer.name, "", note=durability)
        for repetition in range(scale.repetitions + 1):  # repetition 0 warms up
            written: dict[Peer, int] = {}
            for step in _orders(repetition, scale):
                for peer, driver in ready:
                    step_series = series[step[0], peer]
                    _measure(driver, step, step_series, written, counts=repetition > 0)
                ready.append(ready.pop(0))  # nobody is always the first
    for (name, peer), peer_series in series.items():
        yield from peer_series.figures(section, name, peer)


def _opened(driver: Driver | str) -> Driver:
    if isinstance(driver, str):
        raise CannotError(driver)
    return driver


def _measure(
    driver: Driver, step: tuple[str, Order], series: _Series, written: dict[Peer, int], counts: bool
) -> None:
    """Have one peer do one operation."""
    if series.reason:
        return
    name, order = step
    peer, fresh = driver.peer, "same" not in order
    try:
        if order["do"].startswith("read") and fresh:
            if peer not in written:
                raise CannotError("could not write what is read here")
            order = {**order, "count": written[peer]}  # a slow peer's time was over too soon
        if name == READ_COLD:
            driver.ask("reopen")
        answer = driver.ask(**order)
    except CannotError as reason:
        series.reason = str(reason)
        return
    if order["do"] == "write" and fresh:
        written[peer] = min(written.get(peer, order["count"]), answer["done"])
    if counts:
        series.rates.append(answer["done"] / answer["seconds"])
        series.costs.append(answer["cpu"] / answer["done"] * 1e6)


def _orders(repetition: int, scale: Scale) -> Iterator[tuple[str, Order]]:
    """Yield what is done in a repetition: names for the page, and orders for the driver."""
    count, seconds = scale.operations, scale.seconds
    new: Order = {"do": "write", "count": count, "seconds": seconds, "keys": f"new{repetition}"}
    known: Order = {"count": count, "seconds": seconds, "keys": "known", "same": KNOWN}
    many: Order = {**new, "keys": f"many{repetition}", "threads": THREADS}
    yield "write, new key", new
    yield "write, known key", {**known, "do": "write"}
    yield f"write, {THREADS} threads", many
    batch = {"source": "notes", "keys": f"batch{repetition}", "count": count // 2}
    yield "write, a batch", {"do": "fill", "seconds": seconds, **batch}
    yield "read, known key", {**known, "do": "read"}
    yield READ_COLD, {**new, "do": "read"}
    version = {"do": "read_version", "keys": f"many{repetition}"}
    yield "read, by version", {"count": count, "seconds": seconds, **version}


def _far(
    peer: Peer, driver: Driver | str, far: Place, server: Server, scale: Scale
) -> Iterator[Figure]:
    """Yield one peer's milliseconds. What it needs to find is written without the delay."""
    near = {**far, "endpoint_url": server.endpoint_url}
    count = scale.far_operations
    few: Order = {"count": count, "seconds": 10.0}
    steps: list[tuple[str, Order]] = [
        ("write, new key", {"do": "write", "keys": "far", **few}),
        ("write, known key", {"do": "write", "keys": "far", **few}),
        ("read, known key", {"do": "read", "keys": "far", **few}),
        ("update", {"do": "add", "key": "counter", **few}),
        ("read, cold", {"do": "read", "keys": "note", **few}),
        ("read, by version", {"do": "read_version", "keys": "other", **few}),
        (f"list {ENTRIES}, cold", {"do": "list", "most": 1, "seconds": 20.0}),
        (f"list {ENTRIES}, again", {"do": "list", "most": 1, "seconds": 20.0}),
    ]
    broken = ""
    try:
        opened = _opened(driver)
        opened.ask("open", place=near)
        opened.ask("fill", source="notes", count=ENTRIES - 2 * count - 2, seconds=30.0)
        opened.ask("write", keys="other", **few)
        opened.ask("open", place=far)
        opened.ask("write", keys="first", count=1, seconds=10.0)  # connects, and proves the server
    except CannotError as reason:
        broken = str(reason)
    for name, order in steps:
        samples: list[float] = []
        note = broken
        for _ in range(1 if "list" in name else scale.far_repetitions):
            if note:
                break
            try:
                if "cold" in name or "version" in name:
                    opened.ask("reopen")
                    opened.ask("read", keys="first", count=1, seconds=10.0)  # connects
                answer = opened.ask(**order)
                if "times" in answer:
                    samples += [1000 * time for time in answer["times"]]
                elif answer["done"]:
                    samples.append(1000 * answer["seconds"] / answer["done"])
                else:
                    note = f"failed: {answer['failed']}"
            except CannotError as reason:
                note = str(reason)
        yield Figure(FAR, name, peer.name, "ms", () if note else tuple(samples), note)
