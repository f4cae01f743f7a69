"""`AMFSSaver`: what LangGraph promises of a checkpointer, and what only AMFS does."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, TypedDict
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple, empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from amfs import AgentMemory, AsyncAgentMemory, CorruptEntryError, InvalidValueError
from amfs_agents.langgraph import AMFSSaver, AMFSStore
from amfs_agents.langgraph.threads import Threads
from amfs_core.format import decode_entry
from amfs_local import LocalAdapter
from amfs_sqlite import SqliteAdapter
from tests.agents.counting import counted
from tests.agents.langgraph_processes import FIRST, STEPS, place, put, run
from tests.agents.processes import at_once

Opens = Callable[[], AgentMemory]

EXTENDED = {"delete_for_runs": 7, "copy_thread": 8, "prune": 8}
ALL = {"put": 17, "put_writes": 10, "get_tuple": 10, "list": 16, "delete_thread": 5, **EXTENDED}


def values_of(saver: AMFSSaver, config: Any) -> dict[str, Any]:
    checkpoint_tuple = saver.get_tuple(config)
    assert checkpoint_tuple is not None
    return checkpoint_tuple.checkpoint["channel_values"]


# --- LangGraph's own conformance tests ------------------------------------------------------------


def conforms(memory: AgentMemory) -> None:
    @checkpointer_test(name=f"AMFSSaver on {memory.adapter.backend_type}")
    async def made() -> AsyncIterator[AMFSSaver]:
        yield AMFSSaver(memory)

    report = asyncio.run(validate(made))
    assert [failure for result in report.results.values() for failure in result.failures] == []
    assert {name: result.tests_passed for name, result in report.results.items()} == ALL
    assert report.conformance_level() == "FULL"


def test_it_conforms_on_a_directory(tmp_path: Path) -> None:
    with (
        closing(LocalAdapter(tmp_path)) as adapter,
        AgentMemory("tests", adapter=adapter) as memory,
    ):
        conforms(memory)


def test_it_conforms_on_sqlite(memory: AgentMemory) -> None:
    conforms(memory)
    assert memory.verify().ok


def test_it_conforms_on_a_bucket(on_bucket: Opens) -> None:
    conforms(on_bucket())


# --- the same answers as LangGraph's own ----------------------------------------------------------

IDS = [f"{number:08x}-0000" for number in range(6)]
NAMES = st.sampled_from(["a", "b/c", "a%2Fb", "é.1", "x" * 300, ""])
PROGRAMS = st.lists(
    st.one_of(
        st.tuples(
            st.just("put"),
            NAMES.filter(bool),
            st.sampled_from(["", "child:1|x"]),
            st.sampled_from(IDS),
            st.none() | st.sampled_from(IDS),
            st.dictionaries(st.sampled_from(["p", "q"]), st.sampled_from(["1", "2"])),
            st.integers(0, 2),
        ),
        st.tuples(
            st.just("writes"),
            NAMES.filter(bool),
            st.sampled_from(["", "child:1|x"]),
            st.sampled_from(IDS),
            st.lists(
                st.tuples(st.sampled_from(["p", "q", ERROR, INTERRUPT]), st.integers(0, 9)),
                max_size=3,
            ),
            st.sampled_from(["task-1", "task-2"]),
            st.sampled_from(["", "~1"]),
        ),
        st.tuples(st.just("delete"), NAMES.filter(bool)),
        st.tuples(st.just("list"), st.none() | NAMES.filter(bool), st.sampled_from([None, 0, 2])),
        st.tuples(st.just("before"), st.sampled_from(IDS)),
        st.tuples(st.just("filter"), st.integers(0, 2)),
    ),
    max_size=14,
)


def plain(checkpoint_tuple: CheckpointTuple) -> Any:
    """What both are to answer; of the config LangGraph's own returns what it was asked with."""
    return (
        {
            name: checkpoint_tuple.config["configurable"][name]
            for name in ("thread_id", "checkpoint_ns")
        },
        checkpoint_tuple.checkpoint,
        checkpoint_tuple.metadata,
        checkpoint_tuple.parent_config,
        checkpoint_tuple.pending_writes,
    )


