"""`AMFSStore`: what LangGraph promises of a store, and what only AMFS does."""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypedDict
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langgraph.graph import START, StateGraph
from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    SearchOp,
)
from langgraph.store.memory import InMemoryStore
from langgraph.store.sqlite import SqliteStore

from amfs import (
    AgentMemory,
    AsyncAgentMemory,
    BackendUnavailableError,
    ConfigurationError,
    InvalidValueError,
)
from amfs.importers import import_from
from amfs_agents.labels import label, unlabel
from amfs_agents.langgraph import AMFSStore
from amfs_local import LocalAdapter
from tests.agents.counting import counted
from tests.support import waiting

Opens = Callable[[], AgentMemory]


@pytest.fixture
def amfs_store(memory: AgentMemory) -> AMFSStore:
    return AMFSStore(memory)


# --- the same answers as LangGraph's own ----------------------------------------------------------

LABELS = st.sampled_from(["a", "b", "ab", "A", "a*", "[b", "c_d"])
NAMESPACES = st.lists(LABELS, min_size=1, max_size=3).map(tuple)
KEYS = st.sampled_from(["k", "K", "k/1", "k.2", "%41"])
NUMBERS = st.integers(-2, 2) | st.sampled_from([0.5, 1e300])
VALUES = st.fixed_dictionaries(
    {"n": NUMBERS, "s": st.sampled_from(["", "x", "y", "é"])},
    optional={"o": st.sampled_from([{"p": 1}, {"p": [1, 2]}, {}]), "z": st.none() | st.booleans()},
)
OPERATORS = st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"])
FILTERS = st.none() | st.one_of(
    st.fixed_dictionaries({"n": NUMBERS}),
    st.fixed_dictionaries({"s": st.sampled_from(["x", "é"]), "n": NUMBERS}),
    st.fixed_dictionaries({"n": st.dictionaries(OPERATORS, NUMBERS, min_size=1, max_size=2)}),
    st.fixed_dictionaries({"s": st.dictionaries(st.just("$eq"), st.just("x"), min_size=1)}),
)
ONLY_IN_MEMORY = st.one_of(  # SQL has other ideas of these
    st.fixed_dictionaries({"o": st.sampled_from([{"p": 1}, {"p": [1, 2]}, {}])}),
    st.fixed_dictionaries({"z": st.none() | st.booleans()}),
    st.fixed_dictionaries({"z": st.fixed_dictionaries({"$ne": st.booleans()})}),
    st.fixed_dictionaries(
        {"o": st.fixed_dictionaries({"p": st.fixed_dictionaries({"$eq": NUMBERS})})}
    ),
)
CONDITIONS = st.lists(
    st.builds(
        MatchCondition,
        st.sampled_from(["prefix", "suffix"]),
        st.lists(LABELS | st.just("*"), min_size=1, max_size=2).map(tuple),
    ),
    max_size=2,
).map(tuple)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), NAMESPACES, KEYS, VALUES),
        st.tuples(st.just("delete"), NAMESPACES, KEYS),
        st.tuples(st.just("get"), NAMESPACES, KEYS),
        st.tuples(st.just("search"), st.just(()) | NAMESPACES, FILTERS),
        st.tuples(st.just("search in memory"), st.just(()) | NAMESPACES, ONLY_IN_MEMORY),
        st.tuples(st.just("page"), NAMESPACES, st.integers(0, 3), st.integers(0, 3)),
        st.tuples(st.just("namespaces"), CONDITIONS, st.none() | st.integers(1, 3)),
    ),
    max_size=14,
)


def plain(item: Item | None) -> Any:
    return None if item is None else (item.namespace, item.key, item.value)


