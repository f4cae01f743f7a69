"""Moving memories: copy between stores, export, import."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    CorruptEntryError,
    InvalidKeyError,
    InvalidValueError,
    OutcomeUnknownError,
)
from amfs_core.memory import AgentMemory, jsonl
from amfs_core.storage import Doorbell, ObjectInfo
from amfs_core.testing import Crash
from amfs_core.upkeep import copy
from amfs_local import LocalAdapter
from tests.support.servers import REGION, Server
from tests.torture.mortal import Life, MortalAdapter

REPOSITORY = Path(__file__).resolve().parents[2]


def local(path: Path) -> LocalAdapter:
    return LocalAdapter(str(path), durability="none")


def memory(path: Path, namespace: str = "default") -> AgentMemory:
    return AgentMemory("tester", adapter=local(path), namespace=namespace)


def objects(path: Path) -> dict[str, bytes]:
    adapter = local(path)
    return {info.key: adapter.get(info.key) or b"" for info in adapter.list("")}


def fill(path: Path) -> None:
    """Two namespaces, names that nest and sort among each other's versions, an outcome."""
    with memory(path) as one, memory(path, "other: %/\n") as two:
        for number in range(12):
            one.write("a", "b", number)
            one.write("a/b", "v1x", number)
            one.write("a/b/v1x", "deep", number)
            two.write("näme", "👋/x", {"n": number})
        one.commit_outcome("deploy-1", "success", entries=[])


class Wrapped:
    """A directory whose creates may be watched, delayed, or lose their answers."""

    backend_type = "wrapped"
    paged = True

    def __init__(self, path: Path, chance: float = 0.0) -> None:
        self.inner = local(path)
        self.random = random.Random(7)
        self.chance = chance
        self.created: list[str] = []
        self.replaced: list[str] = []
        self.lock = threading.Lock()

    def create(self, key: str, data: bytes) -> bool:
        with self.lock:
            fault = self.random.choice(("before", "after", "down", "conflict"))
            happens = self.random.random() < self.chance
        if happens and fault == "down":
            raise BackendUnavailableError("not now")
        if happens and fault == "conflict":  # 409: refused, and nothing landed
            return False
        if happens and fault == "before":
            raise OutcomeUnknownError("lost on the way there")
        created = self.inner.create(key, data)
        if created:
            with self.lock:
                self.created.append(key)
        if happens:
            raise OutcomeUnknownError("lost on the way back")
        return created

    def get(self, key: str) -> bytes | None:
        return self.inner.get(key)

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        return self.inner.get_many(keys)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        return self.inner.list(prefix, start_after)

    def replace(self, key: str, data: bytes) -> None:
        self.replaced.append(key)
        self.inner.replace(key, data)

    def delete(self, key: str) -> None:
        raise AssertionError("a copy deletes nothing")

    def doorbell(self, prefix: str) -> Doorbell | None:
        return None

    def close(self) -> None:
        self.inner.close()


# -- copy ------------------------------------------------------------------------------------


