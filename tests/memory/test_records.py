"""When a record of another system becomes a version, and when what is here is left alone."""

from __future__ import annotations

import threading
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from amfs_core.errors import BackendUnavailableError
from amfs_core.memory import AgentMemory, Imported, Record, Unreadable, import_records
from amfs_local import LocalAdapter

Records = Iterable[Record | Unreadable]


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[AgentMemory]:
    with AgentMemory("importer", adapter=LocalAdapter(tmp_path / "store")) as opened:
        yield opened


def record(value: Any, key: str = "k", **fields: Any) -> Record:
    return Record(f"line of {key}", "people", key, value, **fields)


def imported(
    memory: AgentMemory, *records: Record | Unreadable, origin: str = "here", **options: bool
) -> list[Imported]:
    return list(import_records(memory, records, kind="test", origin=origin, **options))


def states(memory: AgentMemory, *records: Record | Unreadable, **options: Any) -> list[str]:
    return [result.state for result in imported(memory, *records, **options)]


def versions(memory: AgentMemory, key: str = "k") -> list[Any]:
    return [entry.value for entry in memory.history("people", key)]


def test_a_record_is_written_once_and_again_when_it_changed(memory: AgentMemory) -> None:
    assert states(memory, record({"a": 1, "b": 2})) == ["new"]
    assert states(memory, record({"b": 2, "a": 1})) == ["unchanged"]
    assert states(memory, record({"a": 1, "b": 3})) == ["changed"]
    assert states(memory, record({"a": 1, "b": 3}, tags=("t",))) == ["changed"]
    assert states(memory, record({"a": 1, "b": 2})) == ["changed"]
    assert states(memory, record({"a": 1, "b": 2})) == ["unchanged"]
    assert len(versions(memory)) == 4


def test_numbers_of_another_kind_are_a_change(memory: AgentMemory) -> None:
    assert states(memory, record(1)) == ["new"]
    assert states(memory, record(1.0)) == ["changed"]
    assert states(memory, record(True)) == ["changed"]


def test_the_agent_who_imports_signs(memory: AgentMemory) -> None:
    before = datetime.now(UTC)
    imported(memory, record(1))
    entry = memory.read("people", "k")
    assert entry is not None
    assert entry.provenance.agent_id == "importer"
    assert entry.provenance.session_id == memory.session_id
    assert entry.provenance.written_at >= before


def test_a_dry_run_says_the_same_and_writes_nothing(memory: AgentMemory) -> None:
    imported(memory, record(1, "old"), record(2, "same"))
    memory.write("people", "own", 3)
    records = [record(1, "new"), record(2, "old"), record(2, "same"), record(4, "own")]
    before = memory.stats()
    said = imported(memory, *records, dry_run=True)
    assert memory.stats() == before
    assert [result.state for result in said] == ["new", "changed", "unchanged", "kept"]
    assert imported(memory, *records) == said


# -- what others wrote -----------------------------------------------------------------------


def test_a_memory_written_since_is_kept(memory: AgentMemory) -> None:
    imported(memory, record(1))
    memory.write("people", "k", "mine")
    (kept,) = imported(memory, record(2))
    assert (kept.state, kept.reason) == ("kept", "importer wrote version 2")
    assert versions(memory) == [1, "mine"]


def test_a_memory_updated_since_is_kept(memory: AgentMemory) -> None:
    imported(memory, record(1))
    memory.update("people", "k", lambda value: value + 10)
    (kept,) = imported(memory, record(2))
    assert (kept.state, kept.reason) == ("kept", "importer updated it (version 2)")


def test_a_memory_deleted_since_stays_deleted(memory: AgentMemory) -> None:
    imported(memory, record(1), record(1, "purged"))
    memory.delete("people", "k")
    memory.purge("people", "purged")
    for value in (1, 2, None):
        kept, purged = imported(memory, record(value), record(value, "purged"))
        assert (kept.state, kept.reason) == ("kept", "importer deleted it (version 2)")
        assert purged.state == "kept"
    assert memory.list() == []