def done(saver: BaseCheckpointSaver[Any], steps: list[tuple[Any, ...]], prefix: str) -> list[Any]:
    """What a saver answers to each step, with threads whose names begin with `prefix`."""
    answers: list[Any] = []

    def listed(config: Any, **how: Any) -> list[Any]:
        rows = [plain(checkpoint_tuple) for checkpoint_tuple in saver.list(config, **how)]
        own = [row for row in rows if row[0]["thread_id"].startswith(prefix)]
        # Of several threads and namespaces LangGraph's own keep no order.
        return sorted(own, key=lambda row: (str(row[0]), row[1]["id"]))

    for step in steps:
        match step:
            case ("put", thread, ns, id_, parent, new, number):
                values = {channel: f"{channel}{version}" for channel, version in new.items()}
                checkpoint = {**empty_checkpoint(), "id": id_, "ts": "2026-11-27T00:00:00+00:00"}
                checkpoint |= {"channel_values": values, "channel_versions": new}
                config = place(prefix + thread, ns, parent)
                saver.put(config, checkpoint, {"step": number}, new)  # type: ignore[arg-type]
            case ("writes", thread, ns, id_, writes, task, path):
                saver.put_writes(place(prefix + thread, ns, id_), writes, task, path)
            case ("delete", thread):
                saver.delete_thread(prefix + thread)
            case ("list", None, limit):
                answers.append(listed(None))
            case ("list", thread, limit):
                answers.append(len(listed(place(prefix + thread, ""), limit=limit)))
                answers.append(listed({"configurable": {"thread_id": prefix + thread}}))
                newest = saver.get_tuple(place(prefix + thread))
                answers.append(newest and plain(newest))
            case ("before", id_):
                answers.append(listed(None, before=place("", "", id_)))
            case ("filter", number):
                answers.append(listed(None, filter={"step": number}))
    answers.append(listed(None))
    for id_ in IDS:
        stored_tuple = saver.get_tuple(place(prefix + "a", "", id_))
        answers.append(stored_tuple and plain(stored_tuple))
    return answers


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(steps=PROGRAMS)
def test_random_programs_get_the_answers_of_langgraphs_own(
    steps: list[tuple[Any, ...]], memory: AgentMemory
) -> None:
    prefix = uuid4().hex
    expected = done(InMemorySaver(), steps, prefix)
    assert done(AMFSSaver(memory), steps, prefix) == expected


# --- graphs ---------------------------------------------------------------------------------------


class State(TypedDict):
    """Of the graphs below."""

    log: Annotated[list[str], operator.add]
    count: int


def compiled(saver: BaseCheckpointSaver[Any]) -> Any:
    def first(state: State) -> Any:
        return {"log": ["first"], "count": state["count"] + 1}

    def second(state: State) -> Any:
        return {"log": [interrupt("Go on?")]}

    graph = StateGraph(State)
    graph.add_node("first", first)
    graph.add_node("second", second)
    graph.add_edge(START, "first")
    graph.add_edge("first", "second")
    graph.add_edge("second", END)
    return graph.compile(checkpointer=saver)


def test_a_graph_goes_on_in_another_process_and_its_past_is_there(opens: Opens) -> None:
    config = place("ada/1.%")
    begun = compiled(AMFSSaver(opens())).invoke({"log": [], "count": 0}, config)
    assert begun["__interrupt__"][0].value == "Go on?"
    other = compiled(AMFSSaver(opens()))
    assert other.invoke(Command(resume="yes"), config) == {"log": ["first", "yes"], "count": 1}
    past = list(other.get_state_history(config))
    assert [state.values.get("log") for state in past] == [["first", "yes"], ["first"], [], []]
    fork = other.update_state(past[1].config, {"count": 7})
    assert other.get_state(fork).values == {"log": ["first"], "count": 7}


def test_a_graph_runs_on_an_event_loop(memory: AgentMemory) -> None:
    async def run() -> None:
        async with AsyncAgentMemory("tests", adapter=memory.adapter) as other:
            graph = compiled(AMFSSaver(other))
            await graph.ainvoke({"log": [], "count": 0}, place("t"))
            answer = await graph.ainvoke(Command(resume="yes"), place("t"))
            assert answer == {"log": ["first", "yes"], "count": 1}
            past = [state async for state in graph.aget_state_history(place("t"))]
            assert len(past) == 4

    asyncio.run(run())