def done(
    store: BaseStore, steps: list[tuple[Any, ...]], root: str, *, skipped: str = ""
) -> list[Any]:
    """What a store answers to each step, below a namespace of its own."""
    answers: list[Any] = []
    for step in steps:
        if step[0] == skipped:
            answers.append(skipped)
            continue
        match step:
            case ("put", namespace, key, value):
                store.put((root, *namespace), key, value)
            case ("delete", namespace, key):
                store.delete((root, *namespace), key)
            case ("get", namespace, key):
                answers.append(plain(store.get((root, *namespace), key)))
            case ("search" | "search in memory", prefix, conditions):
                items = store.search((root, *prefix), filter=conditions, limit=100)
                answers.append(sorted((plain(item) for item in items), key=str))
            case ("page", prefix, limit, offset):
                items = store.search((root, *prefix), limit=limit, offset=offset)
                answers.append(len(items))
            case ("namespaces", conditions, depth):
                depth = depth and depth + 1
                first = MatchCondition("prefix", (root,))
                [names] = store.batch([ListNamespacesOp((first, *conditions), depth, 50)])
                answers.append(sorted(names))  # type: ignore[arg-type]
    return answers


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(steps=STEPS)
def test_random_programs_get_the_answers_of_langgraphs_own(
    steps: list[tuple[Any, ...]], memory: AgentMemory
) -> None:
    root = uuid4().hex
    own = AMFSStore(memory)
    # Of a namespace whose items are deleted LangGraph's own in memory still knows.
    expected = done(InMemoryStore(), steps, root, skipped="namespaces")
    assert done(own, steps, root, skipped="namespaces") == expected
    with SqliteStore.from_conn_string(":memory:") as sqlite:
        sqlite.setup()
        expected = done(sqlite, steps, root + "2", skipped="search in memory")
    assert done(own, steps, root + "2", skipped="search in memory") == expected


def test_a_batch_reads_before_it_writes_and_the_last_put_of_an_item_counts(
    amfs_store: AMFSStore,
) -> None:
    for store in (amfs_store, InMemoryStore()):
        store.put(("a",), "k", {"n": 0})
        answers = store.batch(
            [
                PutOp(("a",), "k", {"n": 1}),
                GetOp(("a",), "k"),
                PutOp(("a",), "k", {"n": 2}),
                SearchOp(("a",)),
                PutOp(("a",), "new", {}),
                PutOp(("a",), "new", None),
            ]
        )
        assert plain(answers[1]) == (("a",), "k", {"n": 0})  # type: ignore[arg-type]
        assert [plain(item) for item in answers[3]] == [(("a",), "k", {"n": 0})]  # type: ignore[arg-type,union-attr]
        assert [plain(item) for item in store.search(())] == [(("a",), "k", {"n": 2})]


def test_a_namespace_may_be_given_as_a_list(amfs_store: AMFSStore) -> None:
    as_list: Any = ["a", "b"]
    amfs_store.put(as_list, "k", {"text": "sea"})
    assert plain(amfs_store.get(as_list, "k")) == (("a", "b"), "k", {"text": "sea"})
    assert len(amfs_store.search(as_list[:1], query="sea")) == 1
    assert amfs_store.list_namespaces(prefix=as_list, suffix=as_list[1:]) == [("a", "b")]


def test_the_last_changed_item_comes_first_and_keeps_its_time_of_creation(
    amfs_store: AMFSStore,
) -> None:
    for number in range(3):
        amfs_store.put(("a",), str(number), {})
    made = amfs_store.get(("a",), "0")
    amfs_store.put(("a",), "0", {"again": True})
    assert [item.key for item in amfs_store.search(("a",), limit=2)] == ["0", "2"]
    again = amfs_store.get(("a",), "0")
    assert made is not None
    assert again is not None
    assert again.created_at == made.created_at < again.updated_at
    assert again.created_at.tzinfo is not None


def test_a_graph_remembers_across_threads_and_event_loops(opens: Opens) -> None:
    class State(TypedDict):
        name: str

    async def remember(state: State, *, store: BaseStore) -> State:
        known = await store.asearch(("names",))
        await store.aput(("names",), state["name"], {"name": state["name"]})
        return {"name": ", ".join(sorted(item.key for item in known))}

    graph = StateGraph(State)
    graph.add_node("remember", remember)
    graph.add_edge(START, "remember")
    for name, known in (("ada", ""), ("bob", "ada"), ("eve", "ada, bob")):
        compiled = graph.compile(store=AMFSStore(opens()))
        assert asyncio.run(compiled.ainvoke({"name": name})) == {"name": known}


