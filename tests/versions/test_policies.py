"""The policies of docs/security.md on MinIO's policy engine: what each role may and may not do."""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from minio import MinioAdmin
from minio.credentials.providers import StaticProvider

from amfs_core.errors import AMFSError, PermissionDeniedError
from amfs_core.memory import AgentMemory
from amfs_s3 import proof
from tests.conftest import REPOSITORY
from tests.support.s3_store import Place, keys_of
from tests.support.servers import Server

PAGE = (REPOSITORY / "docs" / "security.md").read_text()
Statement = dict[str, Any]


def statements(role: str) -> list[Statement]:
    """The statements that the page has for a role."""
    section = PAGE.split(f"## {role}\n", 1)[1]
    match = re.search(r"```json\n(.*?)```", section, re.DOTALL)
    assert match is not None
    listed: list[Statement] = json.loads(match[1])["Statement"]
    return listed


ROLES = {
    "reader": statements("Reader"),
    "writer": statements("Reader") + statements("Writer"),
    "knows names": [
        statement
        for statement in statements("Reader")
        if "s3:ListBucket" not in statement["Action"]
    ],
    "writes to known names": [
        statement
        for statement in statements("Reader") + statements("Writer")
        if "s3:ListBucket" not in statement["Action"]
    ],
    "all but one": [
        *statements("Reader"),
        {
            "Effect": "Deny",
            "Action": ["s3:GetObject"],
            "Resource": ["arn:aws:s3:::my-bucket/amfs/default/entries/e/secret/*"],
        },
    ],
}


@pytest.fixture
def bucket(minio: Server) -> str:
    if minio.name != "minio":
        pytest.skip("NOT COVERED: only MinIO has users with policies here")
    return minio.new_bucket()


@pytest.fixture
def owner(minio: Server, bucket: str) -> AgentMemory:
    return Place.on(minio, bucket).memory("owner")


@pytest.fixture
def place_of(minio: Server, bucket: str, tmp_path: Path) -> Callable[[str], Place]:
    """Makes a user with a role, and gives the bucket as that user sees it."""
    admin = MinioAdmin(
        endpoint=minio.endpoint_url.removeprefix("http://"),
        credentials=StaticProvider(minio.access_key, minio.secret_key),
        secure=False,
    )

    def make(role: str) -> Place:
        text = json.dumps({"Version": "2012-10-17", "Statement": ROLES[role]})
        policy = tmp_path / "policy.json"
        policy.write_text(text.replace("my-bucket", bucket))
        name = uuid.uuid4().hex
        admin.policy_add(name, str(policy))
        admin.user_add(name, f"secret-{name}")
        admin.attach_policy([name], name)
        return Place(bucket, minio.endpoint_url, name, f"secret-{name}")

    return make


def refused(call: Callable[[], object], verb: str, object_key: str) -> None:
    with pytest.raises(PermissionDeniedError) as caught:
        call()
    message = str(caught.value)
    assert re.match(rf"cannot {verb} 'amfs/{re.escape(object_key)}", message), message
    assert "no permission for it (403 AccessDenied)" in message


def test_a_reader_reads_everything_and_changes_nothing(
    owner: AgentMemory, place_of: Callable[[str], Place]
) -> None:
    written = owner.write("e", "k", "old")
    with place_of("reader").memory("reader") as memory:
        assert memory.read("e", "k") == written
        assert memory.read("e", "absent") is None
        assert memory.history("e", "k") == memory.list() == [written]
        assert memory.search("old")[0].entry == written
        assert memory.verify().ok
        assert memory.health().ok
        with memory.watch(since="beginning") as watch:
            assert next(watch) == written
        v2 = "default/entries/e/k/v2.json"
        refused(lambda: memory.write("e", "k", "new"), "create", v2)
        refused(lambda: memory.update("e", "k", lambda _: "new"), "create", v2)
        refused(lambda: memory.delete("e", "k"), "create", v2)
        refused(lambda: memory.purge("e", "k"), "create", v2)
        refused(lambda: memory.write("e", "new", 1), "create", "default/entries/e/new/v1.json")
        outcome = "default/outcomes/o.json"
        refused(lambda: memory.commit_outcome("o", "success"), "create", outcome)
    assert owner.history("e", "k") == [written]


