"""`python -I drive.py MODULE`: drives one peer, in that peer's own environment.

A line of JSON on stdin says what to do, a line of JSON on stdout what came of it. Only the standard
library and the peer are imported, and this directory comes last, so that nothing here can stand in
front of the peer.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import itertools
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))

import matter
import peak
from thin import Cannot, Item, Thin, Value

CHUNK = 1000
"""Memories that are filled in at once."""

Answer = dict[str, Any]


class Work:
    """Everything that a peer can be asked to do."""

    def __init__(self, make: Callable[[dict[str, str]], Thin]) -> None:
        self._make = make
        self._place: dict[str, str] = {}
        self._peer: Thin | None = None
        self._end: Callable[[], None] = lambda: None
        self._seen: dict[int, float] = {}
        self._came = threading.Condition()

    @property
    def peer(self) -> Thin:
        """The open peer."""
        assert self._peer is not None, "open comes first"
        return self._peer

    def open(self, place: dict[str, str]) -> Answer:
        """Open the peer at a place, and say what it is."""
        self.close()
        self._place = place
        self._peer = self._make(place)
        package = self._peer.package
        version = importlib.metadata.version(package) if package else sys.version.split()[0]
        return {"package": package, "version": version, "durability": self._peer.durability}

    def reopen(self) -> Answer:
        """Open it again, as a new process would: nothing is known, and no memory is remembered."""
        if not self.peer.lasting:
            raise Cannot("nothing outlives its process")
        return self.open(self._place)

    def close(self) -> Answer:
        """Close it."""
        if self._peer is not None:
            self._peer.close()
            self._peer = None
        return {}

    def write(
        self, keys: str, count: int, seconds: float, threads: int = 1, same: int = 0
    ) -> Answer:
        """Write memories, each a new one, or in turns the same few."""

        def one(number: int) -> None:
            place = matter.place_of(keys, number % same if same else number)
            self.peer.write(*place, {"text": matter.text(number), "number": number})

        return _run(one, count, seconds, threads)

    def read(self, keys: str, count: int, seconds: float, same: int = 0) -> Answer:
        """Read newest values."""

        def one(number: int) -> None:
            found = self.peer.read(*matter.place_of(keys, number % same if same else number))
            assert found is not None and "text" in found, f"{keys}-{number} is gone"

        return _run(one, count, seconds)

    def read_version(self, keys: str, count: int, seconds: float, version: int = 1) -> Answer:
        """Read the same version of different memories."""

        def one(number: int) -> None:
            found = self.peer.read_version(*matter.place_of(keys, number), version)
            assert "text" in found

        return _run(one, count, seconds)

    def deepen(self, key: str, depth: int, seconds: float) -> Answer:
        """Write one key so many times, and say what a write took on the way there."""
        curve: list[tuple[int, float]] = []
        begun = started = time.perf_counter()
        since = 0
        steps = iter(_steps(depth))
        step = next(steps)
        for number in range(1, depth + 1):
            self.peer.write("deep", key, {"text": matter.text(number), "number": number})
            now = time.perf_counter()
            late = now - begun > seconds
            if number == step or late:
                curve.append((number, (now - started) / (number - since) * 1000))
                since, started, step = number, now, next(steps, 0)
            if late:
                break
        return {"curve": curve}

    def add(self, key: str, count: int, seconds: float) -> Answer:
        """Count up one counter that other processes count up too."""
        return _run(lambda _: self.peer.add_one("shared", key), count, seconds, bear=True)

    def append(self, key: str, count: int, seconds: float, writer: int) -> Answer:
        """Write one key that other processes write too; every value is another."""

        def one(number: int) -> None:
            self.peer.write("shared", key, {"from": writer, "number": number})

        return _run(one, count, seconds, bear=True)

    def survived(self, key: str) -> Answer:
        """Say how many different values the versions of a shared key have."""
        found = {json.dumps(one, sort_keys=True) for one in self.peer.versions("shared", key)}
        return {"versions": len(found)}

    def counted(self, key: str) -> Answer:
        """Say where a shared counter stands."""
        found = self.peer.read("shared", key)
        return {"count": found["count"] if found else 0}

    def fill(self, source: str, seconds: float, **which: Any) -> Answer:
        """Write many memories at once: "notes", "conversations" or "locomo"."""
        items: Iterator[Item] = getattr(matter, source)(**which)
        done = 0
        cpu, started = time.process_time(), time.perf_counter()
        while chunk := list(itertools.islice(items, CHUNK)):
            self.peer.fill(chunk)
            done += len(chunk)
            if time.perf_counter() - started > seconds:
                break
        spent = time.perf_counter() - started
        whole = next(items, None) is None
        return {"done": done, "whole": whole, "seconds": spent, "cpu": time.process_time() - cpu}

    def list(self, seconds: float, most: int = 3) -> Answer:
        """List everything, some times."""
        times: list[float] = []
        while len(times) < most and sum(times) < seconds:
            started = time.perf_counter()
            entries = self.peer.list()
            times.append(time.perf_counter() - started)
        return {"entries": entries, "times": times}

    def search(self, seconds: float, most: int, seen: bool = False) -> Answer:
        """Search for some words, again and again; the first search is not among the times."""
        one = self.peer.search_seen if seen else self.peer.search
        started = time.perf_counter()
        one("nothing")
        first = time.perf_counter() - started
        times: list[float] = []
        found = 0
        for query in matter.queries(most):
            started = time.perf_counter()
            found += one(query)
            times.append(time.perf_counter() - started)
            if sum(times) > seconds:
                break
        return {"first": first, "times": times, "found": found}

    def watch(self, path: str) -> Answer:
        """Begin to watch."""

        def note(value: Value) -> None:
            now = time.monotonic()  # one clock for all processes of a machine: clock_gettime(2)
            with self._came:
                self._seen.setdefault(value["number"], now)
                self._came.notify()

        self._end = self.peer.watch(path, note)
        return {}

    def stamp(self, path: str, number: int) -> Answer:
        """Write what another process watches for, and say when the write returned."""
        self.peer.write(path, f"note-{number % 7}", {"text": "changed", "number": number})
        return {"at": time.monotonic()}

    def seen(self, number: int, seconds: float) -> Answer:
        """Say when it came; nothing if it did not come in time."""
        with self._came:
            self._came.wait_for(lambda: number in self._seen, seconds)
        return {"at": self._seen.get(number)}

    def unwatch(self) -> Answer:
        """Watch no more."""
        self._end()
        return {}

    def idle(self, seconds: float) -> Answer:
        """Do nothing for a while, and say what CPU that took."""
        cpu = time.process_time()
        time.sleep(seconds)  # this is what is measured
        return {"cpu": time.process_time() - cpu}

    def forget_peak(self) -> Answer:
        """Have `peak` count from now on."""
        peak.forget()
        return {}

    def peak(self) -> Answer:
        """Say how much memory the process has had at most."""
        return {"megabytes": peak.megabytes()}


def _run(
    one: Callable[[int], object],
    count: int,
    seconds: float,
    threads: int = 1,
    *,
    bear: bool = False,
) -> Answer:
    """Do it `count` times or until the time is over. `bear`: count what fails, and go on."""
    numbers = iter(range(count))  # `next` on a range iterator is one step under the GIL
    done, failed = [0] * threads, Counter[str]()
    raised: list[BaseException] = []
    cpu, started = time.process_time(), time.perf_counter()

    def worker(place: int) -> None:
        try:
            for number in numbers:
                try:
                    one(number)
                    done[place] += 1
                except Cannot:
                    raise
                except Exception as error:
                    if not bear:
                        raise
                    failed[type(error).__name__] += 1
                if time.perf_counter() - started > seconds:
                    return
        except BaseException as error:
            raised.append(error)

    pool = [threading.Thread(target=worker, args=(place,)) for place in range(1, threads)]
    for thread in pool:
        thread.start()
    worker(0)
    for thread in pool:
        thread.join()
    spent = time.perf_counter() - started
    if raised:
        raise raised[0]
    return {
        "done": sum(done),
        "failed": dict(failed),
        "seconds": spent,
        "cpu": time.process_time() - cpu,
    }


def _steps(depth: int) -> Iterator[int]:
    """Yield 10, 20, 50, 100, 200, 500 … up to the depth."""
    for power in itertools.count(1):
        for digit in (1, 2, 5):
            if digit * 10**power > depth:
                return
            yield digit * 10**power


def main() -> None:
    """Answer every line until there are no more."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a peer prints must not be taken for an answer
    work = Work(importlib.import_module(sys.argv[1]).Peer)
    for line in sys.stdin:
        order = json.loads(line)
        answer: Answer
        try:
            answer = getattr(work, order.pop("do"))(**order)
        except Cannot as reason:
            answer = {"cannot": str(reason)}
        except Exception as error:
            answer = {"failed_with": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
    work.close()
    answers.flush()
    os._exit(0)  # a peer's threads must not keep it alive


if __name__ == "__main__":
    main()
