"""The manifest: a release refuses what it does not know, before it reads wrongly or writes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    CorruptEntryError,
    PermissionDeniedError,
    UnknownFeatureError,
)
from amfs_core.format import Feature, Layout, decode_manifest
from amfs_core.format import manifest as format_manifest
from amfs_core.layers import Layered, Mirror
from amfs_core.memory import AgentMemory
from amfs_core.storage import ObjectInfo, StorageAdapter, StoreClient
from amfs_core.testing import Fault, FaultyAdapter, ModelAdapter
from amfs_core.testing.cases import in_forked_child, together
from amfs_core.upkeep.backup import Backups
from amfs_core.upkeep.copy import copy
from amfs_core.versions import LEASE, Manifests
from amfs_core.versions import manifest as manifest_module
from amfs_local import LocalAdapter
from amfs_sqlite import SqliteAdapter

LAYOUT = Layout("default")
KEY = LAYOUT.manifest_key(1)
READERS = {"telepathy": Feature("readers", "9.1")}
WRITERS = {"notices": Feature("writers", "9.1")}


class Clock:
    """The seconds since the machine was started, as the test has them."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def running(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(manifest_module, "running", clock.running)
    return clock


@pytest.fixture
def store() -> FaultyAdapter:
    return FaultyAdapter(ModelAdapter())


def manifests(store: StorageAdapter) -> Manifests:
    return Manifests(StoreClient(store), LAYOUT)


