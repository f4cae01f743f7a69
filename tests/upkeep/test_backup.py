"""Backups: what is in them, what becomes of them when somebody dies, and what is restored."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import msgspec
import pytest

from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    ConfigurationError,
    CorruptEntryError,
    InvalidValueError,
)
from amfs_core.memory import AgentMemory
from amfs_core.storage import ObjectInfo, StorageAdapter, StoreClient
from amfs_core.testing import Crash
from amfs_core.upkeep.backup import Backup, Backups, manifest
from amfs_core.upkeep.backup.archive import ArchiveWriter
from amfs_core.upkeep.backup.aside import Aside
from amfs_core.upkeep.backup.index import Line
from amfs_core.upkeep.backup.shelf import Shelf
from amfs_core.upkeep.copy import copy
from amfs_local import LocalAdapter
from amfs_sqlite import SqliteAdapter
from tests.support.backups import Meanwhile, extracted, local, objects, problems
from tests.torture.mortal import Life, MortalAdapter

A_DAY = timedelta(days=1)


def memory(path: Path, namespace: str = "default") -> AgentMemory:
    return AgentMemory("tester", adapter=local(path), namespace=namespace)


def fill(path: Path) -> None:
    """Names that nest and sort among each other's versions, one purged, outcomes."""
    with memory(path) as writer, memory(path, "other") as other:
        for number in range(12):
            writer.write("a", "b", number)
            writer.write("a/b", "v1x", {"ü": number})
            writer.write("a/b/v1x", "deep", "text" * number)
            writer.write("näme", "👋/x", number)
            writer.write("a", "b!", number)
        writer.write("gone", "secret", "of somebody")
        writer.purge("gone", "secret")
        writer.commit_outcome("deploy 1/2", "success", entries=[("a", "b"), ("näme", "👋/x")])
        other.write("not", "this", 1)


def default(path: Path) -> dict[str, bytes]:
    return {key: body for key, body in objects(path).items() if key.startswith("default/")}


def test_tar_and_gzip_open_a_chain_of_backups_and_what_comes_out_is_the_store(
    tmp_path: Path,
) -> None:
    fill(tmp_path / "a")
    backups = Backups(local(tmp_path / "backups"))
    names = [backups.create(local(tmp_path / "a")).name]
    with memory(tmp_path / "a") as source:
        source.write("a", "b", "new")
        source.purge("a/b", "v1x")
        source.commit_outcome("another", "failure", entries=[("a", "b")])
    names.append(backups.create(local(tmp_path / "a")).name)
    tree = extracted(tmp_path / "backups", names, tmp_path / "tree")
    assert objects(tree) == default(tmp_path / "a")
    assert problems(tree) == []
    archive = b"".join(
        part.read_bytes()
        for part in sorted((tmp_path / f"backups/default/archives/{names[0]}").glob("*.tar.gz"))
    )
    # All parts, one after the other, are one archive.
    (tmp_path / "one.tar.gz").write_bytes(archive)
    listed = subprocess.run(
        ["tar", "-tzf", tmp_path / "one.tar.gz"], check=True, capture_output=True
    )
    assert listed.stderr == b""
    assert len(listed.stdout.splitlines()) == 12 * 5 + 2 + 2 + 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_a_restored_namespace_is_the_same_byte_for_byte(tmp_path: Path, seed: int) -> None:
    """Random histories and backups of them: each is restored as it was, and says what it has."""
    dice = random.Random(seed)
    backups = Backups(local(tmp_path / "backups"))
    states: list[tuple[str, dict[str, bytes]]] = []
    names = [("a", "b"), ("a/b", "v1"), ("a/b/v1", "c"), ("a!", "b"), ("a", "b c"), ("z", "é")]
    with memory(tmp_path / "a") as source:
        for number in range(60):
            name = dice.choice(names)
            match dice.randrange(10):
                case 0:
                    source.purge(*name)
                case 1:
                    source.delete(*name)
                case 2 if source.read(*name) is not None:
                    source.commit_outcome(f"o{number}", "failure", entries=[name])
                case 3:
                    backup = backups.create(local(tmp_path / "a"), full=dice.random() < 0.2)
                    state = default(tmp_path / "a")
                    states.append((backup.name, state))
                    assert backup.versions + backup.outcomes == len(state)
                    assert backup.bytes == sum(map(len, state.values()))
                    assert backup.memories == source.stats().memories
                case _:
                    source.write(*name, number)
    assert [backup.name for backup in backups.list()] == [name for name, _ in states]
    for name, state in states:
        report = backups.restore(local(tmp_path / name), name)
        assert objects(tmp_path / name) == state
        assert (report.restored, report.already_there) == (len(state), 0)
        assert backups.restore(local(tmp_path / name), name).already_there == len(state)
        assert memory(tmp_path / name).verify().ok


