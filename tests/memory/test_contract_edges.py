"""What is said at once: adapters that are none, a health that fails, a watch that is not awaited,
callbacks that end their thread, and items of `write_many` with ids of their own."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import amfs
from amfs import documents
from amfs_core.errors import AMFSError, ConfigurationError, InvalidKeyError, InvalidValueError
from amfs_core.format import MemoryEntry
from amfs_core.memory import AgentMemory
from amfs_core.memory.async_memory import AsyncAgentMemory
from amfs_core.storage import ObjectInfo
from amfs_core.testing import ModelAdapter
from amfs_server.problems import STATUSES
from tests.conftest import REPOSITORY
from tests.support.errors import EVERY_ERROR


def test_write_many_refuses_a_write_id_twice_for_one_memory() -> None:
    memory = AgentMemory("a", adapter=ModelAdapter())
    twice = [{"entity_path": "e", "key": "k", "value": n, "write_id": "mine"} for n in (1, 2)]
    with pytest.raises(InvalidValueError, match=r"item 1 \('e', 'k'\): its write_id is also"):
        memory.write_many(twice)
    assert memory.list() == []
    twice[1]["key"] = "another"
    assert len(memory.write_many(twice)) == 2


def test_write_many_takes_a_write_id_for_each_item() -> None:
    memory = AgentMemory("a", adapter=ModelAdapter())
    memory.write_many(
        [{"entity_path": "e", "key": f"k{n}", "value": n, "write_id": f"mine-{n}"} for n in (1, 2)]
    )
    for number in (1, 2):
        entry = memory.find_write("e", f"k{number}", f"mine-{number}")
        assert entry is not None
        assert entry.value == number


@pytest.mark.parametrize("method", ["get_many", "replace", "delete", "doorbell", "close"])
def test_an_adapter_without_a_method_of_the_contract_is_refused_by_name(method: str) -> None:
    class Partial:
        backend_type = "mine"
        create = get = get_many = list = replace = delete = doorbell = close = print

    delattr(Partial, method)
    with pytest.raises(ConfigurationError, match=f"Partial lacks {method}:"):
        AgentMemory("a", adapter=Partial())  # type: ignore[arg-type]


def test_health_never_raises() -> None:
    class Broken(ModelAdapter):
        def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
            raise ZeroDivisionError("a bug of the adapter's")

    health = AgentMemory("a", adapter=Broken()).health()
    assert not health.ok
    assert isinstance(health.error, AMFSError)
    assert isinstance(health.error.__cause__, ZeroDivisionError)


def test_an_async_watch_that_is_never_awaited_warns() -> None:
    async def use() -> None:
        async with AsyncAgentMemory(AgentMemory("a", adapter=ModelAdapter())) as memory:
            with pytest.warns(RuntimeWarning, match="watch was never awaited"):
                memory.watch("e", print)
                gc.collect()

    asyncio.run(use())


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_a_callback_that_ends_its_thread_is_logged_and_in_error(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def deliver(entry: MemoryEntry) -> None:
        raise error

    memory = AgentMemory("a", adapter=ModelAdapter())
    with caplog.at_level(logging.CRITICAL, "amfs"):
        watch = memory.watch("e", deliver, interval=0.01)
        memory.write("e", "k", 1)
        thread = watch._thread
        assert thread is not None
        thread.join(30)
    assert watch.error is error
    assert "a watch with a callback ended" in caplog.text


AT_EXIT = """
import atexit, sys, threading
from amfs_core.memory import AgentMemory
from amfs_local import LocalAdapter
memory = AgentMemory("a", adapter=LocalAdapter(sys.argv[1]))
def use(name):
    items = [dict(entity_path=name, key=f"k{n}", value=n) for n in range(50)]
    memory.write_many(items)
    memory.write_many(items)
    memory.commit_outcome(name, "success", entries=[(name, "k1"), (name, "k2")])
    assert len(memory.list(name)) == 50
    assert memory.search("1", entity_path=name)
    assert memory.verify(name).ok
    print(name)
def outlive():
    threading.main_thread().join()
    use("thread")
atexit.register(use, "atexit")
threading.Thread(target=outlive).start()
"""


def test_at_interpreter_exit_everything_goes_on_in_the_calling_thread(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", AT_EXIT, str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (ended.stdout, ended.stderr) == ("thread\natexit\n", "")


def test_every_error_has_a_code_of_its_own_and_says_what_was_written() -> None:
    codes = [kind.code for kind in EVERY_ERROR]
    assert len(set(codes)) == len(EVERY_ERROR) > 15
    unknown = {kind.__name__ for kind in EVERY_ERROR if kind.written == "unknown"}
    assert unknown == {"OutcomeUnknownError", "WriteOutcomeUnknownError", "CommitUnknownError"}
    some = {kind.__name__ for kind in EVERY_ERROR if kind.written == "some"}
    assert some == {"WriteManyError", "OutcomePendingError"}


def test_every_error_can_be_imported_from_the_front_and_has_a_status_over_http() -> None:
    assert {kind.__name__ for kind in EVERY_ERROR} <= set(amfs.__all__)
    assert set(STATUSES) == set(EVERY_ERROR)


def test_the_text_of_an_error_is_its_problem_and_its_hint() -> None:
    memory = AgentMemory("a", adapter=ModelAdapter())
    with pytest.raises(InvalidKeyError) as caught:
        memory.write("", "k", 1)
    error = caught.value
    assert str(error) == f"{error.problem}; {error.hint}"
    assert documents.error(error) == {
        "code": "invalid_key",
        "problem": "the entity path segment is empty",
        "hint": "give it at least one character",
        "written": "nothing",
        "entity_path": "",
        "key": "k",
    }
