"""`Chain`: the steps of one piece of work, and its result."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from amfs_agents.chains.records import (
    About,
    Branching,
    ChainClosedError,
    Result,
    Step,
    is_result,
)
from amfs_agents.chains.step_watch import StepWatch
from amfs_agents.fields import value
from amfs_agents.names import segment
from amfs_agents.sequence import Sequence
from amfs_core import arguments
from amfs_core.errors import InvalidValueError
from amfs_core.format import MemoryEntry, values
from amfs_core.memory import AgentMemory


class Chain:
    """One chain of an agent; `Chains.open` makes it, without a request.

    Any number of processes may have it open. Safe to share between threads. The first call of an
    object costs about 4 requests more, to see whether the chain is there and is a branch.
    """

    def __init__(self, memory: AgentMemory, path: str, agent: str, chain_id: str) -> None:
        self.agent = agent
        self.chain_id = chain_id
        self._memory = memory
        self._path = path
        self._key = segment(chain_id, "chain_id")
        whose = segment(agent, "agent")
        self._about_path = f"{path}/about/{whose}"
        self._steps = Sequence(memory, f"{path}/steps/{whose}/{self._key}")
        self._about: About | None = None  # as last seen; the origin of a branch never changes

    @property
    def entity_path(self) -> str:
        """Where the memories of this chain's own steps are."""
        return self._steps.entity_path

    def append(
        self, kind: str, content: Any, *, metadata: Any = None, step_id: str | None = None
    ) -> Step:
        """Append a step and return it, once it is durable.

        `kind` is any text, such as "thought", "action" or "observation". `step_id` names the step:
        to append it again, after an error or in another process, returns the one that is there.
        Without one, each call appends a step, exactly once.

        1 request; after a step of another process about 7 more, and 3 log2(n) more after n of them;
        with a `step_id` a listing more. Raises `ChainClosedError`, `InvalidValueError` for what
        JSON cannot carry, before anything is written, and what `AgentMemory.write` raises.
        """
        step = value(kind=arguments.text(kind, "kind"), content=content, metadata=metadata)
        values.copied(step, "step")
        start = self._begun().branched_from
        entry = self._steps.append(step, write_id=step_id, follows=self._refuse_result)
        return Step.of(entry, 0 if start is None else start.number)

    def steps(
        self, *, limit: int | None = None, from_end: bool = False, kind: str | None = None
    ) -> list[Step]:
        """Return the steps in order: all, or those of a `kind`; the first `limit` of them, or with
        `from_end` the last.

        1 request per 1,000 steps ever appended, and 1 for each that this process has not read or
        written. The last `limit` of any kind cost up to 2 each, and about 4 log2(n) more
        where this object has not seen the end of n steps. In a branch, as much for each chain that
        it comes from.
        """
        if limit is not None:
            arguments.count(limit, "limit")
        if from_end and limit is not None and kind is None:
            return self._last(limit)
        steps = [step for step in self._all() if kind is None or step.kind == kind]
        if limit is None:
            return steps
        return steps[-limit:] if from_end else steps[:limit]

    def watch(self, *, after: int = 0, interval: float | None = None) -> StepWatch:
        """Follow the chain: every step after the number `after`, once and in order, existing and
        new ones, until the chain is closed.

        `interval` is that of `AgentMemory.watch`. The cost of `AgentMemory.watch`, and in a branch
        that of `steps` for the chains that it comes from. After the chain is deleted, it waits for
        another step.
        """
        arguments.version(after, "after", least=0)
        start = self._branching()
        offset = 0 if start is None else start.number
        earlier = [] if start is None else self._origin(start)._all(offset)
        watch = self._memory.watch(self.entity_path, interval=interval, since="beginning")
        return StepWatch(watch, [step for step in earlier if step.number > after], offset, after)

    def branch(self, number: int, chain_id: str | None = None) -> Chain:
        """Begin another chain of the same agent that has this one's steps up to `number` and
        continues differently. A closed chain can be branched too.

        The steps are not copied: when this chain is deleted, the branch keeps only its own steps.
        Branching again in the same way returns the same branch. Without `chain_id` it gets a
        UUID. About 5 requests. Raises `InvalidValueError` when there is no such step, or
        `chain_id` is another chain's.
        """
        arguments.count(number, "number")
        if not self._has(number):
            raise InvalidValueError(
                f"chain {self.chain_id!r} of {self.agent!r} has no step {number}",
                hint="give the number of one of its steps",
            )
        name = str(uuid.uuid4()) if chain_id is None else chain_id
        branch = Chain(self._memory, self._path, self.agent, name)
        start = Branching(self.agent, self.chain_id, number)
        if branch._begun(start).branched_from != start:
            raise InvalidValueError(
                f"{self.agent!r} has another chain {name!r}",
                hint="give the branch another chain_id, or none",
            )
        return branch

    def close(self, result: Any = None, *, metadata: Any = None) -> Result:
        """Close the chain with its result, after which no step can follow. Return the result.

        Closing it again with the same result returns that
        result. The cost of `append`, and 1 request.
        Raises `ChainClosedError` when it was closed with another result, and what `append` raises.
        """
        closing = {"closed": True, **value(result=result, metadata=metadata)}
        closing = values.copied(closing, "result")
        self._begun()
        try:
            closed = Result.of(self._steps.append(closing, follows=self._refuse_result))
        except ChainClosedError:
            old_result = self.result()
            if old_result is None or (old_result.value, old_result.metadata) != (result, metadata):
                raise
            closed = old_result
            if (about := self.about()) is not None and about.closed_at is not None:
                return closed  # otherwise the process that closed it died before the note below
        closed_at = closed.written_at.isoformat()
        self._update(lambda old: {**old, "closed_at": closed_at})
        return closed

    def result(self) -> Result | None:
        """Return the result of the chain; None while it goes on. The cost of reading the last
        step."""
        newest = self._steps.newest(1)
        return Result.of(newest[0]) if newest and is_result(newest[0]) else None

    def about(self) -> About | None:
        """Return what is known about the chain; None if it was never begun, or was deleted.

        1 request, and 1 for each version not read before.
        """
        # Not `read`, because the agent did not rely on it (`commit_outcome`).
        history = self._memory.history(self._about_path, self._key)
        self._about = About.of(history[-1]) if history and history[-1].is_live() else None
        return self._about

    def describe(self, *, goal: str | None = None, metadata: Any = None) -> None:
        """Set what is known about the chain; arguments that are None change nothing.

        1 request, and a read more the first time. Settings by two processes at the same time are
        both kept.
        """
        told = value(goal=None if goal is None else arguments.text(goal, "goal"), metadata=metadata)
        self._update(lambda old: {**old, **told})

    def delete(self) -> int:
        """Erase the chain permanently: its steps, its result, and what is known about it. Return
        how many versions were erased. Branches keep their own steps.

        About 6 requests for each step. Stop its writers first. After a crash, call it again: it
        goes on.
        """
        erased = self._steps.purge_all()
        self._about = None
        # Last, so that the chain can be found until nothing is left.
        return erased + self._memory.purge(self._about_path, self._key)

    def _all(self, last: int | None = None) -> list[Step]:
        """Return all steps, of all chains that this one has steps of, up to the number `last`."""
        start = self._branching()
        steps = [] if start is None else self._origin(start)._all(start.number)
        steps += self._own(self._steps.entries(), start)
        return steps if last is None else [step for step in steps if step.number <= last]

    def _last(self, limit: int) -> list[Step]:
        start = self._branching()
        steps = self._own(self._steps.newest(limit + 1), start)  # one may be the result
        if start is not None and len(steps) < limit:
            steps = self._origin(start)._all(start.number) + steps
        return steps[-limit:]

    def _own(self, entries: list[MemoryEntry], start: Branching | None) -> list[Step]:
        after = 0 if start is None else start.number
        return [Step.of(entry, after) for entry in entries if not is_result(entry)]

    def _has(self, number: int) -> bool:
        start = self._branching()
        after = 0 if start is None else start.number
        if start is not None and number <= after:
            return self._origin(start)._has(number)
        entry = self._steps.find(number - after)
        return entry is not None and not is_result(entry)

    def _branching(self) -> Branching | None:
        about = self._about or self.about()
        return None if about is None else about.branched_from

    def _origin(self, start: Branching) -> Chain:
        return Chain(self._memory, self._path, start.agent, start.chain_id)

    def _begun(self, start: Branching | None = None) -> About:
        """Return what is known about the chain, beginning it if necessary."""
        about = self._about or self.about()
        if about is None:  # so that a chain that has steps is always known, and can be deleted
            branched = {} if start is None else {"branched_from": asdict(start)}
            about = self._update(lambda old: old, branched)
        return about

    def _update(
        self,
        change: Callable[[dict[str, Any]], dict[str, Any]],
        branched: dict[str, Any] | None = None,
    ) -> About:
        def changed(old: Any) -> dict[str, Any]:
            first = {"created_at": datetime.now(UTC).isoformat(), **(branched or {})}
            return change(old or first)

        self._about = About.of(self._memory.update(self._about_path, self._key, changed))
        return self._about

    def _refuse_result(self, before: MemoryEntry) -> None:
        if is_result(before):
            raise ChainClosedError(
                f"chain {self.chain_id!r} of {self.agent!r} is closed",
                hint="branch from one of its steps, or open another chain",
                entity_path=before.entity_path,
                key=before.key,
            )
