"""One engine for all handles of a process on a namespace: what they share, and what they do not."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from amfs import AgentMemory, AMFSError, InvalidValueError
from amfs.config import Config
from amfs_core import memory as core
from amfs_core.memory import Namespace
from amfs_core.testing import ModelAdapter
from amfs_core.testing.cases import in_forked_child, together
from amfs_local import LocalAdapter
from tests.support.s3_store import Place
from tests.support.servers import Server

AGENTS, MEMORIES = 20, 2_000


class Counting(ModelAdapter):
    """Counts gets, and whether it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.gets = 0
        self.closed = 0

    def get(self, key: str) -> bytes | None:
        self.gets += 1
        return super().get(key)

    def get_many(self, keys: object) -> Iterator[tuple[str, bytes | None]]:
        for key in keys:  # type: ignore[attr-defined]
            yield key, self.get(key)

    def close(self) -> None:
        self.closed += 1


def fill(adapter: ModelAdapter, count: int) -> None:
    """Write memories by another engine, as another process would."""
    with core.AgentMemory("filler", adapter=adapter) as filler:
        filler.write_many(
            [
                {"entity_path": f"e{n % 7}", "key": f"k{n}", "value": f"pelican {n}"}
                for n in range(count)
            ]
        )


def test_versions_that_one_agent_fetched_cost_the_others_nothing() -> None:
    adapter = Counting()
    fill(adapter, MEMORIES)
    agents = [AgentMemory(f"agent-{n}", adapter=adapter) for n in range(AGENTS)]
    adapter.gets = 0
    results = together([lambda agent=agent: agent.search("pelican", limit=3) for agent in agents])
    assert all(len(hits) == 3 for hits in results)
    assert adapter.gets == MEMORIES + 1  # and the manifest
    assert agents[0].metrics.requests["get"] == MEMORIES + 1
    for agent in agents:
        agent.close()


def test_it_is_so_on_a_bucket(minio: Server) -> None:
    adapter = Place.on(minio, minio.new_bucket()).adapter()
    fill(adapter, 50)
    agents = [AgentMemory(f"agent-{n}", adapter=adapter) for n in range(AGENTS)]
    for agent in agents:
        assert agent.search("pelican", limit=1)
    assert agents[0].metrics.requests["get"] == 50 + 1  # and the manifest
    for agent in agents:
        agent.close()


def test_each_agent_signs_and_remembers_its_reads_for_itself() -> None:
    adapter = ModelAdapter()
    ann, bob = (AgentMemory(name, adapter=adapter) for name in ("ann", "bob"))
    written = ann.write("e", "k", 1)
    assert written.provenance.agent_id == "ann"
    assert bob.write("e", "k", 2).provenance.agent_id == "bob"
    assert ann.session_id != bob.session_id
    assert ann.read("e", "k") is not None
    assert len(ann.commit_outcome("one", "success").causes) == 1
    with pytest.raises(InvalidValueError, match="has read nothing"):
        bob.commit_outcome("two", "success")


