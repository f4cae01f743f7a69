"""What the network and the server do wrong: each write lands once, or says it did not."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    ConditionalWritesUnsupportedError,
    VersionConflictError,
    WriteOutcomeUnknownError,
)
from amfs_core.format import MemoryEntry
from amfs_core.memory import AgentMemory
from amfs_s3 import S3Adapter
from tests.support.known import known
from tests.support.proxy import Fault, FaultProxy, Request
from tests.support.s3_store import Place, chain, keys_of, load
from tests.support.servers import Server

APPLIED = [Fault.LOST_ANSWER, Fault.ERROR_503_APPLIED]
NOT_APPLIED = [Fault.RESET, Fault.ERROR_503, Fault.ERROR_500]


@pytest.fixture(scope="module")
def bucket(s3_server: Server) -> str:
    """One bucket for all tests; each works in a namespace of its own."""
    return s3_server.new_bucket()


@pytest.fixture(scope="module")
def deep(s3_server: Server, bucket: str) -> None:
    load(s3_server, bucket, chain("k", 2_100))


@pytest.fixture(scope="module")
def proxy_to_server(s3_server: Server, bucket: str) -> Iterator[FaultProxy]:
    """A proxy through which conditional writes are proved."""
    keys = (s3_server.access_key, s3_server.secret_key)
    with FaultProxy(s3_server.endpoint_url, credentials=keys) as proxy:
        with Place.on(s3_server, bucket, proxy.endpoint_url).memory("prover") as prover:
            prover.write("proof", "made", None)
        yield proxy


@pytest.fixture
def wire(proxy_to_server: FaultProxy) -> Iterator[FaultProxy]:
    proxy_to_server.delay_seconds = 0.05
    proxy_to_server.late_seconds = 600.0  # they land when a test says so
    proxy_to_server.reset()
    yield proxy_to_server
    proxy_to_server.quiet()
    proxy_to_server.settle(at_once=True)


@pytest.fixture
def place(s3_server: Server, bucket: str, wire: FaultProxy) -> Place:
    """Behind the proxy."""
    return Place.on(s3_server, bucket, wire.endpoint_url)


@pytest.fixture(scope="module")
def unhindered(s3_server: Server, bucket: str) -> Iterator[S3Adapter]:
    """An adapter that the faults do not reach."""
    adapter = Place.on(s3_server, bucket).adapter()
    yield adapter
    adapter.close()


@pytest.fixture
def namespace() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def direct(unhindered: S3Adapter, namespace: str) -> AgentMemory:
    """A reader that the faults do not reach."""
    return AgentMemory("direct", adapter=unhindered, namespace=namespace)


@pytest.fixture
def memory(place: Place, namespace: str) -> Iterator[AgentMemory]:
    with place.memory("writer", patience=30, namespace=namespace) as made:
        yield made


def creates(request: Request) -> bool:
    return request.kind == "create"


def gets(request: Request) -> bool:
    return request.kind == "get"


def write_ids(entries: list[MemoryEntry]) -> list[str]:
    return [entry.provenance.write_id for entry in entries]


# --- one write -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [*APPLIED, *NOT_APPLIED, Fault.CONFLICT_409, Fault.LATE])
def test_a_write_whose_create_fails_lands_exactly_once(
    memory: AgentMemory, direct: AgentMemory, wire: FaultProxy, fault: Fault
) -> None:
    first = memory.write("e", "k", "first")
    wire.inject(fault, creates)
    second = memory.write("e", "k", "second")
    third = memory.write("e", "k", "third")
    wire.settle(at_once=True)
    assert direct.history("e", "k") == [first, second, third]
    assert [entry.version for entry in (first, second, third)] == [1, 2, 3]
    assert direct.verify().ok


def test_many_faults_in_a_row_still_make_one_version(
    memory: AgentMemory, direct: AgentMemory, wire: FaultProxy
) -> None:
    for fault in (Fault.RESET, Fault.CONFLICT_409, Fault.LATE, Fault.ERROR_503, Fault.LOST_ANSWER):
        wire.inject(fault, creates)
    wire.inject(Fault.RESET, gets)
    wire.inject(Fault.TRUNCATED_BODY, gets)
    written = memory.write("e", "k", "once")
    wire.settle(at_once=True)
    assert direct.history("e", "k") == [written]


def test_a_lost_answer_costs_the_repeated_create_and_the_read_back(
    memory: AgentMemory, wire: FaultProxy
) -> None:
    memory.write("e", "k", 1)
    wire.inject(Fault.LOST_ANSWER, creates)
    with wire.counting() as counted:
        memory.write("e", "k", 2)
    assert counted == {"create": 3, "get": 1}  # the client repeats it on its own, and then we do


def test_a_lost_answer_to_an_expected_version_is_not_a_conflict(
    memory: AgentMemory, direct: AgentMemory, wire: FaultProxy
) -> None:
    memory.write("e", "k", 1)
    wire.inject(Fault.LOST_ANSWER, creates)
    assert memory.write("e", "k", 2, expected_version=1).version == 2
    with pytest.raises(VersionConflictError) as caught:
        memory.write("e", "k", 3, expected_version=1)
    assert (caught.value.expected, caught.value.actual) == (1, 2)
    assert len(direct.history("e", "k")) == 2


def test_a_lost_answer_does_not_make_update_count_twice(
    memory: AgentMemory, direct: AgentMemory, wire: FaultProxy
) -> None:
    for _ in range(5):
        wire.inject(Fault.LOST_ANSWER, creates)
        memory.update("e", "k", lambda old: (old or 0) + 1)
    assert [entry.value for entry in direct.history("e", "k")] == [1, 2, 3, 4, 5]


def test_a_create_that_outlives_its_deadline_lands_once(
    place: Place, direct: AgentMemory, wire: FaultProxy
) -> None:
    wire.delay_seconds = 1.5
    with place.memory(timeout=0.5, patience=30, namespace=direct.namespace) as memory:
        assert memory.read("e", "k") is None
        wire.inject(Fault.DELAY, creates)
        written = memory.write("e", "k", "slow")
    wire.settle()
    assert direct.history("e", "k") == [written]


def test_equal_bytes_of_another_writer_are_not_taken_for_ones_own(
    memory: AgentMemory, direct: AgentMemory, wire: FaultProxy
) -> None:
    wire.inject(Fault.RESET, creates)  # ours is not applied, and meanwhile the other writes
    other = direct.write("e", "k", "same")
    mine = memory.write("e", "k", "same")
    assert (other.version, mine.version) == (1, 2)
    assert direct.history("e", "k") == [other, mine]


# --- never past an unknown -----------------------------------------------------------------------


def never_landing(wire: FaultProxy) -> None:
    """The next create is late, and all after it are lost."""
    wire.inject(Fault.LATE, creates)
    wire.inject(Fault.RESET, creates, times=None)


def test_a_write_that_gives_up_says_so_and_can_be_asked_for_when_it_lands_late(
    place: Place, direct: AgentMemory, wire: FaultProxy
) -> None:
    with place.memory("hasty", patience=0.5, namespace=direct.namespace) as hasty:
        first = hasty.write("e", "k", "first")
        never_landing(wire)
        with pytest.raises(WriteOutcomeUnknownError) as caught:
            hasty.write("e", "k", "late")
        unknown = caught.value
        assert (unknown.entity_path, unknown.key, unknown.version) == ("e", "k", 2)
        wire.quiet()
        assert hasty.find_write("e", "k", unknown.write_id, version=2) is None
        assert hasty.find_write("e", "k", unknown.write_id) is None
        wire.settle(at_once=True)
        for version in (2, None):
            entry = hasty.find_write("e", "k", unknown.write_id, version=version)
            assert entry is not None
            assert (entry.version, entry.value) == (2, "late")
    assert direct.history("e", "k") == [first, entry]


def test_a_create_that_lands_late_after_another_writer_passed_it_never_lands(
    place: Place, direct: AgentMemory, wire: FaultProxy
) -> None:
    with place.memory("hasty", patience=0.5, namespace=direct.namespace) as hasty:
        never_landing(wire)
        with pytest.raises(WriteOutcomeUnknownError) as caught:
            hasty.write("e", "k", "late")
        other = direct.write("e", "k", "other")
        wire.quiet()
        wire.settle(at_once=True)
        assert hasty.find_write("e", "k", caught.value.write_id) is None
    assert direct.history("e", "k") == [other]


def test_while_the_outcome_is_unknown_only_that_version_is_tried(
    memory: AgentMemory, direct: AgentMemory, wire: FaultProxy
) -> None:
    memory.write("e", "k", "first")
    wire.reset()
    wire.inject(Fault.LATE, creates)
    wire.inject(Fault.RESET, creates, times=3)
    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(memory.write, "e", "k", "mine")
        other = direct.write("e", "k", "other")  # before, between or after the tries of v2
        mine = writing.result()
    wire.settle(at_once=True)
    tried = [
        request.path.rpartition("/")[2] for request in wire.requests if request.kind == "create"
    ]
    assert tried[:4] == ["v2.json"] * 4
    assert tried[4:] in (["v2.json"], ["v2.json", "v3.json"])
    assert {mine.version, other.version} == {2, 3}
    assert sorted(write_ids(direct.history("e", "k"))[1:]) == sorted(write_ids([mine, other]))


def test_a_write_that_never_left_is_unavailable_and_not_unknown(
    place: Place, direct: AgentMemory
) -> None:
    class Refusing:  # nothing listens on this port any more
        def __init__(self) -> None:
            with FaultProxy(place.endpoint_url) as gone:
                self.endpoint_url = gone.endpoint_url

    with (
        place.memory(endpoint_url=Refusing().endpoint_url, patience=0.3) as memory,
        pytest.raises(BackendUnavailableError),
    ):
        memory.write("e", "k", 1)
    assert direct.read("e", "k") is None


# --- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [*APPLIED, *NOT_APPLIED, Fault.TRUNCATED_BODY])
@pytest.mark.parametrize("kind", ["get", "list"])
def test_a_read_whose_request_fails_reads_the_truth(
    memory: AgentMemory, direct: AgentMemory, wire: FaultProxy, fault: Fault, kind: str
) -> None:
    written = [direct.write("e", "k", {"text": "x" * 5000, "n": number}) for number in range(3)]
    for _ in range(2):
        wire.inject(fault, lambda request: request.kind == kind)
    assert memory.read("e", "k") == written[-1]
    for _ in range(2):
        wire.inject(fault, lambda request: request.kind == kind)
    assert memory.history("e", "k") == written
    assert memory.list("e") == [written[-1]]


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.ERROR_503, Fault.TRUNCATED_BODY])
def test_a_listing_that_fails_in_the_middle_goes_on_where_it_was(
    deep: None, place: Place, wire: FaultProxy, fault: Fault
) -> None:
    def later_page(request: Request) -> bool:
        return request.kind == "list" and "continuation-token" in request.query

    wire.inject(fault, later_page, times=2)
    with known(place.memory(patience=30)) as memory, wire.counting() as counted:
        assert memory.stats("deep").versions == 2_100
    assert counted == {"list": 5}  # three pages, and the second and the third twice


def test_a_failing_get_is_never_taken_for_an_absent_version(
    place: Place, direct: AgentMemory, wire: FaultProxy
) -> None:
    direct.write("e", "k", 1)
    for fault in NOT_APPLIED:
        with place.memory(patience=0.2, namespace=direct.namespace) as memory:
            wire.inject(fault, gets, times=None)
            with pytest.raises(BackendUnavailableError):
                memory.read("e", "k")
            with pytest.raises(BackendUnavailableError):
                memory.read("e", "k", version=1)
            wire.quiet()


# --- everything at once --------------------------------------------------------------------------

CHAOS = [fault for fault in Fault if fault is not Fault.IGNORE_IF_NONE_MATCH]


def test_under_chaos_every_acknowledged_write_is_there_exactly_once(
    place: Place, direct: AgentMemory, wire: FaultProxy
) -> None:
    wire.late_seconds = 0.2
    memories = [
        place.memory(f"agent-{number}", patience=60, namespace=direct.namespace)
        for number in range(4)
    ]
    start = threading.Barrier(len(memories))
    wire.chaos(seed=3, rate=0.2, faults=CHAOS)

    def work(memory: AgentMemory) -> tuple[list[str], list[str]]:
        start.wait()
        shared = [memory.write("e", "shared", number) for number in range(10)]
        own = [memory.write("e", memory.agent_id, number) for number in range(10)]
        for _ in range(5):
            memory.update("e", "counter", lambda old: (old or 0) + 1)
        assert memory.history("e", memory.agent_id) == own
        return write_ids(shared), write_ids(own)

    with ThreadPoolExecutor(len(memories)) as threads:
        acknowledged = list(threads.map(work, memories))
    wire.quiet()
    wire.settle(at_once=True)
    shared = write_ids(direct.history("e", "shared"))
    assert sorted(shared) == sorted(write_id for ids, _ in acknowledged for write_id in ids)
    for memory, (in_order, own) in zip(memories, acknowledged, strict=True):
        assert [write_id for write_id in shared if write_id in in_order] == in_order
        assert write_ids(direct.history("e", memory.agent_id)) == own
        memory.close()
    assert [entry.value for entry in direct.history("e", "counter")] == list(range(1, 21))
    report = direct.verify()
    assert report.ok, report.findings


def test_a_server_that_crashes_and_comes_back_has_every_acknowledged_write_once(
    place: Place, direct: AgentMemory, s3_server: Server
) -> None:
    if s3_server.name == "moto":
        pytest.skip("NOT COVERED: moto forgets everything when it ends")
    with (
        place.memory("writer", patience=60, namespace=direct.namespace) as memory,
        ThreadPoolExecutor(1) as thread,
    ):
        half = threading.Event()

        def work() -> list[MemoryEntry]:
            entries = []
            for number in range(60):
                entries.append(memory.write("e", "k", number))
                if number == 20:
                    half.set()
            return entries

        writing = thread.submit(work)
        half.wait()
        s3_server.kill()
        s3_server.restart()
        written = writing.result()
    assert direct.history("e", "k") == written
    assert direct.verify().ok


# --- conditional writes --------------------------------------------------------------------------


@pytest.fixture
def empty_bucket(s3_server: Server) -> str:
    return s3_server.new_bucket()


@pytest.fixture
def left(s3_server: Server, empty_bucket: str) -> Iterator[Callable[[], list[str]]]:
    """What is left in that bucket."""
    client = s3_server.boto3_client()
    yield lambda: keys_of(client, empty_bucket)
    client.close()


@pytest.fixture
def unproved(
    s3_server: Server,
    empty_bucket: str,
    wire: FaultProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[AgentMemory]:
    """A memory on an endpoint that nothing is known of."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with Place.on(s3_server, empty_bucket, wire.endpoint_url).memory(patience=30) as memory:
        yield memory


