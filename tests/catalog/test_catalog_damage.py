"""Processes that share a catalog's file while others damage, remove and replace it."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from amfs_core.catalog.sqlite import database as database_module
from amfs_core.errors import PermissionDeniedError
from amfs_core.memory import AgentMemory
from amfs_core.testing import FaultyAdapter, ModelAdapter
from amfs_core.testing.cases import together
from amfs_local import LocalAdapter

SECONDS = float(os.environ.get("AMFS_DAMAGE_SECONDS", "2"))
"""For how long each kind of damage goes on; minutes, in a thorough run."""

MEMORIES = 300


def files(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.is_file()]


def unlink(cache: Path) -> None:
    for path in files(cache):
        path.unlink(missing_ok=True)


def unlink_the_database(cache: Path) -> None:
    for path in cache.glob("*.sqlite"):
        path.unlink(missing_ok=True)


def truncate(cache: Path) -> None:
    for path in files(cache):
        with open(path, "r+b") as file:
            file.truncate(random.choice((0, 100, 4096, 5000)))


def garbage(cache: Path) -> None:
    for path in files(cache):
        with open(path, "r+b") as file:
            file.write(random.randbytes(max(1, path.stat().st_size)))


def scribble(cache: Path) -> None:
    """Overwrite some bytes, which may leave rows that SQLite sees nothing wrong with."""
    for path in files(cache):
        with open(path, "r+b") as file:
            for _ in range(3):
                file.seek(random.randrange(max(1, path.stat().st_size)))
                file.write(random.randbytes(random.choice((1, 8, 100, 4096))))


def remove_the_directory(cache: Path) -> None:
    shutil.rmtree(cache, ignore_errors=True)


def nothing(cache: Path) -> None:
    pass


def read(root: Path, number: int, upgraded: bool, until: float, told: Any) -> None:
    """List and search until some time, every other process in three threads at once; tell what is
    wrong, or how often all was right."""
    if upgraded:
        from amfs_core.catalog.sqlite import tables

        tables.SCHEMA += f";\nCREATE TABLE later_{number % 2} (id INTEGER)"
    rounds = 0

    def look(memory: AgentMemory) -> None:
        listed = len(memory.list(max_age=random.choice((None, 60))))
        assert listed == MEMORIES, f"{listed} are listed"
        hit_count = len(memory.search("pelican", limit=MEMORIES, max_age=random.choice((None, 60))))
        assert hit_count == MEMORIES, f"{hit_count} are found"

    try:
        adapter = LocalAdapter(root / "store", durability="none")
        while time.time() < until or not rounds:  # on a busy machine there may be none before
            with AgentMemory(f"p{number}", adapter=adapter, cache_dir=root / "cache") as memory:
                for _ in range(random.randrange(1, 10)):
                    together([partial(look, memory)] * (1 + 2 * (number % 2)))
                    rounds += 1
        told.send(rounds)
    except BaseException:
        told.send(traceback.format_exc())


@pytest.mark.parametrize(
    "damage",
    [unlink, unlink_the_database, remove_the_directory, truncate, garbage, scribble, nothing],
    ids=lambda damage: damage.__name__,
)
def test_eight_processes_see_everything_whatever_becomes_of_the_file(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    with AgentMemory("w", adapter=LocalAdapter(tmp_path / "store", durability="none")) as writer:
        writer.write_many(
            [{"entity_path": "e", "key": f"k{n}", "value": f"pelican {n}"} for n in range(MEMORIES)]
        )
    (tmp_path / "cache").mkdir()
    context = multiprocessing.get_context("spawn")
    until = time.time() + SECONDS + 2
    children = []
    for number in range(8):
        mine, theirs = context.Pipe(duplex=False)
        child = context.Process(target=read, args=(tmp_path, number, number >= 6, until, theirs))
        child.start()
        theirs.close()
        children.append((child, mine))
    while time.time() < until:
        try:
            damage(tmp_path / "cache")
        except OSError:  # it went while it was looked at
            continue
        time.sleep(random.uniform(0.05, 0.3))  # between two blows, or nobody would get anywhere
    for child, mine in children:
        assert mine.poll(120), "it hangs"
        try:
            outcome = mine.recv()
        except EOFError:
            child.join()
            outcome = f"it ended with {child.exitcode}"
        assert isinstance(outcome, int) and outcome > 0, outcome
        child.join()


# -- interrupts ------------------------------------------------------------------------------


class Located(FaultyAdapter):
    location = "model://interrupted"


USES: dict[str, Callable[[AgentMemory], object]] = {
    "list": lambda memory: memory.list(),
    "search": lambda memory: memory.search("pelican", limit=100),
    "list of own writes": lambda memory: memory.list(max_age=60),
    "purge": lambda memory: memory.purge("e", "k1"),
}


class InterruptAt:
    """Raises KeyboardInterrupt, as Ctrl-C does, just before or after the n-th call of SQLite."""

    def __init__(self, step: int) -> None:
        self.left = step

    def __call__(self, _frame: FrameType, event: str, called: Any) -> None:
        if event in ("c_call", "c_return") and called.__name__.startswith(("execute", "fetch")):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


@pytest.mark.parametrize("cached", [True, False], ids=["file", "memory"])
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_an_interrupt_at_any_statement_leaves_no_transaction_and_loses_nothing(
    tmp_path: Path, use: Callable[[AgentMemory], object], cached: bool
) -> None:
    for step in range(1, 400):
        cache = tmp_path / f"cache-{step}"
        adapter = Located(ModelAdapter())
        memory = AgentMemory("a", adapter=adapter, cache_dir=cache if cached else None)
        for number in range(5):
            memory.write("e", f"k{number}", f"pelican {number}")
        memory.search("pelican")
        memory.write("e", "k1", "pelican again")
        memory.write("e", "new", "pelican too")
        assert memory._engine._search is not None
        database = memory._engine._search._catalog.database
        interrupt = InterruptAt(step)
        sys.setprofile(interrupt)
        try:
            use(memory)
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(None)
        assert database._connection is not None and not database._connection.in_transaction
        if cached:
            assert database.path is not None
            other = sqlite3.connect(database.path, timeout=0, isolation_level=None)
            other.execute("BEGIN EXCLUSIVE")  # nobody holds a lock
            other.close()
        gone = int(any(entry.deleted for entry in memory.history("e", "k1")))
        assert len(memory.list(max_age=60)) == 6 - gone
        assert len(memory.search("pelican", limit=100)) == 6 - gone
        memory.close()
        if interrupt.left > 0:
            assert step > 10
            return
    pytest.fail("it has more than 400 statements")


def test_ctrl_c_does_not_wait_for_another_process_that_writes(tmp_path: Path) -> None:
    memory = AgentMemory("a", adapter=Located(ModelAdapter()), cache_dir=tmp_path)
    memory.write("e", "k", "pelican")
    memory.list()
    memory.write("e", "k2", "pelican")
    assert memory._engine._search is not None
    path = memory._engine._search._catalog.database.path
    assert path is not None
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    interrupting = threading.Timer(0.3, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    interrupting.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        memory.list()
    assert time.monotonic() - started < 10  # the lock is waited for 30 s
    other.execute("ROLLBACK")
    other.close()
    assert len(memory.list()) == 2
    assert len(memory.search("pelican")) == 2


# -- own writes ------------------------------------------------------------------------------


def test_more_own_writes_than_are_remembered_are_still_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from amfs_core.versions import cache as cache_module

    monkeypatch.setattr(cache_module, "MAX_APPENDED", 50)
    memory = AgentMemory("a", adapter=ModelAdapter())
    memory.list()
    for number in range(120):
        memory.write("e", f"k{number}", number)
    assert len(memory.list(max_age=60)) == 120


def test_a_refresh_that_failed_forgets_no_own_writes() -> None:
    from amfs_core.errors import BackendUnavailableError

    class Down(ModelAdapter):
        down = False

        def list(self, prefix: str, start_after: str = "") -> Iterator[Any]:
            if self.down:
                raise BackendUnavailableError("down")
            return super().list(prefix, start_after)

    adapter = Down()
    memory = AgentMemory("a", adapter=adapter, patience=0)
    memory.list()
    memory.write("e", "k", 1)
    adapter.down = True
    with pytest.raises(BackendUnavailableError):
        memory.list()
    assert len(memory.list(max_age=60)) == 1


class Guarded(ModelAdapter):
    """Refuses reads once it is told to."""

    refused = ""

    def get(self, key: str) -> bytes | None:
        if self.refused and self.refused in key:
            raise PermissionDeniedError("not for you")
        return super().get(key)

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        for key in keys:
            yield key, self.get(key)


@pytest.mark.parametrize(("refused", "is_all"), [("/k2/", False), ("entries", True)])
def test_an_own_write_that_may_not_be_read_is_never_passed_over_in_silence(
    caplog: pytest.LogCaptureFixture, refused: str, is_all: bool
) -> None:
    adapter = Guarded()
    memory = AgentMemory("a", adapter=adapter)
    memory.write("e", "k1", 1)
    memory.list()
    memory.write("e", "k2", 2)
    memory._versions.cache.forget_before(memory._layout.address("e", "k2"), 2)  # as room is made
    adapter.refused = refused
    if is_all:
        for _ in range(2):
            with pytest.raises(PermissionDeniedError):
                memory.list(max_age=60)
        adapter.refused = ""
        assert len(memory.list(max_age=60)) == 2
    else:
        assert [entry.key for entry in memory.list(max_age=60)] == ["k1"]
        assert "left out: not for you" in caplog.text


# -- erasure ---------------------------------------------------------------------------------


def test_a_version_fetched_before_a_purge_is_not_stored_after_it(tmp_path: Path) -> None:
    adapter = LocalAdapter(tmp_path / "store")
    cache = tmp_path / "cache"
    with (
        AgentMemory("slow", adapter=LocalAdapter(tmp_path / "store"), cache_dir=cache) as slow,
        AgentMemory("eraser", adapter=adapter, cache_dir=cache) as eraser,
    ):
        slow.list()
        eraser.write("people", "ann", "xyzzyplugh")
        catalog = slow._searching()._catalog
        genuine = catalog.put

        def late(memories: list[Any]) -> None:
            eraser.purge("people", "ann")  # while this process has what it fetched in its hands
            genuine(memories)

        catalog.put = late  # type: ignore[method-assign]
        slow._searching()._live.fresh(None, lambda: None)
        kept = b"".join(path.read_bytes() for path in cache.iterdir())
        assert b"xyzzyplugh" not in kept


class Pausing(LocalAdapter):
    """Has fetched, and gives what it fetched only when it is told to go on."""

    def __init__(self, root: Path, fetched: Any, go_on: Any) -> None:
        super().__init__(root)
        self._fetched, self._go_on = fetched, go_on

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        bodies = list(super().get_many(keys))
        self._fetched.set()
        assert self._go_on.wait(60)
        yield from bodies


def store_late(root: Path, fetched: Any, go_on: Any, how: str) -> None:
    adapter = Pausing(root / "store", fetched, go_on)
    memory = AgentMemory("slow", adapter=adapter, cache_dir=root / "cache")
    catalog = memory._searching()._catalog
    if how == "killed":  # as soon as it has stored what it fetched
        genuine = catalog.put

        def put(memories: list[Any]) -> None:
            genuine(memories)
            os._exit(0)

        catalog.put = put  # type: ignore[method-assign]
    memory.list()
    memory.close()


@pytest.mark.parametrize("how", ["ends", "killed"])
def test_a_process_that_fetched_before_a_purge_leaves_nothing_in_the_file(
    tmp_path: Path, how: str
) -> None:
    adapter = LocalAdapter(tmp_path / "store")
    AgentMemory("w", adapter=adapter).write("people", "ann", "xyzzyplugh")
    context = multiprocessing.get_context("spawn")
    fetched, go_on = context.Event(), context.Event()
    slow = context.Process(target=store_late, args=(tmp_path, fetched, go_on, how))
    slow.start()
    assert fetched.wait(60)
    with AgentMemory("eraser", adapter=adapter, cache_dir=tmp_path / "cache") as eraser:
        assert eraser.purge("people", "ann") == 1
    go_on.set()
    slow.join(60)
    assert slow.exitcode == 0
    assert list((tmp_path / "cache").glob("*.sqlite"))
    assert not any(b"xyzzyplugh" in path.read_bytes() for path in files(tmp_path / "cache"))


def test_a_purge_removes_a_file_that_was_replaced(tmp_path: Path) -> None:
    memory = AgentMemory("a", adapter=Located(ModelAdapter()), cache_dir=tmp_path / "cache")
    memory.write("people", "ann", "xyzzyplugh")
    memory.list()
    (orphan,) = (tmp_path / "cache").glob("*.sqlite")
    content = orphan.read_bytes()
    unlink(tmp_path / "cache")
    memory.list()
    orphan.write_bytes(content)  # as a process that was killed leaves one
    memory.purge("people", "ann")
    assert not any(b"xyzzyplugh" in path.read_bytes() for path in (tmp_path / "cache").iterdir())


def test_a_file_that_nothing_points_at_any_more_is_not_left_behind(tmp_path: Path) -> None:
    memory = AgentMemory("a", adapter=Located(ModelAdapter()), cache_dir=tmp_path)
    memory.write("people", "ann", "xyzzyplugh")
    for _ in range(5):
        assert len(memory.list()) == 1
        for path in tmp_path.glob("*.current"):
            path.unlink()
    assert len(memory.list()) == 1
    assert len(list(tmp_path.iterdir())) == 2


def test_a_purge_by_another_machine_is_followed_in_files_of_other_releases_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, cache = Located(ModelAdapter()), tmp_path / "cache"
    with monkeypatch.context() as patch:
        from amfs_core.catalog.sqlite import tables

        patch.setattr(tables, "SCHEMA", f"{tables.SCHEMA};\nCREATE TABLE former (id INTEGER)")
        with AgentMemory("old", adapter=adapter, cache_dir=cache) as old:
            old.write("people", "ann", "xyzzyplugh")
            old.list()
    with AgentMemory("new", adapter=adapter, cache_dir=cache) as new:
        new.list()
        AgentMemory("elsewhere", adapter=adapter).purge("people", "ann")
        assert new.list() == []
    assert not any(b"xyzzyplugh" in path.read_bytes() for path in cache.iterdir())


def test_a_purge_by_a_process_that_had_to_do_without_the_file_erases_it(tmp_path: Path) -> None:
    adapter = Located(ModelAdapter())
    with (
        AgentMemory("other", adapter=adapter, cache_dir=tmp_path) as other,
        AgentMemory("eraser", adapter=adapter, cache_dir=tmp_path) as eraser,
    ):
        other.write("people", "ann", "xyzzyplugh")
        other.list()
        database = eraser._searching()._catalog.database
        database._use_private(OSError("the disk was full once"))
        eraser.purge("people", "ann")
        assert not any(b"xyzzyplugh" in path.read_bytes() for path in tmp_path.iterdir())
        assert other.list() == []


def test_a_purge_removes_the_catalogs_of_other_releases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = LocalAdapter(tmp_path / "store")
    cache = tmp_path / "cache"
    with monkeypatch.context() as patch:
        from amfs_core.catalog.sqlite import tables

        patch.setattr(tables, "SCHEMA", f"{tables.SCHEMA};\nCREATE TABLE former (id INTEGER)")
        with AgentMemory("old", adapter=adapter, cache_dir=cache) as old:
            old.write("people", "ann", "xyzzyplugh")
            assert old.search("xyzzyplugh")
    with AgentMemory("new", adapter=adapter, cache_dir=cache) as new:
        assert new.search("xyzzyplugh")
        assert len(list(cache.glob("*.sqlite"))) == 2
        new.purge("people", "ann")
        assert len(list(cache.glob("*.sqlite"))) == 1
    assert not any(b"xyzzyplugh" in path.read_bytes() for path in cache.iterdir())


def test_a_file_that_is_destroyed_during_every_attempt_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Destroying(ModelAdapter):
        location = "model://destroying"

        def list(self, prefix: str, start_after: str = "") -> Iterator[Any]:
            unlink(tmp_path)
            return super().list(prefix, start_after)

    monkeypatch.setattr(database_module, "_MOST_LOSSES", 3)
    memory = AgentMemory("a", adapter=Destroying(), cache_dir=tmp_path)
    memory.write("e", "k", 1)
    assert len(memory.list()) == 1
    assert "using a private one" in caplog.text
    assert len(memory.list()) == 1


def test_a_file_that_goes_now_and_then_is_made_again_however_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database_module, "_MOST_LOSSES", 3)
    memory = AgentMemory("a", adapter=Located(ModelAdapter()), cache_dir=tmp_path / "cache")
    memory.write("e", "k", 1)
    for turn in range(10):
        assert len(memory.list()) == 1
        if turn % 2:
            unlink(tmp_path / "cache")
        else:
            shutil.rmtree(tmp_path / "cache")
    assert len(memory.list()) == 1
    assert list((tmp_path / "cache").glob("*.sqlite"))
    assert "using a private one" not in caplog.text


def test_the_cache_directory_may_be_removed_while_a_file_is_made_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache, genuine, removals = tmp_path / "cache", database_module.Database._create, []

    def create(self: database_module.Database, connection: sqlite3.Connection) -> None:
        genuine(self, connection)
        if len(removals) < 3:
            removals.append(shutil.rmtree(cache))

    monkeypatch.setattr(database_module.Database, "_create", create)
    memory = AgentMemory("a", adapter=Located(ModelAdapter()), cache_dir=cache)
    memory.write("e", "k", 1)
    assert len(memory.list()) == 1
    assert len(removals) == 3
    assert len(list(cache.glob("*.sqlite"))) == 1
    assert "using a private one" not in caplog.text


def test_a_file_of_another_user_is_left_to_that_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else each would make it again after the other."""
    adapter = Located(ModelAdapter())
    with AgentMemory("a", adapter=adapter, cache_dir=tmp_path) as first:
        first.write("e", "k", 1)
        first.list()
    before = {path: path.read_bytes() for path in files(tmp_path)}
    monkeypatch.setattr(database_module.os, "access", lambda path, mode: False)  # root may all
    assert len(AgentMemory("b", adapter=adapter, cache_dir=tmp_path).list()) == 1
    assert {path: path.read_bytes() for path in files(tmp_path)} == before
    assert "belongs to another user" in caplog.text


