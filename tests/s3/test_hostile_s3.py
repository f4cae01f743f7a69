"""What other tools leave in a bucket: named by `verify`, and in nobody's way."""

from __future__ import annotations

import pytest

from amfs_core.errors import BackendUnavailableError, PermissionDeniedError
from amfs_core.memory import AgentMemory
from amfs_s3 import S3Adapter
from tests.support import hostile
from tests.support.hostile import BROKEN, ENTITY, GOOD, genuine
from tests.support.s3_store import Place, answering, s3_error
from tests.support.servers import Server

SOME = (
    *("empty", "half", "all zeros", "compressed", "text", "an empty object", "a field twice"),
    *("nested 100,000 deep", "format 0", "format 1", "version 3", "confidence 0", "not UTF-8"),
)
PREFIX = f"amfs/default/entries/{ENTITY}/"


@pytest.fixture
def adapter(s3_server: Server, bucket: str) -> S3Adapter:
    made = Place.on(s3_server, bucket).adapter()
    hostile.fill(made, {})
    return made


def test_broken_bodies_in_a_bucket_are_found_and_do_not_block_others(adapter: S3Adapter) -> None:
    bodies = {name: BROKEN[name](genuine(name)) for name in SOME}
    hostile.hold(adapter, hostile.fill(adapter, bodies))


def test_folders_and_odd_keys_of_other_tools_are_named_and_do_not_block_others(
    adapter: S3Adapter, s3_server: Server, bucket: str
) -> None:
    client = s3_server.boto3_client()
    folders = ("amfs/", "amfs/default/entries/", PREFIX, f"{PREFIX}new/")
    odd = (f"{PREFIX}bad%2fescape/v1.json", f"{PREFIX}k/v01.json", f"{PREFIX}readme.txt")
    for key in folders:
        client.put_object(Bucket=bucket, Key=key)
    for key in odd:
        client.put_object(Bucket=bucket, Key=key, Body=b"x")
    under = "amfs/default/entries/"
    listed = [info.key for info in adapter.list("default/entries/")]
    foreign = sum("v1.json" not in key or "%2f" in key for key in listed)
    assert foreign >= len(odd)
    assert all(f"amfs/{key}".startswith(under) for key in listed)
    hostile.hold(adapter, {}, foreign=foreign)


def test_a_folder_named_like_a_version_is_not_a_version(
    adapter: S3Adapter, s3_server: Server, bucket: str
) -> None:
    """Without the slash at its end, the folder would stand for the newest version."""
    key = f"{PREFIX}{GOOD[0]}/v2.json/"
    s3_server.boto3_client().put_object(Bucket=bucket, Key=key)
    listed = [info.key for info in adapter.list("default/entries/")]
    if f"{key.removeprefix('amfs/')}" not in listed:
        pytest.skip(f"{s3_server.name} does not list folders")
    hostile.hold(adapter, {}, foreign=1)
    memory = AgentMemory("agent", adapter=adapter, patience=0.5)
    if s3_server.name == "versity":  # a folder is a directory there, and nothing else fits
        with pytest.raises(BackendUnavailableError, match="verify names it"):
            memory.write(ENTITY, GOOD[0], "more")
    else:
        assert memory.write(ENTITY, GOOD[0], "more").version == 2
    assert memory.write(ENTITY, GOOD[1], "more").version == 2


def test_a_refused_removal_is_reported() -> None:
    with answering(lambda _: s3_error(403, "AccessDenied")) as address:
        adapter = S3Adapter(
            "bucket",
            endpoint_url=address,
            region_name="us-east-1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )
        with pytest.raises(PermissionDeniedError, match="AccessDenied"):
            adapter.delete("a")
