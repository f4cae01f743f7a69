"""A signal handler whose threads need what the thread that it interrupted is changing.

`docs/design/signals.md` says why that is the hard case. `tests/memory/test_signals.py` sends real
signals, at random; here a handler runs at every place where Python lets one in.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
import tenacity

from amfs_core.degraded import keeper
from amfs_core.errors import BackendUnavailableError
from amfs_core.layers import Layered, backlog, failover
from amfs_core.memory import AgentMemory, read_log
from amfs_core.outcomes import records
from amfs_core.storage import StorageAdapter, breaker, metrics, retry
from amfs_core.testing import ModelAdapter
from amfs_core.versions import cache, manifest
from amfs_sqlite import SqliteAdapter, connections
from tests.layers.stores import Outage
from tests.support.moments import within
from tests.support.places import STRIDE, Places
from tests.support.waiting import until

SECONDS = 30.0
MODULES = (
    *(backlog, breaker, cache, connections, failover),
    *(keeper, manifest, metrics, read_log, records),
)
KEYS = [f"k{number}" for number in range(3)]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what is counted and noted added up at once, which takes a lock; and a store soon known
    to be down."""
    monkeypatch.setattr(metrics, "_MOST_WAITING", 0)
    monkeypatch.setattr(read_log, "_MOST_WAITING", 0)
    monkeypatch.setattr(breaker, "_LEAST_SECONDS", 0.05)
    monkeypatch.setattr(breaker, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(retry, "_backoff", tenacity.wait_random(0, 0.02))


class Opened:
    """A memory with three memories of three versions each, and what can be done to its store."""

    def __init__(self, store: StorageAdapter, primary: Outage | None = None) -> None:
        self.memory = AgentMemory("a", adapter=store, owns_adapter=True)
        for number in range(3):
            for key in KEYS:
                self.memory.write("e", key, number)
        self.primary = primary
        if primary is not None:
            primary.down = True
            self.memory.write("e", "kept", 1)
        self.manifests = self.memory.engine.stored.store.manifests

    def use(self) -> None:
        """Do what takes every lock, after a minute in which nothing was written."""
        self.manifests.writes_until = float("-inf")
        self.memory.write("e", "k0", "new")
        self.memory.read("e", "k1")
        self.memory.update("e", "k2", lambda old: [old])
        with contextlib.suppress(BackendUnavailableError):
            self.memory.history("e", "k0")
            self.memory.commit_outcome("first", "success", entries=[("e", "k1")])

    def handle(self) -> None:
        """Do what starts threads, each of which does what `use` does."""
        self.manifests.writes_until = float("-inf")
        lines = [{"entity_path": "e", "key": key, "value": "handled"} for key in KEYS]
        self.memory.write_many(lines)
        self.memory.read_many([("e", key) for key in KEYS])
        with contextlib.suppress(BackendUnavailableError):
            self.memory.commit_outcome("second", "success", entries=[("e", key) for key in KEYS])
            self.memory.list()


def plain(_: Path) -> Opened:
    return Opened(ModelAdapter())


def mirrored(_: Path) -> Opened:
    return Opened(Layered(ModelAdapter(), mirrors=[ModelAdapter()]))


def down(_: Path) -> Opened:
    primary = Outage(ModelAdapter())
    return Opened(Layered(primary, fallback=ModelAdapter()), primary)


def file(directory: Path) -> Opened:
    directory.mkdir()
    return Opened(SqliteAdapter(directory / "store.db", durability="none"))


@pytest.mark.slow
@pytest.mark.parametrize("opened", [plain, mirrored, down, file])
def test_a_handler_may_wait_for_threads_at_any_place(
    tmp_path: Path, opened: Callable[[Path], Opened]
) -> None:
    first = opened(tmp_path / "first")
    looking = Places(MODULES)
    looking.during(first.use)
    places = list(looking.seen)
    assert len(places) > 50
    for number, place in enumerate(places[::STRIDE]):
        it = opened(tmp_path / str(number))
        where = f"handled in {place[0].co_name}, instruction {place[1]}"
        handling = Places(MODULES, place, it.handle)
        try:
            with within(SECONDS):
                handling.during(it.use)
        except TimeoutError as error:
            raise AssertionError(where) from error
        if it.primary is not None:
            it.primary.down = False
            until(lambda it=it: it.memory.reconcile().waiting == 0)
        for key in KEYS:
            written = [
                entry.value
                for entry in it.memory.history("e", key)
                if entry.provenance.outcome_ref is None
            ]
            assert written.count("handled") == (1 if handling.came else 0), where
        it.memory.close()
