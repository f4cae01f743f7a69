"""The torture catches plausible mistakes, by a schedule made for each and by a short run.

The fourth, a local writer that does not flush directories, is in
`tests/local/test_machine_crash.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from amfs_core.errors import OutcomeUnknownError
from amfs_core.format import MemoryEntry
from amfs_core.memory import AgentMemory, namespace
from amfs_core.testing import Fault, FaultyAdapter, ModelAdapter
from amfs_core.versions import purge
from tests.torture import broken, history
from tests.torture.checker import check
from tests.torture.final import read
from tests.torture.history import Recorder
from tests.torture.run import Options, torture

# By a short run; the purges that are broken in other ways only by their schedules, to save time.
EXPECTED = {
    "overwrites": "lost",
    "forgets": "doubled",
    "renames": "lost",
    "trusts": "order",
    "spares": "erased",
}


class Bench:
    """A broken writer on a store in memory, and what it says recorded as in a run."""

    def __init__(self, name: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.model = ModelAdapter()
        self.faulty = FaultyAdapter(self.model)
        for part, _ in broken.PARTS.values():  # what `install` replaces
            monkeypatch.setattr(namespace, part, getattr(namespace, part))
        monkeypatch.setattr(purge, "purge", purge.purge)
        self._adapter = broken.install(name, self.faulty)
        self._path = path
        self._recorders: dict[str, Recorder] = {}
        self._count = 0

    def memory(self, process: str) -> AgentMemory:
        self._recorders[process] = Recorder(self._path / f"{process}.jsonl", process)
        return AgentMemory(process, adapter=self._adapter)

    def write(self, memory: AgentMemory) -> None:
        self._count += 1
        id = f"{memory.agent_id}.{self._count}"
        value = {"by": id, "count": 1}
        self._record(memory, id, "write", lambda: memory.write("torture", "k0", value, write_id=id))

    def read(self, memory: AgentMemory, version: int | None = None) -> None:
        self._count += 1
        id = f"{memory.agent_id}.{self._count}"
        kind = "read" if version is None else "read version"
        self._record(memory, id, kind, lambda: memory.read("torture", "k0", version=version))

    def purge(self, memory: AgentMemory) -> None:
        self._count += 1
        id = f"{memory.agent_id}.{self._count}"

        def work() -> None:
            memory.purge("torture", "k0")

        self._record(memory, id, "purge", work)

    def _record(
        self, memory: AgentMemory, id: str, kind: str, work: Callable[[], MemoryEntry | None]
    ) -> None:
        recorder = self._recorders[memory.agent_id]
        recorder.invoke(id, kind, "k0", {"version": 0} if kind == "read version" else {})
        shown: list[MemoryEntry] = []
        try:
            entry = work()
            shown = [] if entry is None else [entry]
            recorder.returned(id, "ok", shown)
        except OutcomeUnknownError as error:
            recorder.returned(id, "unknown", error=str(error))

    def rules(self) -> set[str]:
        objects = {info.key: self.model.get(info.key) or b"" for info in self.model.list("")}
        return {
            violation.rule
            for violation in check(history.load(self._path), read(objects), keys=("k0",))
        }


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(request.param, tmp_path, monkeypatch)


@pytest.mark.parametrize("bench", ["overwrites"], indirect=True)
def test_an_adapter_that_overwrites_is_caught(bench: Bench) -> None:
    ada, bob = bench.memory("ada"), bench.memory("bob")
    bench.write(ada)
    bench.write(bob)
    assert "lost" in bench.rules()


@pytest.mark.parametrize("bench", ["forgets"], indirect=True)
def test_a_writer_that_takes_its_own_landed_write_for_anothers_is_caught(bench: Bench) -> None:
    ada = bench.memory("ada")
    bench.faulty.inject(Fault.LOST_ANSWER)
    bench.write(ada)
    assert "doubled" in bench.rules()


@pytest.mark.parametrize("bench", ["renames"], indirect=True)
def test_a_writer_that_retries_with_another_body_is_caught(bench: Bench) -> None:
    ada = bench.memory("ada")
    bench.faulty.inject(Fault.LATE)
    bench.write(ada)
    assert "lost" in bench.rules()


@pytest.mark.parametrize("bench", ["trusts"], indirect=True)
def test_a_reader_that_trusts_the_list_is_caught(bench: Bench) -> None:
    ada, bob = bench.memory("ada"), bench.memory("bob")
    bench.write(ada)
    bench.write(ada)
    bench.faulty.hide_newest(1)
    bench.read(bob)
    assert "order" in bench.rules()


@pytest.mark.parametrize("bench", ["spares", "misnames"], indirect=True)
def test_a_purge_that_forgets_one_version_or_breaks_the_chain_is_caught(bench: Bench) -> None:
    ada = bench.memory("ada")
    bench.write(ada)
    bench.write(ada)
    bench.purge(ada)
    assert bench.rules() & {"erased", "chain"}


@pytest.mark.parametrize("bench", ["frees"], indirect=True)
def test_a_purge_that_frees_numbers_is_caught(bench: Bench) -> None:
    ada = bench.memory("ada")
    bench.write(ada)
    bench.purge(ada)
    bench.write(ada)
    assert {"doubled", "lost", "order"} & bench.rules()


@pytest.mark.parametrize("bench", ["remembers"], indirect=True)
def test_a_process_that_shows_what_it_purged_is_caught(bench: Bench) -> None:
    ada = bench.memory("ada")
    bench.write(ada)
    bench.read(ada)
    bench.purge(ada)
    bench.read(ada, version=1)
    assert bench.rules() == {"erased"}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_short_torture_catches_each_of_them(name: str, tmp_path: Path) -> None:
    """Which fault meets which call depends on the threads' timing: a run may miss what most catch,
    so it has four tries, each with a seed of its own."""
    for seed in range(5, 9):
        options = Options(
            store="local",
            processes=3,
            # Only a listing that lags at the right moment shows who trusts it.
            operations=120 if name == "trusts" else 60,
            faults=0.3,
            kills=0,
            server_kills=0,
            seed=seed,
            patience=(5.0,),
            watchers=0,
            seconds=60.0,
            breaks=name,
            purges=10.0 if name in broken.PURGES else 0.0,
        )
        caught = {violation.rule for violation in torture(options, tmp_path / str(seed)).violations}
        if EXPECTED[name] in caught:
            return
    pytest.fail(f"{EXPECTED[name]!r} was not found in any run; in the last one {caught}")
