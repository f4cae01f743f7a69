"""Conversations of `amfs_agents`: written by eight processes, listed, searched and pruned."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from typing import Any

from amfs import AgentMemory, open_store
from amfs_agents.conversations import Conversations
from benchmarks.figure import Figure
from benchmarks.scale import Scale
from benchmarks.workplace import workplace
from tests.support.postgres import running as running_postgres
from tests.support.servers import ServerUnavailableError

SECTION = "conversations"
TURNS = 50
_WRITERS = 8
_USERS = 100
_HOUR = 3_600.0
_WORDS = ("invoice", "retry", "timeout", "Lisbon", "rollback", "budget", "schema", "garden")
_names = count()


def kept(scale: Scale) -> Iterator[Figure]:
    """Yield times, requests and memory of conversations in each kind of store on this machine."""
    for kind in ("directory", "SQLite"):
        yield from _kept(kind, _place(kind), scale)
    try:
        with running_postgres() as server:
            yield from _kept("PostgreSQL", server.dsn, scale)
    except ServerUnavailableError as reason:
        yield Figure(
            SECTION, "turns written by 8 processes", "PostgreSQL", "turns", note=str(reason)
        )


def _place(kind: str) -> str:
    path = workplace() / f"conversations-{next(_names)}"
    return str(path) if kind == "directory" else f"sqlite:///{path}.db"


def _kept(kind: str, place: str, scale: Scale) -> Iterator[Figure]:
    seconds = 4 * scale.loading
    started = time.monotonic()
    share = scale.conversations // _WRITERS
    # The first process to come would make the file while the others wait for it.
    with closing(open_store(place)) as store, AgentMemory("first", adapter=store) as memory:
        memory.write("conversations", "about", "these")
    written = sum(_each(_write, [(place, number, share, seconds) for number in range(_WRITERS)]))
    took = time.monotonic() - started
    note = "" if written == share * _WRITERS * TURNS else f"stopped after {seconds:.0f} s"
    yield Figure(SECTION, "turns written by 8 processes", kind, "turns", (written,), note)
    yield Figure(SECTION, "writing them", kind, "s", (took,), note)
    yield Figure(SECTION, "writing them, rate", kind, "/s", (written / took,), note)
    [measurements] = _each(_read, [(place,)])
    among = f"among {written:,} turns"
    for name, (first, again, requests, megabytes) in measurements.items():
        yield Figure(SECTION, f"{name}, by a new process", kind, "s", (first,), among)
        yield Figure(SECTION, f"{name}, again", kind, "ms", (again * 1_000,), among)
        yield Figure(SECTION, f"{name}, again", kind, "requests", (requests,), among)
        yield Figure(SECTION, f"{name}, peak of the process so far", kind, "MB", (megabytes,))
    [(erased, spent)] = _each(_prune, [(place,)])
    yield Figure(SECTION, "pruning", kind, "ms a conversation", (spent * 1_000 / max(1, erased),))


def _each(work: Callable[..., Any], arguments: list[tuple[Any, ...]]) -> list[Any]:
    """Return `work(*each)` of processes that run at the same time."""
    with multiprocessing.get_context("spawn").Pool(len(arguments)) as pool:
        return pool.starmap(work, arguments)


def _write(place: str, writer: int, share: int, seconds: float) -> int:
    """Write a share of the conversations, turn by turn, and return how many turns that were."""
    until = time.monotonic() + seconds
    done = 0
    with closing(open_store(place)) as store, AgentMemory(f"w{writer}", adapter=store) as memory:
        conversations = Conversations(memory, activity_interval=_HOUR)
        for number in range(writer * share, (writer + 1) * share):
            talk = conversations.open(f"user-{number % _USERS}", "helper", f"talk-{number}")
            for turn in range(TURNS):
                if time.monotonic() > until:
                    return done
                word = _WORDS[(number + turn) % len(_WORDS)]
                text = f"turn {turn} of {number}: about the {word} of yesterday, and what to do"
                talk.append("user" if turn % 2 else "assistant", text)
                done += 1
    return done


def _read(place: str) -> dict[str, tuple[float, float, int, float]]:
    """Return of each look: seconds at first and then, requests then, and the peak in megabytes."""
    measurements = {}
    with closing(open_store(place)) as store, AgentMemory("reader", adapter=store) as memory:
        conversations = Conversations(memory)
        looks: dict[str, Callable[[], object]] = {
            "the turns of one conversation": lambda: conversations.open(
                "user-1", "helper", "talk-1"
            ).turns(),
            "list of all conversations": conversations.list,
            "search in one user's": lambda: conversations.search("Lisbon budget", user="user-1"),
            "search in everybody's": lambda: conversations.search("Lisbon budget"),
        }
        for name, look in looks.items():
            first = _seconds(look)
            _seconds(look)  # who looks for the second time begins to follow the change log
            before = memory.metrics.requests
            again = _seconds(look)
            after = memory.metrics.requests
            requests = sum(after.values()) - sum(before.values())
            measurements[name] = first, again, requests, _peak()
    return measurements


def _prune(place: str) -> tuple[int, float]:
    """Erase the conversations of one user, and return how many, and in what time."""
    with closing(open_store(place)) as store, AgentMemory("keeper", adapter=store) as memory:
        conversations = Conversations(memory)
        started = time.monotonic()
        return conversations.prune(inactive_for=0, user="user-7"), time.monotonic() - started


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _peak() -> float:
    """Return the most that this process had in memory, in megabytes (getrusage(2))."""
    unit = 1_000_000 if sys.platform == "darwin" else 1_000
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