def test_a_mistake_of_ours_is_not_taken_for_damage_for_ever(tmp_path: Path) -> None:
    memory = AgentMemory("a", adapter=Located(ModelAdapter()), cache_dir=tmp_path)
    memory.write("e", "k", 1)
    memory.list()
    catalog, live, calls = memory._searching()._catalog, memory._searching()._live, []

    def mistaken(connection: sqlite3.Connection) -> float:
        calls.append(1)
        return len(calls) / 0

    with pytest.raises(ZeroDivisionError):
        live.fresh(None, lambda: catalog.database.run(mistaken))
    assert len(calls) < 10
    assert len(memory.list()) == 1


# -- threads ---------------------------------------------------------------------------------


def test_a_list_whose_file_another_thread_finds_gone_is_complete(tmp_path: Path) -> None:
    memory = AgentMemory("a", adapter=Located(ModelAdapter()), cache_dir=tmp_path)
    for number in range(5):
        memory.write("e", f"k{number}", number)
    assert len(memory.list()) == 5
    catalog = memory._searching()._catalog
    live = memory._searching()._live
    genuine, losses = live._refresh_since, []

    def refresh(*arguments: Any) -> None:
        genuine(*arguments)
        if not losses:  # it is about to ask what was refreshed
            unlink(tmp_path)
            losses.append(threading.Thread(target=catalog.database.current))
            losses[0].start()
            losses[0].join()

    live._refresh_since = refresh  # type: ignore[method-assign]
    assert len(memory.list(max_age=60)) == 5
    assert losses


