"""`AsyncAgentMemory`: the same memory for programs that run on an event loop.

Every method is the one of `AgentMemory`, run in a thread: there is no second implementation.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from amfs_core import fork
from amfs_core.entry import MemoryEntry
from amfs_core.memory import AgentMemory
from amfs_core.metrics import Metrics
from amfs_core.storage import StorageAdapter
from amfs_core.watch import Watch

P = ParamSpec("P")
T = TypeVar("T")

_THREADS = 32


def _awaitable(
    method: Callable[Concatenate[AgentMemory, P], T],
) -> Callable[Concatenate[AsyncAgentMemory, P], Coroutine[Any, Any, T]]:
    """Return a method that runs this one of `AgentMemory` in a thread."""

    @functools.wraps(method)
    async def call(self: AsyncAgentMemory, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._in_thread(functools.partial(method, self.memory, *args, **kwargs))

    return call


class AsyncAgentMemory:
    """The methods of `AgentMemory`, awaitable; up to 32 run at a time, the others wait.

    Arguments, results, errors and requests are the same. Where one takes a function (`update`,
    `watch`), it may be a coroutine function: that runs on the caller's event loop.

    A task that is cancelled stops waiting; the request that was under way runs to its end in its
    thread. So a cancelled write is either absent or whole: give it a `write_id` of your own and ask
    `find_write`. `close` waits for what is still under way.
    """

    def __init__(self, memory: AgentMemory) -> None:
        self.memory = memory
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        """Take a new lock and no threads, in a forked child."""
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    write = _awaitable(AgentMemory.write)
    write_many = _awaitable(AgentMemory.write_many)
    delete = _awaitable(AgentMemory.delete)
    purge = _awaitable(AgentMemory.purge)
    read = _awaitable(AgentMemory.read)
    history = _awaitable(AgentMemory.history)
    list = _awaitable(AgentMemory.list)
    search = _awaitable(AgentMemory.search)
    semantic_search = _awaitable(AgentMemory.semantic_search)
    diff = _awaitable(AgentMemory.diff)
    find_write = _awaitable(AgentMemory.find_write)
    commit_outcome = _awaitable(AgentMemory.commit_outcome)
    read_outcome = _awaitable(AgentMemory.read_outcome)
    list_outcomes = _awaitable(AgentMemory.list_outcomes)
    stats = _awaitable(AgentMemory.stats)
    verify = _awaitable(AgentMemory.verify)
    health = _awaitable(AgentMemory.health)

    async def update(
        self, entity_path: str, key: str, fn: Callable[[Any], Any], *, ttl: float | None = None
    ) -> MemoryEntry:
        """Read, change and write as one step; `fn`, a function or a coroutine function, gives the
        new value. See `AgentMemory.update`."""
        change = _on_loop(fn, asyncio.get_running_loop())
        return await self._in_thread(
            functools.partial(self.memory.update, entity_path, key, change, ttl=ttl)
        )

    def watch(
        self,
        entity_path: str | None = None,
        callback: Callable[[MemoryEntry], Any] | None = None,
        *,
        interval: float | None = None,
        since: str | None = None,
    ) -> StartingWatch:
        """Follow what changes: `async for entry in memory.watch(…)`, or `await` it for the `Watch`
        with its cursor. See `AgentMemory.watch`."""
        deliver = None if callback is None else _on_loop(callback, asyncio.get_running_loop())
        return StartingWatch(
            functools.partial(
                self._in_thread,
                functools.partial(
                    self.memory.watch, entity_path, deliver, interval=interval, since=since
                ),
            )
        )

    @property
    def agent_id(self) -> str:
        """Who signs what is written."""
        return self.memory.agent_id

    @property
    def session_id(self) -> str:
        """What groups what is written here."""
        return self.memory.session_id

    @property
    def namespace(self) -> str:
        """The namespace that this is the memory of."""
        return self.memory.namespace

    @property
    def adapter(self) -> StorageAdapter:
        """The store."""
        return self.memory.adapter

    @property
    def metrics(self) -> Metrics:
        """Requests by kind, bytes, retries, lost races and cache hits so far."""
        return self.memory.metrics

    async def close(self) -> None:
        """Wait for what is under way, then close the memory. Closing twice is fine."""
        with self._lock:
            pool, self._pool = self._pool, None

        def end() -> None:
            if pool is not None:
                pool.shutdown()
            self.memory.close()

        await asyncio.shield(asyncio.to_thread(end))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"Async{self.memory!r}"

    async def _in_thread(self, work: Callable[[], T]) -> T:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="amfs-async")
            # Not asyncio's own threads: there are few of them, and others block them.
            future = self._pool.submit(contextvars.copy_context().run, work)
        return await asyncio.wrap_future(future)


class StartingWatch:
    """A watch that is about to start: await it, or iterate over what it gives."""

    def __init__(self, start: Callable[[], Coroutine[Any, Any, Watch]]) -> None:
        self._start = start

    def __await__(self) -> Generator[Any, None, Watch]:
        return self._start().__await__()

    async def __aiter__(self) -> AsyncIterator[MemoryEntry]:
        async with await self as watch:
            async for entry in watch:
                yield entry


def _on_loop(fn: Callable[..., T], loop: asyncio.AbstractEventLoop) -> Callable[..., Any]:
    """Return a function for another thread; a coroutine function is run on the loop."""
    if not inspect.iscoroutinefunction(fn):
        return fn

    def call(*args: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(fn(*args), loop).result()

    return call
