"""`State`: a typed object that no process's update is lost from, whatever its version knows of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import msgspec
import pydantic
import pytest

from amfs import AgentMemory, InvalidValueError, VersionConflictError
from amfs_agents.state import State
from tests.agents.counting import counted
from tests.agents.processes import at_once

Opens = Callable[[], AgentMemory]
PLACE = ("agents/planner", "plan")


@dataclass
class Plan:
    goal: str = ""
    done: list[str] = field(default_factory=list)
    due: datetime | None = None


@dataclass
class NewPlan(Plan):
    """The same in a newer program."""

    priority: int = 1


class Structured(msgspec.Struct, omit_defaults=True):
    goal: str = ""
    limit: int = 5
    sizes: tuple[int, ...] = ()


class Model(pydantic.BaseModel):
    goal: str = ""
    due: datetime | None = None
    limit: int = pydantic.Field(default=5, alias="theLimit")


class Typed(TypedDict):
    goal: NotRequired[str]
    count: NotRequired[int]


class Task(msgspec.Struct):
    name: str


class Work(msgspec.Struct):
    tasks: list[Task]
    count: int = 0


@pytest.fixture
def plan(memory: AgentMemory) -> State[Plan]:
    return State(memory, *PLACE, Plan)


DUE = datetime(2026, 11, 27, 9, tzinfo=UTC)
VALUES = [
    Plan("go", ["a"], DUE),
    Structured(goal="go", sizes=(1, 2)),
    Model(goal="go", due=DUE, theLimit=7),
    Typed(goal="go", count=3),
    {"anything": [1, {"goes": None}]},
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_state_of_any_such_type_is_kept(opens: Opens, value: Any) -> None:
    kind: Any = Typed if value == VALUES[3] else type(value)
    state = State(opens(), *PLACE, kind)
    assert state.get() == kind()
    assert state.set(value).value == value
    elsewhere = State(opens(), *PLACE, kind)
    assert elsewhere.get() == value
    assert elsewhere.update(lambda old: old).value == value
    assert [snapshot.value for snapshot in state.history()] == [value, value]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Plan, Plan(goal=5)),  # type: ignore[arg-type]
        (Plan, Plan(done=["a", 1])),  # type: ignore[list-item]
        (Plan, None),
        (Structured, Structured(sizes=("a",))),  # type: ignore[arg-type]
        (Model, Model.model_construct(goal=5)),
        (Model, Plan()),
        (Typed, {"count": "three"}),
        (dict, {"at": float("nan")}),
        (dict, {"at": object()}),
    ],
)
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_a_state_of_the_wrong_type_is_refused_and_changes_nothing(
    memory: AgentMemory, kind: Any, value: Any
) -> None:
    state = State(memory, *PLACE, kind)
    with pytest.raises(InvalidValueError, match=r"agents/planner/plan|value"):
        state.set(value)
    with pytest.raises(InvalidValueError):
        state.update(lambda old: value)
    assert memory.history(*PLACE) == []


def test_a_type_that_has_no_form_in_json_is_refused_at_once(memory: AgentMemory) -> None:
    with pytest.raises(InvalidValueError, match="make it a dataclass"):
        State(memory, *PLACE, AgentMemory)
    with pytest.raises(InvalidValueError, match="initial must be a function"):
        State(memory, *PLACE, Plan, initial=Plan())  # type: ignore[arg-type]


def test_a_stored_state_of_another_type_is_refused_by_name(
    memory: AgentMemory, plan: State[Plan]
) -> None:
    memory.write(*PLACE, {"goal": "go", "done": [1]})
    for look in (plan.get, plan.read, plan.history, lambda: plan.update(lambda old: old)):
        with pytest.raises(InvalidValueError, match=r"is not a Plan: .*`\$.done\[0\]`"):
            look()


def _count(memory: AgentMemory, number: int) -> None:
    plan = State(memory, *PLACE, Plan)

    def add(old: Plan) -> Plan:
        own = [done for done in old.done if done.startswith(f"{number}.")]
        return replace(old, done=[*old.done, f"{number}.{len(own)}"])

    for _ in range(10):
        plan.update(add)
    while True:  # the same by hand
        seen = plan.read()
        try:
            plan.set(replace(seen.value, goal=f"{seen.value.goal}{number}"), expected=seen)
            return
        except VersionConflictError:
            continue


def test_no_update_of_several_processes_is_lost(store: Path, opens: Opens) -> None:
    at_once(_count, store, 3)
    plan = State(opens(), *PLACE, Plan)
    for number in range(3):
        own = [done for done in plan.get().done if done.startswith(f"{number}.")]
        assert own == [f"{number}.{count}" for count in range(10)]
    assert sorted(plan.get().goal) == ["0", "1", "2"]
    assert len(plan.history()) == 33


class TestOptimism:
    def test_an_update_runs_again_when_somebody_came_first(
        self, opens: Opens, plan: State[Plan]
    ) -> None:
        plan.set(Plan("go"))
        other = State(opens(), *PLACE, Plan)
        seen: list[int] = []

        def add(old: Plan) -> Plan:
            if not seen:
                other.update(lambda theirs: replace(theirs, done=["theirs"]))
            seen.append(len(old.done))
            old.done.append("mine")  # what it is given is its own
            return old

        assert plan.update(add).value == Plan("go", ["theirs", "mine"])
        assert seen == [0, 1]

    def test_a_set_on_a_memory_that_is_gone_is_refused(
        self, opens: Opens, plan: State[Plan]
    ) -> None:
        none = plan.read()
        assert (none.value, none.version, none.entry) == (Plan(), 0, None)
        first = plan.set(Plan("one"), expected=none)
        for stale in (none, first):
            State(opens(), *PLACE, Plan).set(Plan("theirs"))
            with pytest.raises(VersionConflictError):
                plan.set(Plan("mine"), expected=stale)
        assert plan.get() == Plan("theirs")
        assert plan.set(Plan("mine"), expected=plan.read()).version == 4

    def test_a_deleted_state_begins_again(self, memory: AgentMemory, plan: State[Plan]) -> None:
        plan.set(Plan("one"))
        memory.delete(*PLACE)
        gone = plan.read()
        assert (gone.value, gone.version, plan.get()) == (Plan(), 2, Plan())
        assert plan.set(Plan("two"), expected=gone).version == 3
        memory.delete(*PLACE)
        assert plan.update(lambda old: replace(old, done=["x"])).value == Plan(done=["x"])
        assert [snapshot.version for snapshot in plan.history()] == [1, 3, 5]

    def test_a_failed_function_changes_nothing(self, plan: State[Plan]) -> None:
        def fails(old: Plan) -> Plan:
            old.done.append("x")
            raise LookupError("no such step")

        plan.set(Plan("go"))
        with pytest.raises(LookupError):
            plan.update(fails)
        assert plan.read().version == 1
        assert plan.get() == Plan("go")


class TestInitial:
    def test_it_is_what_the_first_update_gets(self, memory: AgentMemory) -> None:
        state = State(memory, *PLACE, Plan, initial=lambda: Plan("go"))
        assert state.get() == state.read().value == Plan("go")
        assert state.update(lambda old: replace(old, done=["x"])).value == Plan("go", ["x"])

    def test_without_one_a_type_that_needs_arguments_says_so(self, memory: AgentMemory) -> None:
        state = State(memory, *PLACE, Task)
        with pytest.raises(InvalidValueError, match=r"Task needs arguments; give .* initial="):
            state.get()
        assert state.set(Task("x")).value == state.get()


class TestTime:
    def test_a_state_is_read_as_it_was(self, memory: AgentMemory, plan: State[Plan]) -> None:
        before = datetime.now(UTC)
        first, second = plan.set(Plan("one")), plan.update(lambda old: replace(old, goal="two"))
        assert first.entry is not None and second.entry is not None
        assert plan.get(at=first.entry.provenance.written_at) == Plan("one")
        assert plan.read(at=second.entry.provenance.written_at) == second
        assert plan.read(at=before).value == Plan()
        assert plan.history() == [first, second]
        assert second.entry.provenance.agent_id == "tests"


class TestEvolution:
    def test_fields_of_a_newer_program_survive_an_older_one(
        self, memory: AgentMemory, plan: State[Plan]
    ) -> None:
        newer = State(memory, *PLACE, NewPlan)
        newer.set(NewPlan("go", priority=7))
        plan.update(lambda old: replace(old, done=["x"]))
        seen = plan.read()
        plan.set(replace(seen.value, goal="come"), expected=seen)
        assert newer.get() == NewPlan("come", ["x"], priority=7)
        plan.set(Plan("all of it"))  # which replaces whatever was there
        assert newer.get() == NewPlan("all of it", priority=1)

    def test_a_field_that_did_not_change_stays_as_it_is_stored(self, memory: AgentMemory) -> None:
        stored = {"tasks": [{"name": "a", "owner": "ada"}], "count": 1}
        memory.write(*PLACE, stored)
        state = State(memory, *PLACE, Work)

        def more(old: Work) -> Work:
            old.count += 1
            return old

        assert state.update(more).entry.value == {**stored, "count": 2}  # type: ignore[union-attr]
        state.update(lambda old: Work([*old.tasks, Task("b")], old.count))
        assert memory.read(*PLACE).value == {"tasks": [{"name": "a"}, {"name": "b"}], "count": 2}  # type: ignore[union-attr]

    def test_a_field_that_is_at_its_default_value_again_is_so(self, memory: AgentMemory) -> None:
        memory.write(*PLACE, {"goal": "go", "limit": 5, "sizes": [1]})
        state = State(memory, *PLACE, Structured)
        assert state.update(lambda old: Structured(goal="go", limit=9)).value.sizes == ()
        assert state.update(lambda old: Structured(goal="go")).value == Structured(goal="go")

    def test_a_field_may_be_taken_out_of_a_dict(self, memory: AgentMemory) -> None:
        state: State[dict[str, int]] = State(memory, *PLACE, dict)
        state.set({"a": 1, "b": 1})
        state.update(lambda old: {"b": True})
        assert state.get() == {"b": True} and state.get()["b"] is True

    def test_an_older_form_is_migrated(self, memory: AgentMemory) -> None:
        memory.write(*PLACE, {"title": "go", "more": 1})

        def migrate(stored: Any) -> Any:
            if "title" in stored:
                stored["goal"] = stored.pop("title")
            return stored

        state = State(memory, *PLACE, Plan, migrate=migrate)
        assert state.get() == state.history()[0].value == Plan("go")
        state.update(lambda old: replace(old, done=["x"]))
        assert memory.read(*PLACE).value == {  # type: ignore[union-attr]
            "goal": "go",
            "done": ["x"],
            "due": None,
            "more": 1,
        }


def test_an_update_of_a_state_that_is_known_is_1_request(on_bucket: Opens) -> None:
    memory = on_bucket()
    plan = State(memory, *PLACE, Plan)
    plan.update(lambda old: old)
    with counted(memory) as counts:
        plan.update(lambda old: replace(old, done=["x"]))
    assert counts == {"create": 1}
