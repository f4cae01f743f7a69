"""A real server that is killed and comes back under writer processes, one of which is killed too.

`make degraded` runs it with 20 outages and 8 writers; the pipeline runs a short one.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from amfs_core.layers import Decision, Layered
from amfs_core.memory import AgentMemory
from amfs_local import LocalAdapter
from tests.layers.stores import keys_of
from tests.support.s3_store import Place, Tell, Worker
from tests.support.servers import MINIO, running

OUTAGES = int(os.environ.get("DEGRADED_OUTAGES", "2"))
WRITERS = int(os.environ.get("DEGRADED_WRITERS", "3"))
DOWN_SECONDS = float(os.environ.get("DEGRADED_SECONDS", "4"))
PACE = float(os.environ.get("DEGRADED_PACE", "0.1"))
SECONDS = 240.0

Acknowledged = tuple[str, str, int, bool]  # key, write_id, number, whether it was provisional


def opened(place: Place, fallback: Path, agent: str) -> AgentMemory:
    store = Layered(place.adapter(), fallback=LocalAdapter(fallback))
    return AgentMemory(agent, adapter=store, owns_adapter=True)


def write_through(place: Place, fallback: Path, agent: str, stop: Path, tell: Tell) -> None:
    """Write to a memory of its own and a shared one, and add to a count of its own, until there is
    the file `stop`."""
    number = 0
    with opened(place, fallback, agent) as memory:
        while not stop.exists():
            number += 1
            for key in (agent, "shared"):
                entry = memory.write("w", key, {"by": agent, "n": number})
                tell((key, entry.provenance.write_id, number, entry.provisional))
            entry = memory.update("count", agent, lambda old: (old or 0) + 1)
            tell((f"count {agent}", entry.provenance.write_id, number, entry.provisional))
            time.sleep(PACE)  # a pace, so that the histories stay short


def wait_for(is_so: Any) -> None:
    end = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.1)  # between two looks at what processes do


@pytest.mark.server
@pytest.mark.slow
def test_every_acknowledged_write_is_in_the_history_once_and_in_order(tmp_path: Path) -> None:
    stop, fallback = tmp_path / "stop", tmp_path / "fallback"
    with running(MINIO) as server:
        place = Place.on(server, server.new_bucket())
        names = [f"writer-{number}" for number in range(WRITERS)]
        with opened(place, fallback, "first") as memory:
            for key in names:
                memory.write("count", key, 0)
        workers = {name: Worker(write_through, place, fallback, name, stop) for name in names}
        told: dict[str, list[Acknowledged]] = {}
        killed = names[-1]
        for worker in workers.values():
            worker.wait_told(6)
        for outage in range(OUTAGES):
            server.kill()
            began = time.monotonic()
            while time.monotonic() - began < DOWN_SECONDS:
                for name, worker in workers.items():
                    if name not in told:
                        worker.listen(0.05)
            if outage == OUTAGES // 2:
                told[killed] = workers[killed].kill()
            server.restart()
            # Until all have come back: then nothing that they left waits.
            wait_for(lambda: _heard(workers, told) and not keys_of(LocalAdapter(fallback)))
        stop.touch()
        told.update({name: writer.result() for name, writer in workers.items() if name != killed})

        with opened(place, fallback, "last") as memory:
            report = memory.reconcile()
            assert (report.waiting, report.error) == (0, None)
            conflicts = {
                conflict.entry.provenance.write_id: conflict for conflict in report.conflicts
            }
            acknowledged = [write for all_told in told.values() for write in all_told]
            provisional = sum(write[3] for write in acknowledged)
            assert provisional
            histories = {
                **{key: memory.history("w", key) for key in (*names, "shared")},
                **{f"count {key}": memory.history("count", key) for key in names},
            }
            for key, history in histories.items():
                ids = [entry.provenance.write_id for entry in history]
                assert not [write_id for write_id, count in Counter(ids).items() if count > 1]
                place_of = {write_id: index for index, write_id in enumerate(ids)}
                for all_told in told.values():
                    mine = [write for write in all_told if write[0] == key]
                    lost = [write for write in mine if write[1] not in {*place_of, *conflicts}]
                    assert not lost, (key, lost)
                    places = [place_of[write[1]] for write in mine if write[1] in place_of]
                    assert places == sorted(places), key
            for name in names:  # nobody else adds to it
                assert not [c for c in conflicts.values() if c.entry.key == name]
                values = [entry.value for entry in histories[f"count {name}"]]
                assert values == list(range(len(values)))
            assert memory.verify().ok
            memory.reconcile(lambda _: Decision.DISCARD)
            print(
                f"{OUTAGES} outages, {WRITERS} writers: {len(acknowledged):,} writes acknowledged, "
                f"{provisional:,} of them provisional, {len(conflicts)} conflicts"
            )
    assert not keys_of(LocalAdapter(fallback))


def _heard(workers: dict[str, Worker], told: dict[str, list[Acknowledged]]) -> bool:
    """Whether each writer has had a write acknowledged by the primary since it last was asked."""
    is_back = True
    for name, worker in workers.items():
        if name in told:
            continue
        worker.listen(0.05)
        is_back = is_back and not worker._told[-1][3]
    return is_back
