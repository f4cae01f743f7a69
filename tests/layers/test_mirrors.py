"""Mirrors: what they get, when, and what happens when they or the primary fail."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amfs_core.doctor import checks_of, examine
from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    CircuitOpenError,
    ConfigurationError,
    WriteManyError,
    WriteOutcomeUnknownError,
)
from amfs_core.layers import Layered, Mirror, backlog
from amfs_core.memory import AgentMemory
from amfs_core.storage import StorageAdapter, StoreClient, WrappedAdapter, breaker
from amfs_core.testing import Fault, FaultyAdapter, ModelAdapter
from amfs_core.testing.cases import in_forked_child
from amfs_core.upkeep.copy import copy
from amfs_local import LocalAdapter
from amfs_sqlite import SqliteAdapter
from tests.conftest import REPOSITORY
from tests.layers.stores import all_of
from tests.support import proxy as proxies
from tests.support.moments import alarms
from tests.support.proxy import FaultProxy
from tests.support.s3_store import Place
from tests.support.servers import Server
from tests.support.waiting import until

SECONDS = 60.0


@pytest.fixture(autouse=True)
def known_to_be_down_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "_LEAST_SECONDS", 0.1)
    monkeypatch.setattr(breaker, "_FIRST_PAUSE", 0.1)
    monkeypatch.setattr(backlog, "_LONGEST_PAUSE", 0.2)


def local(path: Path) -> LocalAdapter:
    return LocalAdapter(path, durability="none")


def broken(adapter: FaultyAdapter, *verbs: str) -> None:
    """Let it answer nothing any more, until it is cleared."""
    for verb in verbs or ("create", "get", "list", "replace", "delete"):
        adapter.inject(Fault.UNAVAILABLE, on=verb, times=100_000)


def same(primary: StorageAdapter, mirror: StorageAdapter) -> bool:
    return all_of(primary) == all_of(mirror)


class Gate(WrappedAdapter):
    """A store that is reached only while its gate is open."""

    def __init__(self, inner: StorageAdapter) -> None:
        super().__init__(inner)
        self.gate = threading.Event()

    def create(self, key: str, data: bytes) -> bool:
        assert self.gate.wait(SECONDS)
        return super().create(key, data)

    def create_many(self, objects: Any) -> Any:
        assert self.gate.wait(SECONDS)
        return super().create_many(objects)


# -- what mirrors get -------------------------------------------------------------------------


def test_all_that_is_done_is_done_in_every_mirror(tmp_path: Path) -> None:
    primary, waited, later = local(tmp_path / "p"), SqliteAdapter(tmp_path / "w.db"), ModelAdapter()
    store = Layered(primary, mirrors=[Mirror(waited, wait=True), later])
    with AgentMemory("a", adapter=store) as memory:
        memory.write("e", "k", "secret 1")
        memory.update("e", "k", lambda _: "secret 2")
        memory.write_many([{"entity_path": "e", "key": f"k{n}", "value": n} for n in range(200)])
        memory.commit_outcome("ref", "success", entries=[("e", "k1")])
        assert memory.purge("e", "k") == 2
        memory.write("e", "k", "public")
        assert same(primary, waited)
    store.create("scratch/x.json", b"1")
    store.delete("scratch/x.json")
    store.close()
    assert same(primary, waited)
    assert same(primary, later)
    assert b"secret" not in b"".join(all_of(later).values())
    for adapter in (primary, waited, later):
        with AgentMemory("b", adapter=adapter) as memory:
            assert memory.verify().ok
    assert [(lag.mirror, lag.waiting, lag.left_out) for lag in store.mirror_lags()] == [
        ("mirror 1", 0, 0),
        ("mirror 2", 0, 0),
    ]
    waited.close()


def test_a_program_that_ends_without_closing_leaves_nothing_behind(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from amfs import AgentMemory\n"
        "from amfs_core.layers import Layered\n"
        "from amfs_local import LocalAdapter\n"
        "store = Layered(LocalAdapter(sys.argv[1]), mirrors=[LocalAdapter(sys.argv[2])])\n"
        "memory = AgentMemory('a', adapter=store)\n"
        "for n in range(30): memory.write('e', f'k{n}', n)\n"
    )
    places = [str(tmp_path / name) for name in "pm"]
    subprocess.run([sys.executable, "-c", program, *places], check=True, cwd=REPOSITORY)
    assert len(all_of(local(tmp_path / "m"))) == 30
    assert same(*(local(tmp_path / name) for name in "pm"))


def test_objects_that_overflow_the_queue_are_counted_and_brought_by_copy(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backlog, "MOST_WAITING", 10)
    primary, mirror = ModelAdapter(), FaultyAdapter(ModelAdapter())
    broken(mirror)
    store = Layered(primary, mirrors=[mirror])
    with AgentMemory("a", adapter=store) as memory:
        for number in range(25):
            memory.write("e", f"k{number}", number)
        until(lambda: store.mirror_lags()[0].error is not None)
        (lag,) = memory.health().mirrors
        assert (lag.waiting, lag.left_out, lag.error) == (10, 15, lag.error)
        assert "no connection" in str(lag.error)
        assert lag.seconds > 0
        assert memory.metrics.mirrors[0].left_out == 15
        assert "run `amfs copy`" in caplog.text
        mirror.clear()
        until(lambda: not store.mirror_lags()[0].waiting)
        assert memory.health().mirrors[0].error is None
    assert len(all_of(mirror)) == 10
    copy(primary, mirror)
    assert same(primary, mirror)


def test_a_mirror_that_was_cut_off_is_caught_up_by_copy_erasure_included() -> None:
    primary, mirror = ModelAdapter(), FaultyAdapter(ModelAdapter())
    with AgentMemory("a", adapter=Layered(primary, mirrors=[mirror]), owns_adapter=True) as memory:
        memory.write("e", "k", "secret")
    assert same(primary, mirror)
    broken(mirror)
    with AgentMemory("a", adapter=Layered(primary, mirrors=[mirror]), owns_adapter=True) as memory:
        memory.write("e", "other", 1)
        until(lambda: memory.health().mirrors[0].error is not None)
        memory.purge("e", "k")
    mirror.clear()
    assert any(b"secret" in body for body in all_of(mirror).values())
    copy(primary, mirror)
    assert same(primary, mirror)
    with AgentMemory("b", adapter=mirror) as memory:
        assert memory.verify().ok


def test_a_purge_that_a_waited_mirror_stopped_is_not_taken_for_done() -> None:
    primary, mirror = ModelAdapter(), FaultyAdapter(ModelAdapter())
    store = Layered(primary, mirrors=[Mirror(mirror, wait=True)])
    with AgentMemory("a", adapter=store, patience=0) as memory:
        memory.write("e", "k", "secret 1")
        memory.write("e", "k", "secret 2")
        mirror.inject(Fault.UNAVAILABLE, on="replace", skip=1)
        with pytest.raises(BackendUnavailableError):
            memory.purge("e", "k")
        memory.purge("e", "k")
    for adapter in (primary, mirror):
        assert b"secret" not in b"".join(all_of(adapter).values())
    assert same(primary, mirror)


def test_other_bytes_in_a_mirror_stay_and_are_told(caplog: pytest.LogCaptureFixture) -> None:
    primary = ModelAdapter()
    mirrors = [ModelAdapter(), ModelAdapter()]
    for mirror in mirrors:
        with AgentMemory("stranger", adapter=mirror) as memory:
            memory.write("e", "k", "written to the mirror")
    store = Layered(primary, mirrors=[Mirror(mirrors[0], wait=True), mirrors[1]])
    with AgentMemory("a", adapter=store, owns_adapter=True) as memory:
        memory.write("e", "k", "written to the primary")
    assert [lag.differing for lag in store.mirror_lags()] == [1, 1]
    assert caplog.text.count("with other bytes than in the primary store") == 2
    assert not same(primary, mirrors[0])


# -- crashes, forks, signals ------------------------------------------------------------------


class Dying(WrappedAdapter):
    """A mirror whose writer's process ends before its request for a second version is sent."""

    def create(self, key: str, data: bytes) -> bool:
        if key.endswith("/v2.json"):
            os._exit(9)
        return super().create(key, data)

    def create_many(self, objects: Any) -> Any:
        if any(key.endswith("/v2.json") for key in objects):
            os._exit(9)
        return super().create_many(objects)