@contextmanager
def release_that_knows(*names: str) -> Iterator[None]:
    """What is done within is done by a release that knows these features."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(format_manifest, "KNOWN", frozenset(names))
        yield


def declare(store: StorageAdapter, features: dict[str, Feature]) -> None:
    """Have a later release say that the namespace has other features from now on."""
    with release_that_knows(*READERS, *WRITERS, *features):
        manifests(store).change(lambda _: features)


def memory(store: StorageAdapter, agent: str = "a") -> AgentMemory:
    return AgentMemory(agent, adapter=store, patience=1)


def versions(store: StorageAdapter) -> list[str]:
    return [info.key for info in store.list(LAYOUT.entries)]


READS: dict[str, Callable[[AgentMemory], object]] = {
    "read": lambda memory: memory.read("e", "k"),
    "read of a version": lambda memory: memory.read("e", "k", version=1),
    "read at a time": lambda memory: memory.read("e", "k", max_age=60),
    "history": lambda memory: memory.history("e", "k"),
    "list": lambda memory: memory.list(),
    "search": lambda memory: memory.search("one"),
    "stats": lambda memory: memory.stats(),
    "verify": lambda memory: memory.verify(),
    "outcomes": lambda memory: memory.list_outcomes(),
    "an outcome": lambda memory: memory.read_outcome("r"),
    "namespaces": lambda memory: memory.list_namespaces(),
    "watch": lambda memory: next(memory.watch(since="beginning", interval=0.01)),
    "watch from now on": lambda memory: memory.watch(),
}
WRITES: dict[str, Callable[[AgentMemory], object]] = {
    "write": lambda memory: memory.write("e", "new", 1),
    "write of a known one": lambda memory: memory.write("e", "k", 1),
    "write_many": lambda memory: memory.write_many(
        [{"entity_path": "e", "key": f"m{number}", "value": number} for number in range(3)]
    ),
    "update": lambda memory: memory.update("e", "k", lambda old: old),
    "delete": lambda memory: memory.delete("e", "k"),
    "purge": lambda memory: memory.purge("e", "k"),
    "an outcome": lambda memory: memory.commit_outcome("r", "success", entries=[("e", "k")]),
}


class TestRefusal:
    @pytest.mark.parametrize("how", [*READS, *(f"to {name}" for name in WRITES)])
    def test_a_feature_that_readers_must_know_stops_every_operation(
        self, store: FaultyAdapter, how: str
    ) -> None:
        memory(store).write("e", "k", "one")
        declare(store, READERS)
        before = versions(store)
        act = READS.get(how) or WRITES[how.removeprefix("to ")]
        with pytest.raises(AMFSError) as refused:
            act(memory(store))
        cause = refused.value
        while not isinstance(cause, UnknownFeatureError):
            assert isinstance(cause.__cause__, AMFSError), cause
            cause = cause.__cause__
        assert "'telepathy'" in str(cause)
        assert "upgrade to amfs '9.1'" in str(cause)
        assert (cause.code, cause.object_key) == ("unknown_feature", KEY)
        assert versions(store) == before

    @pytest.mark.parametrize("how", WRITES)
    def test_a_feature_that_writers_must_know_stops_writers(
        self, store: FaultyAdapter, how: str
    ) -> None:
        memory(store).write("e", "k", "one")
        declare(store, WRITERS)
        before = {info.key: store.get(info.key) for info in store.list("")}
        with pytest.raises(AMFSError, match="'notices'"):
            WRITES[how](memory(store))
        assert {info.key: store.get(info.key) for info in store.list("")} == before

    @pytest.mark.parametrize("how", READS)
    def test_and_not_those_who_read(self, store: FaultyAdapter, how: str) -> None:
        memory(store).write("e", "k", "one")
        declare(store, WRITERS)
        READS[how](memory(store))

    def test_a_feature_for_an_unknown_audience_concerns_everybody(
        self, store: FaultyAdapter
    ) -> None:
        declare(store, {"dreams": Feature("sleepers", "10")})
        with pytest.raises(UnknownFeatureError, match="'dreams'"):
            memory(store).read("e", "k")

    def test_a_refusal_ends_when_the_feature_does(self, store: FaultyAdapter, clock: Clock) -> None:
        declare(store, READERS)
        reader = memory(store)
        with pytest.raises(UnknownFeatureError):
            reader.read("e", "k")
        declare(store, {})
        assert reader.read("e", "k") is None
        assert reader.write("e", "k", 1).version == 1

    def test_another_namespace_is_not_concerned(self, store: FaultyAdapter) -> None:
        declare(store, READERS)
        other = AgentMemory("a", adapter=store, namespace="other")
        assert other.write("e", "k", 1).version == 1

    def test_health_is_about_the_store(self, store: FaultyAdapter) -> None:
        declare(store, READERS)
        assert memory(store).health().ok


class TestTwoReleasesAtOnce:
    def test_the_old_one_goes_on_reading_and_stops_writing_within_a_minute(
        self, store: FaultyAdapter, clock: Clock
    ) -> None:
        old, new = memory(store, "old"), memory(store, "new")
        old.write("e", "k", 1)
        with release_that_knows("notices"):
            declare(store, WRITERS)
            new.write("e", "k", 2)
        clock.now += LEASE - 1
        assert old.write("e", "k", 3).version == 3
        clock.now += 1
        with pytest.raises(UnknownFeatureError, match="'notices'"):
            old.write("e", "k", 4)
        assert [entry.value for entry in old.history("e", "k")] == [1, 2, 3]
        with release_that_knows("notices"):
            assert new.write("e", "k", 4).version == 4

    def test_the_minute_counts_from_before_the_answer(
        self, store: FaultyAdapter, clock: Clock
    ) -> None:
        writer = memory(store)

        def slow() -> None:
            clock.now += LEASE - 1  # the answer takes that long

        store.before(slow)
        writer.write("e", "k", 1)
        declare(store, WRITERS)
        clock.now += 1
        with pytest.raises(UnknownFeatureError):
            writer.write("e", "k", 2)

    def test_a_writer_that_learns_of_a_feature_for_readers_reads_no_more(
        self, store: FaultyAdapter, clock: Clock
    ) -> None:
        both = memory(store)
        both.write("e", "k", 1)
        declare(store, READERS)
        assert both.read("e", "k") is not None  # it was looked at when this began
        clock.now += LEASE
        with pytest.raises(UnknownFeatureError):
            both.write("e", "k", 2)
        with pytest.raises(UnknownFeatureError):
            both.read("e", "k")

    def test_two_that_add_features_at_once_lose_none(self, store: FaultyAdapter) -> None:
        names = [f"f{number}" for number in range(12)]

        def add(name: str) -> None:
            feature = {name: Feature("writers", "9")}
            manifests(store).change(lambda now: {**now, **feature})

        with release_that_knows(*names):
            together([lambda name=name: add(name) for name in names])
            newest = manifests(store).for_writing()
        assert newest is not None
        assert sorted(newest.features) == sorted(names)
        assert newest.version == len(names)

    @pytest.mark.parametrize("fault", [Fault.LOST_ANSWER, Fault.LOST_REQUEST, Fault.CONFLICT])
    def test_a_lost_answer_makes_no_second_version(
        self, store: FaultyAdapter, fault: Fault
    ) -> None:
        store.inject(fault)
        declare(store, WRITERS)
        assert [info.key for info in store.list("")] == [KEY]

    def test_a_release_that_does_not_know_a_feature_does_not_change_the_manifest(
        self, store: FaultyAdapter
    ) -> None:
        declare(store, WRITERS)
        with pytest.raises(UnknownFeatureError):
            manifests(store).change(lambda _: {})

    def test_fields_of_a_later_release_are_carried_on(self, store: FaultyAdapter) -> None:
        declare(store, {"notices": Feature("writers", "9.1", {"state": "starting"})})
        with release_that_knows("notices"):
            made = manifests(store).change(lambda now: now)
        assert (made.version, made.features["notices"].extra) == (2, {"state": "starting"})
        assert made.previous == decode_manifest(store.get(KEY) or b"", LAYOUT, 1).sha256


class TestCost:
    def gets(self, store: FaultyAdapter) -> list[str]:
        return [call.key for call in store.calls if call.key.startswith(LAYOUT.manifests)]

    @pytest.mark.parametrize("first", ["read", "list", "history", "search", "watch from now on"])
    def test_a_process_asks_once(self, store: FaultyAdapter, first: str) -> None:
        memory(store).write("e", "k", "one")
        store.calls.clear()
        process = memory(store)
        READS[first](process)
        READS["read"](process)
        WRITES["write"](process)
        process.list()
        assert self.gets(store) == [KEY]
        assert process.metrics.requests["get"] == store.requests()["get"]

    def test_a_writer_asks_once_a_minute(self, store: FaultyAdapter, clock: Clock) -> None:
        writer = memory(store)
        for second in range(600):
            writer.write("e", "k", second)
            clock.now += 1
        assert self.gets(store) == [KEY] * 10

    def test_a_reader_does_not_ask_again(self, store: FaultyAdapter, clock: Clock) -> None:
        reader = memory(store)
        for _ in range(10):
            reader.read("e", "k")
            clock.now += 10 * LEASE
        assert self.gets(store) == [KEY]

    def test_many_threads_at_the_start_ask_once(self, store: FaultyAdapter) -> None:
        memory(store).write("e", "k", "one")
        store.calls.clear()
        process = memory(store)
        together([lambda: process.read("e", "k")] * 8)
        assert self.gets(store) == [KEY]

    def test_twenty_versions_take_few_round_trips(self, store: FaultyAdapter, clock: Clock) -> None:
        with release_that_knows(*WRITERS):
            for _ in range(20):
                manifests(store).change(lambda _: WRITERS)
            store.calls.clear()
            newest = manifests(store).for_writing()
        assert newest is not None
        assert newest.version == 20
        assert self.gets(store) == [LAYOUT.manifest_key(n) for n in range(1, 32)]  # 1+2+4+8+16

    def test_a_first_read_waits_for_nothing_else(self) -> None:
        """Both requests are under way at the same time: neither is answered before both are."""
        both = threading.Barrier(2)

        class Slow(ModelAdapter):
            def get(self, key: str) -> bytes | None:
                both.wait(30)
                return super().get(key)

        assert memory(Slow()).read("e", "k", version=1) is None

    def test_a_first_write_waits_for_the_answer(self, store: FaultyAdapter) -> None:
        writer = memory(store)
        store.before(lambda: declare(store.inner, WRITERS))
        with pytest.raises(UnknownFeatureError):
            writer.write("e", "k", 1)
        assert store.requests()["create"] == 0


class TestWhatCannotBeRead:
    @pytest.mark.parametrize("body", [b"", b"{}", b"not JSON", b"\xff" * 100])
    def test_a_damaged_manifest_stops_everything_but_verify(
        self, store: FaultyAdapter, body: bytes
    ) -> None:
        memory(store).write("e", "k", 1)
        store.create(KEY, body)
        for act in (READS["read"], READS["list"], WRITES["write"]):
            with pytest.raises(CorruptEntryError, match=r"default/manifest/v1\.json"):
                act(memory(store))
        report = memory(store).verify()
        assert [finding.object_key for finding in report.findings] == [KEY]
        assert (report.memories, report.versions) == (1, 1)

    def test_an_older_version_that_is_damaged_stops_nobody_and_is_found(
        self, store: FaultyAdapter
    ) -> None:
        for _ in range(2):
            declare(store, {})
        store.replace(KEY, b"damaged")
        assert memory(store).write("e", "k", 1).version == 1
        assert [finding.object_key for finding in memory(store).verify().findings] == [KEY]

    def test_one_that_was_put_in_the_place_of_another_is_refused(
        self, store: FaultyAdapter
    ) -> None:
        declare(store, {})
        store.create(LAYOUT.manifest_key(2), store.get(KEY) or b"")
        with pytest.raises(CorruptEntryError, match="it says it is version 1"):
            memory(store).read("e", "k")

    def test_a_history_that_was_rewritten_is_found(self, store: FaultyAdapter) -> None:
        other = ModelAdapter()
        for target, times in ((store, 1), (other, 2)):
            for _ in range(times):
                declare(target, {})
        second = LAYOUT.manifest_key(2)
        store.create(second, other.get(second) or b"")
        (finding,) = memory(store).verify().findings
        assert (finding.object_key, "does not follow" in finding.problem) == (second, True)

    @pytest.mark.parametrize("name", ["v3.json", "notes.txt", "v1.json.bak"])
    def test_a_stray_object_beside_the_manifests_blocks_nothing_and_is_found(
        self, store: FaultyAdapter, name: str
    ) -> None:
        store.create(f"{LAYOUT.manifests}{name}", b"whatever")
        assert memory(store).write("e", "k", 1).version == 1
        (finding,) = memory(store).verify().findings
        assert finding.object_key == f"{LAYOUT.manifests}{name}"

    def test_a_store_that_is_down_is_not_one_without_a_manifest(self, store: FaultyAdapter) -> None:
        store.inject(Fault.UNAVAILABLE, on="get", times=10_000)
        with pytest.raises(BackendUnavailableError):
            AgentMemory("a", adapter=store, patience=0).write("e", "k", 1)
        store.clear()
        assert versions(store) == []


class Forbidding(ModelAdapter):
    """Answers "not permitted" for absent objects, as AWS does where a listing is allowed only by
    its prefix; with `lists=False` no listing is."""

    def __init__(self, *, lists: bool) -> None:
        super().__init__()
        self.may_list = lists

    def get(self, key: str) -> bytes | None:
        body = super().get(key)
        if body is None and key.startswith(LAYOUT.manifests):
            raise PermissionDeniedError(f"cannot get {key!r}", object_key=key)
        return body

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        if not self.may_list and prefix == LAYOUT.manifests:
            raise PermissionDeniedError(f"cannot list {prefix!r}")
        return super().list(prefix, start_after)


class TestNotPermitted:
    def test_a_manifest_that_is_not_listed_is_absent(self) -> None:
        store = Forbidding(lists=True)
        assert memory(store).write("e", "k", 1).version == 1
        assert memory(store).read("e", "k") is not None
        declare(store, WRITERS)
        with pytest.raises(UnknownFeatureError):
            memory(store).write("e", "k", 2)

    def test_of_several_the_newest_counts(self) -> None:
        store = Forbidding(lists=True)
        for features in ({}, {}, WRITERS, {}):
            declare(store, features)
            with release_that_knows(*WRITERS):
                assert dict((manifests(store).for_writing() or pytest.fail()).features) == features
        assert memory(store).write("e", "k", 1).version == 1

    def test_without_a_listing_nobody_knows_and_it_says_what_to_permit(self) -> None:
        for act in (READS["read"], WRITES["write"]):
            with pytest.raises(PermissionDeniedError, match="default/manifest/") as denied:
                act(memory(Forbidding(lists=False)))
            assert denied.value.object_key == KEY
        report = memory(Forbidding(lists=False)).verify()
        assert [finding.object_key for finding in report.findings] == [KEY]

    def test_one_that_is_listed_and_may_not_be_read_is_not_passed_over(self) -> None:
        class Secret(ModelAdapter):
            def get(self, key: str) -> bytes | None:
                if key == KEY:
                    raise PermissionDeniedError(f"cannot get {key!r}", object_key=key)
                return super().get(key)

        store = Secret()
        store.create(KEY, b"whatever")
        with pytest.raises(PermissionDeniedError):
            memory(store).read("e", "k")


class TestWithOtherStores:
    @pytest.fixture(params=["directory", "sqlite", "model"])
    def store(self, request: pytest.FixtureRequest, tmp_path: Path) -> StorageAdapter:
        if request.param == "directory":
            return LocalAdapter(tmp_path / "store", durability="none")
        return SqliteAdapter(tmp_path / "s.db") if request.param == "sqlite" else ModelAdapter()

    def test_copy_brings_it_first_and_all_of_it(
        self, store: StorageAdapter, tmp_path: Path
    ) -> None:
        for _ in range(2):
            declare(store, WRITERS)
        with release_that_knows(*WRITERS):
            memory(store).write("e", "k", 1)
            target = FaultyAdapter(LocalAdapter(tmp_path / "target", durability="none"))
            report = copy(store, target)
            created = [call.key for call in target.calls if call.verb == "create"]
            assert created[:2] == [LAYOUT.manifest_key(1), LAYOUT.manifest_key(2)]
            assert (report.copied, report.foreign) == (3, 0)
            assert copy(store, target).already_there == 3
        assert {info.key: store.get(info.key) for info in store.list("")} == {
            info.key: target.get(info.key) for info in target.list("")
        }

    @pytest.mark.parametrize("side", ["source", "target"])
    def test_copy_refuses_what_it_does_not_know_on_either_side(
        self, store: StorageAdapter, side: str
    ) -> None:
        memory(store).write("e", "k", 1)
        target = ModelAdapter()
        declare(store if side == "source" else target, WRITERS)
        with pytest.raises(UnknownFeatureError, match="'notices'"):
            copy(store, target)
        assert versions(target) == []

    def test_copy_does_not_merge_two_manifests(self, store: StorageAdapter) -> None:
        target = ModelAdapter()
        for adapter in (store, target):
            declare(adapter, {})
        memory(store).write("e", "k", 1)
        with pytest.raises(AMFSError, match=r"default/manifest/v1\.json is in the target"):
            copy(store, target)
        assert versions(target) == []

    def test_a_backup_has_it_and_restores_it_first(
        self, store: StorageAdapter, tmp_path: Path
    ) -> None:
        backups = Backups(LocalAdapter(tmp_path / "backups", durability="none"))
        memory(store).write("e", "k", 1)
        backups.create(store)
        declare(store, WRITERS)
        backups.create(store)  # who only reads may: objects are kept as they are
        target = FaultyAdapter(ModelAdapter())
        with pytest.raises(UnknownFeatureError, match="'notices'"):
            backups.restore(target)
        assert list(target.list("")) == []
        with release_that_knows(*WRITERS):
            backups.restore(target)
        created = [call.key for call in target.calls if call.verb == "create"]
        assert created[0] == KEY
        assert target.get(KEY) == store.get(KEY)
        assert versions(target) == versions(store)

    def test_a_backup_refuses_what_whoever_reads_must_know(
        self, store: StorageAdapter, tmp_path: Path
    ) -> None:
        declare(store, READERS)
        place = ModelAdapter()
        with pytest.raises(UnknownFeatureError):
            Backups(place).create(store)
        assert list(place.list("")) == []

    def test_a_feature_declared_while_a_backup_is_made_is_in_it(
        self, store: StorageAdapter
    ) -> None:
        memory(store).write("e", "k", 1)
        slow = FaultyAdapter(store)
        slow.before(lambda: declare(store, WRITERS), skip=3)
        place = ModelAdapter()
        Backups(place).create(slow)
        with pytest.raises(UnknownFeatureError):
            Backups(place).restore(ModelAdapter())

    def test_a_mirror_has_it(self, store: StorageAdapter) -> None:
        mirror = ModelAdapter()
        declare(Layered(store, mirrors=[Mirror(mirror, wait=True)]), WRITERS)
        assert mirror.get(KEY) == store.get(KEY)

    def test_verify_finds_nothing_wrong_with_a_good_one(self, store: StorageAdapter) -> None:
        for _ in range(3):
            declare(store, {})
        memory(store).write("e", "k", 1)
        assert memory(store).verify().ok

    def test_a_namespace_that_has_nothing_else_is_there(self, store: StorageAdapter) -> None:
        declare(store, {})
        assert memory(store).list_namespaces() == ["default"]


def test_a_writer_asks_the_store_and_not_a_mirror_that_is_behind() -> None:
    primary, mirror = FaultyAdapter(ModelAdapter()), ModelAdapter()
    declare(primary, WRITERS)
    process = memory(Layered(primary, mirrors=[Mirror(mirror, wait=True)]))
    primary.inject(Fault.UNAVAILABLE, on="get", times=10_000)
    with pytest.raises(BackendUnavailableError):
        process.write("e", "k", 1)
    primary.clear()
    assert versions(primary) == []


def test_a_child_that_was_forked_in_the_middle_of_a_look_looks_itself(tmp_path: Path) -> None:
    store = LocalAdapter(tmp_path)
    process = memory(store)
    looked, go_on = threading.Event(), threading.Event()
    lock = process.engine.versions.manifests._lock

    def hold() -> None:
        with lock:
            looked.set()
            go_on.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert looked.wait(30)

    def child() -> None:
        assert process.write("e", "k", os.getpid()).version == 1

    in_forked_child(child)
    go_on.set()
    holder.join()
    assert process.read("e", "k") is not None


def test_the_clock_runs_through_suspends() -> None:
    import time

    if hasattr(time, "CLOCK_BOOTTIME"):
        assert time.CLOCK_BOOTTIME == manifest_module._CLOCK
    assert manifest_module.running() <= manifest_module.running()