def test_an_endpoint_that_ignores_the_condition_is_refused_before_anything_is_written(
    unproved: AgentMemory, left: Callable[[], list[str]], wire: FaultProxy
) -> None:
    wire.inject(Fault.IGNORE_IF_NONE_MATCH, creates, times=None)
    attempts: list[Callable[[], object]] = [
        lambda: unproved.write("e", "k", 1),
        lambda: unproved.write("e", "k", 1),
        lambda: unproved.update("e", "k", lambda _: 1),
    ]
    for attempt in attempts:
        with pytest.raises(ConditionalWritesUnsupportedError, match="If-None-Match") as caught:
            attempt()
        assert wire.endpoint_url in str(caught.value)
    assert left() == []
    assert unproved.read("e", "k") is None


def test_that_a_condition_was_ignored_is_not_remembered_as_a_proof(
    unproved: AgentMemory, wire: FaultProxy
) -> None:
    wire.inject(Fault.IGNORE_IF_NONE_MATCH, creates, times=None)
    with pytest.raises(ConditionalWritesUnsupportedError):
        unproved.write("e", "k", 1)
    wire.quiet()
    with wire.counting() as counted:
        unproved.write("e", "k", 1)
    assert counted == {"create": 3, "list": 1, "get": 1, "delete": 1}


