"""Every naughty string, as entity, key and value: the same on every store, and exact or refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from amfs_core.errors import AMFSError, InvalidKeyError, InvalidValueError
from amfs_core.memory import AgentMemory
from amfs_core.storage import StorageAdapter
from amfs_core.testing import ModelAdapter
from amfs_local import LocalAdapter
from tests.support.naughty import NAUGHTY


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "around" / "root"


@pytest.fixture
def stores(root: Path) -> list[StorageAdapter]:
    return [LocalAdapter(root, durability="none"), ModelAdapter()]


def attempt(adapter: StorageAdapter, entity_path: str, key: str, value: object) -> str:
    """Write and read back through another memory: 'kept' when it is exact, or the refusal."""
    try:
        written = AgentMemory("a", adapter=adapter).write(entity_path, key, value, tags=["t"])
    except (InvalidKeyError, InvalidValueError) as error:
        assert list(adapter.list("")) == []
        return f"{type(error).__name__}: {error}"
    reader = AgentMemory("b", adapter=adapter)
    assert (written.entity_path, written.key, written.value) == (entity_path, key, value)
    assert reader.read(entity_path, key) == written
    assert reader.list() == [written]
    assert reader.list(entity_path) == [written]
    assert reader.history(entity_path, key) == [written]
    assert reader.verify().ok
    return "kept"


def outcomes(stores: list[StorageAdapter], entity_path: str, key: str, value: object) -> str:
    """The one outcome on every store."""
    results = {attempt(adapter, entity_path, key, value) for adapter in stores}
    assert len(results) == 1
    return results.pop()


def outside(root: Path) -> list[str]:
    """Files around the root but not in it."""
    files = [os.path.join(path, name) for path, _, names in os.walk(root.parent) for name in names]
    return [file for file in files if not file.startswith(f"{root}{os.sep}")]


def is_utf8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


@pytest.mark.parametrize("text", NAUGHTY, ids=lambda text: ascii(text)[:40])
class TestNaughty:
    @pytest.mark.slow
    def test_as_an_entity_path(self, stores: list[StorageAdapter], root: Path, text: str) -> None:
        outcome = outcomes(stores, text, "key", 1)
        possible = all(text.split("/")) and is_utf8(text) and len(text) < 60
        assert outcome == "kept" if possible else outcome.startswith(("kept", "InvalidKeyError"))
        assert outside(root) == []

    @pytest.mark.slow
    def test_as_a_key(self, stores: list[StorageAdapter], root: Path, text: str) -> None:
        outcome = outcomes(stores, "entity", text, 1)
        possible = text and is_utf8(text) and len(text) < 60
        assert outcome == "kept" if possible else outcome.startswith(("kept", "InvalidKeyError"))
        assert outside(root) == []

    @pytest.mark.slow
    def test_as_a_value_a_tag_and_an_agent(
        self, stores: list[StorageAdapter], root: Path, text: str
    ) -> None:
        outcome = outcomes(stores, "entity", "key", {text: [text]})
        assert outcome == "kept" if is_utf8(text) else outcome.startswith("InvalidValueError")
        if text and is_utf8(text):
            for adapter in stores:
                memory = AgentMemory(text, adapter=adapter, session_id=text)
                entry = memory.write("entity", "key", text, tags=[text], pattern_refs=[text])
                assert AgentMemory("b", adapter=adapter).read("entity", "key") == entry
                assert (entry.tags, entry.provenance.agent_id) == ((text,), text)
        assert outside(root) == []

    @pytest.mark.slow
    def test_as_a_namespace(self, stores: list[StorageAdapter], root: Path, text: str) -> None:
        results = set()
        for adapter in stores:
            try:
                memory = AgentMemory("a", adapter=adapter, namespace=text)
                entry = memory.write("e", "k", 1)
            except AMFSError as error:
                results.add(f"{type(error).__name__}: {error}")
            else:
                other = AgentMemory("b", adapter=adapter, namespace=text)
                assert other.list() == [entry]
                results.add("kept")
        assert len(results) == 1
        assert outside(root) == []


def test_all_of_them_live_side_by_side(stores: list[StorageAdapter]) -> None:
    """No two of them become one object, on either store, and listings are in the same order."""
    listings = []
    for adapter in stores:
        memory = AgentMemory("a", adapter=adapter)
        kept = []
        for text in NAUGHTY:
            try:
                memory.write("entity", text, {"text": text})
            except (InvalidKeyError, InvalidValueError):
                continue
            kept.append(text)
        reader = AgentMemory("b", adapter=adapter)
        assert {entry.key: entry.value for entry in reader.list()} == {
            text: {"text": text} for text in kept
        }
        assert all(entry.version == 1 for entry in reader.list())
        listings.append([info.key for info in adapter.list("")])
    assert listings[0] == listings[1]
    assert len(listings[0]) > 200