def test_a_memory_that_was_here_before_is_kept(memory: AgentMemory) -> None:
    memory.write("people", "k", "mine")
    memory.write("people", "same", 5)
    assert states(memory, record(1), record(5, "same")) == ["kept", "unchanged"]
    assert versions(memory) == ["mine"]


def test_an_outcome_is_not_somebody_elses_claim(memory: AgentMemory) -> None:
    imported(memory, record(1))
    memory.commit_outcome("deploy", "failure", entries=[("people", "k")])
    assert states(memory, record(1)) == ["unchanged"]
    assert states(memory, record(2)) == ["changed"]
    assert versions(memory) == [1, 1, 2]


def test_memories_from_another_source_are_kept(memory: AgentMemory) -> None:
    imported(memory, record(1), origin="alice")
    (kept,) = imported(memory, record(2), origin="bob")
    assert (kept.state, kept.reason) == ("kept", "version 1 was imported from another source")
    assert states(memory, record(1), origin="bob") == ["unchanged"]


def test_overwriting_lets_the_source_win(memory: AgentMemory) -> None:
    memory.write("people", "k", "mine")
    imported(memory, record(1, "gone"))
    memory.delete("people", "gone")
    records = [record(1), record(1, "gone")]
    assert states(memory, *records, overwrite=True) == ["changed", "changed"]
    assert states(memory, *records, overwrite=True) == ["unchanged", "unchanged"]
    assert versions(memory) == ["mine", 1]


class Raced(LocalAdapter):
    """A store in which somebody else is quicker."""

    quicker: AgentMemory | None = None

    def create(self, key: str, data: bytes) -> bool:
        other, self.quicker = self.quicker, None
        if other is not None:
            other.write("people", "k", "quicker")
        return super().create(key, data)


def test_a_concurrent_write_is_kept(tmp_path: Path) -> None:
    adapter = Raced(tmp_path / "store")
    with AgentMemory("importer", adapter=adapter) as memory:
        imported(memory, record(1))
        with AgentMemory("other", adapter=LocalAdapter(tmp_path / "store")) as other:
            adapter.quicker = other
            (kept,) = imported(memory, record(2))
        assert (kept.state, kept.reason) == ("kept", "somebody wrote it meanwhile")
        assert versions(memory) == [1, "quicker"]


def test_two_imports_of_a_source_at_once_write_each_record_once(tmp_path: Path) -> None:
    records = [record({"n": n}, str(n)) for n in range(60)]
    counts: list[Counter[str]] = []

    def run() -> None:
        with AgentMemory("importer", adapter=LocalAdapter(tmp_path / "store")) as memory:
            counts.append(Counter(states(memory, *records)))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counts) == 3
    assert all(set(count) <= {"new", "unchanged"} for count in counts)
    with AgentMemory("reader", adapter=LocalAdapter(tmp_path / "store")) as memory:
        assert memory.stats().versions == memory.stats().memories == 60
        assert memory.verify().ok


# -- what cannot be written ------------------------------------------------------------------


def test_an_invalid_record_is_refused_and_the_rest_is_written(tmp_path: Path) -> None:
    with AgentMemory(
        "importer", adapter=LocalAdapter(tmp_path / "store"), max_value_bytes=2000
    ) as memory:
        done = imported(
            memory,
            Unreadable("line 1", "not JSON"),
            record(1, ""),
            record(float("nan"), "nan"),
            record("x" * 3000, "large"),
            record(1, "x" * 300),
            record(1, "surrogate \ud800"),
            Record("line 7", "a//b", "k", 1),
            record(1, "good"),
        )
        assert [result.state for result in done] == ["refused"] * 7 + ["new"]
        assert done[0] == Imported("line 1", "refused", reason="not JSON")
        for result, word in zip(
            done[1:7], ("empty", "nan", "2,000", "255", "surrogate", "empty"), strict=True
        ):
            assert word in str(result.reason)
            assert "Nothing was written" not in str(result.reason)
        assert [entry.key for entry in memory.list()] == ["good"]


