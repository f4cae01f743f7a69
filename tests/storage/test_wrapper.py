"""A wrapped adapter has what the inner one has, and no more."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from amfs_core.layers import Layered
from amfs_core.storage import StoreClient, WrappedAdapter, check_adapter
from amfs_core.testing import ModelAdapter
from amfs_local import LocalAdapter
from amfs_sqlite import SqliteAdapter


def test_it_can_what_the_inner_store_can_and_no_more(tmp_path: Path) -> None:
    inners = ModelAdapter(), LocalAdapter(tmp_path), SqliteAdapter(tmp_path / "s.db")
    for inner in inners:
        wrapped = WrappedAdapter(inner)
        check_adapter(wrapped)
        assert wrapped.capabilities == inner.capabilities
        assert (wrapped.changes() is None) == (inner.changes() is None)
        assert len(list(wrapped.checks())) == len(list(inner.checks()))
        assert wrapped.timeout == inner.timeout
        assert not wrapped.mirror_lags()
        assert wrapped.location == inner.location
        assert wrapped.backend_type == inner.backend_type
        assert wrapped.origin is wrapped
    with pytest.raises(AttributeError, match="'WrappedAdapter' object has no attribute 'root'"):
        _ = WrappedAdapter(LocalAdapter(tmp_path)).root


def test_optional_capabilities_are_passed_on(tmp_path: Path) -> None:
    store = SqliteAdapter(tmp_path / "s.db", durability="none")
    client = StoreClient(WrappedAdapter(store))
    assert client.capabilities.batch
    assert list(client.create_many({"a/b.json": b"1"})) == ["a/b.json"]
    patient, direct = client.changes(), WrappedAdapter(store).changes()
    assert patient is not None
    assert direct is not None
    position = patient.position(make=True)
    assert position is not None
    assert direct.position(make=True) == position
    store.close()


def test_the_origin_of_a_wrapped_store_is_wrapped_too(tmp_path: Path) -> None:
    class Shouting(WrappedAdapter):
        def get(self, key: str) -> bytes | None:
            return (super().get(key) or b"").upper()

    primary = LocalAdapter(tmp_path / "p", durability="none")
    primary.create("a/b.json", b"text")
    layered = Layered(primary, LocalAdapter(tmp_path / "c"))
    origin = Shouting(Shouting(layered)).origin
    assert isinstance(origin, Shouting)
    assert isinstance(origin.inner, Shouting)
    assert origin.inner.inner is primary
    assert origin.get("a/b.json") == b"TEXT"


def test_it_can_be_copied_and_pickled(tmp_path: Path) -> None:
    wrapped = WrappedAdapter(LocalAdapter(tmp_path))
    for again in (copy.copy(wrapped), pickle.loads(pickle.dumps(wrapped))):
        assert again.create(f"{id(again)}/b.json", b"1")
        assert again.changes() is not None