def test_copy_makes_the_same_objects(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    report = copy.copy(local(tmp_path / "a"), local(tmp_path / "b"))
    assert objects(tmp_path / "b") == objects(tmp_path / "a")
    assert report.copied == 12 * 4 + 1 and report.already_there == 0
    assert report.bytes == sum(map(len, objects(tmp_path / "a").values()))
    with memory(tmp_path / "b") as copied:
        assert copied.verify().ok
        assert [entry.value for entry in copied.history("a", "b")] == list(range(12))


def test_copy_again_finds_everything_there(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    copy.copy(local(tmp_path / "a"), local(tmp_path / "b"))
    with memory(tmp_path / "a") as source:
        source.write("a", "b", "new")
    report = copy.copy(local(tmp_path / "a"), local(tmp_path / "b"))
    assert (report.copied, report.already_there) == (1, 12 * 4 + 1)


def test_copy_of_one_namespace_leaves_the_others(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    copy.copy(local(tmp_path / "a"), local(tmp_path / "b"), namespace="default")
    assert {key.split("/")[0] for key in objects(tmp_path / "b")} == {"default"}
    assert len(objects(tmp_path / "b")) == 12 * 3 + 1


def test_copy_leaves_foreign_objects_and_counts_them(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    for key in ("README.txt", "default/entries/a/b/notes.txt", "default/entries/v1.json", "x/y/z"):
        local(tmp_path / "a").create(key, b"foreign")
    report = copy.copy(local(tmp_path / "a"), local(tmp_path / "b"))
    assert report.foreign == 4
    assert b"foreign" not in objects(tmp_path / "b").values()


def test_copy_creates_the_versions_of_a_memory_in_their_order(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    target = Wrapped(tmp_path / "b")
    copy.copy(local(tmp_path / "a"), target)
    order: dict[str, list[int]] = {}
    for key in target.created:
        prefix, _, name = key.rpartition("/")
        if "/entries/" in prefix:
            order.setdefault(prefix, []).append(int(name[1:-5]))
    assert len(order) == 4
    assert all(numbers == list(range(1, 13)) for numbers in order.values())


def test_copy_never_overwrites_different_bytes(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    with memory(tmp_path / "b") as target:
        theirs = target.write("a", "b", "theirs")
    with pytest.raises(AMFSError, match=r"default/entries/a/b/v1\.json .*not overwritten") as error:
        copy.copy(local(tmp_path / "a"), local(tmp_path / "b"))
    assert error.value.object_key == "default/entries/a/b/v1.json"
    with memory(tmp_path / "b") as target:
        assert target.history("a", "b") == [theirs]


def test_copy_never_overwrites_a_different_outcome(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    local(tmp_path / "b").create("default/outcomes/deploy-1.json", b"another")
    with pytest.raises(AMFSError, match="deploy-1"):
        copy.copy(local(tmp_path / "a"), local(tmp_path / "b"))
    assert objects(tmp_path / "b")["default/outcomes/deploy-1.json"] == b"another"


def test_erasure_in_the_source_reaches_the_target(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    copy.copy(local(tmp_path / "a"), local(tmp_path / "b"))
    with memory(tmp_path / "a") as source:
        source.purge("a", "b")
    target = Wrapped(tmp_path / "b")
    report = copy.copy(local(tmp_path / "a"), target)
    assert report.erased == 12 and report.copied == 1
    assert objects(tmp_path / "b") == objects(tmp_path / "a")
    assert target.created[-1] == "default/entries/a/b/v13.json"  # the order came before the stubs
    with memory(tmp_path / "b") as copied:
        assert copied.verify().ok


def test_content_erased_in_the_target_stays_erased(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    copy.copy(local(tmp_path / "a"), local(tmp_path / "b"))
    with memory(tmp_path / "b") as target:
        target.purge("a", "b")
    before = objects(tmp_path / "b")
    report = copy.copy(local(tmp_path / "a"), local(tmp_path / "b"))
    assert report.already_there == 12 * 4 + 1 and report.erased == report.copied == 0
    assert objects(tmp_path / "b") == before


def test_copy_is_exact_although_answers_get_lost(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    report = copy.copy(local(tmp_path / "a"), Wrapped(tmp_path / "b", chance=0.3))
    assert objects(tmp_path / "b") == objects(tmp_path / "a")
    assert (report.copied, report.already_there) == (12 * 4 + 1, 0)


def test_copy_names_a_version_that_the_source_has_lost(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    os.unlink(tmp_path / "a/default/entries/a/b/v3.json")
    with pytest.raises(CorruptEntryError, match=r"a/b/v3\.json is missing in the source"):
        copy.copy(local(tmp_path / "a"), local(tmp_path / "b"))


def test_copy_tells_its_progress(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    told: list[tuple[int, int]] = []
    copy.copy(
        local(tmp_path / "a"), local(tmp_path / "b"), progress=lambda *step: told.append(step)
    )
    assert told == [(done, 12 * 4 + 1) for done in range(12 * 4 + 2)]


def test_copy_of_a_growing_source_is_a_valid_store(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    stop = threading.Event()

    def write() -> None:
        with memory(tmp_path / "a") as source:
            while not stop.is_set():
                source.write("a", "b", "more")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            copy.copy(local(tmp_path / "a"), local(tmp_path / "b"))
    finally:
        stop.set()
        writer.join()
    with memory(tmp_path / "b") as copied:
        assert copied.verify().ok


def test_a_killed_copy_leaves_a_valid_store_and_is_resumed(tmp_path: Path) -> None:
    with memory(tmp_path / "a") as source:
        source.write_many(
            {"entity_path": f"e{number % 7}", "key": f"k{number % 31}", "value": number}
            for number in range(2000)
        )
    command = [sys.executable, "-m", "amfs", "copy", str(tmp_path / "a"), str(tmp_path / "b")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    dice = random.Random(3)
    killed = 0
    for _ in range(6):
        before = len(objects(tmp_path / "b"))
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        wanted = before + dice.randrange(20, 200)
        while process.poll() is None and _count(tmp_path / "b") < wanted:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        with memory(tmp_path / "b") as target:
            assert target.verify().ok
        there = objects(tmp_path / "b")
        assert there.items() <= objects(tmp_path / "a").items()
    assert killed >= 3
    assert 0 < len(objects(tmp_path / "b")) < 2000
    report = copy.copy(local(tmp_path / "a"), local(tmp_path / "b"))
    assert report.copied + report.already_there == 2000 and report.already_there > 0
    assert objects(tmp_path / "b") == objects(tmp_path / "a")


def _count(path: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(path))


def counted(path: Path) -> None:
    """Memories that outcomes were counted into, more than are copied at the same time."""
    with memory(path) as writer:
        names = [("e", f"k{number}") for number in range(40)]
        writer.write_many({"entity_path": path, "key": key, "value": 1} for path, key in names)
        for number in range(3):
            writer.commit_outcome(f"o{number}", "success", entries=names)


def test_a_copy_that_was_killed_anywhere_is_finished_by_copying_again_and_says_so(
    tmp_path: Path,
) -> None:
    counted(tmp_path / "a")
    total = len(objects(tmp_path / "a"))
    for number, requests in enumerate((1, 5, 40, 100, total - 3, total - 2, total - 1)):
        target = tmp_path / f"b{number}"
        life = Life(requests, after=True)
        with pytest.raises(Crash):
            copy.copy(local(tmp_path / "a"), MortalAdapter(local(target), life))
        findings = memory(target).verify().findings
        assert all("of which there is no record" in finding.problem for finding in findings)
        assert all("run copy again" in finding.hint for finding in findings)
        # A repair, or the same commit, would append in the place of what is still to come.
        memory(target).verify(repair=True)
        copy.copy(local(tmp_path / "a"), local(target))
        assert memory(target).verify().ok
        assert objects(target) == objects(tmp_path / "a")


def test_no_outcome_is_copied_before_all_that_it_was_counted_into(tmp_path: Path) -> None:
    counted(tmp_path / "a")
    outcome_came = threading.Event()
    early: list[str] = []

    class Watching(LocalAdapter):
        def create(self, key: str, data: bytes) -> bool:
            if "/outcomes/" in key:
                outcome_came.set()
            elif key.endswith("k39/v2.json") and outcome_came.wait(0.3):
                early.append(key)
            return super().create(key, data)

    copy.copy(local(tmp_path / "a"), Watching(tmp_path / "b", durability="none"))
    assert outcome_came.is_set()
    assert early == []


def test_a_copy_to_a_bucket_is_killed_and_resumed_and_comes_back_the_same(
    tmp_path: Path, s3_server: Server, bucket: str
) -> None:
    fill(tmp_path / "a")
    with memory(tmp_path / "a") as source:
        source.write_many({"entity_path": "more", "key": f"k{n}", "value": n} for n in range(600))
        source.purge("a", "b")
    variables = {
        "PYTHONPATH": str(REPOSITORY),
        "AMFS_S3_ENDPOINT": s3_server.endpoint_url,
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_key,
        "AWS_DEFAULT_REGION": REGION,
    }
    there = f"s3://{bucket}/team/store"
    start = {"env": {**os.environ, **variables}, "cwd": tmp_path}
    command = [sys.executable, "-m", "amfs", "copy"]
    client = s3_server.boto3_client()
    process = subprocess.Popen([*command, "a", there], **start)  # type: ignore[call-overload]
    while not client.list_objects_v2(Bucket=bucket, Prefix="team/store/").get("KeyCount"):
        assert process.poll() is None
    process.kill()
    assert process.wait() == -signal.SIGKILL
    subprocess.run([*command, "a", there], check=True, **start)  # type: ignore[call-overload]
    subprocess.run([*command, there, "back"], check=True, **start)  # type: ignore[call-overload]
    assert objects(tmp_path / "back") == objects(tmp_path / "a")
    with memory(tmp_path / "back") as back:
        assert back.verify().ok


# -- export and import -----------------------------------------------------------------------


def lines(*items: object) -> io.BytesIO:
    return io.BytesIO(b"".join(json.dumps(item).encode() + b"\n" for item in items))


ONE = {"entity_path": "e", "key": "k", "value": {"n": 1}}


def test_import_takes_what_export_prints(tmp_path: Path) -> None:
    with memory(tmp_path / "a") as source:
        source.write("e", "k", "first")
        source.write(
            "e", "k", {"ü": [1, None]}, confidence=0.5, tags=["t"], memory_type="belief", ttl=3600
        )
        source.write("e/f", "gone", 1)
        source.delete("e/f", "gone")
        source.write("x", "refs", "text", pattern_refs=["p/1"])
        exported = list(jsonl.export_entries(source))
        assert [entry["key"] for entry in exported] == ["k", "refs"]
        assert [entry["key"] for entry in jsonl.export_entries(source, "x")] == ["refs"]
        with memory(tmp_path / "b") as target:
            report = jsonl.import_lines(target, lines(*exported))
            assert report == jsonl.ImportReport(written=2, expired=0)
            before, after = source.read("e", "k"), target.read("e", "k")
            assert before is not None and after is not None
            for name in ("value", "confidence", "tags", "memory_type"):
                assert getattr(after, name) == getattr(before, name)
            assert after.version == 1
            assert before.expires_at is not None and after.expires_at == before.expires_at
            refs = target.read("x", "refs")
            assert refs is not None and refs.provenance.pattern_refs == ("p/1",)


def test_an_expired_line_is_skipped_and_counted(tmp_path: Path) -> None:
    past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    with memory(tmp_path) as target:
        report = jsonl.import_lines(target, lines({**ONE, "expires_at": past}, ONE))
        assert report == jsonl.ImportReport(written=1, expired=1)
        assert len(target.history("e", "k")) == 1


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b'{"entity_path": "e", "key": "k", "valeu": 1}', "line 3: unknown field 'valeu'; did you"),
        (b'{"entity_path": "e", "key": "k"}', "line 3: it has no 'value'"),
        (b'{"entity_path": "e", "key": "k", "value": }', "line 3: not JSON: Expecting value at"),
        (b'{"entity_path": "e", "key": "k", "value": NaN}', "line 3: .*NaN"),
        (b'{"entity_path": "e", "key": "k", "value": 1e999}', "line 3: .*inf"),
        (b'{"entity_path": "e", "key": "k", "value": {"a":1,"a":2}}', "line 3: .*'a' is there tw"),
        (b'{"entity_path": "e", "key": "k", "value": "\xff"}', "line 3: byte 44 is not UTF-8"),
        (b'{"entity_path": "e", "key": "k", "value": "\\ud800"}', "line 3: .*surrogate"),
        (b'{"entity_path": "e", "key": "", "value": 1}', "line 3: the key is empty"),
        (b'{"entity_path": 1, "key": "k", "value": 1}', "line 3: the entity path must be text"),
        (b'{"entity_path": "e", "key": "k", "value": 1, "ttl": 0}', "line 3: ttl must be more"),
        (b'{"entity_path": "e", "key": "k", "value": 1, "confidence": 2}', "line 3: confidence"),
        (b'{"entity_path": "e", "key": "k", "value": 1, "tags": "x"}', "line 3: tags must be"),
        (b'{"entity_path": "e", "key": "k", "value": 1, "expires_at": "soon"}', "line 3: expires_"),
        (b'{"entity_path": "e", "key": "k", "value": 1, "expires_at": "2999-01-01"}', "time zone"),
        (b'["e", "k", 1]', "line 3: it must be an object"),
        (b"[" * 100_000, "line 3: not JSON"),
    ],
)
def test_import_of_a_bad_line_writes_nothing(tmp_path: Path, bad: bytes, message: str) -> None:
    good = json.dumps(ONE).encode()
    with memory(tmp_path) as target:
        with pytest.raises((InvalidValueError, InvalidKeyError), match=message):
            jsonl.import_lines(target, io.BytesIO(b"\n".join((good, b"", bad, good))))
        assert target.stats().versions == 0


def test_an_expiry_is_exactly_what_the_line_says(tmp_path: Path) -> None:
    said = "2130-01-01T00:00:00Z"
    with memory(tmp_path / "first") as first:
        jsonl.import_lines(first, lines({**ONE, "expires_at": said}))
        (exported,) = jsonl.export_entries(first)
    for number in range(3):  # each round trip says the same
        with memory(tmp_path / str(number)) as next_one:
            jsonl.import_lines(next_one, lines(exported))
            (again,) = jsonl.export_entries(next_one)
        assert again["expires_at"] == exported["expires_at"] == "2130-01-01T00:00:00.000000Z"


def test_a_line_that_is_too_large_is_found_before_the_first_is_written(tmp_path: Path) -> None:
    small = [{**ONE, "key": f"k{number}"} for number in range(jsonl.BATCH)]
    large = {**ONE, "value": "x" * 5_000}
    with AgentMemory("tester", adapter=local(tmp_path), max_value_bytes=5_000) as target:
        with pytest.raises(InvalidValueError, match=f"line {jsonl.BATCH + 1}: e/k would take"):
            jsonl.import_lines(target, lines(*small, large))
        assert target.stats().versions == 0


def test_import_reads_what_cannot_be_read_twice(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "wb") as pipe:
        pipe.write(lines(ONE, ONE).getvalue())
    with memory(tmp_path) as target, os.fdopen(read_end, "rb") as pipe_out:
        assert jsonl.import_lines(target, pipe_out).written == 2
        assert [entry.version for entry in target.history("e", "k")] == [1, 2]


def test_import_in_batches_tells_progress_and_keeps_the_order(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    items = [{**ONE, "key": f"k{number % 400}", "value": number} for number in range(1200)]
    with memory(tmp_path) as target:
        report = jsonl.import_lines(target, lines(*items), lambda *step: told.append(step))
        assert report.written == 1200
        assert told == [(500, 1200), (1000, 1200), (1200, 1200)]
        assert [entry.value for entry in target.history("e", "k7")] == [7, 407, 807]


def test_a_line_that_could_not_be_written_is_named(tmp_path: Path) -> None:
    items = lines(ONE, {**ONE, "key": "x", "expected_version": 5})
    said = r"line 2 was not written: .*1 line was written"
    with memory(tmp_path) as target, pytest.raises(AMFSError, match=said):
        jsonl.import_lines(target, items)
