"""Tending: what a round does, that two at once do no harm, and the command that goes on."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest

from amfs_core.errors import AMFSError, InvalidValueError, StorageFullError
from amfs_core.layers import Layered, Routed
from amfs_core.memory import AgentMemory
from amfs_core.storage import ObjectInfo, WrappedAdapter
from amfs_core.testing import Crash
from amfs_core.upkeep.backup import Backups
from amfs_core.upkeep.copy import copy
from amfs_core.upkeep.mirrors import CaughtUp
from tests.support.backups import local, objects
from tests.torture.mortal import Life, MortalAdapter

REPOSITORY = Path(__file__).resolve().parents[2]


def memory(path: Path) -> AgentMemory:
    return AgentMemory("tester", adapter=local(path))


def unfinished(path: Path, ref: str, requests: int) -> None:
    """Record an outcome about two memories, and die after so many requests."""
    adapter = MortalAdapter(local(path), Life(requests, after=True))
    with pytest.raises(Crash), AgentMemory("mortal", adapter=adapter) as writer:
        writer.commit_outcome(ref, "failure", entries=[("e", "a"), ("e", "b")])


def counted(path: Path) -> list[str]:
    with memory(path) as reader:
        return [
            entry.provenance.outcome_ref
            for key in ("a", "b")
            for entry in reader.history("e", key)
            if entry.provenance.outcome_ref is not None
        ]


def test_a_round_finishes_outcomes_that_were_interrupted(tmp_path: Path) -> None:
    with memory(tmp_path / "a") as writer:
        writer.write("e", "a", 1)
        writer.write("e", "b", 1)
        writer.commit_outcome("whole", "success", entries=[("e", "a"), ("e", "b")])
        unfinished(tmp_path / "a", "cut", 8)
        assert local(tmp_path / "a").get("default/outcomes/cut.json") is not None
        before = counted(tmp_path / "a").count("cut")
        assert before < 2
        assert writer.tend().outcomes == 2 - before
        assert sorted(counted(tmp_path / "a")) == ["cut", "cut", "whole", "whole"]
        assert writer.tend().outcomes == 0
        assert writer.verify().ok


def test_a_later_round_looks_only_at_outcomes_since_the_one_before(tmp_path: Path) -> None:
    with memory(tmp_path / "a") as writer:
        writer.write("e", "a", 1)
        for number in range(20):
            writer.commit_outcome(f"o{number}", "success", entries=[("e", "a")])
        for path in (tmp_path / "a/default/outcomes").iterdir():
            back = path.stat().st_mtime - 7200
            os.utime(path, (back, back))
        with memory(tmp_path / "a") as another:  # with nothing cached
            another.tend()
            first = another.metrics.requests["get"]
            another.tend()
            assert first >= 20
            assert another.metrics.requests["get"] == first


def test_a_damaged_memory_is_in_no_other_ones_way(tmp_path: Path) -> None:
    with memory(tmp_path / "a") as writer:
        writer.write("e", "a", 1)
        writer.write("e", "b", 1)
    unfinished(tmp_path / "a", "cut", 7)
    broken = tmp_path / "a/default/entries/e/a/v1.json"
    broken.write_bytes(broken.read_bytes()[:-5])
    with memory(tmp_path / "a") as writer:
        writer.tend()
        assert counted_in(writer, "b") == ["cut"]


def counted_in(reader: AgentMemory, key: str) -> list[str | None]:
    return [entry.provenance.outcome_ref for entry in reader.history("e", key)][1:]


def test_a_backup_is_made_when_it_is_due_and_old_ones_go(tmp_path: Path) -> None:
    kept = local(tmp_path / "kept")
    with memory(tmp_path / "a") as writer:
        made = []
        for number in range(7):
            writer.write("e", "a", number)
            report = writer.tend(backup=kept, backup_every=0, keep=3)
            assert report.backup is not None
            made.append(report.backup)
            assert report.pruned is not None
        assert [backup.is_full for backup in made] == [True, False, False] * 2 + [True]
        names = [backup.name for backup in Backups(kept).list()]
        assert names == [backup.name for backup in made[3:]]  # a chain goes as a whole
        report = writer.tend(backup=kept, backup_every=timedelta(hours=1))
        assert report.backup is None
        assert report.pruned is not None and report.pruned.removed == ()
        report = writer.tend()
        assert (report.backup, report.pruned) == (None, None)


def test_impossible_arguments_are_refused_before_anything_is_done(tmp_path: Path) -> None:
    with memory(tmp_path / "a") as writer:
        kept = local(tmp_path / "kept")
        for wrong in ({"keep": 0}, {"keep_for": -1}, {"backup_every": -1}):
            with pytest.raises(InvalidValueError, match=next(iter(wrong))):
                writer.tend(backup=kept, **wrong)  # type: ignore[arg-type]
        with pytest.raises(AMFSError, match="beside it"):
            writer.write("e", "a", 1)
            writer.tend(backup=local(tmp_path / "a" / "kept"))
    assert objects(tmp_path / "kept") == {}


def test_several_at_once_do_no_harm(tmp_path: Path) -> None:
    with memory(tmp_path / "a") as writer:
        for key in ("a", "b"):
            writer.write("e", key, 1)
    for number in range(5):
        unfinished(tmp_path / "a", f"cut{number}", 7)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with memory(tmp_path / "a") as agent:
                for _ in range(4):
                    agent.tend(backup=local(tmp_path / "kept"), backup_every=0, keep=2)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    refs = counted(tmp_path / "a")
    recorded = {path.stem for path in (tmp_path / "a/default/outcomes").iterdir()}
    assert sorted(refs) == sorted([*recorded, *recorded])  # each once in either memory
    backups = Backups(local(tmp_path / "kept"))
    for backup in backups.list():
        backups.restore(local(tmp_path / backup.name), backup.name)
    assert objects(tmp_path / backup.name).items() <= objects(tmp_path / "a").items()


def test_nobody_begins_a_backup_while_another_is_being_made(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with memory(tmp_path / "a") as writer:
        writer.write("e", "a", 1)
        adapter = MortalAdapter(local(kept), Life(4, after=True))
        with pytest.raises(Crash):
            Backups(adapter).create(local(tmp_path / "a"))
        assert writer.tend(backup=local(kept)).backup is None
        assert len(list((kept / "default/backups").iterdir())) == 1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_the_command_goes_on_tells_each_round_and_serves_figures(tmp_path: Path) -> None:
    with memory(tmp_path / "a") as writer:
        writer.write("e", "a", 1)
    port = free_port()
    command = [
        *(sys.executable, "-m", "amfs", "--store", "a", "--no-cache", "tend", "--every", "0.2"),
        *("--backup", "kept", "--backup-every", "0s", "--keep", "1", "--metrics", str(port)),
    ]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    ) as process:
        assert process.stderr is not None
        rounds = [process.stderr.readline() for _ in range(3)]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            figures = answer.read().decode()
        (tmp_path / "kept").rename(tmp_path / "gone")
        (tmp_path / "kept").write_text("no directory")
        while "failed" not in (line := process.stderr.readline()):
            assert line
        (tmp_path / "kept").unlink()
        while "failed" in (line := process.stderr.readline()):
            assert line
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    for told in (*rounds, line):
        assert re.search(r"Z tended in .* s, made the backup 2\w+-\w+ \(1 new object, ", told)
    assert "pruned 1 backup" in rounds[2]
    done = re.search(r'amfs_tend_rounds_total\{namespace="default"\} (\d+)', figures)
    assert done and int(done[1]) >= 2
    assert 'amfs_tend_failures_total{namespace="default"} 0.0' in figures
    assert re.search(r'amfs_backup_as_of_seconds\{namespace="default"\} 1', figures)


def test_a_round_by_itself_ends_with_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("no directory")
    done = subprocess.run(
        [sys.executable, "-m", "amfs", "--no-cache", "tend", "--backup", "kept"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


# --- mirrors --------------------------------------------------------------------------------------


def test_a_mirror_gets_what_it_lacks_and_what_was_erased(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    with memory(tmp_path / "a") as writer:
        for number in range(4):
            writer.write("e", "a", "x" * 1000)
            writer.write("e", f"k{number}", number)
        writer.commit_outcome("o", "success", entries=[("e", "a")])
        copy(writer.adapter, local(mirror))
        (mirror / "default/entries/e/a/v2.json").unlink()
        (mirror / "default/outcomes/o.json").unlink()
        writer.write("e", "k0", "new")
        writer.purge("e", "k1")
        writer.write("other", "k", 1)
    layered = Layered(local(tmp_path / "a"), mirrors=[local(mirror)])
    with AgentMemory("tester", adapter=layered) as tended:
        report = tended.tend()
        assert [
            (result.mirror, result.copied, result.erased, result.error) for result in report.mirrors
        ] == [("mirror 1", 5, 1, None)]
        assert objects(mirror) == objects(tmp_path / "a")
        assert tended.tend().mirrors == (CaughtUp("mirror 1"),)
    with memory(mirror) as reader:
        assert reader.verify().ok


def test_nothing_is_read_of_what_a_mirror_has(tmp_path: Path) -> None:
    with memory(tmp_path / "a") as writer:
        for number in range(20):
            writer.write("e", f"k{number}", number)
        copy(writer.adapter, local(tmp_path / "mirror"))

    class Counting(WrappedAdapter):
        asked: ClassVar[list[str]] = []

        def get(self, key: str) -> bytes | None:
            self.asked.append(key)
            return super().get(key)

        def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
            keys = list(keys)
            self.asked.extend(keys)
            return super().get_many(keys)

    mirror = Counting(local(tmp_path / "mirror"))
    layered = Layered(Counting(local(tmp_path / "a")), mirrors=[mirror])
    with AgentMemory("tester", adapter=layered) as tended:
        assert tended.tend().mirrors == (CaughtUp("mirror 1"),)
        assert [key for key in Counting.asked if "/manifest/" not in key] == []


def test_a_mirror_that_fails_is_named_and_in_no_other_ones_way(tmp_path: Path) -> None:
    with memory(tmp_path / "a") as writer:
        writer.write("e", "k", 1)
        writer.write("scratch", "k", 1)
    (tmp_path / "broken").write_text("no directory")
    store = Routed(
        {"routed": Layered(local(tmp_path / "r"), mirrors=[local(tmp_path / "of routed")])},
        Layered(
            local(tmp_path / "a"), mirrors=[local(tmp_path / "broken"), local(tmp_path / "good")]
        ),
    )
    with AgentMemory("tester", adapter=store, patience=0.1) as tended:
        tended.write("routed", "k", 1)
        mirrors = {
            result.mirror: result for result in tended.tend(backup=local(tmp_path / "kept")).mirrors
        }
        assert mirrors.keys() == {"mirror 1", "mirror 2", "routed: mirror 1"}
        assert "broken" in str(mirrors["mirror 1"].error)
        assert (mirrors["mirror 2"].copied, mirrors["mirror 2"].error) == (2, None)
    for name, of in (("good", "a"), ("of routed", "r")):
        assert objects(tmp_path / name) == objects(tmp_path / of)


# --- turns ----------------------------------------------------------------------------------------


def test_a_turn_is_one_ones_and_is_lost_with_its_time(tmp_path: Path) -> None:
    kept = Backups(local(tmp_path / "kept"))
    within = timedelta(minutes=15)
    turns = tmp_path / "kept/default/backups/turns"
    with memory(tmp_path / "a") as writer:
        writer.write("e", "a", 1)
        first = kept.create_in_turn(writer.adapter, None, within, full=False)
        assert first is not None
        # By somebody who looked before: there is a newer one by now.
        assert kept.create_in_turn(writer.adapter, None, within, full=False) is None
        mortal = Backups(MortalAdapter(local(tmp_path / "kept"), Life(4, after=True)))
        with pytest.raises(Crash):
            mortal.create_in_turn(writer.adapter, first, within, full=False)
        assert [path.parent.name for path in turns.rglob("*.json")] == [first.name]
        assert kept.create_in_turn(writer.adapter, first, within, full=False) is None
        for path in turns.rglob("*.json"):
            os.utime(path, (path.stat().st_mtime - 1000, path.stat().st_mtime - 1000))
        second = kept.create_in_turn(writer.adapter, first, within, full=False)
        assert second is not None
        assert kept.list() == [first, second]


def test_a_backup_that_fails_is_tried_again_in_the_next_round(tmp_path: Path) -> None:
    class Failing(WrappedAdapter):
        fails = True

        def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
            if self.fails and not prefix.endswith("outcomes/"):
                raise StorageFullError("it is full")
            return super().list(prefix, start_after)

    adapter = Failing(local(tmp_path / "a"))
    with AgentMemory("tester", adapter=adapter) as writer:
        writer.write("e", "a", 1)
        with pytest.raises(StorageFullError):
            writer.tend(backup=local(tmp_path / "kept"))
        adapter.fails = False
        assert writer.tend(backup=local(tmp_path / "kept")).backup is not None


# --- change logs ----------------------------------------------------------------------------------


def test_logs_of_earlier_starts_of_the_machine_go(tmp_path: Path) -> None:
    with memory(tmp_path / "a") as writer:
        writer.write("e", "a", 1)
        for _ in range(2):
            writer.list()  # the second look makes a log
        logs = tmp_path / "a/.amfs-changes"
        now = [path.name for path in logs.iterdir()]
        assert len(now) == 1
        (logs / "0b1c7a52-5b0c-4d3e-9f43-5f2a7b1f8a11").write_bytes(b"of an earlier start")
        (logs / "new-0123").write_bytes(b"left by a process that was killed")
        os.utime(logs / "new-0123", (1, 1))
        (logs / "new-4567").write_bytes(b"being made")
        writer.tend()
        assert {path.name for path in logs.iterdir()} == {*now, "new-4567"}
        writer.write("e", "b", 1)
        assert len(writer.list()) == 2