def test_the_asynchronous_methods_are_the_same(memory: AgentMemory) -> None:
    async def run() -> None:
        async with AsyncAgentMemory("tests", adapter=memory.adapter) as other:
            store = AMFSStore(other)
            await store.aput(("a", "b"), "k", {"n": 1})
            assert plain(await store.aget(("a", "b"), "k")) == (("a", "b"), "k", {"n": 1})
            assert await store.alist_namespaces(prefix=("a",)) == [("a", "b")]
            assert len(await store.asearch(("a",), filter={"n": {"$gt": 0}})) == 1
            await store.adelete(("a", "b"), "k")
            assert await store.aget(("a", "b"), "k") is None

    asyncio.run(run())


# --- refusals -------------------------------------------------------------------------------------


def test_a_value_that_json_cannot_carry_refuses_the_whole_batch(
    memory: AgentMemory, amfs_store: AMFSStore
) -> None:
    with pytest.raises(InvalidValueError, match=r"value\['at'\] is of type datetime"):
        amfs_store.batch(
            [PutOp(("a",), "good", {}), PutOp(("a",), "bad", {"at": datetime.now(UTC)})]
        )
    with pytest.raises(InvalidValueError, match=r"value\['at'\] is of type datetime"):
        with_index(memory, Embedder()).put(("a",), "bad", {"at": datetime.now(UTC)})
    with pytest.raises(InvalidValueError, match="must be a dict, not list"):
        amfs_store.put(("a",), "bad", [1])  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="ttl must be more than 0"):
        amfs_store.batch([PutOp(("a",), "good", {}), PutOp(("a",), "bad", {}, ttl=0)])
    assert amfs_store.search(()) == []


@pytest.mark.parametrize(
    ("op", "problem"),
    [
        (SearchOp((), {"n": {"$in": [1]}}), "no operator '\\$in'"),
        (SearchOp((), limit=-1), "limit must be"),
        (ListNamespacesOp(offset=-1), "offset must be"),
        (ListNamespacesOp((MatchCondition("infix", ("a",)),)), "no match type 'infix'"),  # type: ignore[arg-type]
        ("get", "operation 0 must be one of LangGraph's"),
        (GetOp((1,), "k"), "namespace label must be text"),  # type: ignore[arg-type]
    ],
)
def test_an_operation_that_there_is_not_is_refused(
    op: Any, problem: str, amfs_store: AMFSStore
) -> None:
    amfs_store.put(("a",), "k", {"n": 1})
    with pytest.raises(InvalidValueError, match=problem):
        amfs_store.batch([op])


def test_a_foreign_memory_in_the_store_is_refused_by_name(
    memory: AgentMemory, amfs_store: AMFSStore
) -> None:
    memory.write("store/a", "k", {"value": 1})
    with pytest.raises(InvalidValueError, match="store/a/k is not an item of a LangGraph store"):
        amfs_store.search(())


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "namespace",
    [
        ("a/b", "%2F", "100%", "é\n", " "),
        ("x" * 300,),
        ("x" * 301, "y"),
        tuple("label" * 12 + str(number) for number in range(30)),
        ("日本語" * 40, "." * 3, ".."),
        ("*", "?"),
        ("",),
        ("%~" + "0" * 64,),
    ],
    ids=lambda namespace: f"{len(namespace)}-{len(namespace[0])}",
)
def test_labels_are_any_text(namespace: tuple[str, ...], amfs_store: AMFSStore) -> None:
    amfs_store.batch([PutOp(("neighbour",), "k", {}), PutOp(namespace, "k" * 500, {"n": 1})])
    amfs_store.batch([PutOp((*namespace[:-1], namespace[-1] + "x"), "k", {})])
    [item] = amfs_store.batch([GetOp(namespace, "k" * 500)])
    assert plain(item) == (namespace, "k" * 500, {"n": 1})  # type: ignore[arg-type]
    for length in range(1, len(namespace) + 1):
        [results] = amfs_store.batch([SearchOp(namespace[:length])])
        assert (namespace, "k" * 500, {"n": 1}) in [plain(result) for result in results]  # type: ignore[arg-type,union-attr]
    [results] = amfs_store.batch([SearchOp(namespace)])
    assert len(results) == 1  # type: ignore[arg-type]
    assert namespace in amfs_store.list_namespaces()


