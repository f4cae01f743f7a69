"""A user and password in the URL of an endpoint are credentials: they are shown nowhere."""

from __future__ import annotations

import pytest

from amfs_core.errors import BackendUnavailableError
from amfs_core.memory import AgentMemory
from amfs_s3 import S3Adapter


def test_a_password_in_the_endpoint_is_in_no_message_and_no_location() -> None:
    adapter = S3Adapter(
        "bucket",
        endpoint_url="http://someone:hunter2@127.0.0.1:9",
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        connect_timeout=30.0,
    )
    assert adapter.location == "http://127.0.0.1:9/bucket/amfs/"
    with (
        AgentMemory("a", adapter=adapter, patience=0) as memory,
        pytest.raises(BackendUnavailableError, match=r"at http://127\.0\.0\.1:9") as raised,
    ):
        memory.read("e", "k", version=1)
    error: BaseException | None = raised.value
    while error is not None:
        assert "hunter2" not in f"{error} {error!r}"
        error = error.__cause__ or error.__context__
