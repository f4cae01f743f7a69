"""The catalog under lists: complete, cheap, shared by processes, and never worth a tear."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from amfs_core.errors import ConfigurationError
from amfs_core.memory import AgentMemory
from amfs_core.testing import FaultyAdapter, ModelAdapter
from amfs_core.testing.cases import in_forked_child, together
from amfs_local import LocalAdapter
from tests.support.known import known


class Located(FaultyAdapter):
    """A counting adapter whose objects have a name, so that a catalog of them may be kept."""

    location = "test://model"


@pytest.fixture
def store() -> Located:
    return Located(ModelAdapter())


@pytest.fixture
def mem(store: Located) -> Iterator[AgentMemory]:
    with known(AgentMemory("a", adapter=store)) as memory:
        requests(memory)
        yield memory


def names(memory: AgentMemory, entity_path: str | None = None) -> list[str]:
    return [
        f"{entry.entity_path}/{entry.key}@{entry.version}" for entry in memory.list(entity_path)
    ]


def requests(memory: AgentMemory) -> dict[str, int]:
    """Return the requests since the last call, those that were none left out."""
    now = dict(memory.metrics.requests)
    before: dict[str, int] = memory.__dict__.setdefault("_requests_before", {})
    made = {kind: count - before.get(kind, 0) for kind, count in now.items()}
    memory.__dict__["_requests_before"] = now
    return {kind: count for kind, count in made.items() if count}


def catalog_file(directory: Path) -> Path:
    (path,) = directory.glob("*.sqlite")
    return path


# -- what this process wrote, and what it must not keep ---------------------------------------


def test_own_writes_are_seen_within_max_age_and_cost_nothing(
    mem: AgentMemory, store: Located
) -> None:
    mem.write("e", "k", "old")
    mem.list()
    mem.write("e", "own", 2)
    mem.write("e", "k", "newer")
    requests(mem)
    assert [entry.value for entry in mem.list(max_age=60)] == ["newer", 2]
    assert [hit.entry.key for hit in mem.search("newer", max_age=60)] == ["k"]
    assert requests(mem) == {}
    mem.delete("e", "own")
    assert [entry.key for entry in mem.list("e", max_age=60)] == ["k"]
    mem.purge("e", "k")
    assert mem.list(max_age=60) == []


def test_content_purged_by_another_process_is_in_no_file_after_a_refresh(
    store: Located, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    readers = [AgentMemory(name, adapter=store, cache_dir=cache) for name in "ab"]
    writer = AgentMemory("w", adapter=store)
    writer.write("e", "k", "topsecret")
    for reader in readers:
        assert len(reader.search("topsecret")) == 1
    writer.purge("e", "k")
    for reader in readers:
        reader.list()
    left = {path.suffix: path.read_bytes().count(b"topsecret") for path in cache.iterdir()}
    assert ".sqlite" in left
    assert set(left.values()) == {0}


# -- what a refresh costs --------------------------------------------------------------------


def test_a_refresh_gets_the_newest_versions_that_were_not_seen_and_no_others(
    mem: AgentMemory, store: Located
) -> None:
    writer = AgentMemory("w", adapter=store)
    for number in range(30):
        for version in range(100):
            writer.write("e", f"k{number}", version)
    assert [entry.value for entry in mem.list()] == [99] * 30
    assert requests(mem) == {"list": 3, "get": 30}
    mem.list()
    assert requests(mem) == {"list": 3}
    for number in range(10):
        writer.write("e", f"k{number}", "new")
    assert [entry.value for entry in mem.list()].count("new") == 10
    assert requests(mem) == {"list": 4, "get": 10}  # 3,010 objects


def test_a_path_is_refreshed_alone(mem: AgentMemory, store: Located) -> None:
    writer = AgentMemory("w", adapter=store)
    for path in ("a", "a/b", "ab", "b"):
        writer.write(path, "k", 1)
    assert names(mem, "a") == ["a/k@1", "a/b/k@1"]
    assert requests(mem) == {"list": 1, "get": 2}
    assert len(names(mem)) == 4
    assert requests(mem) == {"list": 1, "get": 2}


def test_the_first_list_asks_whatever_its_max_age(mem: AgentMemory, store: Located) -> None:
    """A monotonic clock may begin when the machine does: no age makes nothing fresh."""
    AgentMemory("w", adapter=store).write("e", "k", 1)
    longer_than_any_machine_runs = 1e9
    assert len(mem.list(max_age=longer_than_any_machine_runs)) == 1
    assert len(mem.search("1", max_age=longer_than_any_machine_runs)) == 1


def test_within_max_age_nothing_is_asked(mem: AgentMemory, store: Located) -> None:
    writer = AgentMemory("w", adapter=store)
    writer.write("e/f", "k", 1)
    assert len(mem.list("e")) == 1
    requests(mem)
    writer.write("e/f", "k2", 1)
    assert len(mem.list("e", max_age=60)) == 1
    assert len(mem.list("e/f", max_age=60)) == 1  # below what was refreshed
    assert requests(mem) == {}
    assert len(mem.list(max_age=60)) == 2  # above it
    assert requests(mem) == {"list": 1, "get": 1}
    assert len(mem.list("e", max_age=0)) == 2


def test_progress_counts_to_the_end(mem: AgentMemory, store: Located) -> None:
    writer = AgentMemory("w", adapter=store)
    for number in range(250):
        writer.write("e", f"k{number}", number)
    seen: list[tuple[int, int]] = []
    mem.list(progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (250, 250)
    assert seen == sorted(seen)


# -- complete --------------------------------------------------------------------------------


def test_own_writes_are_there_although_the_listing_lags(mem: AgentMemory, store: Located) -> None:
    mem.list()
    store.hide_newest(100)
    mem.write("e", "k", 1)
    mem.write("e", "k", 2)
    mem.write("other", "k", 1)
    assert names(mem, "e") == ["e/k@2"]
    assert names(mem) == ["e/k@2", "other/k@1"]
    store.hide_newest(1)  # the second version again: what was seen is not unseen
    assert names(mem) == ["e/k@2", "other/k@1"]


def test_memories_written_before_the_first_list_are_there_too(
    mem: AgentMemory, store: Located
) -> None:
    mem.write("e", "k", 1)
    store.hide_newest(1)
    assert names(mem) == ["e/k@1"]


def test_a_memory_that_is_named_as_a_path_is_not_below_it(mem: AgentMemory) -> None:
    mem.write("e", "k", "the memory e/k")
    mem.write("e/k", "x", "below the path e/k")
    mem.write("e/k", "v1", "looks like a version")
    assert names(mem, "e/k") == ["e/k/v1@1", "e/k/x@1"]
    assert len(mem.list("e")) == 3


def test_objects_of_other_tools_are_passed_over(mem: AgentMemory, store: Located) -> None:
    mem.write("e", "k", 1)
    for key in (
        "default/entries/e/k/v01.json",
        "default/entries/e/k/v2.json.tmp",
        "default/entries/e/b%61d/v1.json",
        "default/entries/v1.json",
        "default/entries/e/k2/notes.txt",
    ):
        store.inner.create(key, b"{}")
    assert names(mem) == ["e/k@1"]


def test_a_damaged_version_is_left_out_and_named_once_and_never_in_the_way(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = AgentMemory("w", adapter=LocalAdapter(tmp_path))
    for number in range(3):
        writer.write("e", f"k{number}", "first")
    reader = AgentMemory("r", adapter=LocalAdapter(tmp_path))
    assert len(reader.list()) == 3
    writer.write("e", "k1", "second")
    place = tmp_path / "default/entries/e/k1/v2.json"
    whole = place.read_bytes()
    place.write_bytes(whole.replace(b"second", b"sec0nd"))

    assert names(reader) == ["e/k0@1", "e/k2@1"]  # nor is the version before it the newest
    reader.list()
    assert [record.message for record in caplog.records if "k1/v2.json" in record.message] == [
        caplog.records[0].message
    ]

    place.write_bytes(whole)
    assert names(reader) == ["e/k0@1", "e/k1@2", "e/k2@1"]


def test_threads_list_while_others_write(store: Located) -> None:
    with AgentMemory("a", adapter=store) as memory:

        def work(number: int) -> None:
            for turn in range(10):
                memory.write(f"e{number}", f"k{turn}", turn)
                assert len(memory.list(f"e{number}")) == turn + 1
                assert len(memory.search(limit=1000)) >= turn + 1

        together([partial(work, number) for number in range(8)])
        assert len(memory.list()) == 80


def test_a_forked_child_lists_by_itself(tmp_path: Path) -> None:
    with AgentMemory("a", adapter=LocalAdapter(tmp_path / "s"), cache_dir=tmp_path / "c") as memory:
        memory.write("e", "k", 1)
        memory.list()

        def child() -> None:
            memory.write("e", "k2", 2)
            assert names(memory) == ["e/k@1", "e/k2@1"]

        in_forked_child(child)
        assert names(memory) == ["e/k@1", "e/k2@1"]


# -- in a file -------------------------------------------------------------------------------


def test_another_process_finds_the_catalog_of_the_first(store: Located, tmp_path: Path) -> None:
    with AgentMemory("a", adapter=store, cache_dir=tmp_path) as first:
        for number in range(20):
            first.write("e", f"k{number}", number)
        assert len(first.list()) == 20
    with AgentMemory("b", adapter=store, cache_dir=tmp_path) as second:
        assert [entry.value for entry in second.list("e")] == [
            entry.value for entry in first.list("e")
        ]
        assert requests(second) == {"list": 1, "get": 1}  # the manifest
        assert second.search("7", max_age=60)[0].entry.value == 7
    assert catalog_file(tmp_path).stat().st_mode & 0o077 == 0  # memories may be private


def test_each_store_and_namespace_has_a_catalog_of_its_own(tmp_path: Path) -> None:
    for root in ("one", "two"):
        for namespace in ("n", "m"):
            adapter = LocalAdapter(tmp_path / root)
            with AgentMemory(
                "a", adapter=adapter, namespace=namespace, cache_dir=tmp_path / "c"
            ) as memory:
                memory.write("e", root + namespace, 1)
                assert names(memory) == [f"e/{root}{namespace}@1"]
    assert len(list((tmp_path / "c").glob("*.sqlite"))) == 4


def test_a_store_whose_place_is_not_known_has_no_file(tmp_path: Path) -> None:
    with AgentMemory("a", adapter=ModelAdapter(), cache_dir=tmp_path) as memory:
        memory.write("e", "k", 1)
        assert names(memory) == ["e/k@1"]
    assert list(tmp_path.iterdir()) == []


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(8192))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def scribble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096 : len(data) : 7] = bytes(len(data[4096 : len(data) : 7]))
    path.write_bytes(data)


def too_new(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2000000000")
    connection.close()


def of_another_store(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE about SET identity = 'another'")
        connection.execute("UPDATE memory SET key = 'theirs'")
    connection.close()


def flipped_memory(path: Path) -> None:
    """Change content where SQLite cannot notice it."""
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE body SET data = CAST(replace(data, 'value', 'vague') AS BLOB)")
    connection.close()


@pytest.mark.parametrize(
    "spoil", [garbage, cut, scribble, too_new, of_another_store, flipped_memory]
)
def test_a_bad_file_is_made_again(
    store: Located, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    with AgentMemory("a", adapter=store, cache_dir=tmp_path) as first:
        for number in range(50):
            first.write("e", f"k{number:02}", {"value": "text " * 30, "number": number})
        before = names(first)
    spoil(catalog_file(tmp_path))
    with AgentMemory("b", adapter=store, cache_dir=tmp_path) as second:
        assert names(second) == before
        assert len(second.search("text", limit=100)) == 50
    with known(AgentMemory("c", adapter=store, cache_dir=tmp_path)) as third:
        requests(third)
        assert names(third) == before
        assert "get" not in requests(third)


def test_a_file_that_is_spoilt_while_it_is_open_is_made_again(
    store: Located, tmp_path: Path
) -> None:
    with AgentMemory("a", adapter=store, cache_dir=tmp_path) as memory:
        for number in range(300):
            memory.write("e", f"k{number}", "text " * 100)
        before = names(memory)
        for path in tmp_path.iterdir():
            if path.stat().st_size:
                os.truncate(path, 0)
                garbage(path)
        assert names(memory) == before
        memory.write("e", "more", 1)
        assert len(memory.list()) == 301


def test_an_unusable_cache_directory_is_not_a_reason_to_fail(
    store: Located, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a directory")
    with AgentMemory("a", adapter=store, cache_dir=tmp_path / "file") as memory:
        memory.write("e", "k", 1)
        assert names(memory) == ["e/k@1"]
    assert "no catalog can be kept" in caplog.text


def test_a_store_that_was_replaced_under_its_name_is_noticed(tmp_path: Path) -> None:
    def reopened() -> AgentMemory:
        adapter = LocalAdapter(tmp_path / "store")
        return AgentMemory("a", adapter=adapter, cache_dir=tmp_path / "cache")

    with reopened() as memory:
        for version in range(3):
            memory.write("e", "same", f"old {version}")
        memory.write("e", "gone", "old")
        memory.write("e", "shorter", "old")
        memory.write("e", "shorter", "old 2")
        assert len(memory.list()) == 3
    shutil.rmtree(tmp_path / "store")
    writer = AgentMemory("w", adapter=LocalAdapter(tmp_path / "store"))
    for version in range(3):
        writer.write("e", "same", f"NEW {version}")
    writer.write("e", "shorter", "NEW")
    with reopened() as memory:
        assert {entry.key: entry.value for entry in memory.list()} == {
            "same": "NEW 2",
            "shorter": "NEW",
        }


def test_erased_content_is_in_no_file_of_the_catalog(tmp_path: Path) -> None:
    def opened(agent: str) -> AgentMemory:
        adapter = LocalAdapter(tmp_path / "store")
        return AgentMemory(agent, adapter=adapter, cache_dir=tmp_path / "cache")

    def remains(word: bytes) -> bool:
        return any(word in path.read_bytes().lower() for path in (tmp_path / "cache").iterdir())

    with opened("a") as memory, opened("b") as eraser:
        for number in range(50):
            memory.write("people", f"p{number}", f"an ordinary person {number}")
        memory.write("people", "ann", {"secret": "xyzzyplugh"}, tags=["xyzzyplugh"])
        assert memory.search("xyzzyplugh")[0].entry.key == "ann"
        assert remains(b"xyzzyplugh")
        eraser.purge("people", "ann")
        assert not remains(b"xyzzyplugh")
        assert memory.search("xyzzyplugh") == []
        assert len(memory.list()) == 50


def test_a_purge_by_another_machine_is_followed_at_the_next_refresh(tmp_path: Path) -> None:
    adapter = LocalAdapter(tmp_path / "store")
    with AgentMemory("a", adapter=adapter, cache_dir=tmp_path / "cache") as memory:
        memory.write("people", "ann", {"secret": "xyzzyplugh"})
        memory.search("xyzzyplugh")
        AgentMemory("elsewhere", adapter=LocalAdapter(tmp_path / "store")).purge("people", "ann")
        assert memory.search("xyzzyplugh") == []
    assert not any(b"xyzzyplugh" in path.read_bytes() for path in (tmp_path / "cache").iterdir())


def _share(root: Path, number: int) -> None:
    warnings: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("amfs").addHandler(handler)
    adapter = LocalAdapter(root / "store", durability="none")
    with AgentMemory(f"p{number}", adapter=adapter, cache_dir=root / "cache") as memory:
        for turn in range(25):
            memory.write("shared", f"k{turn}", [number, turn])
            own = memory.write(f"own/{number}", f"k{turn}", turn)
            listed = {(entry.entity_path, entry.key): entry for entry in memory.list()}
            assert listed[f"own/{number}", f"k{turn}"] == own
            hits = memory.search(f"k{turn}", entity_path=f"own/{number}", limit=100)
            assert own in [hit.entry for hit in hits]
    assert warnings == []  # the file was good all the time


def test_processes_share_a_file_while_all_of_them_write(tmp_path: Path) -> None:
    spawning = multiprocessing.get_context("spawn")
    processes = [spawning.Process(target=_share, args=(tmp_path, number)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    adapter = LocalAdapter(tmp_path / "store")
    with (
        AgentMemory("a", adapter=adapter, cache_dir=tmp_path / "cache") as shared,
        AgentMemory("b", adapter=adapter) as alone,
    ):
        assert shared.list() == alone.list()
        assert len(alone.list()) == 25 + 4 * 25
        assert {entry.version for entry in alone.list("shared")} == {4}


def test_a_full_private_catalog_says_what_to_do(mem: AgentMemory) -> None:
    mem.write("e", "k", "x" * 10_000)
    mem.list()
    assert mem._engine._search is not None
    mem._engine._search._catalog.database.run(
        lambda connection: connection.execute("PRAGMA max_page_count = 1")
    )
    mem.write("e", "k2", "x" * 1_000_000)
    with pytest.raises(ConfigurationError, match=r"the catalog cannot be kept.*cache_dir"):
        mem.list()


def test_a_refresh_that_began_after_the_call_serves_all_that_waited(store: Located) -> None:
    """Eight threads that ask at once share refreshes, and all see what was written before."""
    with AgentMemory("a", adapter=store) as memory:
        AgentMemory("w", adapter=store).write("e", "k", datetime.now(UTC).isoformat())
        assert [len(entries) for entries in together([memory.list] * 8)] == [1] * 8
        assert memory.metrics.requests["get"] == 1 + 1  # and the manifest
