"""Routes: each entity path in the store that it belongs to, and all of them as one store."""

from __future__ import annotations

import pickle
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import settings

from amfs_core.doctor import checks_of, examine
from amfs_core.errors import BackendUnavailableError, CircuitOpenError, ConfigurationError
from amfs_core.layers import Routed
from amfs_core.memory import AgentMemory
from amfs_core.storage import ChangeLog, StorageAdapter, StoreClient, breaker
from amfs_core.testing import Fault, FaultyAdapter, ModelAdapter
from amfs_core.testing.cases import StorageAdapterCases
from amfs_core.testing.machine import AdapterMachine, VersionsMachine
from amfs_core.upkeep.copy import copy
from amfs_local import LocalAdapter
from amfs_sqlite import SqliteAdapter
from tests.layers.stores import Beneath, all_of, made


def routed(directory: Path) -> Routed:
    """Routes that the keys of the kit fall under, below one another, and two into one store."""
    scratch = made(SqliteAdapter(directory / "scratch.db", durability="none"))
    other = made(LocalAdapter(directory / "other", durability="none"))
    default = made(LocalAdapter(directory / "default", durability="none"))
    routes = {
        **dict.fromkeys(("order/a", "many", "use/child", "a/A", "log/b", "😀"), scratch),
        **dict.fromkeys(("order/a/b", "race", "awkward", "a", "ab", "busy/1"), other),
        "a/A/ab": default,
    }
    return Routed(routes, default)


class TestRouted(StorageAdapterCases):
    rings = True

    @pytest.fixture
    def adapter(self, tmp_path: Path) -> StorageAdapter:
        return Beneath(routed(tmp_path))


class RoutedMachine(AdapterMachine):
    def make_adapter(self) -> StorageAdapter:
        self.directory = Path(tempfile.mkdtemp(prefix="amfs-machine-"))
        return Beneath(routed(self.directory))

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.directory)


class RoutedVersionsMachine(VersionsMachine):
    def make_adapter(self) -> StorageAdapter:
        return Routed({"e/k": ModelAdapter()}, default=ModelAdapter())


TestRoutedMachine = RoutedMachine.TestCase
TestRoutedVersionsMachine = RoutedVersionsMachine.TestCase
TestRoutedMachine.settings = settings(max_examples=10, stateful_step_count=25, deadline=None)
TestRoutedVersionsMachine.settings = settings(
    max_examples=15, stateful_step_count=30, deadline=None
)


def test_each_memory_is_in_the_store_of_the_longest_route_in_every_namespace() -> None:
    default, team, ann = ModelAdapter(), ModelAdapter(), ModelAdapter()
    store = Routed({"team": team, "team/ann x": ann}, default)
    for namespace in ("one", "two"):
        with AgentMemory("a", adapter=store, namespace=namespace) as memory:
            for path in ("team", "team/ann", "team/ann x", "team/ann x/deep", "teams", "t"):
                memory.write(path, "k", path)
            memory.write("team", "ann x", "a memory with the name of a route")
            memory.commit_outcome("ref", "success", entries=[("team", "k")])
    paths = {
        name: sorted({key.split("/", 2)[2].rpartition("/")[0] for key in all_of(adapter)})
        for name, adapter in (("default", default), ("team", team), ("ann", ann))
    }
    assert paths == {
        "default": ["", "t/k", "teams/k"],
        "team": ["team/ann/k", "team/k"],
        "ann": ["team/ann x", "team/ann x/deep/k", "team/ann x/k"],
    }
    assert len(all_of(store)) == sum(len(all_of(adapter)) for adapter in (default, team, ann))
    for namespace in ("one", "two"):
        with AgentMemory("b", adapter=store, namespace=namespace) as memory:
            assert memory.verify().ok
            assert len(memory.list()) == 7
            assert {entry.value for entry in memory.list("team/ann x")} == {
                "team/ann x",
                "team/ann x/deep",
            }
            confidence = memory.read("team", "k")
            assert confidence is not None
            assert confidence.evidence.successes > 0


def test_a_listing_asks_only_stores_that_can_have_something() -> None:
    default, scratch = FaultyAdapter(ModelAdapter()), FaultyAdapter(ModelAdapter())
    store = Routed({"scratch/a": scratch}, default)  # type: ignore[dict-item,arg-type]
    for prefix, asked in {
        "": (1, 1),
        "n/": (1, 1),
        "n/entries/": (1, 1),
        "n/entries/scratch/": (1, 1),
        "n/entries/scratch/a/": (0, 1),
        "n/entries/scratch/a/b/": (0, 1),
        "n/entries/scratch/ab/": (1, 0),
        "n/entries/other/": (1, 0),
        "n/outcomes/": (1, 0),
    }.items():
        default.calls.clear()
        scratch.calls.clear()
        assert list(store.list(prefix)) == []
        assert (len(default.calls), len(scratch.calls)) == asked, prefix


