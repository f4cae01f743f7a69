"""`StepWatch`: the steps of a chain as they come, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Self

from amfs_agents.chains.records import Step, is_result
from amfs_core.format import MemoryEntry
from amfs_core.watch import Watch


class StepWatch:
    """The existing and new steps of a chain; ends when the chain is closed.

    Iterate it, with `for` or `async for`. Each step comes once, after all before it; a step that
    was erased is passed over. A context manager, also an async one. It uses `AgentMemory.watch`,
    which documents how soon steps come, what happens while the store is unavailable, and the cost.
    """

    def __init__(self, watch: Watch, earlier: list[Step], offset: int, after: int) -> None:
        self._watch = watch
        self._ready = deque(earlier)
        self._offset = offset
        self._after = after
        self._next = 1
        self._waiting: dict[int, MemoryEntry] = {}  # steps that arrived before an earlier one
        self._closed = False

    def cancel(self) -> None:
        """End the watch; iterations stop. `Watch.cancel` says how soon."""
        self._watch.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._watch.__aexit__(kind, error, trace)

    def __iter__(self) -> Iterator[Step]:
        return self

    def __next__(self) -> Step:
        while not self._ready:
            if self._closed:
                self.cancel()
                raise StopIteration
            self._take(next(self._watch))
        return self._ready.popleft()

    def __aiter__(self) -> AsyncIterator[Step]:
        return self

    async def __anext__(self) -> Step:
        while not self._ready:
            if self._closed:
                await self._watch.__aexit__(None, None, None)
                raise StopAsyncIteration
            self._take(await anext(self._watch))
        return self._ready.popleft()

    def _take(self, entry: MemoryEntry) -> None:
        """Note a version, and prepare the steps that can be delivered now."""
        if entry.version > 1 or not entry.key.isdecimal():
            return  # a step never changes: this is an outcome's, or a tombstone
        self._waiting[int(entry.key)] = entry
        while (following := self._waiting.pop(self._next, None)) is not None:
            self._next += 1
            if not following.has_content:
                continue
            if is_result(following):
                self._closed = True
            elif (step := Step.of(following, self._offset)).number > self._after:
                self._ready.append(step)