@pytest.mark.parametrize("wait", [True, False])
def test_a_process_that_died_between_primary_and_mirror_leaves_a_gap_that_is_filled(
    tmp_path: Path, wait: bool
) -> None:
    primary, mirror = local(tmp_path / "p"), local(tmp_path / "m")
    with AgentMemory(
        "a", adapter=Layered(primary, mirrors=[Mirror(mirror, wait)]), owns_adapter=True
    ) as memory:
        memory.write("e", "k", 1)
    with warnings.catch_warnings():
        # Python 3.12 warns of forks beside threads, such as other tests have left behind.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            store = Layered(primary, mirrors=[Mirror(Dying(mirror), wait)])
            AgentMemory("b", adapter=store).write("e", "k", 2)
            store.close()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert not same(primary, mirror)
    # Whoever writes the next version brings the one before it.
    with AgentMemory(
        "c", adapter=Layered(primary, mirrors=[Mirror(mirror, wait)]), owns_adapter=True
    ) as memory:
        assert memory.write("e", "k", 3).version == 3
    assert same(primary, mirror)
    with AgentMemory("d", adapter=mirror) as memory:
        assert memory.verify().ok


def test_a_killed_process_loses_only_what_copy_brings(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from amfs import AgentMemory\n"
        "from amfs_core.layers import Layered\n"
        "from amfs_local import LocalAdapter\n"
        "store = Layered(LocalAdapter(sys.argv[1]), mirrors=[LocalAdapter(sys.argv[2])])\n"
        "memory = AgentMemory('a', adapter=store)\n"
        "n = 0\n"
        "while True:\n"
        "    n += 1\n"
        "    memory.write('e', f'k{n % 7}', n)\n"
        "    print(n, flush=True)\n"
    )
    places = [str(tmp_path / name) for name in "pm"]
    child = subprocess.Popen(
        [sys.executable, "-c", program, *places], stdout=subprocess.PIPE, cwd=REPOSITORY
    )
    assert child.stdout is not None
    for _ in range(100):
        child.stdout.readline()
    child.kill()
    child.communicate()
    primary, mirror = (local(tmp_path / name) for name in "pm")
    assert len(all_of(primary)) >= 100
    for _ in range(2):
        with AgentMemory("b", adapter=mirror) as memory:
            assert memory.verify().ok  # at any moment there is no gap
        copy(primary, mirror)
        assert same(primary, mirror)


