"""One run: worker processes on a store with faults, kills and crashes; then the judgement."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.torture import checker, final, history, stores
from tests.torture.faults import LAG_SECONDS
from tests.torture.places import KEYS, Job, entity_path
from tests.torture.report import Report, judged
from tests.torture.stores import StoreClient
from tests.torture.violation import Violation
from tests.torture.worker import PURGES
from tests.torture.worker import run as work

JOIN_SECONDS = 180.0
_LOOK_SECONDS = 0.05
PATIENCE = (0.1, 2.0, 30.0)


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is to be. `operations` are of each process; `seconds` is when it is given up."""

    store: str
    processes: int
    operations: int
    faults: float
    kills: int
    server_kills: int
    seed: int
    patience: tuple[float, ...] = PATIENCE
    watchers: int = 1
    seconds: float = 1800.0
    breaks: str | None = None
    purges: float = PURGES


@dataclass(slots=True)
class _Running:
    """A process, its job, and how far it got, as far as its file has been read."""

    job: Job
    process: BaseProcess
    pipe: Connection
    done: bool = False
    returned: int = 0
    offset: int = 0

    def look(self) -> None:
        """Count the operations that have ended, from what was added to its file."""
        path = Path(self.job.history)
        if not path.exists():
            return
        with path.open("rb") as file:
            file.seek(self.offset)
            added = file.read()
        self.offset += len(added)
        self.returned += added.count(b'"t":"return"')


@dataclass(slots=True)
class Torture:
    """The processes of a run; `directory` is where their histories are."""

    options: Options
    directory: Path
    store: StoreClient
    running: list[_Running] = field(default_factory=list)
    kills: int = 0
    crashes: int = 0
    _dice: random.Random = field(init=False)
    _ended: int = 0

    def __post_init__(self) -> None:
        self._dice = random.Random(self.options.seed)

    def run(self) -> None:
        """Run until every operation has been done, and every watch has got to the end."""
        options = self.options
        total = options.processes * options.operations
        kills = self._moments(options.kills, total)
        crashes = self._moments(options.server_kills, total)
        deadline = time.monotonic() + options.seconds
        try:
            for number in range(options.processes):
                self._start(self._job(number))
            while not all(worker.done for worker in self.running):
                self._wait()
                progress = self._ended + sum(worker.returned for worker in self.running)
                while kills and progress >= kills[0]:
                    kills.pop(0)
                    self._kill_one()
                while crashes and progress >= crashes[0]:
                    crashes.pop(0)
                    self.crashes += self.store.crash()
                if time.monotonic() > deadline:
                    raise TimeoutError(f"only {progress} of {total} operations ended in time")
            self._finish()
        finally:
            for worker in self.running:
                worker.process.kill()

    def _moments(self, count: int, total: int) -> list[float]:
        return sorted(self._dice.uniform(0.03, 0.9) * total for _ in range(count))

    def _job(self, number: int) -> Job:
        options = self.options
        name = f"w{number:02}-0"
        return Job(
            name=name,
            seed=f"{options.seed}:{name}",
            operations=options.operations,
            where=self.store.where,
            history=str(self.directory / f"{name}.jsonl"),
            patience=options.patience[number % len(options.patience)],
            # Every other one shares a file of a catalog with others.
            cache_dir=str(self.directory / "cache") if number % 2 else None,
            watches=number < options.watchers,
            breaks=options.breaks,
            purges=options.purges,
        )

    def _start(self, job: Job) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([work.__module__, "tests.torture.places", "boto3"])
        mine, theirs = context.Pipe()
        process = context.Process(target=work, args=(job, theirs), daemon=True)
        process.start()
        theirs.close()
        self.running.append(_Running(job, process, mine))

    def _wait(self) -> None:
        """Wait until a worker has done its operations, but look at all from time to time."""
        pipes = {worker.pipe: worker for worker in self.running if not worker.done}
        for ready in wait(list(pipes), _LOOK_SECONDS):
            worker = pipes[ready]  # type: ignore[index]
            try:
                worker.done = worker.pipe.recv() == "done"
            except EOFError:
                worker.process.join()
                raise ChildProcessError(
                    f"{worker.job.name} ended: {worker.process.exitcode}"
                ) from None
        for worker in self.running:
            worker.look()

    def _kill_one(self) -> None:
        """SIGKILL a worker, anywhere within an operation, and have another go on."""
        victims = [worker for worker in self.running if not worker.done]
        if not victims:
            return
        victim = self._dice.choice(victims)
        wait([victim.process.sentinel], self._dice.uniform(0, 0.01))
        victim.process.kill()
        victim.process.join()
        victim.pipe.close()
        victim.look()
        self.kills += 1
        self.running.remove(victim)
        self._ended += victim.returned
        self._start(_successor(victim.job, victim.returned))

    def _finish(self) -> None:
        self.store.settle()
        newest = final.read(self.store.objects()).newest()
        for worker in self.running:
            worker.pipe.send(newest)
        for worker in self.running:
            worker.process.join(JOIN_SECONDS)
            if worker.process.exitcode != 0:
                raise ChildProcessError(f"{worker.job.name} ended with {worker.process.exitcode}")


def _successor(job: Job, returned: int) -> Job:
    stem, _, generation = job.name.rpartition("-")
    name = f"{stem}-{int(generation) + 1}"
    cursor, delivered = job.cursor, job.delivered
    path = Path(job.history)
    for line in history.lines(path) if path.exists() else ():
        if line["t"] == "cursor":
            cursor, delivered = line["cursor"], tuple(line["delivered"].items())
    return replace(
        job,
        name=name,
        seed=f"{job.seed}:{name}",
        operations=max(0, job.operations - returned - 1),
        history=str(path.with_name(f"{name}.jsonl")),
        cursor=cursor,
        delivered=delivered,
    )


def torture(options: Options, directory: Path) -> Report:
    """Run, judge, and return the report. The histories are in the directory."""
    started = time.monotonic()
    directory.mkdir(parents=True, exist_ok=True)
    with (
        _described(options, directory),
        stores.opened(options.store, directory, rate=options.faults, seed=options.seed) as store,
    ):
        run = Torture(options, directory, store)
        run.run()
        seconds = time.monotonic() - started
        there = final.read(store.objects())
        happened = history.load(directory)
        happened.faults.update(store.faults())
        violations = [
            *checker.check(happened, there, keys=KEYS, lag=LAG_SECONDS),
            *_verified(store),
        ]
    return judged(
        options.store, happened, there, violations, seconds, kills=run.kills, crashes=run.crashes
    )


@contextlib.contextmanager
def _described(options: Options, directory: Path) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        options_text = json.dumps({"store": options.store, "seed": options.seed})
        error.add_note(f"the run was {options_text}; its histories are in {directory}")
        raise


def _verified(store: StoreClient) -> Iterator[Violation]:
    """What `verify` finds: no more than what a kill left half done, outcomes that it counts itself
    and purges that it says to repeat."""
    with store.memory() as memory:
        for finding in memory.verify(repair=True).findings:
            if finding.hint == "purge the memory again":
                key = finding.object_key.split("/")[-2]
                memory.purge(entity_path(key), key)
            else:
                yield Violation("verify", str(finding))
        for finding in memory.verify().findings:
            yield Violation("verify", f"after the repair: {finding}")
