"""Values that are too large are refused before anything is sent, and read all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from amfs import AgentMemory
from amfs.config import settings
from amfs_core.errors import AMFSError, ConfigurationError, InvalidValueError
from amfs_core.memory import agent_memory as core
from amfs_core.testing import ModelAdapter
from amfs_core.versions import DEFAULT_MAX_VALUE_BYTES
from amfs_local import LocalAdapter

MEGABYTE = 1024 * 1024


class TestHugeValues:
    def test_a_body_over_the_limit_is_refused_before_anything_is_sent(self) -> None:
        adapter = ModelAdapter()
        memory = core.AgentMemory("agent", adapter=adapter, max_value_bytes=10_000)
        for call in (
            lambda: memory.write("e", "k", "x" * 10_000),
            lambda: memory.write("e", "k", 1, tags=["x" * 10_000]),
            lambda: memory.update("e", "k", lambda _: ["x"] * 10_000),
        ):
            with pytest.raises(InvalidValueError, match=r"\d bytes.*limit is 10,000") as caught:
                call()
            assert caught.value.key == "k"
        assert list(adapter.list("")) == []
        assert memory.metrics.requests["create"] == 0
        assert memory.write("e", "k", "x" * 9_000).version == 1

    def test_one_huge_item_of_several_is_refused_before_the_first_is_written(self) -> None:
        memory = core.AgentMemory("agent", adapter=ModelAdapter(), max_value_bytes=10_000)
        items = [{"entity_path": "e", "key": f"k{n}", "value": "x" * n} for n in (1, 20_000, 2)]
        with pytest.raises(InvalidValueError, match=r"item 1 .*limit is 10,000") as caught:
            memory.write_many(items)
        assert (caught.value.entity_path, caught.value.key) == ("e", "k20000")
        assert memory.list() == []

    def test_a_version_over_the_limit_is_read_counted_deleted_and_purged(self) -> None:
        adapter = ModelAdapter()
        roomy = core.AgentMemory("agent", adapter=adapter)
        roomy.write("e", "k", "x" * 50_000)
        memory = core.AgentMemory("agent", adapter=adapter, max_value_bytes=10_000)
        entry = memory.read("e", "k")
        assert entry is not None and len(entry.value) == 50_000
        assert [entry.version for entry in memory.list()] == [1]
        memory.commit_outcome("o", "success")
        assert memory.read("e", "k").version == 2  # type: ignore[union-attr]
        assert memory.delete("e", "k") is not None
        assert memory.purge("e", "k") == 3
        assert memory.verify().ok

    def test_the_limit_comes_from_argument_variable_file_and_default(self, tmp_path: Path) -> None:
        file = tmp_path / "amfs.yaml"
        file.write_text("max_value_bytes: 5000\n")
        assert settings.load(environ={}).max_value_bytes == DEFAULT_MAX_VALUE_BYTES
        assert settings.load(file, {}).max_value_bytes == 5000
        environ = {"AMFS_MAX_VALUE_BYTES": "4000"}
        assert settings.load(file, environ).max_value_bytes == 4000
        for wrong in ("0", "-1", "1.5", "16MiB"):
            with pytest.raises(ConfigurationError, match="AMFS_MAX_VALUE_BYTES must be"):
                settings.load(file, {"AMFS_MAX_VALUE_BYTES": wrong})
        file.write_text("max_value_bytes: 0\n")
        with pytest.raises(ConfigurationError, match=r"line 1: 'max_value_bytes'"):
            settings.load(file, {})
        with pytest.raises(InvalidValueError, match="max_value_bytes"):
            core.AgentMemory("agent", adapter=ModelAdapter(), max_value_bytes=0)
        memory = AgentMemory("agent", adapter=ModelAdapter(), max_value_bytes=700)
        with pytest.raises(InvalidValueError, match="limit is 700"):
            memory.write("e", "k", "x" * 700)

    @pytest.mark.slow
    def test_a_hundred_megabytes_are_read_and_not_kept(self, tmp_path: Path) -> None:
        adapter = LocalAdapter(tmp_path, durability="none")
        writer = core.AgentMemory("agent", adapter=adapter, max_value_bytes=200 * MEGABYTE)
        writer.write("e", "k", "x" * (100 * MEGABYTE))
        (path,) = tmp_path.rglob("v1.json")
        memory = core.AgentMemory("agent", adapter=adapter)
        entry = memory.read("e", "k")
        assert entry is not None and len(entry.value) == 100 * MEGABYTE
        assert len(memory.list()) == 1
        assert memory.verify().ok
        with path.open("r+b") as file:
            file.seek(50 * MEGABYTE)
            file.write(b"y")
        other = core.AgentMemory("other", adapter=adapter)
        with pytest.raises(AMFSError, match="do not match"):
            other.read("e", "k")
        assert other.list() == []
        assert len(other.verify().findings) == 1