@pytest.mark.parametrize(
    "op",
    [
        GetOp(("a", 1), "k"),  # type: ignore[arg-type]
        PutOp(("a", 1), "k", {}),  # type: ignore[arg-type]
        PutOp(("a", 1), "k", None),  # type: ignore[arg-type]
        SearchOp(("a", 1)),  # type: ignore[arg-type]
        ListNamespacesOp((MatchCondition("prefix", ("a", 1)),)),  # type: ignore[arg-type]
        ListNamespacesOp((MatchCondition("suffix", ("a", 1)),)),  # type: ignore[arg-type]
    ],
    ids=lambda op: f"{type(op).__name__}",
)
def test_a_batch_with_a_label_that_is_not_text_does_nothing(
    op: GetOp | PutOp | SearchOp | ListNamespacesOp, amfs_store: AMFSStore
) -> None:
    with pytest.raises(InvalidValueError, match="namespace label must be text"):
        amfs_store.batch([PutOp(("good",), "k", {}), op])
    assert amfs_store.list_namespaces() == []


@given(first=st.text(max_size=120), second=st.text(max_size=120))
def test_two_names_never_have_one_label(first: str, second: str) -> None:
    labels = label(first, "name"), label(second, "name")
    assert (labels[0] == labels[1]) == (first == second)
    assert all(
        unlabel(made_label) in (name, None)
        for made_label, name in zip(labels, (first, second), strict=True)
    )


def test_an_item_may_have_the_name_of_a_namespace(amfs_store: AMFSStore) -> None:
    amfs_store.put(("a",), "b", {"n": 1})
    amfs_store.put(("a", "b"), "c", {"n": 2})
    assert [item.value["n"] for item in amfs_store.search(("a", "b"))] == [2]
    assert amfs_store.list_namespaces() == [("a",), ("a", "b")]


# --- times to live --------------------------------------------------------------------------------


until = partial(waiting.until, seconds=30.0)


def test_an_item_ends_and_a_sweep_erases_it(memory: AgentMemory) -> None:
    store = AMFSStore(memory, ttl={"default_ttl": 0.002, "refresh_on_read": False})
    store.put(("a",), "ends", {"secret": 1})
    store.put(("a",), "stays", {}, ttl=None)
    store.put(("a",), "later", {}, ttl=60)
    until(lambda: store.get(("a",), "ends") is None)
    assert {item.key for item in store.search(("a",))} == {"stays", "later"}
    assert store.list_namespaces() == [("a",)]
    assert store.sweep_ttl() == 1
    assert store.sweep_ttl() == 0
    assert [entry.value for entry in memory.history(*store.address(("a",), "ends"))] == [None] * 2


def test_a_sweeper_erases_what_ends_until_it_is_stopped(memory: AgentMemory) -> None:
    store = AMFSStore(memory, ttl={"default_ttl": 0.002})
    running = store.start_ttl_sweeper(0.0005)
    assert store.start_ttl_sweeper(1) is running
    store.put(("a",), "k", {"secret": 1})
    place = store.address(("a",), "k")
    until(lambda: memory.history(*place)[0].value is None)
    assert store.stop_ttl_sweeper()
    assert running.done()
    again = store.start_ttl_sweeper(60)
    again.cancel()
    assert store.stop_ttl_sweeper(30)
    assert AMFSStore(memory).start_ttl_sweeper().done()  # nothing ends there by itself


def test_a_sweeper_goes_on_after_a_failure(memory: AgentMemory) -> None:
    failures = iter([BackendUnavailableError("down")])

    class Failing(AMFSStore):
        def sweep_ttl(self) -> int:
            for failure in failures:
                raise failure
            return super().sweep_ttl()

    store = Failing(memory, ttl={"default_ttl": 0.002})
    store.start_ttl_sweeper(0.0005)
    store.put(("a",), "k", {"secret": 1})
    place = store.address(("a",), "k")
    until(lambda: memory.history(*place)[0].value is None)
    assert store.stop_ttl_sweeper()


