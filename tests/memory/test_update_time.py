"""Whose time is it: that of the functions of `update`, that of requests, and that of nobody."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from amfs_core.memory import AgentMemory
from amfs_core.memory.async_memory import AsyncAgentMemory
from amfs_core.testing import Fault, FaultyAdapter, ModelAdapter
from tests.conftest import REPOSITORY

FROZEN = """
import sys, time
from amfs_core.errors import BackendUnavailableError
from amfs_core.memory import AgentMemory
from amfs_core.testing import ModelAdapter

class TimesOut(ModelAdapter):
    timeout = 0.1
    asked = 0
    def get(self, key):
        if "entries" not in key:
            return super().get(key)
        self.asked += 1
        if self.asked > 1:
            return super().get(key)
        print("asked", flush=True)
        end = time.monotonic() + self.timeout
        while time.monotonic() < end:
            pass
        if HELD:
            time.sleep(0.2)
        raise BackendUnavailableError("it timed out")

HELD = len(sys.argv) > 1
store = TimesOut()
AgentMemory("w", adapter=store).write("e", "k", 1)
print(AgentMemory("r", adapter=store, patience=0.1).read("e", "k", version=1).value)
"""


def test_a_slow_function_of_update_leaves_the_patience_to_its_requests() -> None:
    store = FaultyAdapter(ModelAdapter())
    memory = AgentMemory("a", adapter=store, patience=0.5)
    memory.write("e", "k", 1)

    def slow(old: int) -> int:
        time.sleep(0.6)  # what is measured: longer than the patience
        store.inject(Fault.UNAVAILABLE)
        return old + 1

    assert memory.update("e", "k", slow).value == 2


def test_coroutines_that_use_the_memory_share_no_thread_with_their_updates() -> None:
    async def use() -> None:
        async with AsyncAgentMemory(AgentMemory("a", adapter=ModelAdapter())) as memory:
            everyone = asyncio.Barrier(64)

            async def more(old: int | None) -> int:
                if old is None:  # all are here at the same time
                    await everyone.wait()
                await memory.read("e", "other")
                return (old or 0) + 1

            updates = (memory.update("e", f"k{number}", more) for number in range(64))
            await asyncio.wait_for(asyncio.gather(*updates), 60)
            assert len(await memory.list("e")) == 64

    asyncio.run(use())


def test_coroutines_that_race_for_one_memory_are_each_counted_once() -> None:
    async def use() -> None:
        async with AsyncAgentMemory(AgentMemory("a", adapter=ModelAdapter())) as memory:

            async def more(old: int | None) -> int:
                await asyncio.sleep(0)
                return (old or 0) + 1

            await asyncio.gather(*(memory.update("e", "k", more) for _ in range(40)))
            history = await memory.history("e", "k")
            assert [entry.value for entry in history] == list(range(1, 41))

    asyncio.run(use())


def test_a_cancelled_update_ends_its_coroutine_and_holds_no_thread() -> None:
    async def use() -> None:
        async with AsyncAgentMemory(AgentMemory("a", adapter=ModelAdapter())) as memory:
            ended = 0
            begun = asyncio.Event()

            async def forever(old: int | None) -> int:
                nonlocal ended
                try:
                    begun.set()
                    await asyncio.Event().wait()
                finally:
                    ended += 1
                raise AssertionError

            for _ in range(40):
                begun.clear()
                update = asyncio.create_task(memory.update("e", "k", forever))
                await begun.wait()
                update.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await update
            assert ended == 40
            assert (await asyncio.wait_for(memory.write("e", "k", 1), 60)).version == 1

    asyncio.run(use())


def run_frozen(*arguments: str, freeze: float) -> subprocess.CompletedProcess[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", FROZEN, *arguments],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "asked\n"
        if freeze:
            os.kill(child.pid, signal.SIGSTOP)
            threading.Event().wait(freeze)
            os.kill(child.pid, signal.SIGCONT)
        out, err = child.communicate(timeout=60)
    finally:
        child.kill()
        child.wait()
    return subprocess.CompletedProcess(child.args, child.returncode, out, err)


def test_a_process_that_was_frozen_longer_than_its_patience_tries_once_more() -> None:
    ended = run_frozen(freeze=1.6)
    assert ended.stdout == "1\n", ended.stderr


def test_a_store_that_times_out_after_the_patience_is_not_asked_again() -> None:
    ended = run_frozen("held", freeze=0)
    assert "BackendUnavailableError: it timed out" in ended.stderr
