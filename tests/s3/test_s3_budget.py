"""The request budget of the design, counted at the wire: so many and of these kinds, exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from amfs_core.memory import AgentMemory
from amfs_core.versions import LEASE
from amfs_core.versions import manifest as manifest_module
from tests.support.known import known
from tests.support.proxy import FaultProxy
from tests.support.s3_store import Place, chain, keys_of, load
from tests.support.servers import Server

DEEP = 3_000


@pytest.fixture(scope="module")
def deep_bucket(s3_server: Server) -> str:
    """A bucket with memories `deep/k<n>` of n versions, put there by a plain client."""
    bucket = s3_server.new_bucket()
    for versions in (1, 1_000, 1_001, DEEP):
        load(s3_server, bucket, chain(f"k{versions}", versions))
    return bucket


@pytest.fixture
def wire(s3_server: Server) -> Iterator[FaultProxy]:
    with FaultProxy(s3_server.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def place(s3_server: Server, bucket: str, wire: FaultProxy) -> Place:
    return Place.on(s3_server, bucket, wire.endpoint_url)


@pytest.fixture
def new_memory(place: Place) -> Iterator[Callable[[], AgentMemory]]:
    """Makes memories that know nothing but that the namespace has no manifest, on a bucket whose
    conditional writes are proved."""
    with place.memory("prover") as prover:
        prover.write("proof", "made", None)
    opened: list[AgentMemory] = []

    def make() -> AgentMemory:
        opened.append(known(place.memory()))
        return opened[-1]

    yield make
    for memory in opened:
        memory.close()


@pytest.fixture
def deep_memory(s3_server: Server, deep_bucket: str, wire: FaultProxy) -> Iterator[AgentMemory]:
    with Place.on(s3_server, deep_bucket, wire.endpoint_url).memory() as memory:
        yield known(memory)


@pytest.fixture
def first_memory(new_memory: Callable[[], AgentMemory], place: Place) -> Iterator[AgentMemory]:
    """A memory that has asked for nothing yet, on a bucket with e/k."""
    new_memory().write("e", "k", 1)
    with place.memory() as memory:
        yield memory


# --- the manifest --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (lambda memory: memory.write("e", "new", 1), {"create": 1, "get": 1}),
        (lambda memory: memory.read("e", "k", version=1), {"get": 1 + 1}),
        (lambda memory: memory.read("e", "k"), {"list": 1, "get": 2 + 1}),
        (lambda memory: memory.list("e"), {"list": 1, "get": 1 + 1}),
        (lambda memory: memory.list_outcomes(), {"list": 1, "get": 1}),
        (lambda memory: memory.stats(), {"list": 1, "get": 1}),
    ],
    ids=["write", "read of a version", "read", "list", "outcomes", "stats"],
)
def test_the_first_operation_of_a_process_is_a_get_more(
    first_memory: AgentMemory,
    wire: FaultProxy,
    first: Callable[[AgentMemory], object],
    expected: dict[str, int],
) -> None:
    with wire.counting() as counted:
        first(first_memory)
    assert counted == expected


def test_a_write_is_a_get_more_once_a_minute_and_a_read_never(
    first_memory: AgentMemory, wire: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr(manifest_module, "running", lambda: now)
    first_memory.write("e", "k", 1)
    for _ in range(3):
        now += LEASE
        with wire.counting() as counted:
            first_memory.read("e", "k")
        assert counted == {"get": 1}
        for get in ({"get": 1}, {}):
            with wire.counting() as counted:
                first_memory.write("e", "k", 1)
            assert counted == {"create": 1, **get}


# --- writing -------------------------------------------------------------------------------------


def test_writing_a_new_memory_is_one_create(
    new_memory: Callable[[], AgentMemory], wire: FaultProxy
) -> None:
    memory = new_memory()
    with wire.counting() as counted:
        memory.write("e", "new", 1)
    assert counted == {"create": 1}


def test_writing_a_memory_that_this_process_knows_is_one_create(
    new_memory: Callable[[], AgentMemory], wire: FaultProxy
) -> None:
    memory = new_memory()
    memory.write("e", "k", 1)
    with wire.counting() as counted:
        memory.write("e", "k", 2)
        memory.update("e", "k", lambda old: old + 1)
    assert counted == {"create": 2}


def test_writing_a_memory_that_was_read_is_one_create(
    new_memory: Callable[[], AgentMemory], wire: FaultProxy
) -> None:
    new_memory().write("e", "k", 1)
    memory = new_memory()
    memory.read("e", "k")
    with wire.counting() as counted:
        assert memory.write("e", "k", 2).version == 2
    assert counted == {"create": 1}


@pytest.mark.parametrize(("versions", "gets"), [(1, 2), (2, 3), (5, 3)])
def test_writing_an_unseen_memory_is_a_refused_create_its_read_back_a_read_and_a_create(
    new_memory: Callable[[], AgentMemory], wire: FaultProxy, versions: int, gets: int
) -> None:
    other = new_memory()
    for number in range(versions):
        other.write("e", "k", number)
    memory = new_memory()
    with wire.counting() as counted:
        assert memory.write("e", "k", "mine").version == versions + 1
    # With a single version, the read-back already holds what the read would get.
    assert counted == {"create": 2, "list": 1, "get": gets}


def test_a_lost_race_costs_the_refused_create_and_its_read_back(
    new_memory: Callable[[], AgentMemory], wire: FaultProxy
) -> None:
    memory, other = new_memory(), new_memory()
    memory.write("e", "k", 1)
    other.write("e", "k", 2)
    with wire.counting() as counted:
        assert memory.write("e", "k", 3).version == 3
    assert counted == {"create": 2, "get": 1}


def test_write_many_of_new_memories_is_one_create_each(
    new_memory: Callable[[], AgentMemory], wire: FaultProxy
) -> None:
    memory = new_memory()
    items = [{"entity_path": "many", "key": f"k{n}", "value": n} for n in range(150)]
    with wire.counting() as counted:
        memory.write_many(items)
    assert counted == {"create": 150}


def test_deleting_a_memory_that_this_process_knows_is_a_read_and_a_create(
    new_memory: Callable[[], AgentMemory], wire: FaultProxy
) -> None:
    memory = new_memory()
    memory.write("e", "k", 1)
    with wire.counting() as counted:
        memory.delete("e", "k")
    assert counted == {"get": 1, "create": 1}


# --- outcomes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("causes", [0, 1, 20])
def test_an_outcome_is_one_create_and_one_for_each_memory_that_this_process_knows(
    new_memory: Callable[[], AgentMemory], wire: FaultProxy, causes: int
) -> None:
    memory = new_memory()
    entries = [memory.write("e", f"k{number}", 1) for number in range(causes)]
    with wire.counting() as counted:
        memory.commit_outcome("r", "failure", entries=entries)
    assert counted == {"create": 1 + causes}


def test_an_outcome_of_what_was_read_is_one_create_and_one_for_each_memory(
    new_memory: Callable[[], AgentMemory], wire: FaultProxy
) -> None:
    new_memory().write("e", "k", 1)
    memory = new_memory()
    memory.read("e", "k")
    with wire.counting() as counted:
        memory.commit_outcome("r", "failure")
    assert counted == {"create": 2}


def test_an_outcome_of_the_newest_versions_is_a_read_of_each_more(
    new_memory: Callable[[], AgentMemory], wire: FaultProxy
) -> None:
    new_memory().write("e", "unseen", 1)
    memory = new_memory()
    memory.write("e", "known", 1)
    with wire.counting() as counted:
        memory.commit_outcome("r", "failure", entries=[("e", "known"), ("e", "unseen")])
    assert counted == {"create": 3, "list": 1, "get": 3}


def test_outcomes_are_listed_for_a_list_and_a_get_of_each_that_is_not_known(
    new_memory: Callable[[], AgentMemory], wire: FaultProxy
) -> None:
    writer, memory = new_memory(), new_memory()
    for number in range(5):
        writer.commit_outcome(f"r{number}", "success", entries=[])
    for expected in ({"list": 1, "get": 5}, {"list": 1}):
        with wire.counting() as counted:
            assert len(memory.list_outcomes()) == 5
        assert counted == expected
    with wire.counting() as counted:
        assert memory.read_outcome("r0") == writer.read_outcome("r0")
    assert not counted


# --- reading -------------------------------------------------------------------------------------


def test_reading_a_memory_that_this_process_knows_is_one_get(
    new_memory: Callable[[], AgentMemory], wire: FaultProxy
) -> None:
    memory = new_memory()
    memory.write("e", "k", 1)
    with wire.counting() as counted:
        memory.read("e", "k")
    assert counted == {"get": 1}
    memory.read("e", "absent")
    with wire.counting() as counted:
        assert memory.read("e", "absent") is None
    assert counted == {"get": 1}


def test_a_read_within_max_age_of_the_last_check_makes_no_request(
    new_memory: Callable[[], AgentMemory], wire: FaultProxy
) -> None:
    memory = new_memory()
    memory.write("e", "k", 1)
    assert memory.read("e", "absent") is None
    with wire.counting() as counted:
        entry = memory.read("e", "k", max_age=3600)
        assert entry is not None
        assert entry.value == 1
        assert memory.read("e", "absent", max_age=3600) is None
    assert not counted


@pytest.mark.parametrize("versions", [1, 1_000])
def test_reading_an_unseen_memory_of_up_to_1000_versions_is_one_list_and_two_gets(
    deep_memory: AgentMemory, wire: FaultProxy, versions: int
) -> None:
    with wire.counting() as counted:
        entry = deep_memory.read("deep", f"k{versions}")
    assert entry is not None
    assert entry.value == {"n": versions}
    assert counted == {"list": 1, "get": 2}


def test_reading_an_unseen_memory_that_is_absent_is_one_list_and_one_get(
    new_memory: Callable[[], AgentMemory], wire: FaultProxy
) -> None:
    memory = new_memory()
    with wire.counting() as counted:
        assert memory.read("e", "absent") is None
    assert counted == {"list": 1, "get": 1}


def test_the_newest_of_3000_versions_is_found_with_logarithmically_many_requests(
    deep_memory: AgentMemory, wire: FaultProxy
) -> None:
    with wire.counting() as counted:
        entry = deep_memory.read("deep", f"k{DEEP}")
    assert entry is not None
    assert entry.version == DEEP
    assert counted["list"] == 1
    assert counted.total() <= 3 + 2 * math.ceil(math.log2(DEEP))


def test_reading_a_given_version_is_one_get_and_the_second_time_none(
    deep_memory: AgentMemory, wire: FaultProxy
) -> None:
    with wire.counting() as counted:
        first = deep_memory.read("deep", "k1001", version=500)
    assert counted == {"get": 1}
    with wire.counting() as counted:
        assert deep_memory.read("deep", "k1001", version=500) == first
    assert not counted


@pytest.mark.parametrize("versions", [1, 1_000, 1_001])
def test_a_history_is_a_list_per_1000_versions_and_a_get_per_version_not_cached(
    deep_memory: AgentMemory, wire: FaultProxy, versions: int
) -> None:
    with wire.counting() as counted:
        history = deep_memory.history("deep", f"k{versions}")
    assert [entry.version for entry in history] == list(range(1, versions + 1))
    lists = math.ceil(versions / 1_000)
    assert counted == {"list": lists, "get": versions}
    with wire.counting() as counted:
        assert deep_memory.history("deep", f"k{versions}") == history
    assert counted == {"list": lists}


@pytest.mark.parametrize(("memories", "versions"), [(10, 100), (7, 300)])
def test_a_listing_is_a_list_per_1000_objects_and_a_get_per_memory_not_seen(
    s3_server: Server,
    place: Place,
    wire: FaultProxy,
    memories: int,
    versions: int,
) -> None:
    for number in range(memories):
        load(s3_server, place.bucket, chain(f"k{number}", versions, "listed"))
    lists = math.ceil(memories * versions / 1_000)
    memory = known(place.memory())
    with wire.counting() as counted:
        entries = memory.list("listed")
    assert [entry.version for entry in entries] == [versions] * memories
    assert counted == {"list": lists, "get": memories}
    with wire.counting() as counted:
        assert memory.list("listed") == entries
    assert counted == {"list": lists}
    with wire.counting() as counted:
        assert memory.stats("listed").versions == memories * versions
    assert counted == {"list": lists}
    memory.close()


def test_listing_one_memory_again_is_one_list_and_no_get(
    new_memory: Callable[[], AgentMemory], wire: FaultProxy
) -> None:
    new_memory().write("e", "k", 1)
    memory = new_memory()
    memory.list("e")
    with wire.counting() as counted:
        assert [entry.value for entry in memory.list("e")] == [1]
    assert counted == {"list": 1}


def test_health_is_one_list(new_memory: Callable[[], AgentMemory], wire: FaultProxy) -> None:
    memory = new_memory()
    with wire.counting() as counted:
        assert memory.health().ok
    assert counted == {"list": 1}


def test_the_metrics_say_what_the_wire_says(
    new_memory: Callable[[], AgentMemory], wire: FaultProxy
) -> None:
    memory = new_memory()
    new_memory().write("e", "k", 1)
    before = memory.metrics.requests
    with wire.counting() as counted:
        memory.write("e", "k", 2)
        memory.read("e", "k")
        memory.read("e", "other")
        memory.history("e", "k")
        memory.list()
    now = memory.metrics.requests
    said = {kind: now[kind] - before[kind] for kind in now if now[kind] > before[kind]}
    assert said == counted


# --- proof of conditional writes -----------------------------------------------------------------


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.usefixtures("empty_cache")
def test_the_proof_of_conditional_writes_is_five_requests_once_per_endpoint_and_bucket(
    s3_server: Server, bucket: str, wire: FaultProxy
) -> None:
    place = Place.on(s3_server, bucket, wire.endpoint_url)
    # And each time a look at the manifest.
    for expected in (
        {"create": 3, "list": 1, "get": 1 + 1, "delete": 1},
        {"create": 1, "get": 1},
    ):
        with place.memory() as memory, wire.counting() as counted:
            memory.write("e", f"k{expected['create']}", 1)
        assert counted == expected
    other = Place.on(s3_server, s3_server.new_bucket(), wire.endpoint_url)
    with other.memory() as memory, wire.counting() as counted:
        memory.write("e", "k", 1)
    assert counted == {"create": 3, "list": 1, "get": 1 + 1, "delete": 1}


@pytest.mark.usefixtures("empty_cache")
def test_reading_needs_no_proof_of_conditional_writes(
    s3_server: Server, bucket: str, wire: FaultProxy
) -> None:
    with (
        Place.on(s3_server, bucket, wire.endpoint_url).memory() as memory,
        wire.counting() as counted,
    ):
        assert memory.read("e", "k") is None
    assert counted == {"list": 1, "get": 1 + 1}


@pytest.mark.usefixtures("empty_cache")
def test_the_proof_of_conditional_writes_leaves_nothing_in_the_bucket(
    s3_server: Server, bucket: str
) -> None:
    with Place.on(s3_server, bucket).memory() as memory:
        memory.write("e", "k", 1)
    client = s3_server.boto3_client()
    assert keys_of(client, bucket) == ["amfs/default/entries/e/k/v1.json"]
    client.close()


def test_the_proof_is_made_again_where_there_is_no_cache_to_remember_it(
    s3_server: Server,
    bucket: str,
    wire: FaultProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(in_the_way))
    for key in "ab":
        with (
            Place.on(s3_server, bucket, wire.endpoint_url).memory() as memory,
            wire.counting() as counted,
        ):
            memory.write("e", key, 1)
        assert counted == {"create": 3, "list": 1, "get": 1 + 1, "delete": 1}


def test_nothing_is_requested_before_the_first_operation(
    s3_server: Server, bucket: str, wire: FaultProxy
) -> None:
    with wire.counting() as counted:
        Place.on(s3_server, bucket, wire.endpoint_url).memory().close()
    assert not counted
