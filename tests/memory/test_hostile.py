"""Broken and forged objects: found, named, never returned as truth, never in the way of others."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amfs_core.errors import CorruptEntryError
from amfs_core.format import MemoryEntry, encode_entry, values
from amfs_core.memory import AgentMemory
from amfs_core.storage import StorageAdapter
from amfs_core.testing import ModelAdapter
from amfs_local import LocalAdapter
from tests.support import hostile
from tests.support.hostile import BROKEN, ENTITY, bits_of, decoded, error_of, genuine
from tests.support.s3_store import chain


@pytest.fixture(params=["model", "local"])
def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> StorageAdapter:
    if request.param == "model":
        return ModelAdapter()
    return LocalAdapter(tmp_path, durability="none")


@pytest.fixture
def memory(adapter: StorageAdapter) -> AgentMemory:
    return AgentMemory("agent", adapter=adapter, patience=0.5)


class TestBodies:
    def test_every_kind_of_broken_body_is_found_and_does_not_block_others(
        self, adapter: StorageAdapter, caplog: pytest.LogCaptureFixture
    ) -> None:
        bodies = {name: damage(genuine(name)) for name, damage in BROKEN.items()}
        broken = hostile.fill(adapter, bodies)
        hostile.hold(adapter, broken)
        for object_key in broken:
            assert f"left out: {object_key}" in caplog.text

    def test_every_flipped_bit_is_found_by_read_verify_list_search_and_watch(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.CRITICAL, "amfs")
        adapter = ModelAdapter()
        size = len(genuine("00000"))
        flipped = (
            (f"{place:05}", list(bits_of(genuine(f"{place:05}")))[place])
            for place in range(8 * size)
        )
        broken = hostile.fill(adapter, dict(flipped))
        assert len(broken) == 8 * size
        hostile.hold(adapter, broken)

    def test_a_body_cut_at_every_length_is_found(self) -> None:
        body = genuine("k")
        for size in range(len(body)):
            with pytest.raises(CorruptEntryError):
                decoded(body[:size], "k")

    def test_bodies_swapped_between_memories_versions_and_namespaces_are_found(
        self, adapter: StorageAdapter
    ) -> None:
        key, other = "one", "other"
        bodies = {
            key: genuine(other),
            other: genuine(key),
            "another version": list(chain("another version", 2, ENTITY))[1][1],
            "another entity": next(chain("another entity", 1, "elsewhere"))[1],
            "another namespace": hostile.with_field("namespace", "production")(
                genuine("another namespace")
            ),
        }
        hostile.hold(adapter, hostile.fill(adapter, bodies))

    def test_a_newer_format_says_upgrade_and_an_impossible_one_does_not(self) -> None:
        newer = hostile.with_field("format", 2)(genuine("k"))
        assert "format 2, newer than 1: upgrade" in str(error_of(lambda: decoded(newer, "k")))
        for wrong in (-1, 0, "1", True, None):
            body = hostile.with_field("format", wrong)(genuine("k"))
            error = error_of(lambda body=body: decoded(body, "k"))
            assert isinstance(error, CorruptEntryError)
            assert "upgrade" not in str(error)

    def test_json_in_another_tools_style_is_read(self) -> None:
        fields = json.loads(genuine("k"))
        del fields["sha256"]
        spaced = json.dumps(fields, indent=1).encode()
        entry = decoded(hostile.resealed(spaced[:-2]), "k")
        assert isinstance(entry, MemoryEntry)
        assert entry.value == {"n": 1}
        doubled = spaced.replace(b'"n": 1', b'"n": 1, "n": 2')
        with pytest.raises(CorruptEntryError, match="'n' is there twice"):
            decoded(hostile.resealed(doubled[:-2]), "k")

    def test_the_deepest_value_that_can_be_written_is_read(self, memory: AgentMemory) -> None:
        deepest: Any = []
        for _ in range(values.MAX_DEPTH - 1):
            deepest = [deepest]
        memory.write("e", "k", deepest)
        memory.write("e", "long", [{} for _ in range(1000)])
        reader = AgentMemory("reader", adapter=memory.adapter)
        entry = reader.read("e", "k")
        assert entry is not None and entry.value == deepest
        assert reader.verify().ok

    def test_the_error_of_a_huge_broken_body_is_short(self) -> None:
        for name in ("only brackets", "nested 100,000 deep", "confidence 0"):
            error = error_of(lambda name=name: decoded(BROKEN[name](genuine(name)), name))
            assert len(str(error)) < 600


class TestRandomDamage:
    @given(st.data())
    @settings(max_examples=500)
    def test_a_mutated_body_is_refused_or_says_the_same(self, data: st.DataObject) -> None:
        body = genuine("k")
        start = data.draw(st.integers(0, len(body)))
        end = data.draw(st.integers(start, min(len(body), start + 40)))
        mutated = body[:start] + data.draw(st.binary(max_size=40)) + body[end:]
        try:
            entry = decoded(mutated, "k")
        except CorruptEntryError:
            return
        assert mutated == body
        assert entry == decoded(body, "k")

    @given(st.data())
    @settings(max_examples=500)
    def test_a_mutated_body_that_is_sealed_again_is_refused_or_a_whole_entry(
        self, data: st.DataObject
    ) -> None:
        covered = genuine("k")[:-76]
        start = data.draw(st.integers(0, len(covered)))
        end = data.draw(st.integers(start, min(len(covered), start + 10)))
        parts = (
            b"null",
            b"[]",
            b"{}",
            b"1",
            b'""',
            b"true",
            b',"a":1',
            b'"',
            b"}",
            b"]",
            b"-",
            b"9",
        )
        new = data.draw(st.sampled_from(parts) | st.binary(max_size=6))
        self.check(hostile.resealed(covered[:start] + new + covered[end:]))

    @given(
        st.sampled_from(hostile.REQUIRED),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text(max_size=3), inner, max_size=3)
            ),
            max_leaves=4,
        ),
    )
    @settings(max_examples=500)
    def test_any_field_with_any_content_is_refused_or_a_whole_entry(
        self, name: str, content: object
    ) -> None:
        try:
            body = hostile.with_field(name, content)(genuine("k"))
        except UnicodeEncodeError:
            return
        self.check(body)

    def check(self, body: bytes) -> None:
        """The body is refused; or what it says can be used for all that an entry is used for."""
        adapter = ModelAdapter()
        hostile.place(adapter, "k", body)
        memory = AgentMemory("agent", adapter=adapter)
        try:
            entry = memory.read(ENTITY, "k", version=1)
        except CorruptEntryError:
            assert memory.list() == []
            return
        assert entry is not None
        assert decoded(encode_entry(entry), "k") is not None
        memory.list()
        memory.search("n")
        memory.verify()
        entry.to_dict()
        assert error_of(lambda: memory.write(ENTITY, "k", 2, ttl=60)) is None
        memory.read(ENTITY, "k")
        memory.commit_outcome("o", "success")