def test_a_refresh_in_two_files_counts_for_neither(tmp_path: Path) -> None:
    """What was compared with the old file is not in the new one."""
    adapter = Located(ModelAdapter())
    memory = AgentMemory("a", adapter=adapter, cache_dir=tmp_path)
    for number in range(1500):  # two pages
        adapter.create(
            *_object(memory, f"k{number:04}", number)  # not an own write, which is noted
        )
    assert len(memory.list()) == 1500
    catalog = memory._searching()._catalog
    genuine, losses = catalog.held_of_page, []

    def known(prefixes: Any) -> Any:
        memories = genuine(prefixes)
        if not losses:  # after the first page
            unlink(tmp_path)
            losses.append(threading.Thread(target=catalog.database.current))
            losses[0].start()
            losses[0].join()
        return memories

    catalog.held_of_page = known  # type: ignore[method-assign]
    assert len(memory.list()) == 1500
    assert losses
    assert len(memory.list(max_age=60)) == 1500


def _object(memory: AgentMemory, key: str, value: int) -> tuple[str, bytes]:
    """Return the key and the bytes of an object that another agent wrote."""
    model = ModelAdapter()
    AgentMemory("other", adapter=model).write("e", key, value)
    ((object_key, body),) = model.get_many([f"default/entries/e/{key}/v1.json"])
    assert body is not None
    return object_key, body