@pytest.mark.parametrize("which", [1, 2])
@pytest.mark.parametrize("fault", [*APPLIED, *NOT_APPLIED, Fault.CONFLICT_409])
def test_a_fault_during_the_proof_neither_fails_the_write_nor_leaves_anything(
    unproved: AgentMemory, left: Callable[[], list[str]], wire: FaultProxy, fault: Fault, which: int
) -> None:
    seen = itertools.count(1)
    wire.inject(fault, lambda request: creates(request) and next(seen) == which)
    wire.inject(Fault.RESET, lambda request: request.kind == "delete")
    unproved.write("e", "k", 1)
    assert left() == ["amfs/default/entries/e/k/v1.json"]


def test_a_proof_that_gives_up_is_unavailable_and_leaves_nothing(
    unproved: AgentMemory, left: Callable[[], list[str]], wire: FaultProxy
) -> None:
    wire.inject(Fault.LOST_ANSWER, creates, times=None)
    with (
        AgentMemory("hasty", adapter=unproved.adapter, patience=0.3) as memory,
        pytest.raises(AMFSError) as caught,
    ):
        memory.write("e", "k", 1)
    assert type(caught.value) is BackendUnavailableError
    assert left() == []


def test_a_request_that_was_sent_again_on_its_own_is_not_said_to_be_unwritten(
    place: Place, direct: AgentMemory, wire: FaultProxy
) -> None:
    """A connection that was kept is lost after the create was applied: the client repeats it, is
    refused because of its own first one, and cannot read back whose it is."""
    namespace = direct.namespace
    with place.memory("w", namespace=namespace, patience=0.5) as memory:
        memory.write("e", "warm", 1)
        wire.inject(Fault.LOST_ANSWER, creates)
        wire.inject(Fault.ERROR_503, lambda request: request.kind == "get", times=None)
        wire.inject(Fault.ERROR_503, lambda request: request.kind == "list", times=None)
        try:
            memory.write("e", "k", "mine")
        except WriteOutcomeUnknownError:
            pass
        finally:
            wire.quiet()
        assert [entry.value for entry in direct.history("e", "k")] == ["mine"]
