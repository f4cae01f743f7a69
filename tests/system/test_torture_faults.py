"""The faults of the torture happen, as they are described and as the seed says."""

from __future__ import annotations

from collections import Counter

import pytest

from amfs_core.errors import BackendUnavailableError, OutcomeUnknownError
from amfs_core.testing import ModelAdapter
from tests.conftest import ProxyFactory
from tests.support.proxy import Fault
from tests.support.s3_store import Place
from tests.support.servers import Server
from tests.torture.faults import ChaosAdapter


def test_a_lagging_listing_has_only_what_is_older(
    s3_server: Server, bucket: str, proxy: ProxyFactory
) -> None:
    wire = proxy(s3_server)
    adapter = Place.on(s3_server, bucket, wire.endpoint_url).adapter()
    wire.lag_seconds = 600.0
    Place.on(s3_server, bucket).adapter().create("e/before ü&", b"1")  # past the proxy
    adapter.create("e/new ü&", b"2")
    wire.inject(Fault.LAGGING_LIST)
    assert [info.key for info in adapter.list("e/")] == ["e/before ü&"]
    assert [info.key for info in adapter.list("e/")] == ["e/before ü&", "e/new ü&"]
    wire.lag_seconds = 0.0
    wire.inject(Fault.LAGGING_LIST)
    assert [info.key for info in adapter.list("e/")] == ["e/before ü&", "e/new ü&"]


def happened(seed: str) -> list[str]:
    noted: list[str] = []
    adapter = ChaosAdapter(ModelAdapter(), seed, 0.3, noted.append)
    for number in range(200):
        try:
            adapter.create(f"e/{number}", b"")
            adapter.get(f"e/{number}")
        except (OutcomeUnknownError, BackendUnavailableError):
            continue
    adapter.deliver()
    return noted


def test_the_seed_decides_which_faults_happen_to_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.torture.faults.DELAY_SECONDS", 0.0)
    monkeypatch.setattr("tests.torture.faults.LATE_SECONDS", 0.0)
    assert happened("1") == happened("1") != happened("2")
    kinds = Counter(happened("1"))
    wanted = {"lost_answer", "lost_request", "conflict", "late", "unavailable", "delay"}
    assert set(kinds) == wanted
    assert 60 < kinds.total() < 160