def test_a_forked_child_leaves_what_waits_to_its_parent() -> None:
    primary, mirror = ModelAdapter(), Gate(ModelAdapter())
    store = Layered(primary, mirrors=[mirror])
    with AgentMemory("a", adapter=store) as memory:
        memory.write("e", "k", 1)
        assert store.mirror_lags()[0].waiting == 1

        def in_child() -> None:
            assert store.mirror_lags()[0].waiting == 0
            mirror.gate = threading.Event()
            mirror.gate.set()
            memory.write("e", "child", 1)
            store.close()
            assert [key.split("/")[3] for key in all_of(mirror)] == ["child"]

        in_forked_child(in_child)
        assert store.mirror_lags()[0].waiting == 1
        mirror.gate.set()
        store.close()
        assert same(primary, mirror)


def test_a_signal_handler_may_write_at_any_moment() -> None:
    primary, mirror = ModelAdapter(), ModelAdapter()
    waited = ModelAdapter()
    store = Layered(primary, mirrors=[mirror, Mirror(waited, wait=True)])
    memory = AgentMemory("a", adapter=store)
    handled: list[int] = []

    def handler() -> None:
        handled.append(len(handled))
        memory.write("e", f"handler-{len(handled)}", 1)

    with alarms(handler, 0.001):
        number = 0
        while len(handled) < 100:
            number += 1
            memory.write("e", f"k{number}", number)
    store.close()
    assert same(primary, mirror)
    assert same(primary, waited)


