"""`Chains`: steps once and in order, a result that nothing follows, branches, and erasure."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from amfs import AgentMemory, InvalidValueError
from amfs_agents.chains import Branching, Chain, ChainClosedError, Chains
from tests.agents.counting import counted
from tests.agents.numbered import numbered
from tests.agents.processes import at_once

filled = partial(numbered, "step", ("thought", "action"))
Opens = Callable[[], AgentMemory]
STEPS = "chains/steps/planner/c1"


@pytest.fixture
def chain(memory: AgentMemory) -> Chain:
    return Chains(memory).open("planner", "c1")


def elsewhere(opens: Opens) -> Chain:
    """The same chain, as another process has it."""
    return Chains(opens()).open("planner", "c1")


def contents(chain: Chain, **which: Any) -> list[Any]:
    return [step.content for step in chain.steps(**which)]


class TestSteps:
    def test_a_step_keeps_all_that_it_was_given(self, chain: Chain) -> None:
        written = chain.append(
            "action", {"tool": "track", "id": 7}, metadata={"cost": 3}, step_id="s-1"
        )
        assert chain.steps() == [written]
        assert (written.number, written.kind, written.step_id) == (1, "action", "s-1")
        assert (written.content, written.metadata) == ({"tool": "track", "id": 7}, {"cost": 3})
        assert written.agent_id == "tests"

    def test_steps_by_limit_end_and_kind(self, opens: Opens, chain: Chain) -> None:
        filled(chain, 6)
        for handle in (chain, elsewhere(opens)):
            assert [step.number for step in handle.steps(from_end=True, limit=2)] == [5, 6]
            assert len(handle.steps(from_end=True, limit=9)) == 6
            assert [step.number for step in handle.steps(limit=2)] == [1, 2]
            assert [step.number for step in handle.steps(kind="action")] == [2, 4, 6]
            last = handle.steps(kind="thought", from_end=True, limit=1)
            assert [step.number for step in last] == [5]
            assert [step.number for step in handle.steps()] == [1, 2, 3, 4, 5, 6]

    @pytest.mark.parametrize("content", [b"bytes", float("nan"), {1: 2}, (1, 2)])
    def test_a_value_that_json_cannot_carry_is_refused_before_anything_begins(
        self, memory: AgentMemory, chain: Chain, content: Any
    ) -> None:
        with pytest.raises(InvalidValueError):
            chain.append("thought", content)
        with pytest.raises(InvalidValueError):
            chain.append("", "text")
        with pytest.raises(InvalidValueError):
            chain.close(content)
        assert memory.list() == []
        assert (chain.about(), chain.steps(), chain.result()) == (None, [], None)

    def test_a_step_appended_again_is_the_one_that_is_there(
        self, opens: Opens, chain: Chain
    ) -> None:
        first = chain.append("thought", "hm", step_id="s-1")
        chain.append("thought", "aha")
        chain.close("done")
        assert elsewhere(opens).append("thought", "hm", step_id="s-1") == first
        assert contents(chain) == ["hm", "aha"]

    def test_a_step_that_an_outcome_moved_stays_what_it_was(
        self, memory: AgentMemory, opens: Opens, chain: Chain
    ) -> None:
        first = chain.append("thought", "hm", step_id="s-1")
        memory.commit_outcome("run-1", "success", entries=[(STEPS, "0000000001")])
        for handle in (chain, elsewhere(opens)):
            assert handle.steps() == handle.steps(from_end=True, limit=1) == [first]
            assert handle.append("thought", "hm", step_id="s-1") == first

    def test_an_invalid_step_is_named(self, memory: AgentMemory, chain: Chain) -> None:
        memory.write(STEPS, "0000000001", "mine")
        with pytest.raises(InvalidValueError, match=f"{STEPS}/0000000001 is not a step"):
            chain.steps()

    def test_a_search_finds_steps(self, memory: AgentMemory, chain: Chain) -> None:
        chain.append("observation", "the parcel is in Lisbon")
        [hit] = memory.search("Lisbon", entity_path="chains/steps/planner")
        assert hit.entry.entity_path == chain.entity_path == STEPS

    def test_names_may_be_any_text(self, memory: AgentMemory) -> None:
        chain = Chains(memory).open("a/b", "c/1%2F")
        chain.append("thought", "x")
        [about] = Chains(memory).list(agent="a/b")
        assert (about.agent, about.chain_id) == ("a/b", "c/1%2F")
        assert contents(Chains(memory).open("a/b", "c/1%2F")) == ["x"]


def _race_to_the_end(memory: AgentMemory, number: int) -> tuple[int, bool]:
    """How many steps this process had in the chain, and whether it was it who closed it."""
    chain = Chains(memory).open("planner", "c1")
    done = 0
    try:
        for step in range(2):
            chain.append("thought", "the same", step_id=f"same-{step}")
        while done < 6 + number:
            chain.append("thought", f"{number}.{done}")
            done += 1
        chain.close(number)
    except ChainClosedError:
        return done, False
    return done, True


def test_of_processes_that_close_a_chain_one_does_and_all_steps_are_before_it_once_and_in_order(
    store: Path, opens: Opens
) -> None:
    results = at_once(_race_to_the_end, store, 3)
    [closed] = [number for number, (_, was_it) in enumerate(results) if was_it]
    chain = elsewhere(opens)
    result = chain.result()
    assert result is not None and result.value == closed
    steps = chain.steps()
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    for number, (done, _) in enumerate(results):
        own = [step.content for step in steps if step.content.startswith(f"{number}.")]
        assert own == [f"{number}.{count}" for count in range(done)]
    same = [step.step_id for step in steps if step.content == "the same"]
    assert sorted(same) == ["same-0", "same-1"]
    last = opens().history(STEPS, f"{len(steps) + 1:010d}")[0]
    assert last.value == {"closed": True, "result": closed}
    assert opens().history(STEPS, f"{len(steps) + 2:010d}") == []


class TestClosing:
    def test_a_closed_chain_has_its_result_and_takes_no_step(
        self, opens: Opens, chain: Chain
    ) -> None:
        other = elsewhere(opens)
        filled(other, 2)
        chain.append("thought", "three")
        result = chain.close({"answer": 42}, metadata={"sure": True})
        assert chain.result() == other.result() == result
        for handle in (chain, other, elsewhere(opens)):
            with pytest.raises(ChainClosedError, match="'c1' of 'planner' is closed") as refused:
                handle.append("thought", "four")
            assert refused.value.hint is not None
            assert contents(handle) == ["step 1", "step 2", "three"]
            assert contents(handle, from_end=True, limit=1) == ["three"]
        about = other.about()
        assert about is not None and about.closed_at == result.written_at

    def test_closing_again_is_the_same_result_or_refused(self, opens: Opens, chain: Chain) -> None:
        result = chain.close("done")
        assert chain.close("done") == elsewhere(opens).close("done") == result
        for other in ({"result": "not done"}, {"result": "done", "metadata": 1}):
            with pytest.raises(ChainClosedError):
                elsewhere(opens).close(**other)
        assert chain.result() == result

    def test_a_close_that_was_interrupted_is_finished_by_the_next_one(
        self, memory: AgentMemory, chain: Chain
    ) -> None:
        result = chain.close("done")
        open_yet = {**memory.history("chains/about/planner", "c1")[0].value}
        memory.write("chains/about/planner", "c1", open_yet)
        assert chain.about().closed_at is None  # type: ignore[union-attr]
        assert chain.close("done") == result
        assert chain.about().closed_at == result.written_at  # type: ignore[union-attr]


class TestWatching:
    def test_a_watch_has_every_step_in_order_and_ends_with_the_chain(
        self, opens: Opens, chain: Chain
    ) -> None:
        filled(chain, 3)
        seen: list[int] = []
        third = threading.Event()

        def follow() -> None:
            with elsewhere(opens).watch(interval=0.05) as steps:
                for step in steps:
                    seen.append(step.number)
                    if step.number == 3:
                        third.set()

        follower = threading.Thread(target=follow)
        follower.start()
        assert third.wait(30)
        chain.append("thought", "four")
        elsewhere(opens).append("thought", "five")
        chain.close()
        follower.join(30)
        assert seen == [1, 2, 3, 4, 5]

    def test_a_watch_goes_on_after_a_number_on_an_event_loop_too(self, chain: Chain) -> None:
        filled(chain, 4).close()

        async def numbers() -> list[int]:
            async with chain.watch(after=2) as steps:
                return [step.number async for step in steps]

        assert asyncio.run(numbers()) == [step.number for step in chain.watch(after=2)] == [3, 4]

    def test_a_watch_passes_over_steps_that_were_erased_or_moved(
        self, memory: AgentMemory, chain: Chain
    ) -> None:
        filled(chain, 3)
        memory.purge(STEPS, "0000000002")
        memory.commit_outcome("run-1", "success", entries=[(STEPS, "0000000001")])
        chain.close()
        assert [step.number for step in chain.watch()] == [1, 3]

    def test_a_watch_that_is_cancelled_ends(self, chain: Chain) -> None:
        chain.append("thought", "x")
        with chain.watch() as steps:
            assert next(steps).number == 1
        assert list(steps) == []


class TestBranches:
    def test_a_branch_has_the_steps_up_to_its_own_and_goes_on_differently(
        self, opens: Opens, chain: Chain
    ) -> None:
        filled(chain, 4).close("wrong")
        branch = chain.branch(2, "c2")
        assert branch.append("thought", "otherwise").number == 3
        branch.close("right")
        there = Chains(opens()).open("planner", "c2")
        for handle in (branch, there):
            assert contents(handle) == ["step 1", "step 2", "otherwise"]
            assert contents(handle, from_end=True, limit=2) == ["step 2", "otherwise"]
            assert [step.number for step in handle.watch()] == [1, 2, 3]
            assert [step.number for step in handle.watch(after=1)] == [2, 3]
            assert handle.result().value == "right"  # type: ignore[union-attr]
        assert contents(chain) == ["step 1", "step 2", "step 3", "step 4"]
        assert there.about().branched_from == Branching("planner", "c1", 2)  # type: ignore[union-attr]

    def test_a_branch_of_a_branch_may_begin_anywhere(self, chain: Chain) -> None:
        filled(chain, 3)
        branch = chain.branch(3)
        branch.append("thought", "b4")
        assert contents(branch.branch(4)) == ["step 1", "step 2", "step 3", "b4"]
        early = branch.branch(2)
        early.append("thought", "e3")
        assert contents(early) == ["step 1", "step 2", "e3"]

    def test_a_branch_from_a_step_that_is_not_there_or_over_another_chain_is_refused(
        self, memory: AgentMemory, chain: Chain
    ) -> None:
        filled(chain, 3).close()
        Chains(memory).open("planner", "c2").append("thought", "mine")
        for number in (4, 5):  # the result is not a step
            with pytest.raises(InvalidValueError, match=f"has no step {number}"):
                chain.branch(number)
        with pytest.raises(InvalidValueError):
            chain.branch(0)
        with pytest.raises(InvalidValueError, match="has another chain 'c2'"):
            chain.branch(1, "c2")
        assert contents(chain.branch(1, "c3")) == contents(chain.branch(1, "c3")) == ["step 1"]
        assert len(Chains(memory).list()) == 3


class TestAbout:
    def test_what_is_described_is_listed_and_the_rest_stays(self, memory: AgentMemory) -> None:
        chains = Chains(memory)
        chain = chains.open("planner")
        chain.describe(goal="find the parcel")
        chain.append("thought", "x")
        chain.describe(metadata={"ticket": 17})
        chains.open("writer").append("thought", "y")
        [about] = chains.list(agent="planner")
        assert about == chain.about()
        assert (about.goal, about.metadata) == ("find the parcel", {"ticket": 17})
        assert about.closed_at is None and about.branched_from is None
        assert [info.agent for info in chains.list()] == ["writer", "planner"]

    def test_steps_and_what_is_known_are_not_what_the_agent_relied_on(
        self, memory: AgentMemory, chain: Chain
    ) -> None:
        filled(chain, 2).close("done")
        assert chain.steps() and chain.about() and chain.result()
        with pytest.raises(InvalidValueError, match="has read nothing"):
            memory.commit_outcome("run-1", "success")


def test_a_deleted_chain_is_erased_and_may_begin_again(
    store: Path, opens: Opens, memory: AgentMemory, chain: Chain
) -> None:
    chain.describe(goal="Rumpelstiltskin")
    chain.append("thought", "Rumpelstiltskin")
    chain.append("thought", "on")
    branch = chain.branch(2, "c2")
    branch.append("thought", "own")
    chain.close("Rumpelstiltskin")
    assert chain.delete() >= 4
    assert (chain.about(), chain.steps(), chain.result()) == (None, [], None)
    assert contents(Chains(opens()).open("planner", "c2")) == ["own"]
    assert elsewhere(opens).append("thought", "new").number == 4
    assert contents(chain) == ["new"]
    assert memory.verify().ok
    memory.close()
    stored = b"".join(path.read_bytes() for path in store.parent.glob("store.db*"))
    assert b"Rumpelstiltskin" not in stored
    assert b"own" in stored


class TestRequests:
    def test_a_step_is_1_request(self, on_bucket: Opens) -> None:
        memory = on_bucket()
        chain = Chains(memory).open("planner", "c1")
        chain.append("thought", "one")
        with counted(memory) as own:
            chain.append("thought", "two")
        assert own == {"create": 1}
        other = on_bucket()
        there = Chains(other).open("planner", "c1")
        there.append("thought", "three")
        with counted(memory) as foreign:
            chain.append("thought", "four")
        assert sum(foreign.values()) <= 8, foreign

    def test_the_end_of_a_long_chain_does_not_cost_its_length(self, on_bucket: Opens) -> None:
        filled(Chains(on_bucket()).open("planner", "c1"), 40)
        reader = on_bucket()
        with counted(reader) as counts:
            steps = Chains(reader).open("planner", "c1").steps(from_end=True, limit=2)
        assert [step.number for step in steps] == [39, 40]
        assert sum(counts.values()) < 30, counts
        with counted(reader) as whole:
            assert len(Chains(reader).open("planner", "c1").steps()) == 40
        assert whole["get"] <= 40