def test_a_graph_keeps_what_only_its_serializer_can_carry(memory: AgentMemory) -> None:
    class Reversed:
        """No cipher that keeps a secret, but one whose bytes are not the plain ones."""

        def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
            return "reversed", plaintext[::-1]

        def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
            return ciphertext[::-1]

    saver = AMFSSaver(memory, serde=EncryptedSerializer(Reversed()))
    value = {"bytes": b"\x00\xff", "set": {1, 2}}
    config = put(saver, values={"c": value}, new={"c": "1"}, note="plain")
    assert values_of(saver, config) == {"c": value}
    [entry] = memory.list("threads")
    assert entry.value["blobs"][0]["type"].endswith("+reversed")
    assert entry.value["metadata"]["type"].endswith("+reversed")


def joined(state: list[str], writes: Any) -> list[str]:
    return state + [text for texts in writes for text in texts]


def with_delta(saver: BaseCheckpointSaver[Any]) -> Any:
    class Messages(TypedDict):
        messages: Annotated[list[str], DeltaChannel(joined, snapshot_frequency=4)]

    graph = StateGraph(Messages)
    graph.add_node("answer", lambda state: {"messages": [f"to {state['messages'][-1]}"]})
    graph.add_edge(START, "answer")
    return graph.compile(checkpointer=saver)


def test_a_delta_channel_is_rebuilt_and_pruning_keeps_what_it_is_rebuilt_from(
    memory: AgentMemory,
) -> None:
    saver, oracle = AMFSSaver(memory), InMemorySaver()
    graph, expected = with_delta(saver), with_delta(oracle)
    for turn in range(5):
        for compiled_graph in (graph, expected):
            compiled_graph.invoke(
                {"messages": [f"m{turn}"]}, {**place("t"), "run_id": str(uuid4())}
            )
        whole = expected.get_state(place("t")).values
        assert graph.get_state(place("t")).values == whole
        saver.prune(["t"])
        assert graph.get_state(place("t")).values == whole
    assert len(whole["messages"]) == 10
    assert len(list(saver.list(place("t")))) < 9


def test_runs_that_a_later_delta_channel_is_rebuilt_from_are_not_deleted(
    memory: AgentMemory,
) -> None:
    saver = AMFSSaver(memory)
    graph = with_delta(saver)
    for run_id in ("run-1", "run-2"):
        graph.invoke({"messages": ["m"]}, {**place("t"), "metadata": {"run_id": run_id}})
    before = list(saver.list(None))
    with pytest.raises(InvalidValueError, match=r"rebuilt from .* delete the thread, or the later"):
        saver.delete_for_runs(["run-1"])
    assert list(saver.list(None)) == before
    saver.delete_for_runs(["run-1", "run-2"])
    assert list(saver.list(None)) == []


# --- values are kept once -------------------------------------------------------------------------


def test_a_value_is_written_once_and_read_from_where_it_came(opens: Opens) -> None:
    saver = AMFSSaver(opens())
    big = "x" * 10_000
    config = put(saver, values={"big": big, "n": 0}, new={"big": "1", "n": "1"})
    for number in range(1, 5):
        config = put(
            saver, parent=config, values={"big": big, "n": number}, new={"n": str(number + 1)}
        )
    reader = opens()
    assert values_of(AMFSSaver(reader), config) == {"big": big, "n": 4}
    assert reader.stats().bytes < 25_000


def test_pruning_moves_values_that_other_checkpoints_name(opens: Opens) -> None:
    pruner, other = AMFSSaver(opens()), AMFSSaver(opens())
    first = put(pruner, values={"kept": "k", "n": 0}, new={"kept": "1", "n": "1"})
    second = put(pruner, parent=first, values={"kept": "k", "n": 1}, new={"n": "2"})
    assert values_of(other, second) == {"kept": "k", "n": 1}  # so it knows where `kept` is
    pruner.prune(["t"])
    assert values_of(pruner, second) == {"kept": "k", "n": 1}
    third = put(other, parent=second, values={"kept": "k", "n": 2}, new={"n": "3"})
    for saver in (pruner, other, AMFSSaver(opens())):
        assert values_of(saver, third) == {"kept": "k", "n": 2}
    pruner.prune(["t"])
    assert values_of(AMFSSaver(opens()), third) == {"kept": "k", "n": 2}
    assert [checkpoint_tuple.config for checkpoint_tuple in pruner.list(place("t"))] == [third]


