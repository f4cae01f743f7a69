"""The adapters of this project are held to the contract by the conformance kit."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import settings

from amfs_core.storage import StorageAdapter
from amfs_core.testing import Fault, FaultyAdapter, ModelAdapter, faults, model
from amfs_core.testing.cases import StorageAdapterCases
from amfs_core.testing.machine import AdapterMachine, VersionsMachine
from amfs_local import LocalAdapter
from tests.support.moments import within
from tests.support.places import Places


class TestModelAdapter(StorageAdapterCases):
    @pytest.fixture
    def adapter(self) -> StorageAdapter:
        return ModelAdapter()


class TestFaultyAdapterWithoutFaults(StorageAdapterCases):
    @pytest.fixture
    def adapter(self) -> StorageAdapter:
        return FaultyAdapter(ModelAdapter(), page=7)


class TestLocalAdapter(StorageAdapterCases):
    rings = True

    @pytest.fixture
    def adapter(self, tmp_path: Path) -> StorageAdapter:
        return LocalAdapter(tmp_path / "store")


class TestLocalAdapterWithoutFlushes(StorageAdapterCases):
    rings = True

    @pytest.fixture
    def adapter(self, tmp_path: Path) -> StorageAdapter:
        return LocalAdapter(tmp_path / "store", prefix="some/prefix", durability="none")


class ModelMachine(AdapterMachine):
    def make_adapter(self) -> StorageAdapter:
        return ModelAdapter()


class _Directory(AdapterMachine):
    durability: Literal["fsync", "none"] = "none"

    def make_adapter(self) -> StorageAdapter:
        self.root = tempfile.mkdtemp(prefix="amfs-machine-")
        return LocalAdapter(self.root, durability=self.durability)

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.root)


class LocalMachine(_Directory):
    durability = "none"


class DurableLocalMachine(_Directory):
    durability = "fsync"


class LocalVersionsMachine(VersionsMachine):
    def make_adapter(self) -> StorageAdapter:
        self.root = tempfile.mkdtemp(prefix="amfs-machine-")
        return LocalAdapter(self.root, durability="none")

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.root)


TestModelMachine = ModelMachine.TestCase
TestLocalMachine = LocalMachine.TestCase
TestDurableLocalMachine = DurableLocalMachine.TestCase
TestVersionsMachine = VersionsMachine.TestCase
TestLocalVersionsMachine = LocalVersionsMachine.TestCase

TestModelMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestLocalMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestDurableLocalMachine.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)
TestVersionsMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestLocalVersionsMachine.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize("fault", [Fault.LOST_ANSWER, Fault.LATE, Fault.CONFLICT])
def test_a_fault_of_creates_cannot_be_planned_for_another_verb(fault: Fault) -> None:
    with pytest.raises(ValueError, match=fault.name):
        FaultyAdapter(ModelAdapter()).inject(fault, on="get")


def test_a_stale_listing_hides_exactly_the_newest_creations() -> None:
    faulty = FaultyAdapter(ModelAdapter())
    for name in "bca":
        faulty.create(f"{name}.json", b"")
    faulty.hide_newest(2)
    assert [info.key for info in faulty.list("")] == ["b.json"]
    faulty.hide_newest(0)
    assert [info.key for info in faulty.list("")] == ["a.json", "b.json", "c.json"]


@pytest.mark.parametrize("key", ["a//b", "/a", "a/", ""])
def test_the_model_refuses_keys_that_the_layout_never_makes(key: str) -> None:
    with pytest.raises(ValueError, match="empty segment"):
        ModelAdapter().create(key, b"")


def test_the_model_refuses_an_object_that_is_also_a_directory() -> None:
    model = ModelAdapter()
    model.create("a/b/c", b"")
    with pytest.raises(ValueError, match="object and its directory"):
        model.create("a/b", b"")
    with pytest.raises(ValueError, match="object and its directory"):
        model.replace("a/b/c/d", b"")


def test_a_signal_handler_may_use_the_model_and_the_faults_at_any_place() -> None:
    modules = (model, faults)
    looking, adapter = Places(modules), FaultyAdapter(ModelAdapter())
    looking.during(lambda: _use(adapter))
    assert len(looking.seen) > 20
    for place in looking.seen:
        adapter, created = FaultyAdapter(ModelAdapter()), list[bool]()

        def handle(adapter: FaultyAdapter = adapter, created: list[bool] = created) -> None:
            created.append(adapter.create("a/1.json", b"handler"))
            _use(adapter, "b/1.json")

        handling = Places(modules, place, handle)
        with within(30):
            created += [bool(handling.during(lambda adapter=adapter: _use(adapter)))]
        assert handling.came
        assert sorted(created) == [False, True], place
        assert [info.key for info in adapter.list("")] == ["a/1.json", "b/1.json"]


def _use(adapter: FaultyAdapter, key: str = "a/1.json") -> bool:
    created = adapter.create(key, b"one")
    assert key in [info.key for info in adapter.list("")]
    adapter.replace(key, b"two")
    assert dict(adapter.get_many([key]))
    return created
