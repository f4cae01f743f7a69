"""The HTTP adapter, with a server and a directory behind it, is held to the contract by the kit."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from amfs_core.storage import StorageAdapter
from amfs_core.testing.cases import StorageAdapterCases
from amfs_core.testing.machine import AdapterMachine, VersionsMachine
from amfs_http import HttpAdapter
from amfs_local import LocalAdapter
from tests.support.served import serving_here


class TestHttpAdapter(StorageAdapterCases):
    @pytest.fixture
    def adapter(self, tmp_path: Path) -> Iterator[StorageAdapter]:
        with serving_here(LocalAdapter(tmp_path, durability="none")) as url:
            made = HttpAdapter(url)
            yield made
            made.close()


class _Served:
    def make_adapter(self) -> StorageAdapter:
        self.directory = tempfile.mkdtemp(prefix="amfs-machine-")
        self.running = ExitStack()
        url = self.running.enter_context(
            serving_here(LocalAdapter(self.directory, durability="none"))
        )
        self.made = HttpAdapter(url)
        return self.made

    def teardown(self) -> None:
        super().teardown()  # type: ignore[misc]
        self.made.close()
        self.running.close()
        shutil.rmtree(self.directory)


class HttpMachine(_Served, AdapterMachine):
    pass


class HttpVersionsMachine(_Served, VersionsMachine):
    pass


TestHttpMachine = HttpMachine.TestCase
TestHttpVersionsMachine = HttpVersionsMachine.TestCase

TestHttpMachine.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)
TestHttpVersionsMachine.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)
