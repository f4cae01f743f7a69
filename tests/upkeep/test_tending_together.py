"""Two `amfs tend --every 10m` beside each other for an hour, by a clock that is moved."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from amfs_core.memory import AgentMemory
from amfs_core.testing import Crash
from amfs_core.upkeep.backup import Backups
from tests.support.backups import local, objects
from tests.torture.mortal import Life, MortalAdapter

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = """
layers:
  primary: {adapter: local, options: {root: a, durability: none}}
  mirrors:
    - {adapter: local, options: {root: mirror, durability: none}}
"""
MINUTES = [0, 10, 20, 30, 40, 50]


class Tender:
    """One `amfs tend`, and the reports of its rounds."""

    def __init__(self, directory: Path, port: int) -> None:
        self.port = port
        self.reports: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.upkeep.tending", "--config", "amfs.yaml"),
                *("--no-cache", "tend", "--json", "--every", "10m", "--metrics", str(port)),
                *("--backup", "kept", "--backup-every", "20m", "--keep-for", "25m"),
            ],
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )

    def begin(self, now: datetime) -> None:
        """Let it do a round, at this time."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{now.timestamp()}\n")
        self.process.stdin.flush()

    def finish(self) -> None:
        """Wait until it sleeps."""
        assert self.process.stdout is not None
        self.reports.append(json.loads(self.process.stdout.readline()))
        assert self.process.stdout.readline() == "sleep 600.0\n"

    def figures(self) -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            text = answer.read().decode()
        samples = re.findall(r'^amfs_(\w+)\{namespace="default"\} (\S+)$', text, re.MULTILINE)
        return {name: float(value) for name, value in samples}


@pytest.fixture
def tenders(tmp_path: Path) -> Iterator[list[Tender]]:
    (tmp_path / "amfs.yaml").write_text(CONFIG)
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        ports = [probe.getsockname()[1] for probe in sockets]
        for one in sockets:
            one.close()
        made = [Tender(tmp_path, port) for port in ports]
        try:
            yield made
        finally:
            for one in made:
                one.process.communicate()
        assert [tender.process.returncode for tender in made] == [0, 0]


def names(path: Path) -> set[str]:
    """The objects of the namespace in a directory."""
    return {key for key in objects(path) if key.startswith(("default/entries", "default/outcomes"))}


def work(root: Path, number: int) -> None:
    """What agents do between two rounds; they know nothing of the mirror."""
    with AgentMemory("agent", adapter=local(root)) as memory:
        memory.write("e", f"k{number}", number)
        memory.write("e", "all", number)
    requests = 0
    while f"default/outcomes/cut{number}.json" not in names(root):
        requests += 1
        mortal = MortalAdapter(local(root), Life(requests, after=True))
        with pytest.raises(Crash), AgentMemory("mortal", adapter=mortal) as memory:
            used = [("e", f"k{number}"), ("e", "all")]
            memory.commit_outcome(f"cut{number}", "success", entries=used)


def test_two_for_an_hour_do_each_thing_once_and_lose_nothing(
    tenders: list[Tender], tmp_path: Path
) -> None:
    root, mirror = tmp_path / "a", tmp_path / "mirror"
    backups = Backups(local(tmp_path / "kept"))
    # In the past, so that what is not dated yet is newer than all, and never taken for old.
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)
    expected = {0: [0], 10: [0], 20: [0, 20], 30: [0, 20], 40: [0, 20, 40], 50: [40]}
    for number, minutes in enumerate(MINUTES):
        work(root, number)
        if minutes == 30:
            shutil.rmtree(mirror / "default/entries/e/k0")
            (mirror / "default/entries/e/all/v2.json").unlink()
        for tender in tenders:
            tender.begin(start + timedelta(minutes=minutes))
        for tender in tenders:
            tender.finish()
        made = [(backup.as_of - start) // timedelta(minutes=1) for backup in backups.list()]
        assert made == expected[minutes]
        assert names(mirror) == names(root)

    reports = [report for tender in tenders for report in tender.reports]
    assert sum(report["backup"] is not None for report in reports) == 3
    removed = {name for report in reports for name in report["pruned"]["removed"]}
    assert len(removed) == 2
    assert sum(report["outcomes"] for report in reports) >= 12
    assert all(mirror["error"] is None for report in reports for mirror in report["mirrors"])
    for tender in tenders:
        figures = tender.figures()
        assert figures["tend_rounds_total"] == 6
        assert figures["tend_failures_total"] == figures["tend_mirror_failures_total"] == 0
        told = Counter[str]()
        for report in tender.reports:
            told["outcomes"] += report["outcomes"]
            told["backups"] += report["backup"] is not None
            told["pruned"] += len(report["pruned"]["removed"])
            told["mirrored"] += sum(
                mirror["copied"] + mirror["erased"] for mirror in report["mirrors"]
            )
        for name in ("outcomes", "backups", "pruned", "mirrored"):
            assert figures[f"tend_{name}_total"] == told[name]
        assert figures["tend_last_seconds"] == (start + timedelta(minutes=50)).timestamp()
        assert figures["backup_as_of_seconds"] == (start + timedelta(minutes=40)).timestamp()
        assert figures["backup_kept"] == 1

    for path in (root, mirror):
        with AgentMemory("reader", adapter=local(path)) as reader:
            assert reader.verify().ok
            for number in range(6):
                assert reader.read("e", f"k{number}") is not None
                counted = [
                    entry.provenance.outcome_ref
                    for entry in reader.history("e", f"k{number}")
                    if entry.provenance.outcome_ref is not None
                ]
                assert counted == [f"cut{number}"]
    backups.restore(local(tmp_path / "again"))
    assert names(tmp_path / "again") <= names(root)
    assert "default/entries/e/k4/v1.json" in names(tmp_path / "again")
