"""Histories and names that nobody would write with AMFS: named, and never in the way of others."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from amfs_core.errors import AMFSError, CorruptEntryError
from amfs_core.format import MAX_VERSION
from amfs_core.memory import AgentMemory
from amfs_core.storage import StorageAdapter
from amfs_core.testing import ModelAdapter
from amfs_core.upkeep.copy import copy as copy_store
from amfs_local import LocalAdapter
from tests.support import hostile
from tests.support.hostile import ENTITY, GOOD, error_of, genuine
from tests.support.s3_store import chain, sealed


@pytest.fixture(params=["model", "local"])
def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> StorageAdapter:
    if request.param == "model":
        return ModelAdapter()
    return LocalAdapter(tmp_path, durability="none")


@pytest.fixture
def memory(adapter: StorageAdapter) -> AgentMemory:
    return AgentMemory("agent", adapter=adapter, patience=0.5)


class TestForgedHistories:
    def test_a_gap_does_not_block_others_and_a_copy_names_it_last(
        self, adapter: StorageAdapter
    ) -> None:
        for object_key, body in chain("gap", 3, ENTITY):
            if not object_key.endswith("v2.json"):
                adapter.create(object_key, body)
        for key in (*GOOD, "b", "y"):
            hostile.place(adapter, key, genuine(key))
        memory = AgentMemory("agent", adapter=adapter)
        (finding,) = memory.verify().findings
        assert finding.object_key.endswith("gap/v2.json")
        target = ModelAdapter()
        with pytest.raises(CorruptEntryError, match=r"gap/v2\.json is missing"):
            copy_store(adapter, target)
        copied = {info.key for info in target.list("")}
        assert copied == {
            f"default/entries/{ENTITY}/{key}/v1.json" for key in (*GOOD, "b", "y", "gap")
        }

    def test_a_far_too_high_version_number_costs_no_more_than_a_few_requests(
        self, adapter: StorageAdapter
    ) -> None:
        memory = AgentMemory("agent", adapter=adapter, patience=0.5)
        memory.write(ENTITY, "k", 1)
        body = hostile.with_field("version", MAX_VERSION)(genuine("k"))
        hostile.place(adapter, "k", body, MAX_VERSION)
        for key in GOOD:
            hostile.place(adapter, key, genuine(key))
        reader = AgentMemory("reader", adapter=adapter, patience=0.5)
        for call in (
            lambda: reader.history(ENTITY, "k"),
            lambda: reader.find_write(ENTITY, "k", "x"),
            lambda: copy_store(adapter, ModelAdapter()),
        ):
            assert isinstance(error_of(call), CorruptEntryError)
        assert {entry.key for entry in reader.list()} >= set(GOOD)
        assert not reader.verify().ok
        assert reader.stats().deepest == 2
        assert sum(reader.metrics.requests.values()) < 4000

    def test_no_version_is_written_that_no_listing_would_know(self) -> None:
        adapter = ModelAdapter()
        hostile.place(adapter, "k", genuine("k"))
        body = hostile.with_field("version", MAX_VERSION)(genuine("k"))
        hostile.place(adapter, "k", body, MAX_VERSION)
        memory = AgentMemory("agent", adapter=adapter)
        assert memory.read(ENTITY, "k", version=MAX_VERSION) is not None
        with pytest.raises(AMFSError, match="no version can follow"):
            memory.write(ENTITY, "k", 2)
        assert len(list(adapter.list(""))) == 2

    def test_a_time_at_the_end_of_the_calendar_does_not_crash(self, memory: AgentMemory) -> None:
        last = "9999-12-31T23:59:59.999999Z"
        body = hostile.with_field("provenance.written_at", last)(genuine("k"))
        hostile.place(memory.adapter, "k", body)
        entry = memory.write(ENTITY, "k", 2, ttl=3600)  # an hour from now, all the same
        assert entry.version == 2
        assert entry.expires_at is not None
        assert entry.expires_at < datetime.now(UTC) + timedelta(hours=1)
        assert memory.write(ENTITY, "k", 3).version == 3

    def test_a_consistent_forgery_is_not_found(self, memory: AgentMemory) -> None:
        """What SECURITY.md says: the chain is not a signature."""
        memory.write("e", "k", "true")
        (info,) = memory.adapter.list("default/entries/")
        fields = json.loads(memory.adapter.get(info.key) or b"")
        del fields["sha256"]
        memory.adapter.replace(info.key, sealed({**fields, "value": "forged"}))
        assert AgentMemory("other", adapter=memory.adapter).verify().ok

    def test_a_forgery_below_a_later_version_is_found(self, memory: AgentMemory) -> None:
        memory.write("e", "k", "true")
        (info,) = memory.adapter.list("default/entries/")
        memory.write("e", "k", "later")
        fields = json.loads(memory.adapter.get(info.key) or b"")
        del fields["sha256"]
        memory.adapter.replace(info.key, sealed({**fields, "value": "forged"}))
        (finding,) = AgentMemory("other", adapter=memory.adapter).verify().findings
        assert "does not follow the v1" in finding.problem


class TestForeignObjects:
    KEYS = (
        "readme.txt",
        f"{ENTITY}/k/v0.json",
        f"{ENTITY}/k/v01.json",
        f"{ENTITY}/k/v10000000000.json",
        f"{ENTITY}/k/V1.json",
        f"{ENTITY}/k/v1.json.bak",
        f"{ENTITY}/k/v1.JSON",
        f"{ENTITY}/k/v１.json",
        f"{ENTITY}/bad%2fescape/v1.json",  # it would be %2F
        f"{ENTITY}/un%20needed/v1.json",
        f"{ENTITY}/half%E2%82/v1.json",
        f"{ENTITY}/percent%/v1.json",
        f"{ENTITY}/colon:/v1.json",
        f"{ENTITY}/dot./v1.json",
        f"{ENTITY}/v1.json/v1.json",
        "v1.json",
        f"{'n' * 255}%2Fn/v1.json",
    )

    def test_they_are_named_and_do_not_block_others(self, adapter: StorageAdapter) -> None:
        longest = 255 if isinstance(adapter, LocalAdapter) else sys.maxsize
        keys = [key for key in self.KEYS if max(map(len, key.split("/"))) <= longest]
        for key in keys:
            adapter.create(f"default/entries/{key}", b"x")
        hostile.fill(adapter, {})
        hostile.hold(adapter, {}, foreign=len(keys))

    def test_namespaces_of_other_tools_are_in_no_copys_way(self, adapter: StorageAdapter) -> None:
        for key in ("a%/entries/e/k/v1.json", "default/other/x", "lost+found", "e/entries/v1.json"):
            adapter.create(key, b"x")
        hostile.fill(adapter, {})
        assert copy_store(adapter, ModelAdapter()).foreign == 4

    def test_broken_outcomes_are_named_and_in_no_memorys_way(self, adapter: StorageAdapter) -> None:
        hostile.fill(adapter, {})
        memory = AgentMemory("agent", adapter=adapter, patience=0.5)
        memory.commit_outcome("good", "success", entries=[(ENTITY, GOOD[0])])
        good = json.loads(adapter.get("default/outcomes/good.json") or b"")
        del good["sha256"]
        cause = good["causes"][0]
        wrong = {
            "format": (-1, "1", True),
            "type": ("great", None, []),
            "agent_id": (5, None),
            "committed_at": ("yesterday", 5, "2026-01-01Z"),
            "write_id": (5,),
            "causes": (
                [{**cause, "version": "1"}],
                [{**cause, "version": 1.5}],
                [{**cause, "version": True}],
                [{**cause, "version": 0}],
                [{**cause, "key": 5}],
                [{**cause, "key": ""}],
                [5],
                {"a": 1},
                None,
            ),
        }
        named = {
            f"default/outcomes/{name}{index}.json": sealed(
                {**good, "ref": f"{name}{index}", name: content}
            )
            for name, contents in wrong.items()
            for index, content in enumerate(contents)
        }
        named["default/outcomes/twice.json"] = hostile.rewritten(
            b'"type":', b'"type":"failure","type":'
        )(sealed({**good, "ref": "twice"}))
        named["default/outcomes/empty.json"] = b""
        for object_key, body in named.items():
            adapter.create(object_key, body)
        reader = AgentMemory("reader", adapter=adapter, patience=0.5)
        findings = {finding.object_key for finding in reader.verify().findings}
        assert findings == set(named)
        assert len(reader.list()) == len(GOOD)
        assert [outcome.ref for outcome in reader.list_outcomes()] == ["good"]
        for object_key in named:
            ref = object_key.removeprefix("default/outcomes/").removesuffix(".json")
            assert isinstance(error_of(lambda ref=ref: reader.read_outcome(ref)), CorruptEntryError)
