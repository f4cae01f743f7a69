"""What lies in the bucket is the published format: any S3 tool can read and copy it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from amfs_core.errors import AMFSError, InvalidKeyError, InvalidValueError
from amfs_core.memory import AgentMemory
from amfs_local import LocalAdapter
from tests.support.naughty import NAUGHTY
from tests.support.s3_store import Place, contents_of, keys_of, sealed
from tests.support.servers import Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FIELDS = [
    "format", "namespace", "entity_path", "key", "version", "value", "confidence", "tags",
    "memory_type", "expires_at", "deleted", "provenance", "evidence", "previous", "sha256",
]  # fmt: skip


@pytest.fixture
def place(s3_server: Server, bucket: str) -> Place:
    return Place.on(s3_server, bucket)


@pytest.fixture
def memory(place: Place) -> Iterator[AgentMemory]:
    with place.memory() as made:
        yield made


@pytest.fixture
def client(s3_server: Server) -> Iterator[S3Client]:
    made = s3_server.boto3_client()
    yield made
    made.close()


def fill(memory: AgentMemory) -> None:
    """A bit of everything that a store can hold."""
    for number in range(12):
        memory.write("svc/api", "retry", {"n": number}, tags=["http"], confidence=0.5)
    memory.write("svc/api/v1", "schluessel/ü %2F", "Grüße 😀", ttl=3600, pattern_refs=["p"])
    memory.write("svc", "api", [1, 2.5, None, True, {"ä": "\u2028"}])
    memory.write("gone", "deleted", 1)
    memory.delete("gone", "deleted")
    memory.write("gone", "purged", "personal")
    memory.purge("gone", "purged")


def everything(memory: AgentMemory) -> list[Any]:
    """All that can be read."""
    listed = memory.list()
    names = {(entry.entity_path, entry.key) for entry in listed}
    names |= {("gone", "deleted"), ("gone", "purged")}
    return [listed, *(memory.history(*name) for name in sorted(names))]


# --- the format ----------------------------------------------------------------------------------


def test_an_object_read_with_a_plain_client_follows_the_published_format(
    memory: AgentMemory, client: S3Client, place: Place
) -> None:
    value = {"max_retries": 3, "text": "Grüße, 世界 😀"}
    for _ in range(3):
        memory.write("checkout-service", "retry-pattern", value, tags=["http"], confidence=0.9)
    previous = None
    for version in (1, 2, 3):
        key = f"amfs/default/entries/checkout-service/retry-pattern/v{version}.json"
        body = client.get_object(Bucket=place.bucket, Key=key)["Body"].read()
        assert b"\n" not in body
        assert "Grüße, 世界 😀".encode() in body
        fields = json.loads(body)
        assert list(fields) == FIELDS
        covered, _, seal = body.rpartition(b',"sha256":"')
        assert seal == f'{hashlib.sha256(covered).hexdigest()}"}}'.encode()
        assert fields["format"] == 1
        assert fields["namespace"] == "default"
        assert (fields["entity_path"], fields["key"]) == ("checkout-service", "retry-pattern")
        assert (fields["version"], fields["value"]) == (version, value)
        assert (fields["confidence"], fields["tags"]) == (0.9, ["http"])
        assert fields["previous"] == previous
        assert fields["provenance"]["written_at"].endswith("Z")
        previous = fields["sha256"]
    assert len(keys_of(client, place.bucket)) == 3


def test_an_object_put_by_a_plain_client_is_a_version(
    memory: AgentMemory, client: S3Client, place: Place
) -> None:
    written = memory.write("e", "k", "ours")
    fields = written.to_dict() | {"version": 2, "value": "theirs", "previous": written.sha256}
    fields |= {"a_field_of_tomorrow": [1, 2]}
    del fields["sha256"]
    key = "amfs/default/entries/e/k/v2.json"
    client.put_object(Bucket=place.bucket, Key=key, Body=sealed(fields))
    entry = memory.read("e", "k")
    assert entry is not None
    assert (entry.version, entry.value) == (2, "theirs")
    assert entry.extra == {"a_field_of_tomorrow": [1, 2]}
    assert memory.verify().ok


def test_a_store_goes_from_a_directory_to_a_bucket_and_back_object_by_object(
    s3_server: Server, place: Place, client: S3Client, tmp_path: Path
) -> None:
    home = AgentMemory("a", adapter=LocalAdapter(tmp_path / "home", durability="none"))
    fill(home)
    for file in sorted((tmp_path / "home").rglob("*.json")):
        name = file.relative_to(tmp_path / "home").as_posix()
        client.put_object(Bucket=place.bucket, Key=f"amfs/{name}", Body=file.read_bytes())
    with place.memory() as away:
        assert everything(away) == everything(home)
        assert away.verify().ok
        for path, key in (("svc/api", "retry"), ("svc", "api"), ("gone", "purged")):
            away.write(path, key, "written in the bucket")
        for object_key, body in contents_of(client, place.bucket).items():
            file = tmp_path / "back" / object_key.removeprefix("amfs/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(body)
        back = AgentMemory("a", adapter=LocalAdapter(tmp_path / "back", durability="none"))
        assert everything(back) == everything(away)
    assert back.verify().ok
    assert back.write("svc/api", "retry", "at home again").version == 14
    # The first twelve versions are, byte for byte, what they were before the journey.
    for file in (tmp_path / "home").rglob("*.json"):
        copied = tmp_path / "back" / file.relative_to(tmp_path / "home")
        assert copied.read_bytes() == file.read_bytes()


# --- names ---------------------------------------------------------------------------------------


def outcome(memory: AgentMemory, entity_path: str, key: str, value: object) -> str:
    """ "kept" when it is written, else the refusal."""
    try:
        written = memory.write(entity_path, key, value)
    except (InvalidKeyError, InvalidValueError) as error:
        return f"{type(error).__name__}: {error}"
    assert (written.entity_path, written.key, written.value) == (entity_path, key, value)
    return "kept"


@pytest.mark.parametrize("part", ["entity path", "key", "value"])
def test_every_naughty_string_is_kept_exactly_or_refused_as_on_a_local_disk(
    memory: AgentMemory, place: Place, tmp_path: Path, part: str
) -> None:
    local = AgentMemory("a", adapter=LocalAdapter(tmp_path / "store", durability="none"))

    def arguments(number: int, text: str) -> tuple[str, str, object]:
        if part == "entity path":
            return text, f"k{number}", number
        return ("e", text, number) if part == "key" else ("e", f"k{number}", [text])

    tried = [arguments(number, text) for number, text in enumerate(dict.fromkeys(NAUGHTY))]
    kept = []
    for attempt in tried:
        on_s3 = outcome(memory, *attempt)
        assert on_s3 == outcome(local, *attempt)
        if on_s3 == "kept":
            kept.append(attempt)
    assert len(kept) > len(tried) // 2
    with place.memory("reader") as reader, ThreadPoolExecutor(8) as threads:
        # By listing, which gives names back, and one by one, which asks for them.
        expected = {(path, key): value for path, key, value in kept}
        listed = {(entry.entity_path, entry.key): entry.value for entry in reader.list()}
        assert listed == expected
        histories = list(threads.map(lambda triple: reader.history(triple[0], triple[1]), kept))
        assert [[version.value for version in history] for history in histories] == [
            [triple[2]] for triple in kept
        ]
        report = reader.verify()
        assert report.ok, report.findings
        assert report.versions == len(kept)


FOREIGN = (
    "", "README.txt", "default/", "default/entries/", "default/entries/e/", "default/entries/e/k/",
    "default/entries/e/k/v3.json.tmp", "default/entries/e/k/notes.txt",
    "default/entries/e/k/v01.json",
    "default/entries/e/k/v2.json.bak", "default/entries/v1.json", "default/entries/e/v1.json",
    "default/entries/e//k/v1.json", "default/entries//v1.json", "default/entries/e/k/\x01.json",
    "default/entries/e/k/v2\n.json", "default/entries/e/%zz/v1.json",
    "default/entries/e/../k/v1.json",
    "default/entries/e/./v1.json", "default/entries/e/k/v9.json/", "default/entries/e/k/v8.json/x",
    "default/entries/e/k/\x7f", "default/outcomes/x.json", "default.txt",
)  # fmt: skip


def test_foreign_objects_in_the_bucket_do_not_disturb(
    memory: AgentMemory, client: S3Client, place: Place, s3_server: Server
) -> None:
    written = [memory.write("e", "k", number) for number in range(3)]
    other = memory.write("e", "z", 1)
    refused = []
    for name in FOREIGN:
        if s3_server.name == "versity" and re.search(r"/(\.{0,2})/", name):
            continue  # it takes such a name for the path without these parts: another object's
        try:
            client.put_object(Bucket=place.bucket, Key=f"amfs/{name}", Body=b"not ours")
        except client.exceptions.ClientError:  # each server refuses some of these names
            refused.append(name)
    assert len(refused) < len(FOREIGN) // 2, refused
    with place.memory("reader") as reader:
        assert reader.read("e", "k") == written[-1]
        assert reader.history("e", "k") == written
        assert reader.list() == reader.list("e") == [written[-1], other]
        assert reader.stats().versions == 4
        # Those below the entries are pointed out, and nothing else is.
        findings = reader.verify().findings
        assert findings
        assert {finding.problem for finding in findings} == {
            "it is not an object of this layout",
            "it does not end with its sha256, so it is cut short or not an outcome",
        }
        assert reader.write("e", "k", "next").version == 4


def test_stores_under_different_prefixes_of_a_bucket_do_not_meet(place: Place) -> None:
    prefixes = ["", "a", "a/b", "amfs/", "amfs-2/", "ä ö/%"]
    memories = [place.memory(prefix=prefix) for prefix in prefixes]
    written = [memory.write("e", "k", prefix) for memory, prefix in zip(memories, prefixes)]  # noqa: B905
    for memory, entry in zip(memories, written, strict=True):
        assert memory.history("e", "k") == [entry]
        assert memory.list() == [entry]
        memory.close()


@pytest.mark.parametrize("size", [0, 1_000_000, 16_000_000])
def test_a_value_of_many_megabytes_is_kept(memory: AgentMemory, place: Place, size: int) -> None:
    written = memory.write("e", "big", "x" * size)
    with place.memory("reader") as reader:
        assert reader.read("e", "big") == written


# --- real conversations --------------------------------------------------------------------------


def test_four_real_conversations_are_imported_and_read_back_with_a_plain_client(
    memory: AgentMemory, client: S3Client, place: Place, locomo: Path
) -> None:
    expected: dict[tuple[str, str], Any] = {}
    for file in sorted(locomo.glob("*.json")):
        conversation = json.loads(file.read_text())
        name = f"locomo/{conversation['conversation']}"
        items = [
            {"entity_path": name, "key": turn["id"], "value": turn}
            for turn in conversation["turns"]
        ]
        entries = memory.write_many(items)
        assert [entry.value for entry in entries] == conversation["turns"]
        expected |= {(name, item["key"]): item["value"] for item in items}
    assert len({name for name, _ in expected}) == 4
    values: dict[tuple[str, str], Any] = {}
    for key, body in contents_of(client, place.bucket).items():
        fields = json.loads(body)
        assert key.startswith(f"amfs/default/entries/{fields['entity_path']}/")
        covered, _, _ = body.rpartition(b',"sha256":"')
        assert fields["sha256"] == hashlib.sha256(covered).hexdigest()
        values[fields["entity_path"], fields["key"]] = fields["value"]
    assert values == expected
    with place.memory("reader") as reader:
        assert {(entry.entity_path, entry.key): entry.value for entry in reader.list()} == expected


def test_a_damaged_object_is_an_error_that_names_it_and_never_absent(
    memory: AgentMemory, client: S3Client, place: Place
) -> None:
    memory.write("e", "k", "whole")
    key = "amfs/default/entries/e/k/v1.json"
    body = client.get_object(Bucket=place.bucket, Key=key)["Body"].read()
    client.put_object(Bucket=place.bucket, Key=key, Body=body.replace(b"whole", b"whale"))
    with place.memory("reader") as reader:
        with pytest.raises(AMFSError, match="sha256") as caught:
            reader.read("e", "k")
        assert "e/k/v1.json" in str(caught.value)
        assert not reader.verify().ok
