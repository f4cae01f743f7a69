"""The scratch object of the proof that creates are conditional is removed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from amfs_core.testing import ModelAdapter
from amfs_s3 import proof
from amfs_s3.transport import Transport


class Slow(ModelAdapter):
    """Takes seconds for a create, as Ceph does for the first object of a cluster."""

    def __init__(self, clock: SimpleNamespace) -> None:
        super().__init__()
        self._clock = clock

    def create(self, key: str, data: bytes) -> bool:
        self._clock.now += 5.0
        return super().create(key, data)

    def list(self, prefix: str, start_after: str = "") -> Iterator[Any]:
        """Page by page, as a transport does."""
        yield list(super().list(prefix, start_after))


def test_a_server_that_is_slow_to_create_is_asked_to_remove_the_scratch_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(proof, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(proof, "_mark", lambda _: tmp_path / "mark")
    monkeypatch.setattr(proof, "_is_fresh", lambda _: False)
    endpoint = SimpleNamespace(is_aws=False, where="bucket 'b'")
    server = Slow(clock)
    transport: Transport = server  # type: ignore[assignment]
    proof.require_conditional_writes(endpoint, transport, "")  # type: ignore[arg-type]
    assert list(server.list("")) == [[]]
