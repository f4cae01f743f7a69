"""Layered stores are held to the contract, and their mirrors to what was acknowledged."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import tenacity
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from amfs_core.format import MemoryEntry
from amfs_core.layers import Layered, Mirror, Routed
from amfs_core.memory import AgentMemory
from amfs_core.storage import StorageAdapter, retry
from amfs_core.testing import Fault, FaultyAdapter, ModelAdapter
from amfs_core.testing.cases import StorageAdapterCases
from amfs_core.testing.machine import AdapterMachine, VersionsMachine
from amfs_local import LocalAdapter
from amfs_sqlite import SqliteAdapter
from tests.layers.stores import Beneath, all_of, keys_of
from tests.support.s3_store import Place
from tests.support.servers import Server


def layered(directory: Path) -> Layered:
    def local(name: str) -> LocalAdapter:
        return LocalAdapter(directory / name, durability="none")

    def sqlite(name: str) -> SqliteAdapter:
        return SqliteAdapter(directory / name, durability="none")

    return Layered(
        local("primary"),
        cache=sqlite("cache.db"),
        mirrors=[Mirror(sqlite("waited.db"), wait=True), local("later")],
    )


class TestLayered(StorageAdapterCases):
    rings = True

    @pytest.fixture
    def adapter(self, tmp_path: Path) -> StorageAdapter:
        return Beneath(layered(tmp_path))


class TestLayeredWithFallback(StorageAdapterCases):
    rings = True

    @pytest.fixture
    def adapter(self, tmp_path: Path) -> StorageAdapter:
        def local(name: str) -> LocalAdapter:
            return LocalAdapter(tmp_path / name, durability="none")

        mirrors = [Mirror(local("mirror"), wait=True)]
        return Beneath(Layered(local("primary"), None, mirrors, local("fallback")))


class FallbackMachine(AdapterMachine):
    """Without an outage nothing gets into the fallback."""

    def make_adapter(self) -> StorageAdapter:
        self.fallback = ModelAdapter()
        return Beneath(Layered(ModelAdapter(), fallback=self.fallback))

    def teardown(self) -> None:
        super().teardown()
        assert not keys_of(self.fallback)


class FallbackVersionsMachine(VersionsMachine):
    def make_adapter(self) -> StorageAdapter:
        return Layered(ModelAdapter(), fallback=ModelAdapter())


class LayeredMachine(AdapterMachine):
    """After every step the waited mirror is the primary, and the other one when it is closed."""

    def make_adapter(self) -> StorageAdapter:
        self.directory = Path(tempfile.mkdtemp(prefix="amfs-machine-"))
        self.layered = layered(self.directory)
        return Beneath(self.layered)

    @invariant()
    def everything_is_listed(self) -> None:
        super().everything_is_listed()
        waited = self.layered.mirrors[0].adapter
        assert all_of(waited) == all_of(self.layered.inner)

    def teardown(self) -> None:
        super().teardown()
        assert all_of(self.layered.mirrors[1].adapter) == all_of(self.layered.inner)
        for store in (self.layered.inner, *(mirror.adapter for mirror in self.layered.mirrors)):
            store.close()
        shutil.rmtree(self.directory)


class FaultyLayersMachine(VersionsMachine):
    """Faults between the layers: each store fails by itself, in every way that stores do."""

    def __init__(self) -> None:
        super().__init__()
        self.backoff = retry._backoff  # there are too many faults to wait long for each
        retry._backoff = tenacity.wait_random(0, 0.002)
        self.acknowledged: dict[tuple[str, str], int] = {}

    def make_adapter(self) -> StorageAdapter:
        self.primary = FaultyAdapter(ModelAdapter())
        self.mirror = FaultyAdapter(ModelAdapter())
        mirrors = [Mirror(self.mirror, wait=True)]
        self.stack = Layered(self.primary, cache=ModelAdapter(), mirrors=mirrors)
        # The truth is what the primary has; the writers come by way of the layers.
        writers, self.layers = self.primary.inner, FaultyAdapter(self.stack)
        return writers

    def _writer(self, index: int) -> Any:
        self.faulty = self.layers
        return super()._writer(index)

    @rule(
        of=st.sampled_from(["primary", "mirror"]),
        fault=st.sampled_from([Fault.LOST_ANSWER, Fault.LOST_REQUEST, Fault.CONFLICT, Fault.LATE]),
        skip=st.integers(0, 1),
        times=st.integers(1, 2),
    )
    def break_creates_between(self, of: str, fault: Fault, skip: int, times: int) -> None:
        store: FaultyAdapter = getattr(self, of)
        if of == "primary" and fault is Fault.LATE:
            return  # the truth looks at what is delivered through the layers only
        store.inject(fault, skip=skip, times=times)

    @rule(
        of=st.sampled_from(["primary", "mirror"]),
        verb=st.sampled_from(["create", "get", "list"]),
        fault=st.sampled_from([Fault.UNAVAILABLE, Fault.CRASH_BEFORE, Fault.CRASH_AFTER]),
        skip=st.integers(0, 2),
    )
    def break_one_store(self, of: str, verb: str, fault: Fault, skip: int) -> None:
        getattr(self, of).inject(fault, on=verb, skip=skip)

    @rule()
    def heal(self) -> None:
        super().heal()
        self.primary.clear()
        self.mirror.clear()

    @rule()
    def deliver(self) -> None:
        self.primary.clear()  # what was sent long ago has no process that could die of it
        self.mirror.clear()
        super().deliver()

    def _append(
        self,
        index: int,
        name: tuple[str, str],
        token: str,
        call: Callable[[AgentMemory], MemoryEntry | None],
    ) -> None:
        def noted(memory: AgentMemory) -> MemoryEntry | None:
            entry = call(memory)
            if entry is not None:
                self.acknowledged[name] = max(entry.version, self.acknowledged.get(name, 0))
            return entry

        super()._append(index, name, token, noted)

    def teardown(self) -> None:
        retry._backoff = self.backoff
        self.primary.clear()
        self.mirror.clear()
        self.mirror.deliver()
        self.stack.close()
        there = all_of(self.primary.inner)
        here = all_of(self.mirror.inner)
        assert all(there[key] == body for key, body in here.items())
        with AgentMemory("mirror", adapter=self.mirror.inner) as memory:
            assert memory.verify().ok, memory.verify().findings
            for (path, key), version in self.acknowledged.items():
                assert len(memory.history(path, key)) >= version
        super().teardown()


TestFallbackMachine = FallbackMachine.TestCase
TestFallbackVersionsMachine = FallbackVersionsMachine.TestCase
TestFallbackMachine.settings = settings(max_examples=6, stateful_step_count=15, deadline=None)
TestFallbackVersionsMachine.settings = settings(
    max_examples=10, stateful_step_count=25, deadline=None
)
TestLayeredMachine = LayeredMachine.TestCase
TestFaultyLayersMachine = FaultyLayersMachine.TestCase
TestLayeredMachine.settings = settings(max_examples=6, stateful_step_count=15, deadline=None)
TestFaultyLayersMachine.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


@pytest.mark.server
class TestLayeredBuckets(StorageAdapterCases):
    # Seconds each on a bucket; the other compositions run them.
    test_list_gives_all_of_more_than_two_pages = None  # type: ignore[assignment]
    test_it_works_in_a_child_forked_while_other_threads_use_it = None  # type: ignore[assignment]

    @pytest.fixture
    def adapter(self, minio: Server, tmp_path: Path) -> StorageAdapter:
        place = Place.on(minio, minio.new_bucket())
        scratch = SqliteAdapter(tmp_path / "scratch.db", durability="none")
        routes: dict[str, StorageAdapter] = {"order/a": scratch, "many": scratch, "e/k": scratch}
        stack = Layered(
            place.adapter(prefix="primary"),
            cache=LocalAdapter(tmp_path / "cache", durability="none"),
            mirrors=[Mirror(place.adapter(prefix="waited"), wait=True)],
        )
        return Beneath(Routed(routes, stack))


class BucketVersionsMachine(VersionsMachine):
    place: ClassVar[Place]

    def make_adapter(self) -> StorageAdapter:
        prefix = f"runs/{uuid.uuid4().hex}"
        self.mirror = self.place.adapter(prefix=f"{prefix}/mirror")
        return Layered(
            self.place.adapter(prefix=f"{prefix}/primary"),
            cache=ModelAdapter(),
            mirrors=[Mirror(self.mirror, wait=True)],
        )

    def teardown(self) -> None:
        with AgentMemory("mirror", adapter=self.mirror) as memory:
            assert memory.verify().ok
        super().teardown()


@pytest.mark.server
def test_random_writers_on_layers_of_buckets(
    minio: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        BucketVersionsMachine, "place", Place.on(minio, minio.new_bucket()), raising=False
    )
    case = BucketVersionsMachine.TestCase
    case.settings = settings(
        max_examples=5,
        stateful_step_count=20,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    case().runTest()
