"""Purging memories whose objects were damaged: erasing them is the hint that errors recommend."""

from __future__ import annotations

from pathlib import Path

import pytest

from amfs import AgentMemory, CorruptEntryError, VersionConflictError
from amfs_local import LocalAdapter


@pytest.fixture
def memory(tmp_path: Path) -> AgentMemory:
    return AgentMemory("agent", adapter=LocalAdapter(tmp_path))


def damage(root: Path, version: int) -> None:
    path = root / f"default/entries/people/ann/v{version}.json"
    path.write_bytes(path.read_bytes().replace(b"secret", b"SECRET"))


@pytest.mark.parametrize("damaged", [{1}, {2}, {3}, {1, 2, 3}, {2, 3}])
def test_a_purge_erases_damaged_versions_and_leaves_a_whole_chain(
    memory: AgentMemory, tmp_path: Path, damaged: set[int]
) -> None:
    for number in (1, 2, 3):
        memory.write("people", "ann", f"secret {number}")
    for version in damaged:
        damage(tmp_path, version)
    other = AgentMemory("other", adapter=LocalAdapter(tmp_path))
    assert not other.verify().ok

    assert other.purge("people", "ann") == 3

    assert other.verify().ok, other.verify().findings
    assert other.read("people", "ann") is None
    assert [entry.version for entry in other.history("people", "ann")] == [1, 2, 3, 4]
    assert not [path for path in tmp_path.rglob("*.json") if b"secret" in path.read_bytes().lower()]
    assert other.write("people", "ann", "again").version == 5


def test_a_purge_of_an_expected_version_erases_nothing_else(
    memory: AgentMemory, tmp_path: Path
) -> None:
    memory.write("people", "ann", "secret 1")
    other = AgentMemory("other", adapter=LocalAdapter(tmp_path))
    other.write("people", "ann", "secret 2")
    with pytest.raises(VersionConflictError, match="at version 1, but version 2 is the newest"):
        memory.purge("people", "ann", expected_version=1)
    assert [entry.value for entry in other.history("people", "ann")] == ["secret 1", "secret 2"]
    assert memory.purge("people", "ann", expected_version=2) == 2
    assert memory.purge("people", "ann", expected_version=3) == 0  # the tombstone
    assert memory.verify().ok


def test_a_memory_whose_newest_object_is_gone_is_not_left_out_of_a_list_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Vanishing(LocalAdapter):
        def get(self, key: str) -> bytes | None:
            return None if key.endswith("k2/v1.json") else super().get(key)

    memory = AgentMemory("agent", adapter=Vanishing(tmp_path))
    for key in ("k1", "k2"):
        memory.write("e", key, 1)
    fresh = AgentMemory("agent", adapter=Vanishing(tmp_path))
    assert [entry.key for entry in fresh.list()] == ["k1"]
    assert "k2/v1.json is missing" in caplog.text
    assert "k2/v1.json" in str(fresh.verify().findings)


def test_a_damaged_version_is_never_returned_nor_built_upon(
    memory: AgentMemory, tmp_path: Path
) -> None:
    memory.write("people", "ann", "secret 1")
    damage(tmp_path, 1)
    other = AgentMemory("other", adapter=LocalAdapter(tmp_path))
    with pytest.raises(CorruptEntryError, match=r"v1\.json.*purge"):
        other.read("people", "ann")
    with pytest.raises(CorruptEntryError, match=r"v1\.json"):
        other.write("people", "ann", "more")
    assert len(list(tmp_path.rglob("v*.json"))) == 1


@pytest.mark.parametrize("later", [0, 1, 2, 3, 5, 9])
def test_another_process_forgets_erased_content_even_when_it_skips_the_order(
    memory: AgentMemory, tmp_path: Path, later: int
) -> None:
    for number in (1, 2, 3):
        memory.write("people", "ann", f"secret {number}")
    other = AgentMemory("other", adapter=LocalAdapter(tmp_path))
    assert [entry.value for entry in other.history("people", "ann")][-1] == "secret 3"
    memory.purge("people", "ann")
    for number in range(later):
        memory.write("people", "ann", f"new {number}")

    other.read("people", "ann")

    for version in (1, 2, 3):
        stub = other.read("people", "ann", version=version)
        assert stub is not None
        assert stub.erased
        assert stub.value is None
