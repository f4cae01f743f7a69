"""Server-side encryption and other options of the client reach the server."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterator

import pytest

from amfs import AgentMemory, ConfigurationError
from amfs_s3 import S3Adapter
from tests.support import servers
from tests.support.servers import Server


@pytest.fixture(scope="module")
def encrypting_minio() -> Iterator[Server]:
    """A MinIO with a key of its own to encrypt with."""
    if not servers.locate("minio"):
        pytest.skip("NOT COVERED: MinIO can't be had, which would encrypt")
    key = base64.b64encode(b"k" * 32).decode()
    settings = {**servers.MINIO.settings, "MINIO_KMS_SECRET_KEY": f"tests:{key}"}
    with servers.running(dataclasses.replace(servers.MINIO, settings=settings)) as server:
        yield server


def adapter_on(server: Server, bucket: str, encryption: str) -> S3Adapter:
    return S3Adapter(
        bucket,
        endpoint_url=server.endpoint_url,
        region_name=servers.REGION,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        server_side_encryption=encryption,
    )


def test_versions_are_encrypted_when_that_is_asked_for(encrypting_minio: Server) -> None:
    bucket = encrypting_minio.new_bucket()
    memory = AgentMemory("agent", adapter=adapter_on(encrypting_minio, bucket, "AES256"))
    entry = memory.write("e", "k", {"n": 1})
    head = encrypting_minio.boto3_client().head_object(
        Bucket=bucket, Key="amfs/default/entries/e/k/v1.json"
    )
    assert head["ServerSideEncryption"] == "AES256"
    assert memory.read("e", "k") == entry


def test_a_server_that_cannot_encrypt_is_told_from_one_without_conditional_writes(
    minio: Server,
) -> None:
    memory = AgentMemory("agent", adapter=adapter_on(minio, minio.new_bucket(), "AES256"))
    with pytest.raises(ConfigurationError, match="cannot encrypt as asked"):
        memory.write("e", "k", {"n": 1})
