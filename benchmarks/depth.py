"""What a write to one key takes, against how many versions the key has."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figure import Figure
from benchmarks.peer import (
    AGENTFS,
    AMFS,
    FILES,
    GRAPH,
    MEM0,
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

SECTION = "depth"
DISK, S3 = "write at depth, on a directory", "write at depth, on a bucket"
FLAT = "last third of the curve / first"
_ON_DISK = (AMFS, RIVAL, GRAPH, AGENTFS, MEM0, SQLITE, FILES)
_ON_S3 = (AMFS, RIVAL, OBSTORE)
_SETTLED = 50
"""Versions after which connections and caches are warm; the curve's beginning is not judged."""


def curves(scale: Scale) -> Iterator[Figure]:
    """Yield the milliseconds of a write at 10, 20, 50, 100 … versions, for every peer."""
    with places() as made, serving(MINIO) as server:
        on_disk: dict[Peer, Place] = {peer: made.directory() for peer in _ON_DISK}
        on_s3: dict[Peer, Place] = {peer: made.bucket(server) for peer in _ON_S3}
        yield from _curves(DISK, on_disk, made, scale, scale.deepening)
        # A bucket's round trip is longer than a file's; a raw client alone needs this long.
        yield from _curves(S3, on_s3, made, scale, 2 * scale.deepening)


def _curves(
    operation: str, where: dict[Peer, Place], made: Places, scale: Scale, seconds: float
) -> Iterator[Figure]:
    with drivers(tuple(where), made.root) as started:
        for peer, driver in started.items():
            try:
                if not isinstance(driver, Driver):
                    raise CannotError(driver)
                driver.ask("open", place=where[peer])
                driver.ask("write", keys="first", count=1, seconds=seconds)  # connects
                answer = driver.ask("deepen", key="one", depth=scale.depth, seconds=seconds)
            except CannotError as reason:
                yield Figure(SECTION, operation, peer.name, "ms", note=str(reason))
                continue
            curve = answer["curve"]
            reached = curve[-1][0]
            note = "" if reached == scale.depth else f"stopped after {seconds:.0f} s at {reached:,}"
            for depth, spent in curve:
                yield Figure(SECTION, operation, peer.name, "ms", (spent,), note, at=depth)
            yield from _flatness(operation, peer, curve)


def _flatness(operation: str, peer: Peer, curve: list[tuple[int, float]]) -> Iterator[Figure]:
    settled = [spent for depth, spent in curve if depth > _SETTLED]
    third = len(settled) // 3
    if third:
        grown = (sum(settled[-third:]) / third) / (sum(settled[:third]) / third)
        goal = 1.5 if peer is AMFS else None
        yield Figure(SECTION, f"{operation}: {FLAT}", peer.name, "times", (grown,), goal=goal)
