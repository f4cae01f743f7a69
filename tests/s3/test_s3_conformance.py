"""`S3Adapter` is held to the contract by the conformance kit, on every server."""

from __future__ import annotations

import uuid
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings

from amfs_core.storage import StorageAdapter
from amfs_core.testing.cases import StorageAdapterCases
from amfs_core.testing.machine import AdapterMachine, VersionsMachine
from amfs_s3 import S3Adapter
from tests.support.s3_store import Place
from tests.support.servers import Server


class TestS3Adapter(StorageAdapterCases):
    @pytest.fixture
    def adapter(self, s3_server: Server, bucket: str) -> StorageAdapter:
        return Place.on(s3_server, bucket).adapter()


class TestS3AdapterAtTheRootOfABucket(StorageAdapterCases):
    @pytest.fixture
    def adapter(self, s3_server: Server, bucket: str) -> StorageAdapter:
        return Place.on(s3_server, bucket).adapter(prefix="")


class _OnServer:
    """Where a machine works: Hypothesis makes it itself, so that no fixture can be its argument."""

    place: ClassVar[Place]
    kept: ClassVar[list[S3Adapter]]

    def make_adapter(self) -> StorageAdapter:
        return self.place.adapter(prefix=f"runs/{uuid.uuid4().hex}")


class S3Machine(_OnServer, AdapterMachine):
    pass


class S3VersionsMachine(_OnServer, VersionsMachine):
    pass


@pytest.fixture
def place(s3_server: Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    s3_place = Place.on(s3_server, bucket)
    monkeypatch.setattr(_OnServer, "place", s3_place, raising=False)
    return s3_place


def run(machine: type[AdapterMachine | VersionsMachine], examples: int, steps: int) -> None:
    case = machine.TestCase
    case.settings = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    case().runTest()


@pytest.mark.usefixtures("place")
def test_random_programs_find_no_difference_to_the_model() -> None:
    run(S3Machine, examples=12, steps=25)


@pytest.mark.usefixtures("place")
def test_random_writers_under_faults_find_no_difference_to_the_truth() -> None:
    run(S3VersionsMachine, examples=12, steps=25)
