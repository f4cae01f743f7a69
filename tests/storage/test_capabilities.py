"""What an adapter declares, and adapters from before there was anything to declare."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from amfs import AgentMemory
from amfs_core.doctor import Check, checks_of, examine, ok
from amfs_core.storage import (
    Capabilities,
    Doorbell,
    ObjectInfo,
    StorageAdapter,
    StoreClient,
    WrappedAdapter,
    adopted,
)
from amfs_core.testing import ModelAdapter
from amfs_core.testing.cases import StorageAdapterCases
from amfs_local import LocalAdapter


class Plain:
    """The methods of the contract, in a class that is derived from nothing."""

    backend_type = "plain"

    def __init__(self) -> None:
        self.model = ModelAdapter()

    def create(self, key: str, data: bytes) -> bool:
        return self.model.create(key, data)

    def get(self, key: str) -> bytes | None:
        return self.model.get(key)

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        return self.model.get_many(keys)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        return self.model.list(prefix, start_after)

    def replace(self, key: str, data: bytes) -> None:
        self.model.replace(key, data)

    def delete(self, key: str) -> None:
        self.model.delete(key)

    def doorbell(self, prefix: str) -> Doorbell | None:
        return None

    def close(self) -> None:
        self.model.close()


class Gifted(Plain):
    """One that has optional members too, and declares nothing."""

    paged = False
    timeout = 3.0
    location = "plain://here"

    def __init__(self) -> None:
        super().__init__()
        self.together: list[list[str]] = []

    def create_many(self, objects: Mapping[str, bytes]) -> list[str]:
        self.together.append(list(objects))
        return [key for key, data in objects.items() if self.create(key, data)]

    def checks(self) -> Iterator[Check]:
        yield Check("there", lambda: ok("it is"))


class TestAnAdapterThatIsDerivedFromNothing(StorageAdapterCases):
    @pytest.fixture
    def adapter(self) -> StorageAdapter:
        return Plain()  # type: ignore[return-value]


class TestOneWithOptionalMembers(StorageAdapterCases):
    @pytest.fixture
    def adapter(self) -> StorageAdapter:
        return Gifted()  # type: ignore[return-value]


def test_an_adapter_that_is_derived_from_nothing_can_what_it_has() -> None:
    plain, gifted = adopted(Plain()), adopted(Gifted())  # type: ignore[arg-type]
    assert plain.capabilities == Capabilities(doorbell=True)
    assert gifted.capabilities == Capabilities(
        paged=False, batch=True, location=True, doorbell=True, checks=True
    )
    assert (plain.location, gifted.location) == (None, "plain://here")
    assert (plain.timeout, gifted.timeout) == (None, 3.0)
    assert (plain.changes(), gifted.changes()) == (None, None)
    assert adopted(plain) is plain
    assert [diagnosis.name for diagnosis in examine(checks_of(Gifted()))] == ["there"]  # type: ignore[arg-type]
    assert "conditional create" in [diagnosis.name for diagnosis in examine(checks_of(Plain()))]  # type: ignore[arg-type]


def test_it_is_used_for_all_that_it_has() -> None:
    store = Gifted()
    with AgentMemory("a", adapter=store) as memory:  # type: ignore[arg-type]
        memory.write_many({"entity_path": "e", "key": key, "value": key} for key in "abc")
        assert len(store.together) == 1
        assert {entry.key for entry in memory.list()} == set("abc")
        assert memory.adapter is store
        assert memory.health().backend_type == "plain"
        assert memory.verify().ok


def test_a_place_that_takes_requests_to_find_out_is_not_asked_for() -> None:
    class Asking(Plain):
        @property
        def location(self) -> str:
            raise AssertionError("nobody needs it yet")

    assert adopted(Asking()).capabilities.location  # type: ignore[arg-type]


def test_a_class_that_declares_nothing_can_what_it_defines() -> None:
    class Together(ModelAdapter):
        def create_many(self, objects: Mapping[str, bytes]) -> Collection[str]:
            return [key for key, data in objects.items() if self.create(key, data)]

    class Unpaged(Together):
        paged = False

    class Silent(LocalAdapter):
        capabilities = Capabilities(paged=False)

    assert Together.capabilities == Capabilities(batch=True)
    assert Unpaged.capabilities == Capabilities(batch=True, paged=False)
    assert Silent.capabilities == Capabilities(paged=False)
    assert StorageAdapter.capabilities == ModelAdapter.capabilities == Capabilities()


def test_a_capability_that_is_not_declared_is_not_used(tmp_path: Path) -> None:
    class Silent(LocalAdapter):
        capabilities = Capabilities(paged=False)

        def create_many(self, objects: Mapping[str, bytes]) -> list[str]:
            raise AssertionError("it is not to be used")

    client = StoreClient(Silent(tmp_path))
    assert not client.create_many({"a/b.json": b"1"})
    assert client.changes() is None


def test_an_adapter_with_a_method_missing_cannot_be_made() -> None:
    class Half(StorageAdapter):
        def create(self, key: str, data: bytes) -> bool:
            return True

    with pytest.raises(TypeError, match="get_many"):
        Half()  # type: ignore[abstract]


def test_a_client_is_a_store(tmp_path: Path) -> None:
    """So stores may be made of clients, each with its own patience and breaker."""
    store = StoreClient(StoreClient(LocalAdapter(tmp_path), 0.1, "the inner one"), 0.1)
    assert isinstance(store, WrappedAdapter)
    with AgentMemory("a", adapter=store) as memory:
        memory.write("e", "k", 1)
        assert [entry.value for entry in memory.list()] == [1]
        assert memory.verify().ok
    inner = store.inner
    assert isinstance(inner, StoreClient)
    assert inner.meter.snapshot().requests["create"] == 1
    assert store.location == LocalAdapter(tmp_path).location


class TestAClientIsHeldToTheContractToo(StorageAdapterCases):
    @pytest.fixture
    def adapter(self, tmp_path: Path) -> StorageAdapter:
        return StoreClient(LocalAdapter(tmp_path, durability="none"))