def test_a_sweeper_ends_with_its_store(memory: AgentMemory) -> None:
    store = AMFSStore(memory, ttl={"default_ttl": 1})
    running = store.start_ttl_sweeper(0.0005)
    del store
    gc.collect()
    running.result(timeout=30)


def test_a_sweep_finishes_what_a_crash_left_of_an_erasure(tmp_path: Path) -> None:
    class Crash(BaseException):
        pass

    class Crashing(LocalAdapter):
        def replace(self, key: str, data: bytes) -> None:
            raise Crash

    with closing(Crashing(tmp_path)) as adapter, AgentMemory("a", adapter=adapter) as memory:
        store = AMFSStore(memory)
        store.put(("a",), "k", {"secret": 1})
        with pytest.raises(Crash):
            store.delete(("a",), "k")
    with closing(LocalAdapter(tmp_path)) as whole, AgentMemory("a", adapter=whole) as memory:
        store = AMFSStore(memory)
        assert not memory.verify().ok
        assert store.sweep_ttl() == 0
        assert memory.verify().ok
        assert [entry.value for entry in memory.history("store/a", "k")] == [None, None]


def test_a_sweep_leaves_alone_what_is_put_again_meanwhile(opens: Opens) -> None:
    store, memory = AMFSStore(opens()), opens()
    place = store.address(("a",), "k")
    store.put(("a",), "k", {"n": 1}, ttl=0.001)
    until(lambda: memory.read(*place) is None)
    over = memory.history(*place)[-1]
    store.put(("a",), "k", {"n": 2})
    assert not AMFSStore(memory)._sweep(over)
    assert plain(store.get(("a",), "k")) == (("a",), "k", {"n": 2})


def test_a_read_begins_the_time_to_live_again(memory: AgentMemory) -> None:
    store = AMFSStore(memory)
    store.put(("a",), "k", {"n": 1}, ttl=0.1)  # a hundredth of it is 60 ms
    place = store.address(("a",), "k")

    def end() -> datetime:
        entry = memory.read(*place)
        assert entry is not None
        assert entry.expires_at is not None
        return entry.expires_at

    first = end()
    store.get(("a",), "k", refresh_ttl=False)
    store.search(("a",), refresh_ttl=False)
    assert end() == first
    for read in (lambda: store.get(("a",), "k"), lambda: store.search(("a",))):
        before = end()
        item = store.get(("a",), "k", refresh_ttl=False)
        until(lambda read=read, before=before: read() and end() > before)  # type: ignore[misc]
        assert store.get(("a",), "k", refresh_ttl=False) == item
    versions = len(memory.history(*place))
    store.get(("a",), "k")  # too soon again
    assert len(memory.history(*place)) <= versions + 1


def test_a_put_meanwhile_is_not_undone_by_a_read_that_begins_the_time_again(opens: Opens) -> None:
    store, other = AMFSStore(opens()), AMFSStore(opens())
    store.put(("a",), "k", {"n": 1}, ttl=0.01)
    [pair] = store._under(("a",), {})
    other.put(("a",), "k", {"n": 2})
    store._begin_again(*pair)
    newest = opens().read(*store.address(("a",), "k"))
    assert newest is not None
    assert newest.value["value"] == {"n": 2}
    assert newest.expires_at is None


# --- search by meaning and by words ---------------------------------------------------------------


class Embedder:
    """Vectors of letters: what shares letters is near."""

    def __init__(self) -> None:
        self.embedded: list[str] = []

    def __call__(self, texts: Any) -> list[list[float]]:
        self.embedded += texts
        return [[float(text.lower().count(letter)) for letter in "aehlstw"] for text in texts]


def with_index(memory: AgentMemory, embed: Any, **more: Any) -> AMFSStore:
    index: Any = {"dims": 7, "embed": embed, **more}
    return AMFSStore(memory, index=index)


