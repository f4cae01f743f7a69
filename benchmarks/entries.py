"""Lists and searches among ever more memories."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figure import Figure
from benchmarks.peer import (
    AGENTFS,
    AMFS,
    FILES,
    GRAPH,
    GRAPH_MEMORY,
    OBSTORE,
    RIVAL,
    SQLITE,
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
from tests.support.servers import MINIO

SECTION = "entries"
_ON_DISK = (AMFS, RIVAL, GRAPH, GRAPH_MEMORY, AGENTFS, SQLITE, FILES)
_ON_S3 = (AMFS, RIVAL, OBSTORE)
ASKING = 3.0
"""Seconds for the lists, and for the searches, of one size."""
SEARCHES = 50
LIST_COLD, LIST, SEARCH, SEEN = "list, cold", "list, again", "search", "search within max_age"
GOAL = 20.0
"""Milliseconds of a search among 100,000 memories."""


def sizes(scale: Scale) -> Iterator[Figure]:
    """Yield the milliseconds of lists and searches."""
    with places() as made, serving(MINIO) as server:
        on_disk: dict[Peer, Place] = {peer: made.directory() for peer in _ON_DISK}
        yield from _sizes("directory", on_disk, made, scale, scale.sizes)
        on_s3: dict[Peer, Place] = {peer: made.bucket(server) for peer in _ON_S3}
        yield from _sizes("bucket", on_s3, made, scale, scale.sizes[:-1] or scale.sizes)


def _sizes(
    where: str, opened: dict[Peer, Place], made: Places, scale: Scale, sizes: tuple[int, ...]
) -> Iterator[Figure]:
    # Not interleaved: each holds all of its memories while it is asked.
    with drivers(tuple(opened), made.root) as started:
        for peer, driver in started.items():
            reason = driver if isinstance(driver, str) else ""
            there, rate = 0, 0.0
            for size in sizes:
                try:
                    if reason or isinstance(driver, str):
                        raise CannotError(reason)
                    if not there:
                        driver.ask("open", place=opened[peer])
                    rate = _filled(driver, there, size, rate, scale)
                    there = size
                except CannotError as error:
                    reason = str(error)
                    for operation in (LIST_COLD, LIST, SEARCH):
                        name = f"{operation}, {where}"
                        yield Figure(SECTION, name, peer.name, "ms", (), reason, at=size)
                    continue
                yield Figure(SECTION, f"fill, {where}", peer.name, "/s", (rate,), at=size)
                yield from _asked(where, peer, driver, size)


def _filled(driver: Driver, there: int, size: int, rate: float, scale: Scale) -> float:
    """Write what is missing and return how fast; don't begin what would take too long."""
    if rate and (size - there) / rate > scale.filling:
        raise CannotError(f"not filled: that takes {(size - there) / rate:,.0f} s")
    answer = driver.ask("fill", source="notes", begin=there, count=size, seconds=scale.filling)
    if not answer["whole"]:
        raise CannotError(f"not filled in {scale.filling:.0f} s: {there + answer['done']:,} were")
    done: float = answer["done"] / answer["seconds"]
    return done


def _asked(where: str, peer: Peer, driver: Driver, size: int) -> Iterator[Figure]:
    for operation in (LIST_COLD, LIST, SEARCH, *((SEEN,) if peer is AMFS else ())):
        name = f"{operation}, {where}"
        try:
            if operation == LIST_COLD:
                driver.ask("reopen")
            if operation in (SEARCH, SEEN):
                seen = operation == SEEN
                answer = driver.ask("search", seconds=ASKING, most=SEARCHES, seen=seen)
            else:
                most = 1 if operation == LIST_COLD else 3
                answer = driver.ask("list", seconds=ASKING, most=most)
                if answer["entries"] != size:
                    raise CannotError(f"listed {answer['entries']:,} of {size:,}")
        except CannotError as reason:
            yield Figure(SECTION, name, peer.name, "ms", (), str(reason), at=size)
            continue
        times = tuple(1000 * time for time in answer["times"])
        goal = GOAL if operation == SEEN else None
        yield Figure(SECTION, name, peer.name, "ms", times, goal=goal, at=size)
