"""Checkpointers and stores of LangGraph: AMFS's beside LangGraph's own on SQLite."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from benchmarks.figure import Figure
from benchmarks.peer import GRAPH, places
from benchmarks.scale import Scale

SECTION = "LangGraph"
WRITERS = 8
STEPS = 100
"""Steps of the thread whose newest checkpoint is read, and whose bytes are counted."""
ITEMS = 500
"""Items of the store that is searched."""

DIRECTORY, SQLITE, THEIRS = "AMFS, directory", "AMFS, SQLite", GRAPH.name
PEERS = (DIRECTORY, SQLITE, THEIRS)
TEXT = "The quick brown fox jumps over the lazy dog. " * 7

Answer = tuple[int, float, Counter[str]]
"""What a process did, in how many seconds, and what it was refused."""


def comparisons(scale: Scale) -> Iterator[Figure]:
    """Yield rates of one writer and of eight, and of readers; and the bytes of a thread."""
    with places() as made:
        for peer in PEERS:
            for writers in (1, WRITERS):
                yield from _written(peer, made.root, writers, scale)
            yield from _read(peer, made.root, scale)


def _written(peer: str, root: Path, writers: int, scale: Scale) -> Iterator[Figure]:
    context = multiprocessing.get_context("spawn")
    place = root / f"{peer}-{writers}"
    place.mkdir()
    each = "1 process" if writers == 1 else f"{writers} processes"
    with context.Manager() as manager, ProcessPoolExecutor(writers, mp_context=context) as pool:
        barrier = manager.Barrier(writers)
        for operation, work in (("step of a graph", _steps), ("put an item", _puts)):
            rates, refused = [], Counter[str]()
            for repetition in range(scale.repetitions):
                running = [
                    pool.submit(
                        _raced,
                        work,
                        peer,
                        place,
                        barrier,
                        name=f"{repetition}-{number}",
                        scale=scale,
                    )
                    for number in range(writers)
                ]
                answers = [future.result() for future in running]
                rates.append(sum(done / seconds for done, seconds, _ in answers))
                refused.update(sum((failed for _, _, failed in answers), Counter()))
            told = ", ".join(f"{number} {name}" for name, number in sorted(refused.items()))
            note = f"refused: {told}" if told else ""
            yield Figure(SECTION, f"{operation}, {each}", peer, "/s", tuple(rates), note)


def _read(peer: str, root: Path, scale: Scale) -> Iterator[Figure]:
    place = root / f"{peer}-read"
    place.mkdir()
    with ExitStack() as stack:
        saver, store = _opened(peer, place, stack)
        step = _steps(saver, store, "t")
        for number in range(STEPS):
            step(number)
    size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    yield Figure(SECTION, f"thread of {STEPS} steps", peer, "kB", (size / 1000,))
    with ExitStack() as stack:
        saver, store = _opened(peer, place, stack)
        put = _puts(saver, store, "r")
        for number in range(ITEMS):
            put(number)
        newest: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
        reads: dict[str, Callable[[int], object]] = {
            f"newest checkpoint of {STEPS}": lambda _: saver.get_tuple(newest),
            "get an item": lambda number: store.get(("items", "r"), f"r-{number % ITEMS}"),
            f"filter {ITEMS} items": lambda _: store.search(("items",), filter={"n": {"$lt": 5}}),
        }
        for operation, read in reads.items():
            rates = []
            for _ in range(scale.repetitions):
                done, seconds, _ = _timed(read, scale)
                rates.append(done / seconds)
            yield Figure(SECTION, operation, peer, "/s", tuple(rates))


def _raced(
    work: Callable[..., Callable[[int], object]],
    peer: str,
    place: Path,
    barrier: Any,
    *,
    name: str,
    scale: Scale,
) -> Answer:
    """Do the work together with all others."""
    with ExitStack() as stack:
        step = work(*_opened(peer, place, stack), name)
        barrier.wait()
        return _timed(step, scale)


def _timed(work: Callable[[int], object], scale: Scale) -> Answer:
    done, failed = 0, Counter[str]()
    started = time.perf_counter()
    while (spent := time.perf_counter() - started) < scale.seconds:
        try:
            work(done)
            done += 1
        except Exception as error:  # such as a database that is locked
            failed[type(error).__name__] += 1
    return done, spent, failed


def _steps(saver: Any, store: Any, name: str) -> Callable[[int], object]:
    """Return what puts the checkpoint after the one before, and what one task wrote to it: a list
    that grows by a message each time, beside a text that never changes."""
    from langgraph.checkpoint.base import empty_checkpoint

    profile, messages = TEXT * 10, list[str]()
    parent: dict[str, Any] = {"configurable": {"thread_id": name, "checkpoint_ns": ""}}
    versions = {"profile": saver.get_next_version(None, None), "messages": None}

    def step(number: int) -> None:
        nonlocal parent
        messages.append(f"{number} {TEXT}")
        del messages[:-20]
        versions["messages"] = saver.get_next_version(versions["messages"], None)
        checkpoint = {
            **empty_checkpoint(),
            "channel_values": {"profile": profile, "messages": list(messages)},
            "channel_versions": dict(versions),
        }
        new = dict(versions) if number == 0 else {"messages": versions["messages"]}
        parent = saver.put(parent, checkpoint, {"source": "loop", "step": number}, new)
        saver.put_writes(parent, [("messages", [TEXT])], f"task-{number}", "~task")

    return step


def _puts(saver: Any, store: Any, name: str) -> Callable[[int], object]:
    """Return what puts new items."""
    return lambda number: store.put(
        ("items", name), f"{name}-{number}", {"text": TEXT, "n": number}
    )


def _opened(peer: str, place: Path, stack: ExitStack) -> tuple[Any, Any]:
    """Return a saver and a store, opened as the documentation does."""
    if peer == THEIRS:
        from langgraph.checkpoint.sqlite import SqliteSaver
        from langgraph.store.sqlite import SqliteStore

        saver = SqliteSaver.from_conn_string(str(place / "checkpoints.db"))
        store = stack.enter_context(SqliteStore.from_conn_string(str(place / "store.db")))
        store.setup()
        return stack.enter_context(saver), store
    from amfs import AgentMemory
    from amfs_agents.langgraph import AMFSSaver, AMFSStore
    from amfs_local import LocalAdapter
    from amfs_sqlite import SqliteAdapter

    made = LocalAdapter(place) if peer == DIRECTORY else SqliteAdapter(place / "store.db")
    adapter = stack.enter_context(closing(made))
    memory = stack.enter_context(AgentMemory("bench", adapter=adapter))
    return AMFSSaver(memory), AMFSStore(memory)
