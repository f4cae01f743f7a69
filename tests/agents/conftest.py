"""A store, and memories on it that share nothing but the store, as two processes do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from amfs import AgentMemory
from amfs_s3 import S3Adapter
from amfs_sqlite import SqliteAdapter
from tests.support.servers import Server

Opens = Callable[[], AgentMemory]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def opens(store: Path) -> Iterator[Opens]:
    with contextlib.ExitStack() as stack:

        def opened() -> AgentMemory:
            adapter = stack.enter_context(contextlib.closing(SqliteAdapter(store)))
            return stack.enter_context(AgentMemory("tests", adapter=adapter))

        yield opened


@pytest.fixture
def memory(opens: Opens) -> AgentMemory:
    return opens()


@pytest.fixture
def on_bucket(minio: Server) -> Iterator[Opens]:
    """Opens memories on one bucket, whose requests can be counted."""
    bucket = minio.new_bucket()
    with contextlib.ExitStack() as stack:

        def opened() -> AgentMemory:
            made = S3Adapter(
                bucket=bucket,
                endpoint_url=minio.endpoint_url,
                aws_access_key_id=minio.access_key,
                aws_secret_access_key=minio.secret_key,
            )
            adapter = stack.enter_context(contextlib.closing(made))
            return stack.enter_context(AgentMemory("tests", adapter=adapter))

        yield opened
