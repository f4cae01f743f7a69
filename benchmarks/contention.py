"""Eight processes on one key: what they were told, and what is there afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.figure import Figure
from benchmarks.peer import (
    AGENTFS,
    AMFS,
    BOTO3,
    FILES,
    GRAPH,
    MEM0,
    MINIO_PY,
    OBSTORE,
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
from tests.support.servers import MINIO

SECTION = "contention"
PROCESSES = 8
SECONDS = 8.0
_ON_DISK = (AMFS, RIVAL, GRAPH, AGENTFS, MEM0, SQLITE, FILES)
_ON_S3 = (AMFS, RIVAL, OBSTORE, BOTO3, MINIO_PY)


def outcomes(scale: Scale) -> Iterator[Figure]:
    """Yield, for writes and for counting up, how many were acknowledged and how many survived."""
    with places() as made, serving(MINIO) as server:
        for peer in _ON_DISK[: scale.contenders]:
            yield from _outcomes("directory", peer, made.directory(), scale)
        for peer in _ON_S3[: scale.contenders]:
            yield from _outcomes("bucket", peer, made.bucket(server), scale)


def _outcomes(where: str, peer: Peer, place: Place, scale: Scale) -> Iterator[Figure]:
    home = places()
    with home as made:
        crowd: list[Driver] = []
        try:
            for number in range(PROCESSES):
                crowd.append(Driver(peer, made.root))
                crowd[-1].send("open", place={**place, "agent": f"agent-{number}"})
                if number == 0:  # it makes what is made once, such as tables
                    crowd[0].answer(60.0)
            for driver in crowd[1:]:
                driver.answer(60.0)
            # connects; what is new must not be what is timed
            for number, driver in enumerate(crowd):
                driver.ask("write", keys=f"first-{number}", count=1, seconds=10.0)
            yield from _raced(where, peer, "write", crowd, scale)
            yield from _raced(where, peer, "count up", crowd, scale)
        except CannotError as reason:
            for work in ("write", "count up"):
                yield Figure(SECTION, f"{work}, {where}", peer.name, "kept", note=str(reason))
        finally:
            for driver in crowd:
                driver.close()


def _raced(
    where: str, peer: Peer, work: str, crowd: list[Driver], scale: Scale
) -> Iterator[Figure]:
    operation = f"{work}, {where}"
    try:
        orders: list[dict[str, Any]] = [
            {"do": "append", "key": "one", "writer": number}
            if work == "write"
            else {"do": "add", "key": "counter"}
            for number in range(PROCESSES)
        ]
        for driver, order in zip(crowd, orders, strict=True):
            driver.send(**order, count=scale.additions, seconds=SECONDS)
        answers, reasons = [], []
        for driver in crowd:  # every answer is read, so that none is left for the next question
            try:
                answers.append(driver.answer(SECONDS))
            except CannotError as reason:
                reasons.append(reason)
        if reasons:
            raise reasons[0]
        crowd[0].ask("reopen")
        if work == "write":
            kept = crowd[0].ask("survived", key="one")["versions"]
        else:
            kept = crowd[0].ask("counted", key="counter")["count"]
    except CannotError as reason:
        yield Figure(SECTION, operation, peer.name, "kept", note=str(reason))
        return
    done = sum(answer["done"] for answer in answers)
    refused: dict[str, int] = {}
    for answer in answers:
        for name, number in answer["failed"].items():
            refused[name] = refused.get(name, 0) + number
    told = ", ".join(f"{number} {name}" for name, number in sorted(refused.items()))
    slowest = max(answer["seconds"] for answer in answers)
    note = f"refused: {told}" if told else ""
    yield Figure(SECTION, operation, peer.name, "acknowledged", (done,), note)
    yield Figure(SECTION, operation, peer.name, "kept", (kept,), note)
    yield Figure(SECTION, operation, peer.name, "/s", (done / slowest,), note)