def test_purges_at_the_same_time_are_all_carried_out_in_the_catalog(tmp_path: Path) -> None:
    memory = AgentMemory("a", adapter=Located(ModelAdapter()), cache_dir=tmp_path)
    words = [f"xyzzy{number}" for number in range(4)]
    for word in words:
        memory.write("people", f"person {word[-1]}", word)
    memory.search("anything")
    search = memory._searching()
    genuine, done, taken = search._live.forget, *(threading.Barrier(4) for _ in range(2))
    met = threading.local()

    def forget(*order: Any) -> None:
        genuine(*order)
        if not hasattr(met, "once"):  # all have carried out one, and none has noted it
            met.once = True
            done.wait(30)

    class Orders(deque[Any]):
        def popleft(self) -> Any:  # one that is taken off so may be another than was carried out
            order = super().popleft()
            taken.wait(30)
            return order

    search._live.forget = forget  # type: ignore[method-assign]
    search._to_forget = Orders()
    together([partial(memory.purge, "people", f"person {word[-1]}") for word in words])
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert [word for word in words if word.encode() in kept] == []


def test_a_killed_process_leaves_a_file_that_others_use(tmp_path: Path) -> None:
    program = f"""
import os, signal, threading, time, random
from amfs import AgentMemory
from amfs_local import LocalAdapter
adapter = LocalAdapter({str(tmp_path / "store")!r})
memory = AgentMemory("a", adapter=adapter, cache_dir={str(tmp_path / "cache")!r})
threading.Timer(random.uniform(0.2, 0.8), os.kill, (os.getpid(), signal.SIGKILL)).start()
number = 0
while True:
    number += 1
    memory.write("e", f"k{{os.getpid()}}-{{number}}", "pelican")
    memory.search("pelican", limit=1)
"""
    for _ in range(4):
        killed = subprocess.run([sys.executable, "-c", program], capture_output=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    adapter = LocalAdapter(tmp_path / "store")
    with (
        AgentMemory("b", adapter=adapter, cache_dir=tmp_path / "cache") as shared,
        AgentMemory("c", adapter=adapter) as alone,
    ):
        assert shared.list() == alone.list()
        keys = {hit.entry.key for hit in shared.search("pelican", limit=10_000)}
        assert keys == {entry.key for entry in alone.list()}


def test_the_end_of_a_purge_leaves_what_was_written_after_it_in_the_catalog(
    tmp_path: Path,
) -> None:
    memory = AgentMemory("a", adapter=Located(ModelAdapter()), cache_dir=tmp_path)
    memory.write("people", "ann", "xyzzyplugh")
    memory.purge("people", "ann")
    memory.write("people", "ann", "new and live")
    assert [entry.version for entry in memory.list()] == [3]
    # Another thread's purge, of the versions below its tombstone, ends only now.
    memory._searching().forget(memory._layout.address("people", "ann"), 2)
    assert [entry.version for entry in memory.list(max_age=60)] == [3]
    assert [hit.entry.version for hit in memory.search("live", max_age=60)] == [3]