def test_an_incremental_backup_has_only_what_the_chain_does_not_have(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    backups = Backups(local(tmp_path / "backups"))
    first = backups.create(local(tmp_path / "a"))
    assert (first.is_full, first.added) == (True, 12 * 5 + 2 + 2 + 1)
    with memory(tmp_path / "a") as source:
        source.write("a", "b", "new")
    second = backups.create(local(tmp_path / "a"))
    assert (second.base, second.added) == (first.name, 1)
    assert backups.create(local(tmp_path / "a")).added == 0
    assert backups.create(local(tmp_path / "a"), full=True).added == first.added + 1


def test_backups_are_kept_in_any_store_and_of_any(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    with_file = SqliteAdapter(str(tmp_path / "memories.db"))
    copy(local(tmp_path / "a"), with_file)
    backups = Backups(SqliteAdapter(str(tmp_path / "backups.db")))
    backups.create(with_file)
    with AgentMemory("tester", adapter=with_file) as source:
        source.write("a", "b", "new")
        source.purge("a/b", "v1x")
    assert backups.create(with_file).added == 1 + 12 + 1
    restored = SqliteAdapter(str(tmp_path / "restored.db"))
    backups.restore(restored)
    copy(with_file, local(tmp_path / "from"))
    copy(restored, local(tmp_path / "to"))
    assert default(tmp_path / "to") == default(tmp_path / "from")
    for adapter in (with_file, restored, backups.place):
        adapter.close()


def test_the_backup_of_another_store_is_a_full_one(tmp_path: Path) -> None:
    """What the chain has and the source has not means that the two are not of one store."""
    fill(tmp_path / "a")
    backups = Backups(local(tmp_path / "backups"))
    backups.create(local(tmp_path / "a"))

    def lose_a_memory(path: Path) -> None:
        shutil.rmtree(path / "default/entries/a/b!")

    def lose_the_newest_version(path: Path) -> None:
        (path / "default/entries/a/b/v13.json").unlink()

    def lose_an_outcome(path: Path) -> None:
        next((path / "default/outcomes").iterdir()).unlink()

    def go_another_way(path: Path) -> None:
        lose_an_outcome(path)
        for name in ("a/b", "näme/👋%2Fx"):
            (path / f"default/entries/{name}/v13.json").unlink()
        memory(path).write("a", "b", "another history")
        memory(path).write("näme", "👋/x", "another history")

    losses = (lose_a_memory, lose_the_newest_version, lose_an_outcome, go_another_way)
    for number, lose in enumerate(losses):
        path = tmp_path / f"{number}"
        shutil.copytree(tmp_path / "a", path)
        lose(path)
        backups = Backups(local(tmp_path / f"backups{number}"))
        backups.create(local(tmp_path / "a"))
        made = backups.create(local(path))
        assert made.is_full, lose
        backups.restore(local(tmp_path / f"restored{number}"))
        assert objects(tmp_path / f"restored{number}") == default(path)
        assert len(list((tmp_path / f"backups{number}/default/archives").iterdir())) == 2


def test_a_version_lost_in_the_middle_of_the_sources_history_stays_in_the_chain(
    tmp_path: Path,
) -> None:
    fill(tmp_path / "a")
    backups = Backups(local(tmp_path / "backups"))
    backups.create(local(tmp_path / "a"))
    before = default(tmp_path / "a")
    lost = tmp_path / "a/default/entries/a/b/v3.json"
    lost.unlink()
    second = backups.create(local(tmp_path / "a"))
    assert (second.is_full, second.left_out) == (False, ())
    backups.restore(local(tmp_path / "a"))  # into the store in use: what was lost is back
    assert default(tmp_path / "a") == before


def test_a_version_that_the_source_has_lost_is_named_and_nothing_after_it_is_saved(
    tmp_path: Path,
) -> None:
    fill(tmp_path / "a")
    (tmp_path / "a/default/entries/a/b/v3.json").unlink()
    local(tmp_path / "a").create("default/entries/näme/👋%2Fx/v9999999999.json", b"foreign")
    backups = Backups(local(tmp_path / "backups"))
    made = backups.create(local(tmp_path / "a"))
    assert sorted(made.left_out) == [
        "default/entries/a/b/v3.json",
        "default/entries/näme/👋%2Fx/v14.json",
    ]
    backups.restore(local(tmp_path / "r"))
    there = {key for key in objects(tmp_path / "r") if key.startswith("default/entries/a/b/v")}
    assert there >= {f"default/entries/a/b/v{number}.json" for number in (1, 2)}
    assert "default/entries/a/b/v4.json" not in there
    assert len(objects(tmp_path / "r")) == len(default(tmp_path / "a")) - 11


# -- while others write ----------------------------------------------------------------------


@pytest.mark.slow
def test_a_backup_made_while_four_writers_write_is_closed_and_has_all_that_was_acknowledged(
    tmp_path: Path,
) -> None:
    stop = threading.Event()
    acknowledged: dict[str, int] = {}

    def write(number: int) -> None:
        dice = random.Random(number)
        with memory(tmp_path / "a") as writer:
            for turn in range(100_000):
                if stop.is_set():
                    return
                name = (f"e{dice.randrange(3)}", f"k{dice.randrange(8)}")
                match dice.randrange(12):
                    case 0:
                        writer.purge(*name)
                    case 1 | 2 | 3 if writer.read(*name) is not None:
                        two = [name, (f"e{number % 3}", "shared")]
                        writer.update("e0", "shared", lambda old: [old, 1][1:])
                        writer.update("e1", "shared", lambda old: 1)
                        writer.update("e2", "shared", lambda old: 1)
                        try:
                            writer.commit_outcome(f"o{number}-{turn}", "success", entries=two)
                        except InvalidValueError:  # purged meanwhile
                            continue
                    case _:
                        entry = writer.write(*name, turn)
                        acknowledged["/".join(name)] = entry.version

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    backups = Backups(local(tmp_path / "backups"))
    made = []
    try:
        while len(objects(tmp_path / "a")) < 200:
            stop.wait(0.01)
        for _ in range(5):
            before = dict(acknowledged)
            made.append((backups.create(local(tmp_path / "a")), before))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert all(backup.left_out == () for backup, _ in made)
    assert any(not backup.is_full for backup, _ in made)
    for backup, before in made:
        path = tmp_path / backup.name
        backups.restore(local(path), backup.name)
        assert problems(path, before) == []
        report = memory(path).verify(repair=True)
        unfinished = [
            finding for finding in report.findings if "ordered its erasure" not in finding.problem
        ]
        assert not unfinished  # an erasure that was under way is found as it was in the source


def test_a_version_written_behind_the_listing_is_in_the_backup_if_a_later_one_depends_on_it(
    tmp_path: Path,
) -> None:
    """An outcome of the backup names a version that the listing came too early for, and another
    outcome was counted into that."""
    with memory(tmp_path / "a") as source:
        for key in ("first", "last", "third"):
            source.write("e", key, 1)
        source.commit_outcome("m", "success", entries=[])

        for after in ("default/entries/e/first/v1.json", "default/outcomes/m.json"):
            path = tmp_path / after.rpartition("/")[2]
            shutil.copytree(tmp_path / "a", path / "a")
            adapter = Meanwhile(path / "a", after)

            def elsewhere(where: Path = path) -> None:
                with memory(where / "a") as writer:
                    writer.commit_outcome("a", "success", entries=[("e", "first")])
                    writer.write("e", "new", 1)
                    # v2 of `first`, v1 of `new`; counted into v2 of `last`, which is listed later
                    entries = [("e", "first"), ("e", "last"), ("e", "new")]
                    writer.commit_outcome("z", "success", entries=entries)

            adapter.act = elsewhere
            backups = Backups(local(path / "backups"))
            made = backups.create(adapter)
            assert adapter.act is None
            backups.restore(local(path / "restored"))
            assert problems(path / "restored") == []
            assert "default/outcomes/z.json" in objects(path / "restored")
            assert made.versions + made.outcomes == len(objects(path / "restored"))
            assert made.memories == 4
            assert memory(path / "restored").verify(repair=True).ok
            backups.create(local(path / "a"))
            backups.restore(local(path / "again"))
            assert objects(path / "again") == objects(path / "a")


def test_a_purge_that_comes_after_the_listing_passed_is_saved_with_its_order(
    tmp_path: Path,
) -> None:
    with memory(tmp_path / "a") as source:
        for number in range(5):
            source.write("e", "k", number)
        source.write("f", "k", 1)
    adapter = Meanwhile(
        tmp_path / "a",
        "default/entries/f/k/v1.json",
        lambda: memory(tmp_path / "a").purge("e", "k"),
    )
    backups = Backups(local(tmp_path / "backups"))
    backups.create(adapter)
    backups.restore(local(tmp_path / "r"))
    assert problems(tmp_path / "r") == []
    assert memory(tmp_path / "r").history("e", "k")[-1].purges


def test_a_second_purge_between_two_looks_at_the_first_ones_tombstone_is_saved_with_its_order(
    tmp_path: Path,
) -> None:
    """The second purge erases the tombstone that ordered the first one."""

    def purge() -> None:
        with memory(tmp_path / "a") as another:
            another.write("e", "k", "again")
            another.purge("e", "k")

    class PurgedAgain(Meanwhile):
        def get(self, key: str) -> bytes | None:
            body = super().get(key)
            if key == "default/entries/e/k/v7.json" and body is not None and self.act is None:
                self.act = purge
                purge()
            return body

    with memory(tmp_path / "a") as source:
        for number in range(5):
            source.write("e", "k", number)
        source.write("f", "k", 1)
    adapter = PurgedAgain(tmp_path / "a", "default/entries/f/k/v1.json", purge)
    backups = Backups(local(tmp_path / "backups"))
    backups.create(adapter)
    assert adapter.act is purge
    backups.restore(local(tmp_path / "r"))
    assert problems(tmp_path / "r") == []


def test_a_tombstone_of_the_chain_that_is_erased_itself_orders_nothing_any_more(
    tmp_path: Path,
) -> None:
    """The listing came to it after a second purge, and passed the place of that one's order before
    it."""

    class Early(LocalAdapter):
        def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
            passed = {f"default/entries/e/k/v{number}.json" for number in (4, 5)}
            return (info for info in super().list(prefix, start_after) if info.key not in passed)

    with memory(tmp_path / "a") as source:
        source.write("e", "k", 1)
        source.write("e", "k", 2)
        source.purge("e", "k")
        backups = Backups(local(tmp_path / "backups"))
        backups.create(local(tmp_path / "a"))
        source.write("e", "k", 4)
        source.purge("e", "k")
    made = backups.create(Early(str(tmp_path / "a"), durability="none"))
    assert not made.is_full
    backups.restore(local(tmp_path / "r"))
    assert problems(tmp_path / "r") == []
    assert memory(tmp_path / "r").history("e", "k")[-1].purges


def phantoms(path: Path, *, takes_back: bool = False) -> Meanwhile:
    """A store that lists what it is creating, and takes it back: versions and an outcome."""
    adapter = Meanwhile(path)
    adapter.takes_back = takes_back
    adapter.phantoms = {
        "default/entries/a/b/v14.json",
        "default/entries/a/b/v15.json",
        "default/entries/x/never/v1.json",
        "default/outcomes/never.json",
    }
    return adapter


def test_an_object_that_the_store_lists_and_takes_back_is_absent(tmp_path: Path) -> None:
    """As MinIO does with what a client was creating that was killed."""
    fill(tmp_path / "a")
    expected = default(tmp_path / "a")
    backups = Backups(local(tmp_path / "backups"))
    for _ in range(2):
        assert backups.create(phantoms(tmp_path / "a")).left_out == ()
    backups.restore(local(tmp_path / "r"))
    assert objects(tmp_path / "r") == expected
    told: list[tuple[int, int]] = []
    report = copy(
        phantoms(tmp_path / "a"),
        local(tmp_path / "b"),
        namespace="default",
        progress=lambda *step: told.append(step),
    )
    assert objects(tmp_path / "b") == expected and report.copied == len(expected)
    assert told[-1] == (len(expected), len(expected))
    with AgentMemory("tester", adapter=phantoms(tmp_path / "a", takes_back=True)) as source:
        verified = source.verify()
    assert verified.ok, verified.findings
    assert (verified.versions, verified.outcomes) == (len(expected) - 1, 1)
    assert verified.memories == 6
    adapter = phantoms(tmp_path / "a")
    with AgentMemory("tester", adapter=adapter) as source:
        findings = source.verify().findings
    # It stays so: that is a loss.
    assert {finding.object_key for finding in findings} == adapter.phantoms


def test_a_lost_version_below_an_existing_one_is_still_named(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    (tmp_path / "a/default/entries/a/b/v12.json").unlink()
    adapter = Meanwhile(tmp_path / "a")
    adapter.phantoms = {"default/entries/a/b/v12.json"}
    with pytest.raises(CorruptEntryError, match=r"a/b/v12\.json is missing in the source"):
        copy(adapter, local(tmp_path / "b"), namespace="default")
    with AgentMemory("tester", adapter=adapter) as source:
        assert "default/entries/a/b/v12.json" in {
            finding.object_key for finding in source.verify().findings
        }
    backup = Backups(local(tmp_path / "backups")).create(adapter)
    assert backup.left_out == ("default/entries/a/b/v12.json",)


# -- restoring -------------------------------------------------------------------------------


def saved(tmp_path: Path) -> Backups:
    fill(tmp_path / "a")
    backups = Backups(local(tmp_path / "backups"))
    backups.create(local(tmp_path / "a"))
    return backups


def test_a_restore_never_overwrites_different_bytes(tmp_path: Path) -> None:
    backups = saved(tmp_path)
    with memory(tmp_path / "r") as target:
        theirs = target.write("a", "b", "theirs")
        with pytest.raises(AMFSError, match=r"a/b/v1\.json .*not overwritten") as error:
            backups.restore(local(tmp_path / "r"))
        assert error.value.object_key == "default/entries/a/b/v1.json"
        assert target.history("a", "b")[0] == theirs


def test_content_erased_in_the_target_since_stays_erased(tmp_path: Path) -> None:
    backups = saved(tmp_path)
    with memory(tmp_path / "a") as source:
        source.purge("a", "b")
        source.write("a", "b", "a new life")
        before = default(tmp_path / "a")
        report = backups.restore(local(tmp_path / "a"))
        assert (report.restored, report.erased) == (0, 13)
        assert default(tmp_path / "a") == before
        # Also where the stub was lost: the tombstone that is there ordered the erasure.
        (tmp_path / "a/default/entries/a/b/v3.json").unlink()
        report = backups.restore(local(tmp_path / "a"))
        assert (report.restored, report.erased) == (1, 13)
        assert default(tmp_path / "a") == before
        assert source.verify().ok


def test_erasures_of_the_backup_follow_their_order_in_the_target(
    tmp_path: Path,
) -> None:
    fill(tmp_path / "a")
    copy(local(tmp_path / "a"), local(tmp_path / "r"), namespace="default")
    with memory(tmp_path / "a") as source:
        source.purge("a", "b")
    backups = Backups(local(tmp_path / "backups"))
    backups.create(local(tmp_path / "a"))
    report = backups.restore(local(tmp_path / "r"))
    assert (report.restored, report.erased) == (1, 13)
    assert default(tmp_path / "r") == default(tmp_path / "a")


def test_a_full_backup_and_a_prune_leave_nothing_of_what_was_erased(tmp_path: Path) -> None:
    with memory(tmp_path / "a") as source:
        source.write("a", "b", "IN-PLAIN-SIGHT")
        backups = Backups(local(tmp_path / "backups"))
        backups.create(local(tmp_path / "a"))
        source.purge("a", "b")
        backups.create(local(tmp_path / "a"))

        def kept() -> bytes:
            parts = (tmp_path / "backups").rglob("*.tar.gz")
            return b"".join(gzip.decompress(part.read_bytes()) for part in parts)

        assert b"IN-PLAIN-SIGHT" in kept()
        assert backups.prune(keep=1).removed == ()  # the newest builds on it
        backups.create(local(tmp_path / "a"), full=True)
        assert len(backups.prune(keep=1).removed) == 2
        assert b"IN-PLAIN-SIGHT" not in kept()


def test_a_missing_part_is_found_before_anything_is_written(tmp_path: Path) -> None:
    backups = saved(tmp_path)
    part = next((tmp_path / "backups").rglob("*.tar.gz"))
    body = part.read_bytes()
    for damage in (part.unlink, lambda: part.write_bytes(body[:-1])):
        damage()
        with pytest.raises(CorruptEntryError, match=r"00001\.tar\.gz, a part of the backup"):
            backups.restore(local(tmp_path / "r"))
        assert objects(tmp_path / "r") == {}


def test_a_damaged_part_is_found_before_any_of_it_is_written(tmp_path: Path) -> None:
    backups = saved(tmp_path)
    for pattern in ("*.tar.gz", "*.jsonl.gz"):
        part = next((tmp_path / "backups").rglob(pattern))
        body = part.read_bytes()
        part.write_bytes(body[:100] + bytes([body[100] ^ 1]) + body[101:])
        with pytest.raises(CorruptEntryError, match="do not match the manifest"):
            backups.restore(None)  # reads and checks, and needs no target
        with pytest.raises(CorruptEntryError, match="do not match the manifest"):
            backups.restore(local(tmp_path / "r"))
        assert objects(tmp_path / "r") == {}
        part.write_bytes(body)
    backups.restore(None)


@pytest.mark.parametrize(
    "name",
    [
        *("../../outside", "/outside", "another/entries/a/b/v1.json", "default/entries/a/v0.json"),
        *("default/manifest/v1.json", "default/backups/b/manifest.json", "default/notes.txt"),
    ],
)
def test_an_object_of_another_place_is_never_restored(tmp_path: Path, name: str) -> None:
    shelf = Shelf(StoreClient(local(tmp_path / "backups")), "default")
    as_of = datetime(2026, 11, 27, tzinfo=UTC)
    attempt = shelf.start(as_of, None)
    assert attempt is not None
    writer = ArchiveWriter(partial(shelf.keep_part, attempt))
    writer.add(Line(name, 5, hashlib.sha256(b"owned").hexdigest()), b"owned")
    writer.end_run(is_last=True)
    forged = Backup(
        **{"name": attempt, "namespace": "default", "as_of": as_of, "took": 1.0, "base": None},
        **{"memories": 1, "versions": 1, "outcomes": 0, "bytes": 5, "added": 1, "size": 1},
        runs=tuple(writer.runs),
    )
    shelf.finish(forged)
    target = tmp_path / "deep/er/target"
    for place in (None, local(target)):
        with pytest.raises(CorruptEntryError, match="not a version or an outcome of the namespace"):
            Backups(local(tmp_path / "backups")).restore(place)
    assert objects(tmp_path).keys() == {f"backups/{key}" for key in objects(tmp_path / "backups")}


def test_a_manifest_under_another_name_is_not_a_backup(tmp_path: Path) -> None:
    backups = saved(tmp_path)
    (first,) = backups.list()
    folder = tmp_path / f"backups/default/backups/{first.name}"
    folder.rename(folder.with_name("20990101T000000Z-00000000"))
    assert backups.list() == []


def test_a_backup_that_says_it_builds_on_itself_is_not_restored(tmp_path: Path) -> None:
    backups = saved(tmp_path)
    (first,) = backups.list()
    path = tmp_path / f"backups/default/backups/{first.name}/manifest.json"
    path.write_bytes(manifest.encode(msgspec.structs.replace(first, base=first.name)))
    with pytest.raises(InvalidValueError, match="there is no backup"):
        backups.restore(local(tmp_path / "r"))


def test_a_damaged_manifest_is_not_a_backup_and_does_not_block_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backups = saved(tmp_path)
    first = backups.list()[0]
    backups.create(local(tmp_path / "a"), full=True)
    path = tmp_path / f"backups/default/backups/{first.name}/manifest.json"
    path.write_bytes(path.read_bytes()[:-1])
    assert [backup.name for backup in backups.list()] != [first.name]
    assert f"{first.name}/manifest.json" in caplog.text
    with pytest.raises(InvalidValueError, match="there is no backup"):
        backups.restore(local(tmp_path / "r"), first.name)


def test_backups_are_not_kept_in_the_store_that_they_are_of(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    for place in (tmp_path / "a", tmp_path / "a/backups", tmp_path):
        with pytest.raises(ConfigurationError, match="beside it"):
            Backups(local(place)).create(local(tmp_path / "a"))


def test_a_place_that_is_not_known_yet_is_waited_for(tmp_path: Path) -> None:
    """An adapter of a bucket has to find its endpoint first, which may take longer than a call."""

    class Slow(LocalAdapter):
        asked = 0

        @property
        def location(self) -> str:
            self.asked += 1
            if self.asked < 3:
                raise BackendUnavailableError("the endpoint is not known yet")
            return super().location

    fill(tmp_path / "a")
    backups = Backups(Slow(tmp_path / "backups", durability="none"))
    assert backups.create(local(tmp_path / "a")).is_full
    copy(Slow(tmp_path / "a", durability="none"), local(tmp_path / "b"))
    assert objects(tmp_path / "b") == objects(tmp_path / "a")


# -- pruning ---------------------------------------------------------------------------------


def aged(path: Path, name: str, seconds: float) -> None:
    """Make what an attempt made look older."""

    for file in [
        *(path / f"default/archives/{name}").glob("*"),
        *(path / f"default/backups/{name}").glob("*"),
    ]:
        status = file.stat()
        os.utime(file, (status.st_atime - seconds, status.st_mtime - seconds))


def test_pruning_keeps_by_number_and_by_age_and_never_breaks_a_chain(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    backups = Backups(local(tmp_path / "backups"))
    made = []
    for number in range(6):
        with memory(tmp_path / "a") as source:
            source.write("a", "b", number)
        made.append(backups.create(local(tmp_path / "a"), full=number in (0, 3)))
    names = [backup.name for backup in made]
    assert backups.prune().removed == ()
    assert backups.prune(keep=4, dry_run=True).removed == ()  # made[2] stands on made[0]
    assert [backup.name for backup in backups.prune(keep=3, dry_run=True).removed] == names[:3]
    assert backups.prune(keep=1, keep_for=timedelta(hours=1)).removed == ()
    assert [backup.name for backup in backups.list()] == names
    report = backups.prune(keep=1, keep_for=0)
    assert [backup.name for backup in report.removed] == names[:3]
    assert [backup.name for backup in report.kept] == names[3:]
    assert [backup.name for backup in backups.list()] == names[3:]
    assert {
        path.name
        for path in (tmp_path / "backups/default/archives").iterdir()
        if any(path.iterdir())
    } == set(names[3:])
    backups.restore(local(tmp_path / "r"))
    assert objects(tmp_path / "r") == default(tmp_path / "a")
    assert backups.prune(keep_for=0).removed == ()  # the newest stays, and what it stands on


def killed_attempt(tmp_path: Path, requests: int) -> str:
    """Let an attempt die before a request of that number, and return its name."""
    before = {path.name for path in (tmp_path / "backups/default/backups").glob("*")}
    adapter = MortalAdapter(local(tmp_path / "backups"), Life(requests, after=False))
    with pytest.raises(Crash):
        Backups(adapter).create(local(tmp_path / "a"))
    (name,) = {path.name for path in (tmp_path / "backups/default/backups").glob("*")} - before
    return name


def test_a_killed_attempt_is_not_a_backup_and_is_removed_after_a_while(
    tmp_path: Path,
) -> None:
    backups = saved(tmp_path)
    name = killed_attempt(tmp_path, 7)
    assert len(backups.list()) == 1
    assert backups.prune().attempts == 0
    aged(tmp_path / "backups", name, 90_000)
    assert backups.prune(dry_run=True).attempts == 1
    assert backups.prune().attempts == 1
    assert backups.prune().attempts == 0
    assert not list((tmp_path / f"backups/default/archives/{name}").glob("*"))
    assert len(backups.list()) == 1


def test_an_attempt_that_was_taken_for_dead_never_finishes(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    pruner = Backups(local(tmp_path / "backups"))

    class Sleeping(LocalAdapter):
        """Everything is a day old by the time at which the manifest is created."""

        def create(self, key: str, data: bytes) -> bool:
            if key.endswith("manifest.json") and b"abandoned" not in data:
                assert pruner.prune(unfinished_after=0).attempts == 1
            return super().create(key, data)

    with pytest.raises(AMFSError, match="taken for dead"):
        Backups(Sleeping(tmp_path / "backups", durability="none")).create(local(tmp_path / "a"))
    assert pruner.list() == []
    assert not list((tmp_path / "backups").rglob("*.gz"))
    assert pruner.create(local(tmp_path / "a")).is_full


def test_nothing_is_pruned_that_somebody_builds_on(tmp_path: Path) -> None:
    """Whatever comes between: the one who prunes, and the one who builds on what is pruned."""
    names = ("started", "pruning", "manifest", "tar.gz", "marked", "late")
    for moment in names:
        path = tmp_path / moment
        fill(path / "a")
        backups = Backups(local(path / "backups"))
        base = backups.create(local(path / "a"))
        with memory(path / "a") as source:
            source.write("a", "b", "new")

        def newer(where: Path = path) -> None:
            """A newer full backup makes the base one that may go."""
            Backups(local(where / "backups")).create(local(where / "a"), full=True)
            Backups(local(where / "backups")).prune(keep=1)

        class Interrupted(LocalAdapter):
            """The other one acts before a certain object is created here."""

            def create(
                self, key: str, data: bytes, when: str = moment, act: Callable[[], None] = newer
            ) -> bool:
                if when in key and not self.done:
                    self.done = True
                    act()
                return super().create(key, data)

        adapter = Interrupted(path / "backups", durability="none")
        adapter.done = False  # type: ignore[attr-defined]
        made = Backups(adapter).create(local(path / "a"))
        good = backups.list()
        assert made.name in {backup.name for backup in good}
        for backup in good:
            backups.restore(local(path / backup.name), backup.name)
            assert len(objects(path / backup.name)) == len(default(path / "a")) - (
                backup.name == base.name
            )
        if not made.is_full:
            assert base.name in {backup.name for backup in good}


def test_a_backup_begun_while_another_is_pruned_does_not_build_on_it(tmp_path: Path) -> None:
    """One has chosen what to build on, then another marks that, looks for attempts, sees none, and
    is about to remove it when the first one goes on."""
    fill(tmp_path / "a")
    place, source = tmp_path / "backups", local(tmp_path / "a")
    backups = Backups(local(place))
    backups.create(source)
    has_chosen, is_marked, is_made = threading.Event(), threading.Event(), threading.Event()

    class Builder(LocalAdapter):
        def create(self, key: str, data: bytes) -> bool:
            if key.endswith("started.json") and not has_chosen.is_set():
                has_chosen.set()
                is_marked.wait(30)
            return super().create(key, data)

    class Pruner(LocalAdapter):
        def delete(self, key: str) -> None:
            if not is_marked.is_set():
                is_marked.set()
                is_made.wait(30)
            super().delete(key)

    made = []

    def build() -> None:
        made.append(Backups(Builder(place, durability="none")).create(source))
        is_made.set()

    builder = threading.Thread(target=build)
    builder.start()
    has_chosen.wait(30)
    backups.create(source, full=True)
    Backups(Pruner(place, durability="none")).prune(keep=1)
    builder.join()
    good = backups.list()
    assert made[0].name in {backup.name for backup in good}
    for backup in good:
        backups.restore(local(tmp_path / backup.name), backup.name)
        assert objects(tmp_path / backup.name) == default(tmp_path / "a")


def test_an_erased_version_is_read_again_even_if_the_listing_is_unchanged(
    tmp_path: Path,
) -> None:
    """The stub has the size of the content, and the store's clock stood still."""
    with memory(tmp_path / "a") as source:
        source.write("e", "probe", "")
        path = tmp_path / "a/default/entries/e/probe/v1.json"
        size = path.stat().st_size
        source.purge("e", "probe")
        source.write("e", "other", "x" * (path.stat().st_size - size))
        path = tmp_path / "a/default/entries/e/other/v1.json"
        before = path.stat()
        backups = Backups(local(tmp_path / "backups"))
        backups.create(local(tmp_path / "a"))
        source.purge("e", "other")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_size == before.st_size
        assert backups.create(local(tmp_path / "a")).added == 2
    backups.restore(local(tmp_path / "r"))
    assert objects(tmp_path / "r") == default(tmp_path / "a")


# -- dying -----------------------------------------------------------------------------------


def check_all(place: Path, state: dict[str, bytes], into: Path) -> int:
    """Restore every backup that counts, and return how many there are."""
    backups = Backups(local(place))
    good = backups.list()
    for backup in good:
        shutil.rmtree(into, ignore_errors=True)
        backups.restore(local(into), backup.name)
        assert objects(into).items() <= state.items()
        assert len(objects(into)) == backup.versions + backup.outcomes
    return len(good)


@pytest.mark.parametrize("after", [False, True])
def test_a_process_that_dies_at_any_request_leaves_no_broken_backup_and_loses_none(
    tmp_path: Path, after: bool
) -> None:
    with memory(tmp_path / "a") as source:
        source.write("e", "k", 1)
        source.commit_outcome("o", "success", entries=[("e", "k")])
    state = default(tmp_path / "a")

    def act(adapter: StorageAdapter) -> None:
        backups = Backups(adapter)
        backups.create(local(tmp_path / "a"))
        backups.create(local(tmp_path / "a"), full=True)
        backups.prune(keep=1, unfinished_after=0)

    for requests in range(1, 200):
        place = tmp_path / "place"
        shutil.rmtree(place, ignore_errors=True)
        Backups(local(place)).create(local(tmp_path / "a"))
        life = Life(requests, after=after)
        try:
            act(MortalAdapter(local(place), life))
        except Crash:
            pass
        else:
            break
        assert check_all(place, state, tmp_path / "r") >= 1
        act(local(place))
        assert check_all(place, state, tmp_path / "r") == 1
        assert len(list(place.rglob("*.tar.gz"))) == 1
        assert not list(place.rglob("pruning-*"))
    assert 20 < requests < 199


@pytest.mark.parametrize("after", [False, True])
def test_a_restore_that_dies_at_any_request_is_finished_by_another(
    tmp_path: Path, after: bool
) -> None:
    with memory(tmp_path / "a") as source:
        for number in range(2):
            source.write("e", "k", number)
        source.write("e", "gone", 1)
        source.purge("e", "gone")
        source.commit_outcome("o", "success", entries=[("e", "k")])
    backups = Backups(local(tmp_path / "backups"))
    backups.create(local(tmp_path / "a"))
    for requests in range(1, 100):
        target = tmp_path / f"r{requests}"
        try:
            backups.restore(MortalAdapter(local(target), Life(requests, after=after)))
        except Crash:
            pass
        else:
            break
        for problem in problems(target):  # what comes last is not there yet
            assert "of which there is no record" in problem or "nothing ordered it" in problem
        backups.restore(local(target))
        assert objects(target) == default(tmp_path / "a")
    assert 5 < requests < 99


# -- memory ----------------------------------------------------------------------------------

_PEAK = """
import sys, tracemalloc
from amfs_core.upkeep.backup import Backups
from amfs_local import LocalAdapter
what, here = sys.argv[1:]
backups = Backups(LocalAdapter(here + "/backups", durability="none"))
tracemalloc.start()
if what == "create":
    backups.create(LocalAdapter(here + "/a", durability="none"))
else:
    backups.restore(LocalAdapter(here + "/r", durability="none"))
print(tracemalloc.get_traced_memory()[1])
"""


@pytest.mark.slow
def test_memory_is_bounded_whatever_is_saved(tmp_path: Path) -> None:
    dice = random.Random(1)
    with memory(tmp_path / "a") as source:
        for number in range(8):
            source.write_many(
                {"entity_path": f"e{number}", "key": f"k{n}", "value": dice.randbytes(15_000).hex()}
                for n in range(150)
            )
    assert sum(map(len, objects(tmp_path / "a").values())) > 34 * 2**20
    for what in ("create", "restore"):
        done = subprocess.run(
            [sys.executable, "-c", _PEAK, what, str(tmp_path)],
            check=True,
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert int(done.stdout) < 26 * 2**20, what
    assert objects(tmp_path / "r") == objects(tmp_path / "a")


def test_what_is_set_aside_comes_back_whole_also_beyond_what_memory_holds() -> None:
    bodies = {f"k{number}": bytes([number]) * (1024 * 1024 + number) for number in range(7)}
    with Aside() as aside:
        for key, body in bodies.items():
            aside[key] = body
            assert aside["k0"] == bodies["k0"]
        assert "k7" not in aside
        assert {key: aside[key] for key in bodies} == bodies