def test_a_writer_creates_and_cannot_remove(
    minio: Server,
    bucket: str,
    owner: AgentMemory,
    place_of: Callable[[str], Place],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proof, "_is_fresh", lambda _: False)
    place = place_of("writer")
    with place.memory("writer") as memory:
        memory.write("e", "k", 1)
        memory.update("e", "k", lambda old: old + 1)
        memory.read("e", "k")
        assert memory.commit_outcome("o", "success").type == "success"
        memory.delete("e", "k")
        assert memory.verify().ok
    keys = keys_of(minio.boto3_client(), bucket)
    assert not [key for key in keys if "probe" in key], "the scratch object was removed"
    with pytest.raises(PermissionDeniedError, match="cannot delete"):
        place.adapter().delete("default/entries/e/k/v1.json")
    assert [entry.version for entry in owner.history("e", "k")] == [1, 2, 3, 4]


def test_a_writer_of_minio_can_overwrite_as_the_page_says(
    owner: AgentMemory, place_of: Callable[[str], Place]
) -> None:
    """If this fails, MinIO has learnt to tell them apart: tell the readers of the page how."""
    owner.write("e", "k", "secret")
    with place_of("writer").memory("writer") as memory:
        assert memory.purge("e", "k") == 1
        assert memory.verify().ok


@pytest.mark.parametrize("role", ROLES)
def test_nobody_gets_outside_the_prefix(
    minio: Server, bucket: str, place_of: Callable[[str], Place], role: str
) -> None:
    owner = Place.on(minio, bucket).memory("owner", prefix="other/")
    owner.write("e", "k", "secret")
    place = place_of(role)
    with place.memory("stranger", prefix="other/") as memory:
        for call in (
            lambda: memory.read("e", "k"),
            lambda: memory.read("e", "k", version=1),
            lambda: memory.write("e", "k", 1),
            lambda: memory.purge("e", "k"),
            memory.list,
        ):
            with pytest.raises(AMFSError):
                call()
    client = boto3.client(
        "s3",
        endpoint_url=place.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=place.access_key,
        aws_secret_access_key=place.secret_key,
    )
    with pytest.raises(ClientError, match="AccessDenied"):
        client.list_objects_v2(Bucket=bucket)
    assert len(owner.history("e", "k")) == 1


def test_an_unreadable_object_is_named_and_does_not_block_others(
    owner: AgentMemory, place_of: Callable[[str], Place], caplog: pytest.LogCaptureFixture
) -> None:
    for key in ("a", "secret", "z"):
        owner.write("e", key, f"word {key}")
    secret = "default/entries/e/secret/v1.json"
    with place_of("all but one").memory("reader") as memory:
        for _ in range(2):
            assert [entry.key for entry in memory.list()] == ["a", "z"]
            assert {hit.entry.key for hit in memory.search("word")} == {"a", "z"}
        assert caplog.text.count("left out") == 1
        assert secret in caplog.text
        refused(lambda: memory.read("e", "secret"), "get", secret)
        (finding,) = memory.verify().findings
        assert finding.object_key == secret
        assert "s3:GetObject" in finding.hint
        with memory.watch(since="beginning") as watch:
            assert {next(watch).key, next(watch).key} == {"a", "z"}


class TestWithoutPermissionToList:
    @pytest.mark.parametrize("versions", [0, 1, 2, 7, 40])
    def test_the_newest_version_is_found_by_galloping(
        self, owner: AgentMemory, place_of: Callable[[str], Place], versions: int
    ) -> None:
        for number in range(versions):
            owner.write("e", "k", number)
        with place_of("knows names").memory("reader") as memory:
            entry = memory.read("e", "k")
            assert (entry.version if entry else 0) == versions
            requests = memory.metrics.requests
            assert requests["list"] == 1
            assert requests["get"] <= 2 * math.log2(versions + 1) + 2 + 1  # and the manifest
            if versions:
                assert memory.read("e", "k", version=1).value == 0  # type: ignore[union-attr]
            asked = memory.metrics.requests["get"]
            memory.read("e", "k")
            assert memory.metrics.requests["get"] == asked + 1
            assert memory.metrics.requests["list"] == 1

    def test_known_names_can_be_written_and_the_rest_says_what_is_missing(
        self, owner: AgentMemory, place_of: Callable[[str], Place]
    ) -> None:
        for number in range(5):
            owner.write("e", "k", number)
        with place_of("writes to known names").memory("writer") as memory:
            assert memory.write("e", "k", "more").version == 6
            assert memory.update("e", "k", lambda old: old + "!").version == 7
            assert memory.write("e", "new", 1).version == 1
            memory.delete("e", "k")
            for call in (
                memory.list,
                memory.search,
                memory.verify,
                memory.stats,
                lambda: memory.history("e", "k"),
                memory.watch,
            ):
                refused(call, "list", "default/")
        assert owner.verify().ok