@pytest.mark.parametrize(
    "settings",
    [
        {"namespace": "other"},
        {"patience": 1.0},
        {"max_value_bytes": 1000},
        {"embedder": lambda texts: [[1.0] for _ in texts]},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_other_settings_are_another_engine(settings: dict[str, object]) -> None:
    adapter = ModelAdapter()
    usual = AgentMemory("a", adapter=adapter)
    other = AgentMemory("a", adapter=adapter, **settings)  # type: ignore[arg-type]
    assert usual._engine is not other._engine
    assert other._engine is AgentMemory("b", adapter=adapter, **settings)._engine  # type: ignore[arg-type]


def test_another_adapter_is_another_engine(tmp_path: Path) -> None:
    first, second = (AgentMemory("a", adapter=LocalAdapter(tmp_path)) for _ in range(2))
    assert first._engine is not second._engine


def test_the_same_configuration_opens_one_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMFS_ROOT", str(tmp_path / "one"))
    first, second = AgentMemory("a"), AgentMemory("b")
    assert first.adapter is second.adapter
    monkeypatch.setenv("AMFS_ROOT", str(tmp_path / "two"))
    assert AgentMemory("c").adapter is not first.adapter
    monkeypatch.setenv("AMFS_ROOT", "relative")
    here = AgentMemory("d")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert AgentMemory("d").adapter is not here.adapter
    config = Config(options={"root": str(tmp_path / "three")})
    assert AgentMemory("e", config=config).adapter is AgentMemory("f", config=config).adapter


def test_the_last_handle_closes_the_catalog_and_an_adapter_that_was_opened_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[Counting] = []

    def open_adapter(self: Config) -> Counting:
        opened.append(Counting())
        return opened[-1]

    monkeypatch.setattr(Config, "open_adapter", open_adapter)
    first, second = AgentMemory("a"), AgentMemory("b")
    first.write("e", "k", "pelican")
    first.close()
    first.close()
    assert second.search("pelican")
    assert [adapter.closed for adapter in opened] == [0]
    second.close()
    assert [adapter.closed for adapter in opened] == [1]
    with AgentMemory("c") as third:
        assert third.search("pelican") == []
    assert [adapter.closed for adapter in opened] == [1, 1]


def test_an_adapter_that_was_given_stays_open() -> None:
    adapter = Counting()
    with AgentMemory("a", adapter=adapter), AgentMemory("b", adapter=adapter):
        pass
    assert adapter.closed == 0


def test_a_memory_that_is_refused_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Counting] = []

    def open_adapter(self: Config) -> Counting:
        opened.append(Counting())
        return opened[-1]

    monkeypatch.setattr(Config, "open_adapter", open_adapter)
    for wrong in ({"agent_id": ""}, {"session_id": ""}, {"namespace": ""}, {"embedder": 3}):
        with pytest.raises(AMFSError):
            AgentMemory(**{"agent_id": "a", **wrong})  # type: ignore[arg-type]
    assert [adapter.closed for adapter in opened] == [1] * len(opened)


def test_an_engine_lives_no_longer_than_the_handles_on_it() -> None:
    adapter = ModelAdapter()
    engine = AgentMemory("a", adapter=adapter)._engine
    known = engine.versions
    del engine
    gc.collect()
    assert AgentMemory("b", adapter=adapter)._engine.versions is not known


def test_handles_that_come_and_go_at_once_always_have_an_engine_that_is_open() -> None:
    adapter = ModelAdapter()
    stop = threading.Event()

    def come_and_go() -> int:
        done = 0
        while not stop.is_set():
            with AgentMemory("a", adapter=adapter) as memory:
                assert not memory._engine.is_closed
                memory.write("e", "k", done)
                assert memory.list("e", max_age=60)
                done += 1
            if done >= 50:
                return done
        return done

    assert together([come_and_go] * 8) == [50] * 8
    assert AgentMemory("a", adapter=adapter).history("e", "k")[-1].version == 400


def test_a_forked_child_goes_on_with_the_engine_it_inherited() -> None:
    adapter = ModelAdapter()
    memory = AgentMemory("a", adapter=adapter)
    memory.write("e", "k", "pelican")
    memory.search("pelican")

    def child() -> None:
        assert memory.search("pelican")
        with AgentMemory("b", adapter=adapter) as other:
            assert other._engine is memory._engine
            assert other.search("pelican")
        assert memory.search("pelican")

    in_forked_child(child)
    assert memory.search("pelican")


def test_an_engine_may_be_made_and_shared_by_hand() -> None:
    engine = Namespace(ModelAdapter(), "team")
    with core.AgentMemory("a", engine=engine) as one:
        two = core.AgentMemory("b", engine=engine)
        one.write("e", "k", 1)
        assert two.read("e", "k") is not None
        assert two.namespace == "team"
        two.close()
    with pytest.raises(InvalidValueError, match="the engine is closed"):
        core.AgentMemory("c", engine=engine)
    with pytest.raises(InvalidValueError, match="give an adapter"):
        core.AgentMemory("d")


def test_a_purge_by_one_handle_is_seen_by_all(tmp_path: Path) -> None:
    adapter = LocalAdapter(tmp_path)
    ann, bob = (AgentMemory(name, adapter=adapter) for name in ("ann", "bob"))
    ann.write("people", "ann", "xyzzyplugh")
    assert bob.search("xyzzyplugh")
    ann.purge("people", "ann")
    assert bob.search("xyzzyplugh", max_age=60) == []
    files = (path for path in tmp_path.rglob("*") if path.is_file())
    assert not any(b"xyzzyplugh" in path.read_bytes() for path in files)
