"""The torture in short: processes, faults, kills and crashes on every store, and all holds.

`make torture` runs the long one. What it found has a test of its own at the end.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from amfs_core.memory import AgentMemory
from amfs_core.testing import Fault, FaultyAdapter, ModelAdapter
from tests.conftest import NOT_COVERED
from tests.support.servers import ServerUnavailableError
from tests.torture.run import Options, torture


@pytest.mark.parametrize("store", ["local", "sqlite", "postgres", "minio", "versity"])
def test_nothing_is_lost_doubled_or_out_of_order(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(
        store=store,
        processes=6,
        operations=50,
        faults=0.15,
        kills=6,
        server_kills=1,
        seed=random.SystemRandom().randrange(10**9),
        patience=(0.1, 10.0),
        watchers=2,
        seconds=120.0,
    )
    try:
        report = torture(options, tmp_path)
    except ServerUnavailableError as reason:
        pytest.skip(f"{NOT_COVERED} {store} can't be had: it is not tortured ({reason})")
    assert report.ok, f"seed {options.seed}, histories in {tmp_path}\n{report}"
    assert report.operations >= 300 - report.kills  # one may be cut off with its record
    assert (report.kills, report.server_kills) == (6, int(store not in ("local", "sqlite")))
    assert sum(report.faults.values()) > 50
    assert report.acknowledged > 150  # the impatient give up while the server is down
    assert report.delivered >= report.versions


def test_a_write_whose_answer_was_lost_is_in_the_next_list_of_its_process() -> None:
    faulty = FaultyAdapter(ModelAdapter())
    memory = AgentMemory("a", adapter=faulty)
    assert memory.list() == []
    faulty.inject(Fault.LOST_ANSWER)
    written = memory.write("e", "k", 1)
    faulty.hide_newest(1)
    assert memory.list() == [written]