def test_the_nearest_are_found_as_langgraphs_own_find_them(memory: AgentMemory) -> None:
    index: Any = {"dims": 7, "embed": Embedder(), "fields": ["text", "notes[*].text"]}
    own, theirs = AMFSStore(memory, index=index), InMemoryStore(index=index)
    for store in (own, theirs):
        store.put(("a",), "1", {"text": "hello sea", "notes": [{"text": "zzz"}, {"text": "lhs"}]})
        store.put(("a",), "2", {"text": "wet lands", "other": "hello"})
        store.put(("a", "b"), "3", {"other": "water hall"}, index=["other"])
        store.put(("a",), "4", {"text": "hello"}, index=False)
        store.put(("a",), "5", {"notes": []})
        store.put(("c",), "6", {"text": "hello"})
    for query in ("hello", "water"):
        for limit in (1, 3, 10):
            expected = theirs.search(("a",), query=query, limit=limit)
            own_items = own.search(("a",), query=query, limit=limit)
            assert len(own_items) == len(expected)
            for own_item, other in zip(own_items, expected, strict=True):
                if other.score is not None:
                    assert own_item.key == other.key
                    assert own_item.score == pytest.approx(other.score)
    assert {item.score for item in own.search(("a",), query="zzz")} == {0.0, None}


def test_vectors_are_shared_and_a_text_is_embedded_once(opens: Opens) -> None:
    embed = Embedder()
    store = with_index(opens(), embed, fields=["text"])
    store.batch([PutOp(("a",), key, {"text": "hello"}) for key in "kl"])
    assert embed.embedded == ["hello"]
    other = Embedder()
    [best, _] = with_index(opens(), other).search(("a",), query="hell")
    assert best.score == pytest.approx(math.sqrt(6 / 7), abs=0.2)
    assert other.embedded == ["hell"]
    store.put(("a",), "k", {"text": "hello", "n": 1}, index=False)
    assert [item.score is None for item in store.search(("a",), query="hell")] == [False, True]


def test_an_asynchronous_embedder_will_do(memory: AgentMemory) -> None:
    async def embed(texts: Any) -> list[list[float]]:
        return Embedder()(texts)

    async def run() -> None:
        store = with_index(memory, embed)
        await store.aput(("a",), "k", {"text": "hello"})
        [item] = await store.asearch(("a",), query="hello")
        assert item.score is not None

    asyncio.run(run())


def test_an_embedder_with_other_vectors_than_configured_is_refused(memory: AgentMemory) -> None:
    store = AMFSStore(memory, index={"dims": 3, "embed": Embedder()})
    with pytest.raises(ConfigurationError, match="a vector of 7 numbers, not 3; correct dims"):
        store.put(("a",), "k", {"text": "hello"})
    assert store.search(()) == []


def test_without_an_embedder_a_query_is_words_and_the_rest_comes_after(memory: AgentMemory) -> None:
    store = AMFSStore(memory)
    store.put(("a",), "1", {"text": "The parcel is in Lisbon."})
    store.put(("a",), "2", {"text": "The weather is fine."})
    store.put(("a",), "3", {"text": "Parcels to Porto: a parcel, another parcel."}, index=False)
    store.put(("b",), "4", {"text": "parcel"})
    [first, second, third] = store.search(("a",), query="where is my parcel")
    assert first.key == "1"
    assert first.score
    assert {second.key, third.key} == {"2", "3"}
    assert second.score is None
    assert [item.key for item in store.search(("a",), query="parcel", limit=1)] == ["1"]
    assert [hit.entry.key for hit in memory.search("Lisbon")] == ["1"]


# --- what AMFS adds -------------------------------------------------------------------------------


def test_a_deleted_item_is_erased_unless_its_history_is_to_stay(memory: AgentMemory) -> None:
    store = AMFSStore(memory)
    kept = AMFSStore(memory, path="kept", keep_deleted=True)
    for each_store in (store, kept):
        each_store.put(("a",), "k", {"n": 1})
        each_store.put(("a",), "k", {"n": 2})
        each_store.delete(("a",), "k")
        each_store.delete(("a",), "never there")
        assert each_store.get(("a",), "k") is None
        assert each_store.list_namespaces() == []
    values = [entry.value for entry in memory.history(*store.address(("a",), "k"))]
    assert values == [None, None, None]
    past = memory.history(*kept.address(("a",), "k"))
    assert [entry.value and entry.value["value"]["n"] for entry in past] == [1, 2, None]
    assert memory.verify().ok


