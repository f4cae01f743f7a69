"""How soon a watch delivers what another process wrote, and what waiting costs.

From the return of the write in one process to the callback in another, among 1,000 other memories.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.figure import Figure
from benchmarks.peer import (
    AGENTFS,
    AMFS,
    GRAPH,
    MEM0,
    RIVAL,
    SQLITE,
    CannotError,
    Driver,
    Peer,
    Place,
    places,
)
from benchmarks.scale import Scale
from benchmarks.workplace import serving
from tests.support.servers import MINIO_PUSHING

SECTION = "watch"
DELIVERY, IDLE = "write to delivery", "waiting"
GOAL = 100.0
"""Milliseconds, half of all deliveries."""
PATH = "watched"
LOST_AFTER = 10.0


def latencies(scale: Scale) -> Iterator[Figure]:
    """Yield milliseconds to the delivery, and CPU of a process that only waits."""
    with places() as made, serving(MINIO_PUSHING) as server:
        for peer in (AMFS, RIVAL, GRAPH, AGENTFS, MEM0, SQLITE):
            yield from _latency("directory", peer, made.directory(), scale)
        for peer in (AMFS, RIVAL):
            yield from _latency("bucket with notifications", peer, made.bucket(server), scale)


def _latency(where: str, peer: Peer, place: Place, scale: Scale) -> Iterator[Figure]:
    goal = GOAL if peer is AMFS else None
    with ExitStack() as stack:
        try:
            home = stack.enter_context(places()).root
            reader = stack.enter_context(Driver(peer, home))
            reader.ask("open", place=place)
            reader.ask("watch", path=PATH)
            writer = stack.enter_context(Driver(peer, home))
            writer.ask("open", place={**place, "agent": "writer"})
            writer.ask("fill", source="notes", count=1_000, seconds=30.0)
            spent = []
            for number in range(-5, scale.watched):  # the first few warm up
                returned = writer.ask("stamp", path=PATH, number=number)["at"]
                came = reader.ask("seen", number=number, seconds=LOST_AFTER)["at"]
                if came is None:
                    raise CannotError(f"not delivered in {LOST_AFTER:.0f} s")
                if number >= 0:
                    spent.append(1000 * (came - returned))
            idle = reader.ask("idle", seconds=scale.idle)["cpu"] / scale.idle
            reader.ask("unwatch")
        except CannotError as reason:
            yield Figure(SECTION, f"{DELIVERY}, {where}", peer.name, "ms", (), str(reason))
            return
    yield Figure(SECTION, f"{DELIVERY}, {where}", peer.name, "ms", tuple(spent), goal=goal)
    yield Figure(SECTION, f"{IDLE}, {where}", peer.name, "ms CPU/s", (1000 * idle,))
