"""`AsyncAgentMemory`: the same methods, awaitable; a cancelled write is absent or whole."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from amfs import AgentMemory, AsyncAgentMemory
from amfs_core.errors import InvalidValueError, VersionConflictError
from amfs_core.format import MemoryEntry
from amfs_core.testing import FaultyAdapter, ModelAdapter
from amfs_local import LocalAdapter
from tests.support.s3_store import Place
from tests.support.servers import Server


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")} - {"after_fork"}


def test_every_method_is_there_with_the_same_parameters() -> None:
    attributes = {"memory", "agent_id", "session_id", "namespace", "adapter"}
    assert public(AsyncAgentMemory) - attributes == public(AgentMemory) - attributes
    for name in public(AgentMemory) - attributes - {"metrics", "engine"}:
        method, awaitable = getattr(AgentMemory, name), getattr(AsyncAgentMemory, name)
        ours = list(inspect.signature(awaitable).parameters.values())
        theirs = list(inspect.signature(method).parameters.values())
        assert [(parameter.name, parameter.kind, parameter.default) for parameter in ours] == [
            (parameter.name, parameter.kind, parameter.default) for parameter in theirs
        ]
        assert awaitable.__doc__


def test_it_does_what_the_other_does(tmp_path: Path) -> None:
    async def use() -> None:
        async with AsyncAgentMemory("a", adapter=LocalAdapter(tmp_path)) as memory:
            written = await memory.write("e", "k", {"n": 1}, tags=["t"])
            assert await memory.read("e", "k") == written
            assert (await memory.update("e", "k", lambda old: {"n": old["n"] + 1})).version == 2
            entries = await memory.write_many(
                [{"entity_path": "e", "key": f"m{number}", "value": number} for number in range(5)]
            )
            assert await memory.list("e") == [await memory.read("e", "k"), *entries]
            assert (await memory.search("m3", limit=1))[0].entry == entries[3]
            assert len(await memory.history("e", "k")) == 2
            await memory.commit_outcome("r", "success")
            assert (await memory.read_outcome("r")) in await memory.list_outcomes()
            assert (await memory.verify()).ok
            assert memory.metrics.requests["create"] > 0
            with pytest.raises(VersionConflictError):
                await memory.write("e", "k", 1, expected_version=1)
            with pytest.raises(InvalidValueError):
                await memory.write("e", "k", float("nan"))

    asyncio.run(use())


def test_the_loop_goes_on_while_many_calls_wait(s3_server: Server, bucket: str) -> None:
    place = Place.on(s3_server, bucket)

    async def use() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        adapter = place.adapter()
        async with AsyncAgentMemory("a", adapter=adapter) as memory:
            entries = await asyncio.gather(*(memory.write("e", f"k{n}", n) for n in range(100)))
            assert [entry.value for entry in entries] == list(range(100))
            counts = await asyncio.gather(
                *(memory.update("e", "count", lambda old: (old or 0) + 1) for _ in range(20))
            )
            assert sorted(entry.value for entry in counts) == list(range(1, 21))
            assert len(await memory.list()) == 101
        ticking.cancel()
        adapter.close()
        assert ticks > 100

    asyncio.run(use())


def test_a_cancelled_write_is_absent_or_whole_and_can_be_asked_about() -> None:
    async def use() -> None:
        store = FaultyAdapter(ModelAdapter())
        async with AsyncAgentMemory("a", adapter=store) as memory:
            arrived, go_on = threading.Event(), threading.Event()

            def hold() -> None:
                arrived.set()
                assert go_on.wait(30)

            assert await memory.read("e", "k") is None
            store.before(hold)
            writing = asyncio.create_task(memory.write("e", "k", "value", write_id="my-own-id"))
            await asyncio.to_thread(arrived.wait, 30)
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
            assert await memory.find_write("e", "k", "my-own-id") is None  # so far
            go_on.set()
            await memory.close()  # waits for what is under way
            entry = await memory.find_write("e", "k", "my-own-id")
            assert entry is not None
            assert (entry.version, entry.value) == (1, "value")

    asyncio.run(use())


def test_a_write_that_had_not_begun_is_never_made() -> None:
    async def use() -> None:
        store = FaultyAdapter(ModelAdapter())
        async with AsyncAgentMemory("a", adapter=store) as memory:
            go_on = threading.Event()
            for number in range(32):
                store.before(lambda: go_on.wait(30), skip=number)
            busy = [asyncio.create_task(memory.write("e", f"busy{n}", n)) for n in range(32)]
            waiting = asyncio.create_task(memory.write("e", "waiting", 1))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            go_on.set()
            await asyncio.gather(*busy)
            assert await memory.read("e", "waiting") is None

    asyncio.run(use())


def test_watching_is_an_async_iteration() -> None:
    async def use() -> None:
        async with AsyncAgentMemory("a", adapter=ModelAdapter()) as memory:
            await memory.write("e", "k", 0)
            seen: list[Any] = []

            async def follow() -> None:
                async for entry in memory.watch("e", since="beginning", interval=0.01):
                    seen.append(entry.value)
                    if len(seen) == 4:
                        return

            following = asyncio.create_task(follow())
            for number in range(1, 4):
                await memory.write("e", "k", number)
            await asyncio.wait_for(following, 30)
            assert seen == [0, 1, 2, 3]

            watch = await memory.watch("e", interval=0.01)
            await memory.write("e", "k", 4)
            async with watch:
                assert (await anext(watch)).value == 4
                cursor = watch.cursor
            await memory.write("e", "k", 5)
            async with await memory.watch("e", since=cursor) as again:
                assert (await anext(again)).value == 5

    asyncio.run(use())


def test_functions_may_be_coroutines() -> None:
    async def use() -> None:
        loop = asyncio.get_running_loop()
        delivered: asyncio.Queue[int] = asyncio.Queue()

        async def deliver(entry: MemoryEntry) -> None:
            assert asyncio.get_running_loop() is loop
            await delivered.put(entry.value)

        async def more(old: int | None) -> int:
            await asyncio.sleep(0)
            return (old or 0) + 1

        async with (
            AsyncAgentMemory("a", adapter=ModelAdapter()) as memory,
            await memory.watch("e", deliver, interval=0.01),
        ):
            await asyncio.gather(*(memory.update("e", "n", more) for _ in range(5)))
            got = [await asyncio.wait_for(delivered.get(), 30) for _ in range(5)]
            assert got == [1, 2, 3, 4, 5]

    asyncio.run(use())


def test_no_thread_is_left_behind() -> None:
    before = set(threading.enumerate())

    async def use() -> None:
        memory = AsyncAgentMemory("a", adapter=ModelAdapter())
        await memory.write("e", "k", 1)
        await memory.watch("e", lambda entry: None)
        await memory.close()
        await memory.close()

    asyncio.run(use())
    assert {thread for thread in threading.enumerate() if thread.name.startswith("amfs")} <= before


def test_the_package_imports_no_event_loop_before_it_is_needed() -> None:
    program = (
        "import amfs, sys; assert 'asyncio' not in sys.modules and 'sqlite3' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