# -- a mirror that fails ----------------------------------------------------------------------


def test_a_write_without_its_waited_mirror_is_not_done_and_asking_again_settles_it() -> None:
    primary, mirror = ModelAdapter(), FaultyAdapter(ModelAdapter())
    store = Layered(primary, mirrors=[Mirror(mirror, wait=True)])
    with AgentMemory("a", adapter=store, patience=0) as hasty:
        mirror.inject(Fault.UNAVAILABLE)
        with pytest.raises(WriteOutcomeUnknownError, match=r"unknown whether .* in mirror 1") as e:
            hasty.write("e", "k", 1)
        assert hasty.find_write("e", "k", e.value.write_id) is not None
        assert not same(primary, mirror)
    with AgentMemory("a", adapter=store, patience=30) as patient:
        mirror.inject(Fault.UNAVAILABLE, times=2)
        assert patient.write("e", "k", 2).version == 2
    assert same(primary, mirror)


def test_a_waited_mirror_known_to_be_down_refuses_writes_with_nothing_written() -> None:
    primary, mirror = ModelAdapter(), FaultyAdapter(ModelAdapter())
    store = Layered(primary, mirrors=[Mirror(mirror, wait=True)])
    with AgentMemory("a", adapter=store, patience=5) as memory:
        memory.write("e", "k", 0)
        broken(mirror)
        problem: AMFSError | None = None
        while not isinstance(problem, CircuitOpenError):
            written = len(all_of(primary))
            with pytest.raises((BackendUnavailableError, WriteOutcomeUnknownError)) as failure:
                memory.write("e", "k", 1)
            problem = failure.value
        assert len(all_of(primary)) == written
        assert "mirror 1 is to have every object" in str(problem)
        for _ in range(5):  # the primary goes on being read, whatever becomes of writes
            with pytest.raises(WriteManyError, match="mirror 1 is to have every object"):
                memory.write_many([{"entity_path": "e", "key": "n", "value": 1}] * 2)
            assert memory.read("e", "k") is not None
        assert memory.health().mirrors[0].error is not None
        mirror.clear()
        until(lambda: _writes(memory))
    assert same(primary, mirror)


def _reads(memory: AgentMemory) -> Any:
    with contextlib.suppress(CircuitOpenError):  # writes failed for so long
        entry = memory.read("e", "other")
        return entry and entry.value
    return None


def _writes(memory: AgentMemory) -> bool:
    with contextlib.suppress(BackendUnavailableError):
        memory.write("e", "k", 2)
        return True
    return False


# -- a primary that is down -------------------------------------------------------------------


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[tuple[AgentMemory, FaultyAdapter, LocalAdapter]]:
    """A memory, its primary, and its mirror, which lacks the newest version of one memory."""
    primary, mirror = FaultyAdapter(local(tmp_path / "p")), local(tmp_path / "m")
    with AgentMemory("a", adapter=primary) as memory:
        memory.write("e", "k", 1)
        memory.write("e", "other", 1)
        copy(primary, mirror)
        memory.write("e", "other", 2)
    store = Layered(primary, mirrors=[mirror])
    with AgentMemory("a", adapter=store, patience=1.5, owns_adapter=True) as memory:
        yield memory, primary, mirror


