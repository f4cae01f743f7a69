"""`AsyncAgentMemory`: the same memory for programs that run on an event loop.

Every method runs the method of `AgentMemory` in a thread: there is no second implementation.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from amfs_core import arguments, fork
from amfs_core.format import MemoryEntry
from amfs_core.memory.agent_memory import AgentMemory
from amfs_core.memory.namespace import Namespace
from amfs_core.memory.writing import Updating
from amfs_core.storage import Metrics, StorageAdapter
from amfs_core.watch import Watch

P = ParamSpec("P")
T = TypeVar("T")

_THREADS = 32
_LOOK_SECONDS = 1.0


def _awaitable(
    method: Callable[Concatenate[AgentMemory, P], T],
) -> Callable[Concatenate[AsyncAgentMemory, P], Coroutine[Any, Any, T]]:
    """Return a method that runs `AgentMemory`'s method of this name in a thread."""
    name = method.__name__

    @functools.wraps(method)
    async def call(self: AsyncAgentMemory, /, *args: P.args, **kwargs: P.kwargs) -> T:
        own: Callable[P, T] = getattr(self.memory, name)
        return await self._in_thread(functools.partial(own, *args, **kwargs))

    return call


class AsyncAgentMemory:
    """The methods of `AgentMemory`, awaitable; up to 32 run at a time, the others wait.

    Arguments, results, errors and requests are the same. A method that takes a function (`update`,
    `watch`) also takes a coroutine function, which runs on the caller's event loop.

    `update` holds no thread while a coroutine function runs, and cancelling `update` cancels it.

    A cancelled task stops waiting; the request that was under way runs to its end in its thread. So
    a cancelled write is either absent or whole: give it your own `write_id` and ask `find_write`.
    `close` waits for calls that are still under way.
    """

    def __init__(self, memory: AgentMemory) -> None:
        self.memory = memory
        self.after_fork()
        fork.register(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (type(self), self.memory)

    def after_fork(self) -> None:
        """Take a new lock and no threads, in a forked child."""
        self._lock = threading.RLock()
        self._pool: ThreadPoolExecutor | None = None

    write = _awaitable(AgentMemory.write)
    write_many = _awaitable(AgentMemory.write_many)
    delete = _awaitable(AgentMemory.delete)
    purge = _awaitable(AgentMemory.purge)
    conflicts = _awaitable(AgentMemory.conflicts)
    reconcile = _awaitable(AgentMemory.reconcile)
    read = _awaitable(AgentMemory.read)
    history = _awaitable(AgentMemory.history)
    read_many = _awaitable(AgentMemory.read_many)
    list = _awaitable(AgentMemory.list)
    list_entity_paths = _awaitable(AgentMemory.list_entity_paths)
    list_namespaces = _awaitable(AgentMemory.list_namespaces)
    search = _awaitable(AgentMemory.search)
    semantic_search = _awaitable(AgentMemory.semantic_search)
    diff = _awaitable(AgentMemory.diff)
    find_write = _awaitable(AgentMemory.find_write)
    commit_outcome = _awaitable(AgentMemory.commit_outcome)
    read_outcome = _awaitable(AgentMemory.read_outcome)
    list_outcomes = _awaitable(AgentMemory.list_outcomes)
    stats = _awaitable(AgentMemory.stats)
    verify = _awaitable(AgentMemory.verify)
    tend = _awaitable(AgentMemory.tend)
    health = _awaitable(AgentMemory.health)

    async def update(
        self,
        entity_path: str,
        key: str,
        fn: Callable[[Any], Any],
        *,
        ttl: float | timedelta | None = None,
    ) -> MemoryEntry:
        """Read, change and write as one step; `fn`, a function or a coroutine function, returns the
        new value. See `AgentMemory.update`."""
        memory = self.memory
        if not _is_coroutine_function(fn):
            return await self._in_thread(
                functools.partial(memory.update, entity_path, key, fn, ttl=ttl)
            )
        # In steps: no thread waits for the coroutine, which may itself use the memory, and a
        # cancellation of this task reaches it.
        lifetime = arguments.lifetime(ttl)
        step: MemoryEntry | Updating = await self._in_thread(
            functools.partial(memory._begin_update, entity_path, key)
        )
        while isinstance(step, Updating):
            value = await fn(None if step.live is None else step.live.value)
            step = await self._in_thread(
                functools.partial(memory._try_update, entity_path, key, step, value, lifetime)
            )
        return step

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
        """The agent that signs what is written."""
        return self.memory.agent_id

    @property
    def session_id(self) -> str:
        """What groups what is written here."""
        return self.memory.session_id

    @property
    def engine(self) -> Namespace:
        """What this handle works on. See `AgentMemory.engine`."""
        return self.memory.engine

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
        """Wait for calls that are under way, then close the memory. Closing twice is fine."""
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
            try:
                future = self._pool.submit(contextvars.copy_context().run, work)
            except RuntimeError:  # the interpreter ends, and no thread begins any more
                return work()
        return await asyncio.wrap_future(future)


class StartingWatch:
    """A watch that is about to start: await it, or iterate over its entries."""

    def __init__(self, start: Callable[[], Coroutine[Any, Any, Watch]]) -> None:
        self._start = start
        self._is_started = False

    def __await__(self) -> Generator[Any, None, Watch]:
        self._is_started = True
        return self._start().__await__()

    def __del__(self) -> None:
        if not self._is_started:
            warnings.warn(
                "AsyncAgentMemory.watch was never awaited, so nothing is watched: "
                "`await` it, or iterate over it with `async for`",
                RuntimeWarning,
                stacklevel=2,
                source=self,
            )

    async def __aiter__(self) -> AsyncIterator[MemoryEntry]:
        async with await self as watch:
            async for entry in watch:
                yield entry


def _on_loop(fn: Callable[..., T], loop: asyncio.AbstractEventLoop) -> Callable[..., Any]:
    """Return a function for another thread; a coroutine function is run on the loop."""
    if not _is_coroutine_function(fn):
        return fn

    def call(*args: Any) -> Any:
        coroutine = fn(*args)
        try:
            future: futures.Future[Any] = asyncio.run_coroutine_threadsafe(
                coroutine,  # type: ignore[arg-type]
                loop,
            )
        except RuntimeError:  # the loop is closed
            coroutine.close()  # type: ignore[attr-defined]
            raise
        while not futures.wait([future], timeout=_LOOK_SECONDS).done:
            if loop.is_closed():  # it will never run
                future.cancel()
        return future.result()

    return call


def _is_coroutine_function(fn: object) -> bool:
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(
        getattr(fn, "__call__", None)  # noqa: B004 - is the method a coroutine function?
    )


def _remade(kind: type[AsyncAgentMemory], memory: AgentMemory) -> AsyncAgentMemory:
    made = kind.__new__(kind)
    AsyncAgentMemory.__init__(made, memory)
    return made