def test_memories_from_before_a_route_are_not_seen_and_a_copy_moves_them() -> None:
    default, scratch = ModelAdapter(), ModelAdapter()
    with AgentMemory("a", adapter=default) as memory:
        memory.write("scratch", "k", 1)
        memory.write("kept", "k", 1)
    store = Routed({"scratch": scratch}, default)
    with AgentMemory("a", adapter=store) as memory:
        assert [entry.entity_path for entry in memory.list()] == ["kept"]
        assert memory.read("scratch", "k") is None
    copy(default, store)
    with AgentMemory("a", adapter=store) as memory:
        assert [entry.entity_path for entry in memory.list()] == ["kept", "scratch"]
        assert memory.write("scratch", "k", 2).version == 2
        assert memory.verify().ok
    assert len(all_of(default)) == 2


def log_of(store: StorageAdapter) -> ChangeLog:
    log = StoreClient(store).changes()
    assert log is not None
    return log


def test_looks_follow_all_change_logs_and_list_where_one_store_has_none(tmp_path: Path) -> None:
    scratch = SqliteAdapter(tmp_path / "s.db", durability="none")
    default = FaultyAdapter(LocalAdapter(tmp_path / "d", durability="none"))
    store = Routed({"scratch": scratch}, default)
    with AgentMemory("a", adapter=store) as memory, AgentMemory("b", adapter=store) as other:
        memory.write("kept", "k", 0)
        assert log_of(store).position(make=True) is None  # the file is empty
        memory.write("scratch", "k", 0)
        for number in range(1, 4):
            assert len(memory.list()) == 2
            other.write("kept", "k", number)
            other.write("scratch", "k", number)
            assert [entry.value for entry in memory.list()] == [number, number]
        default.calls.clear()
        other.write("scratch", "new", 0)
        assert len(memory.list()) == 3
        assert [call.key for call in default.calls if call.verb == "list"] == [""]  # its log
    assert Routed({"scratch": scratch}, ModelAdapter()).changes() is None
    scratch.close()


def test_a_position_that_is_not_of_these_logs_is_refused(tmp_path: Path) -> None:
    log = log_of(routed(tmp_path))
    for position in ("", "1.2", "[]", '["a"]', '["a", 1, "b"]', "null"):
        assert log.since(position) is None


def test_a_store_that_is_down_is_in_no_other_ones_way(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(breaker.time, "monotonic", lambda: now)
    scratch, default = FaultyAdapter(ModelAdapter()), FaultyAdapter(ModelAdapter())
    store = Routed({"scratch": scratch}, default, patience=1.0)
    with AgentMemory("a", adapter=store, patience=0) as memory:
        memory.write("kept", "k", 0)
        for verb in ("create", "get", "list"):
            scratch.inject(Fault.UNAVAILABLE, on=verb, times=1000)
        for _ in range(8):  # long enough for the store behind the route to count as down
            with pytest.raises(BackendUnavailableError, match="no connection"):
                memory.read("scratch", "k")
            now += 0.15
        scratch.calls.clear()
        with pytest.raises(CircuitOpenError):
            memory.read("scratch", "k")
        assert not scratch.calls
        for number in range(1, 4):  # and the default store is asked as ever
            memory.write("kept", "k", number)
            entry = memory.read("kept", "k")
            assert entry is not None
            assert entry.value == number
        scratch.clear()
        now += 60
        assert memory.read("scratch", "k") is None
        assert memory.write("scratch", "k", 1).version == 1


def test_it_can_be_pickled_and_has_a_location(tmp_path: Path) -> None:
    store = Routed({"scratch": LocalAdapter(tmp_path / "s")}, LocalAdapter(tmp_path / "d"))
    again = pickle.loads(pickle.dumps(store))
    assert again.location == store.location
    assert str(tmp_path / "s") in str(store.location)
    again.create("n/entries/scratch/k/v1.json", b"1")
    assert store.get("n/entries/scratch/k/v1.json") == b"1"
    assert Routed({"scratch": ModelAdapter()}, LocalAdapter(tmp_path)).location is None


def test_the_doctor_looks_at_every_store(tmp_path: Path) -> None:
    store = Routed({"scratch": SqliteAdapter(tmp_path / "s.db")}, LocalAdapter(tmp_path / "d"))
    verdicts = {diagnosis.name: str(diagnosis.verdict) for diagnosis in examine(checks_of(store))}
    assert verdicts["create"] == "ok"
    assert verdicts["route scratch: create"] == "ok"
    assert len([name for name in verdicts if name.startswith("route scratch: ")]) >= 9
    assert "problem" not in verdicts.values()
    store.close()


@pytest.mark.parametrize(
    ("routes", "problem"),
    [
        ({"": ModelAdapter()}, "the route '' is not an entity path: .* empty"),
        ({"a//b": ModelAdapter()}, "the route 'a//b' is not an entity path"),
        ({1: ModelAdapter()}, "a route must be an entity path, not int"),
        ({"a": "somewhere"}, "adapter must be an open store .*, not str"),
    ],
)
def test_a_route_that_cannot_be_is_refused(routes: dict[str, ModelAdapter], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        Routed(routes, ModelAdapter())