def test_a_value_that_moves_between_the_listing_and_the_reading_is_looked_for_again(
    opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = put(AMFSSaver(opens()), values={"kept": "k"}, new={"kept": "1"})
    second = put(AMFSSaver(opens()), parent=first, values={"kept": "k"})
    reader = AMFSSaver(opens())
    threads = reader._threads
    for ask in (reader.get_tuple, lambda config: next(reader.list(config))):
        stale = [threads.views("t", "")]
        AMFSSaver(opens()).prune(["t"])

        def views(*at: Any, stale: list[Any] = stale) -> Any:
            return stale.pop() if stale else Threads.views(threads, *at)

        monkeypatch.setattr(threads, "views", views)
        checkpoint_tuple = ask(second)
        assert checkpoint_tuple is not None
        assert checkpoint_tuple.checkpoint["channel_values"] == {"kept": "k"}
        assert not stale
        monkeypatch.undo()
        second = put(AMFSSaver(opens()), parent=second, values={"kept": "k"})


def test_a_run_is_deleted_and_what_later_runs_have_of_it_stays(opens: Opens) -> None:
    saver = AMFSSaver(opens())
    first = put(saver, values={"a": 1, "b": 1}, new={"a": "1", "b": "1"}, run_id="run-1")
    second = put(saver, parent=first, values={"a": 1, "b": 2}, new={"b": "2"}, run_id="run-2")
    third = put(saver, parent=second, values={"a": 1, "b": 3}, new={"b": "3"}, run_id="run-3")
    saver.put_writes(first, [("a", "secret")], "task")
    saver.delete_for_runs(["run-1"])
    reader = AMFSSaver(opens())
    assert reader.get_tuple(first) is None
    assert values_of(reader, second) == {"a": 1, "b": 2}
    assert values_of(reader, third) == {"a": 1, "b": 3}


def test_a_copy_stands_by_itself(opens: Opens) -> None:
    saver = AMFSSaver(opens())
    first = put(saver, values={"a": 1, "b": 1}, new={"a": "1", "b": "1"})
    second = put(saver, parent=first, values={"a": 1, "b": 2}, new={"b": "2"})
    saver.put_writes(second, [("a", 5)], "task")
    saver.copy_thread("t", "copy")
    saver.copy_thread("t", "copy")
    saver.delete_thread("t")
    [newest, oldest] = AMFSSaver(opens()).list(place("copy"))
    assert newest.checkpoint["channel_values"] == {"a": 1, "b": 2}
    assert newest.pending_writes == [("task", "a", 5)]
    assert newest.parent_config is not None
    assert newest.parent_config["configurable"]["thread_id"] == "copy"
    assert oldest.checkpoint["channel_values"] == {"a": 1, "b": 1}


def test_a_checkpoint_that_is_put_again_keeps_what_others_need(opens: Opens) -> None:
    saver = AMFSSaver(opens())
    first = put(saver, id_=IDS[0], values={"a": 1}, new={"a": "1"})
    second = put(saver, id_=IDS[1], parent=first, values={"a": 1})
    put(AMFSSaver(opens()), id_=IDS[0], values={"a": 2}, new={"a": "2"})
    assert values_of(AMFSSaver(opens()), second) == {"a": 1}
    assert values_of(AMFSSaver(opens()), first) == {"a": 2}


def test_a_checkpoint_put_while_its_thread_is_deleted_is_not_read_without_its_values(
    opens: Opens,
) -> None:
    saver, other = AMFSSaver(opens()), AMFSSaver(opens())
    first = put(saver, values={"a": 1, "b": 1}, new={"a": "1", "b": "1"})
    values_of(other, first)
    saver.delete_thread("t")
    checkpoint = {
        **empty_checkpoint(),
        "channel_values": {"a": 1, "b": 2},
        "channel_versions": {"a": "1", "b": "2"},
    }
    late = other.put(first, checkpoint, {}, {"b": "2"})  # type: ignore[arg-type]
    with pytest.raises(CorruptEntryError, match=r"channel 'a' .* delete the thread"):
        saver.get_tuple(late)
    saver.delete_thread("t")
    assert saver.get_tuple(place("t")) is None


# --- erasure --------------------------------------------------------------------------------------


def contents(memory: AgentMemory) -> list[Any]:
    """The values of all versions in the store, read as they are there."""
    adapter, layout = memory.adapter, memory.engine.layout
    values = []
    for info in list(adapter.list("")):
        parsed, body = layout.parse(info.key), adapter.get(info.key)
        assert parsed is not None and body is not None
        values.append(decode_entry(body, memory.namespace, *parsed).value)
    return values


def test_a_deleted_thread_leaves_no_contents_and_can_be_begun_again(memory: AgentMemory) -> None:
    saver = AMFSSaver(memory)
    for ns in ("", "child:1"):
        config = put(saver, ns=ns, values={"a": "secret"}, new={"a": "1"})
        saver.put_writes(config, [("a", "secret")], "task")
        saver.put_writes(config, [("a", "x"), ("b", "secret")], "task")
    put(saver, "other", values={"a": 1}, new={"a": "1"})
    saver.put_writes(place("t", "", IDS[0]), [("a", "early")], "task")  # of no checkpoint yet
    saver.delete_thread("t")
    assert len([value for value in contents(memory) if value is not None]) == 1
    assert memory.verify().ok
    assert saver.get_tuple(place("t")) is None
    assert [
        checkpoint_tuple.config["configurable"]["thread_id"]
        for checkpoint_tuple in saver.list(None)
    ] == ["other"]
    again = put(saver, values={"a": "new"}, new={"a": "1"})
    assert values_of(saver, again) == {"a": "new"}
    assert next(saver.list(place("t"))).pending_writes == []


def test_pruned_and_deleted_runs_leave_no_contents(memory: AgentMemory) -> None:
    saver = AMFSSaver(memory)
    parent = None
    for number in range(3):
        parent = put(saver, parent=parent, values={"a": number}, new={"a": str(number)}, run_id="r")
        saver.put_writes(parent, [("a", number)], "task")
    saver.prune(["t"])
    assert len([value for value in contents(memory) if value is not None]) == 2
    saver.delete_for_runs(["r"])
    assert [value for value in contents(memory) if value is not None] == []
    with pytest.raises(InvalidValueError, match="no strategy 'keep'"):
        saver.prune(["t"], strategy="keep")


class Crash(BaseException):
    """The process is gone."""


class Crashing(SqliteAdapter):
    """Changes the store so many times, and then no more."""

    left = 10_000

    def _change(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Crash

    def create(self, key: str, data: bytes) -> bool:
        self._change()
        return super().create(key, data)

    def replace(self, key: str, data: bytes) -> None:
        self._change()
        super().replace(key, data)


def test_after_a_crash_at_any_step_of_pruning_all_can_be_read_and_pruning_again_ends_it(
    tmp_path: Path,
) -> None:
    crashed, steps = True, 0
    while crashed:
        with (
            closing(Crashing(tmp_path / f"{steps}.db")) as adapter,
            AgentMemory("tests", adapter=adapter) as memory,
        ):
            saver = AMFSSaver(memory)
            parent, configs = None, []
            for number in range(3):
                values = {"kept": "k", "n": number}
                new = {"n": str(number)} if number else {"n": "0", "kept": "0"}
                parent = put(saver, parent=parent, values=values, new=new)
                saver.put_writes(parent, [("n", number)], "task")
                configs.append(parent)
            adapter.left = steps
            try:
                saver.prune(["t"])
                crashed = False
            except Crash:
                steps += 1
            adapter.left = 10_000
        with (
            closing(SqliteAdapter(tmp_path / f"{steps - crashed}.db")) as store,
            AgentMemory("tests", adapter=store) as later,
        ):
            saver = AMFSSaver(later)
            for number, config in enumerate(configs):
                checkpoint_tuple = saver.get_tuple(config)
                if checkpoint_tuple is None:
                    assert number < 2
                else:
                    assert checkpoint_tuple.checkpoint["channel_values"] == {
                        "kept": "k",
                        "n": number,
                    }
            saver.prune(["t"])
            assert values_of(saver, configs[2]) == {"kept": "k", "n": 2}
            left = [value for value in contents(later) if value is not None]
            ids = {value["checkpoint_id"] for value in left if "checkpoint_id" in value}
            assert ids == {configs[2]["configurable"]["checkpoint_id"]}
            assert len([value for value in left if "task_id" in value]) == 1
            assert later.verify().ok
    assert steps > 6


# --- what is not a checkpoint, and names ----------------------------------------------------------


def test_a_foreign_memory_among_the_checkpoints_is_refused_by_name(memory: AgentMemory) -> None:
    saver = AMFSSaver(memory)
    put(saver)
    memory.write("threads/t/%/checkpoints", "zzz", {"thread_id": "t"})
    with pytest.raises(InvalidValueError, match="checkpoints/zzz is not a checkpoint of LangGraph"):
        saver.get_tuple(place("t"))
    memory.write("threads/t/%/other", "zzz", 1)  # but what is elsewhere is in nobody's way
    memory.delete("threads/t/%/checkpoints", "zzz")
    assert saver.get_tuple(place("t")) is not None


def test_a_number_is_a_thread_id_and_x_is_a_path(memory: AgentMemory) -> None:
    saver, other = AMFSSaver(memory), AMFSSaver(memory, path="others/threads")
    put(saver, 7)
    put(other, "7")
    put(other, "8")
    assert saver.get_tuple(place("7")) is not None
    assert len(list(saver.list(None))) == 1
    assert len(list(other.list(None))) == 2


def test_ids_of_any_length_are_in_their_order(memory: AgentMemory) -> None:
    saver = AMFSSaver(memory)
    ids = [f"{number}{'x' * 300}" for number in range(3)] + ["0", "1/", "2%"]
    for id_ in ids:
        put(saver, id_=id_, ns="n" * 300)
    listed_ids = [
        checkpoint_tuple.checkpoint["id"] for checkpoint_tuple in saver.list(place("t", "n" * 300))
    ]
    assert listed_ids == sorted(ids, reverse=True)
    assert len(list(saver.list(place("t", "n" * 300, ids[1])))) == 1


# --- several processes ----------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 8])
def test_processes_on_one_thread_lose_no_checkpoint_and_no_write(
    count: int, store: Path, opens: Opens
) -> None:
    ids = at_once(run, store, count)
    saver = AMFSSaver(opens())
    put(saver, id_=FIRST)
    checkpoint_tuples = {
        checkpoint_tuple.checkpoint["id"]: checkpoint_tuple
        for checkpoint_tuple in saver.list(place("t"))
    }
    assert checkpoint_tuples.keys() == {id_ for own in ids for id_ in own} | {FIRST}
    for number, own in enumerate(ids):
        for step, id_ in enumerate(own):
            assert checkpoint_tuples[id_].checkpoint["channel_values"] == {
                "who": number,
                "step": step,
            }
            assert checkpoint_tuples[id_].pending_writes == [(f"task-{number}", "step", step)]
    [(task, _, who)] = checkpoint_tuples[FIRST].pending_writes or []
    assert task == "one task of all"
    assert who in range(count)
    newest = saver.get_tuple(place("t"))
    assert newest is not None
    assert newest.checkpoint["id"] == max(checkpoint_tuples)

    items = AMFSStore(opens()).search(("shared",), limit=100)
    assert {item.key for item in items} == {"one item of all"} | {
        f"{number}.{step}" for number in range(count) for step in range(STEPS)
    }
    [last] = [item for item in items if item.key == "one item of all"]
    assert last.value in [{"who": number, "step": STEPS - 1} for number in range(count)]
    assert len(opens().history("store/shared", "one item of all")) == count * STEPS


# --- what it costs --------------------------------------------------------------------------------


def test_requests_of_a_saver_are_as_documented(on_bucket: Opens) -> None:
    memory = on_bucket()
    saver = AMFSSaver(memory)
    with counted(memory) as first:
        config = put(saver, values={"a": 1, "b": 1}, new={"a": "1", "b": "1"})
    assert first == {"create": 1}
    checkpoint = {
        **empty_checkpoint(),
        "channel_values": {"a": 1, "b": 2},
        "channel_versions": {"a": "1", "b": "2"},
    }
    with counted(memory) as second:
        config = saver.put(config, checkpoint, {}, {"b": "2"})  # type: ignore[arg-type]
    assert second == {"create": 1}
    with counted(memory) as writes:
        saver.put_writes(config, [("a", 1), ("b", 2)], "task")
    assert writes == {"create": 1}
    with counted(memory) as own:
        saver.get_tuple(place("t"))
    assert own == {"list": 1}
    fresh = on_bucket()
    with counted(fresh) as cold:
        AMFSSaver(fresh).get_tuple(place("t"))
    assert cold == {"list": 1, "get": 3}  # the checkpoint, the one that `a` came with, the task
    with counted(memory) as deleted:
        saver.delete_thread("t")
    assert deleted["create"] == deleted["replace"] == 3
    assert sum(deleted.values()) <= 2 + 7 * 3