def test_reads_go_to_a_mirror_only_while_the_primary_is_down(
    failing: tuple[AgentMemory, FaultyAdapter, LocalAdapter],
) -> None:
    memory, primary, _ = failing
    assert [entry.value for entry in memory.list()] == [1, 2]
    assert [entry.value for entry in memory.list()] == [1, 2]
    primary.inject(Fault.UNAVAILABLE, on="get")
    read = memory.read("e", "other")
    assert read is not None
    assert read.value == 2  # one failure is no outage
    broken(primary)
    with AgentMemory("b", adapter=memory.adapter, patience=5) as other:
        read = other.read("e", "other")
        assert read is not None
        assert read.value == 1
        assert [entry.value for entry in other.list()] == [1, 1]
        assert [entry.version for entry in other.history("e", "k")] == [1]
        assert memory.health().ok
        calls = len(primary.calls)
        assert other.read("e", "k") is not None
        assert len(primary.calls) <= calls + 1
    with pytest.raises(BackendUnavailableError):
        memory.write("e", "k", 2)
    primary.clear()
    until(lambda: _reads(memory) == 2)
    assert memory.write("e", "k", 2).version == 2


def test_versions_that_a_mirror_lacked_are_seen_once_the_primary_is_back(
    failing: tuple[AgentMemory, FaultyAdapter, LocalAdapter],
) -> None:
    memory, primary, _ = failing
    for _ in range(2):
        assert [entry.value for entry in memory.list()] == [1, 2]  # by the change log now
    broken(primary)
    with AgentMemory("b", adapter=memory.adapter, patience=5) as late:
        assert [entry.value for entry in late.list()] == [1, 1]
        assert [entry.value for entry in memory.list()] == [1, 1]
        primary.clear()
        with AgentMemory("w", adapter=primary.inner) as writer:
            writer.write("e", "new", 3)
        until(lambda: memory.read("e", "new") is not None)
        for _ in range(2):
            assert [entry.value for entry in late.list()] == [1, 3, 2]
            assert [entry.value for entry in memory.list()] == [1, 3, 2]


def test_an_empty_mirror_is_not_believed() -> None:
    primary, empty = FaultyAdapter(ModelAdapter()), ModelAdapter()
    with AgentMemory("a", adapter=primary) as memory:
        memory.write("e", "k", 1)
    store = Layered(primary, mirrors=[empty])
    broken(primary)
    # Long enough for the primary to be known to be down, so that the mirror is asked.
    with AgentMemory("b", adapter=store, patience=3) as memory:
        with pytest.raises(BackendUnavailableError, match="mirror 1 has nothing"):
            memory.read("e", "k")
        with pytest.raises(BackendUnavailableError):
            memory.list()


def test_the_next_mirror_is_asked_when_the_first_is_down_too() -> None:
    primary, first, second = (FaultyAdapter(ModelAdapter()) for _ in range(3))
    store = Layered(primary, mirrors=[Mirror(first, wait=True), Mirror(second, wait=True)])
    with AgentMemory("a", adapter=store) as memory:
        memory.write("e", "k", 1)
    broken(primary)
    broken(first)
    with AgentMemory("b", adapter=store, patience=5) as memory:
        assert memory.read("e", "k") is not None
        assert [entry.value for entry in memory.list()] == [1]


# -- buckets ----------------------------------------------------------------------------------