def test_an_item_can_be_read_as_it_was_and_outcomes_move_its_confidence(
    memory: AgentMemory,
) -> None:
    store = AMFSStore(memory)
    store.put(("a",), "k", {"n": 1})
    before = datetime.now(UTC)
    store.put(("a",), "k", {"n": 2})
    place = store.address(("a",), "k")
    past = memory.read(*place, at=before)
    assert past is not None
    assert past.value["value"] == {"n": 1}
    memory.commit_outcome("warm-up", "success", entries=[])
    store.get(("a",), "k")
    outcome = memory.commit_outcome("run-1", "failure")
    assert [(cause.entity_path, cause.key) for cause in outcome.causes] == [place]
    newest = memory.read(*place)
    assert newest is not None
    assert newest.confidence < 1
    assert plain(store.get(("a",), "k")) == (("a",), "k", {"n": 2})


def test_it_works_on_a_directory(tmp_path: Path) -> None:
    with (
        closing(LocalAdapter(tmp_path)) as adapter,
        AgentMemory("tests", adapter=adapter) as memory,
    ):
        store = AMFSStore(memory)
        store.put(("users", "a/b"), "k.1", {"n": 1})
        store.put(("users", "a/b"), "k.1", {"n": 2})
        assert plain(store.get(("users", "a/b"), "k.1")) == (("users", "a/b"), "k.1", {"n": 2})
        assert store.list_namespaces(suffix=("a/b",)) == [("users", "a/b")]


def test_items_of_langgraphs_own_store_are_imported(memory: AgentMemory, tmp_path: Path) -> None:
    names = [("a",), ("a", "b/c", "100%"), ("名前", " x ")]
    with SqliteStore.from_conn_string(str(tmp_path / "theirs.db")) as theirs:
        theirs.setup()
        for namespace in names:
            for key in ("k", "", "k/1.%"):
                theirs.put(namespace, key, {"n": len(namespace)}, ttl=60)
        expected = sorted(plain(item) for item in theirs.search((), limit=100))
    import_from(memory, "langgraph", tmp_path / "theirs.db")
    store = AMFSStore(memory)
    assert sorted(plain(item) for item in store.search((), limit=100)) == expected
    assert store.list_namespaces() == sorted(names)
    for namespace, key, value in expected:
        assert plain(store.get(namespace, key)) == (namespace, key, value)
    store.put(("a",), "k", {"n": 5})
    assert plain(store.get(("a",), "k")) == (("a",), "k", {"n": 5})


def test_a_put_that_is_cancelled_ends_when_it_is_known_what_came_of_it(memory: AgentMemory) -> None:
    async def run() -> None:
        store = AMFSStore(memory)
        task = asyncio.create_task(store.aput(("a",), "k", {"n": 1}))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        item = await store.aget(("a",), "k")
        assert plain(item) in (None, (("a",), "k", {"n": 1}))

    asyncio.run(run())


def test_requests_of_a_store_are_as_documented(on_bucket: Opens) -> None:
    memory = on_bucket()
    store = AMFSStore(memory)
    with counted(memory) as new:
        store.put(("a",), "k", {"n": 1})
    assert new == {"create": 1}
    with counted(memory) as again:
        store.put(("a",), "k", {"n": 2})
    assert again == {"create": 1}
    with counted(memory) as got:
        store.get(("a",), "k")
    assert got == {"get": 1}
    with counted(memory) as search_requests:
        store.search(("a",))
    assert search_requests == {"list": 1}
    with counted(memory) as by_words:
        store.search(("a",), query="n")
    assert by_words == {"list": 1}
    fresh = on_bucket()
    with counted(fresh) as cold:
        AMFSStore(fresh).search(("a",))
    assert cold == {"list": 1, "get": 1}
    other = on_bucket()
    with counted(other) as unknown:
        AMFSStore(other).put(("a",), "k", {"n": 3})
    assert sum(unknown.values()) <= 7
    with counted(memory) as deleted:
        store.delete(("a",), "k")
    assert sum(deleted.values()) <= 4 + 2 * 3