def test_a_second_record_of_the_same_memory_is_refused(memory: AgentMemory) -> None:
    records = [record(1), Record("line 2", "people", "k", 2), Record("line 3", "people", "k", 1)]
    for _ in range(2):
        first, second, third = imported(memory, *records)
        assert (second.state, third.state) == ("refused", "unchanged")
        assert second.reason == "line of k is another record of the same memory"
    assert first.state == "unchanged"
    assert versions(memory) == [1]


def test_a_record_whose_time_is_over_is_not_written(memory: AgentMemory) -> None:
    now = datetime.now(UTC)
    over, later = now - timedelta(days=1), now + timedelta(days=1)
    records = [record(1, "over", expires_at=over), record(1, "later", expires_at=later)]
    assert states(memory, *records) == ["expired", "new"]
    assert states(memory, *records) == ["expired", "unchanged"]
    assert states(memory, record(1, "later", expires_at=later + timedelta(days=1))) == ["changed"]
    entry = memory.read("people", "later")
    assert entry is not None and entry.expires_at == later + timedelta(days=1)


def test_a_damaged_memory_is_refused_and_the_rest_is_written(
    memory: AgentMemory, tmp_path: Path
) -> None:
    imported(memory, record(1))
    (body,) = (tmp_path / "store").rglob("v1.json")
    body.write_bytes(b"{}")
    with AgentMemory("importer", adapter=LocalAdapter(tmp_path / "store")) as fresh:
        damaged, good = imported(fresh, record(2), record(2, "good"))
    assert (damaged.state, good.state) == ("refused", "new")
    assert "v1.json" in str(damaged.reason)


class Full(LocalAdapter):
    """A store that stops answering after some creates."""

    left = 0

    def create(self, key: str, data: bytes) -> bool:
        self.left -= 1
        if self.left < 0:
            raise BackendUnavailableError("it is down", object_key=key)
        return super().create(key, data)

    def create_many(self, objects: Any) -> list[str]:
        return []


def test_a_failing_store_names_the_record_and_the_next_run_goes_on(tmp_path: Path) -> None:
    records = [record(n, f"{n:03}") for n in range(40)]
    adapter = Full(tmp_path / "store")
    adapter.left = 25
    done: list[Imported] = []
    with (
        AgentMemory("importer", adapter=adapter, patience=0) as memory,
        pytest.raises(BackendUnavailableError, match=r"line of 0.. was not written: "),
    ):
        for result in import_records(memory, records, kind="test", origin="here"):
            done.append(result)
    assert [result.state for result in done] == ["new"] * 25
    with AgentMemory("importer", adapter=LocalAdapter(tmp_path / "store")) as memory:
        assert Counter(states(memory, *records)) == {"unchanged": 25, "new": 15}
        assert memory.stats().versions == 40


# -- size ------------------------------------------------------------------------------------


def test_a_large_source_is_never_in_memory_as_a_whole(memory: AgentMemory) -> None:
    def large() -> Iterator[Record]:
        for n in range(50):
            yield record("x" * 1_000_000, str(n))

    tracemalloc.start()
    try:
        done = Counter(
            result.state
            for result in import_records(memory, large(), kind="test", origin="here", dry_run=True)
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert done == {"new": 50}
    assert peak < 35_000_000  # of 50,000,000


def test_many_records_take_several_batches(memory: AgentMemory) -> None:
    records = [record(n, str(n)) for n in range(1100)]
    done = imported(memory, *records, dry_run=True)
    assert [result.key for result in done] == [str(n) for n in range(1100)]
    assert {result.state for result in done} == {"new"}