@pytest.mark.server
@pytest.mark.parametrize("wait", [True, False])
def test_a_bucket_that_was_cut_off_is_caught_up(minio: Server, tmp_path: Path, wait: bool) -> None:
    primary = local(tmp_path / "p")
    with FaultProxy(minio.endpoint_url) as proxy:
        place = Place.on(minio, minio.new_bucket(), proxy.endpoint_url)
        store = Layered(primary, mirrors=[Mirror(place.adapter(), wait)])
        with AgentMemory("a", adapter=store, patience=3.0, owns_adapter=True) as memory:
            memory.write("e", "before", "secret")
            if not wait:
                until(lambda: not store.mirror_lags()[0].waiting)
            proxy.inject(proxies.Fault.RESET, times=None)
            for number in range(5):
                with contextlib.suppress(AMFSError):  # a waited mirror refuses
                    memory.write("e", f"k{number}", number)
            if wait:
                with pytest.raises(AMFSError):
                    memory.purge("e", "before")
            else:
                assert memory.purge("e", "before") == 1
                until(lambda: memory.health().mirrors[0].error is not None)
            assert memory.read("e", "k0") is not None
        proxy.quiet()
        mirror = place.adapter()
        assert not same(primary, mirror)
        copy(primary, mirror)
        if wait:  # the order to erase was not given, or is not carried out
            with AgentMemory(
                "a", adapter=Layered(primary, mirrors=[Mirror(mirror, True)])
            ) as eraser:
                eraser.purge("e", "before")
        assert same(primary, mirror)
        assert b"secret" not in b"".join(all_of(mirror).values())
        for adapter in (primary, mirror):
            with AgentMemory("b", adapter=adapter) as memory:
                assert memory.verify().ok


# -- the rest ---------------------------------------------------------------------------------


def test_stores_within_one_another_are_refused(tmp_path: Path) -> None:
    for other in (".", "p", "p/inside"):
        with pytest.raises(ConfigurationError, match=r"mirror 1 is at .* within the other"):
            Layered(local(tmp_path / "p"), mirrors=[local(tmp_path / other)])
    with pytest.raises(ConfigurationError, match="adapter must be an open store"):
        Layered(local(tmp_path), mirrors=["somewhere"])  # type: ignore[list-item]


def test_it_can_be_pickled_with_all_its_stores(tmp_path: Path) -> None:
    store = Layered(
        local(tmp_path / "p"), local(tmp_path / "c"), [Mirror(local(tmp_path / "m"), wait=True)]
    )
    again = pickle.loads(pickle.dumps(store))
    assert repr(again) == repr(store)
    again.create("a/b.json", b"1")
    assert same(local(tmp_path / "p"), local(tmp_path / "m"))
    assert again.location == store.location == local(tmp_path / "p").location


def test_the_doctor_looks_at_every_store_and_compares(tmp_path: Path) -> None:
    primary, mirror = local(tmp_path / "p"), local(tmp_path / "m")
    with AgentMemory("a", adapter=primary) as memory:
        memory.write("e", "k", 1)
    store = Layered(primary, local(tmp_path / "c"), [mirror])
    diagnoses = {diagnosis.name: diagnosis for diagnosis in examine(checks_of(store))}
    assert diagnoses["cache: create"].verdict == diagnoses["mirror 1: create"].verdict == "ok"
    assert diagnoses["mirror 1: lag"].verdict == "warning"
    assert (
        "1 are not there, such as default/entries/e/k/v1.json" in diagnoses["mirror 1: lag"].found
    )
    copy(primary, mirror)
    diagnoses = {diagnosis.name: diagnosis for diagnosis in examine(checks_of(store))}
    assert diagnoses["mirror 1: lag"].found == "of all objects, none is missing"


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["create", "replace", "delete"])
def test_failures_of_a_waited_mirror_say_nothing_of_the_primary(tmp_path: Path, verb: str) -> None:
    """However many there are, reads go on."""
    broken = FaultyAdapter(ModelAdapter())
    store = Layered(local(tmp_path / "p"), mirrors=[Mirror(broken, wait=True)])
    client = StoreClient(store, patience=0.01)
    client._breaker._least_seconds = 0.01
    assert client.create("a.json", b"one")
    for kind in ("create", "get", "replace", "delete"):
        broken.inject(Fault.UNAVAILABLE, on=kind, times=10_000)
    for number in range(200):
        with pytest.raises(AMFSError):
            if verb == "create":
                client.create(f"{number}.json", b"one")
            elif verb == "replace":
                client.replace("a.json", b"two")
            else:
                client.delete("a.json")
    assert not client.is_down
    assert client.get("a.json") == b"one"
