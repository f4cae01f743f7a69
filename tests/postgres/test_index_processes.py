"""An index whose users are killed in the middle of a refresh, fork, and are run by `amfs`."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from amfs.cli import amfs
from amfs_core.memory import AgentMemory
from amfs_local import LocalAdapter
from amfs_postgres.index import PostgresIndex, looks
from tests.support.postgres import Postgres, new_schema

_SPAWNING = multiprocessing.get_context("spawn")
_COUNT = 300


def _fill(dsn: str, schema: str, root: Path, lease: float) -> None:
    """Refresh an index, slowly enough to be killed while it does."""
    looks.LEASE_SECONDS = lease
    index = PostgresIndex(dsn, schema)
    memory = AgentMemory("a", adapter=LocalAdapter(root, durability="none"), index=index)
    catalog: Any = memory._searching()._catalog
    catalog.__class__.together = 20
    put = catalog.put

    def slowly(versions: list[Any]) -> None:
        put(versions)
        time.sleep(0.05)  # for as long as it is to be killed

    catalog.put = slowly
    memory.list()


def test_the_next_process_ends_what_a_killed_one_began(
    index: PostgresIndex, postgres: Postgres, tmp_path: Path
) -> None:
    adapter = LocalAdapter(tmp_path, durability="none")
    with AgentMemory("writer", adapter=adapter) as writer:
        writer.write_many(
            {"entity_path": "e", "key": f"k{n}", "value": f"apple {n}"} for n in range(_COUNT)
        )
        expected = writer.search("apple 7", limit=_COUNT)
    filler = _SPAWNING.Process(target=_fill, args=(postgres.dsn, index.schema, tmp_path, 2.0))
    filler.start()
    query = f"SELECT count(*) FROM {index.schema}.memory_1"
    until = time.monotonic() + 60
    while index.version() == 0 or not 0 < postgres.sql(query)[0][0][0] < _COUNT:
        assert time.monotonic() < until
        assert filler.is_alive()
        time.sleep(0.01)  # between two looks
    assert filler.pid is not None
    os.kill(filler.pid, signal.SIGKILL)
    filler.join()
    assert 0 < postgres.sql(query)[0][0][0] < _COUNT
    with AgentMemory("other", adapter=adapter, index=index) as memory:
        assert memory.search("apple 7", limit=_COUNT) == expected
        assert memory.metrics.requests["get"] < _COUNT  # what the first had stored is of use


def test_a_forked_child_searches_beside_its_parent(index: PostgresIndex, tmp_path: Path) -> None:
    with AgentMemory("a", adapter=LocalAdapter(tmp_path), index=index) as memory:
        memory.write("e", "k", "apple")
        assert len(memory.search("apple")) == 1
        child = os.fork()
        if child == 0:
            code = 1
            try:
                memory.write("e", "of-the-child", "apple")
                code = 0 if len(memory.search("apple")) == 2 else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert len(memory.search("apple")) == 2


def _run(*arguments: str) -> Any:
    return CliRunner().invoke(amfs, arguments, catch_exceptions=False)


@pytest.mark.parametrize("by", ["variable", "file"])
def test_commands_use_the_index_that_is_configured(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.chdir(tmp_path)
    schema = new_schema()
    if by == "variable":
        monkeypatch.setenv("AMFS_INDEX", f"{postgres.dsn}?schema={schema}")
    else:
        (tmp_path / "amfs.yaml").write_text(
            f"index:\n  adapter: postgres\n  options: {{dsn: '{postgres.dsn}', schema: {schema}}}\n"
        )
    assert _run("write", "e", "k", "apple").exit_code == 0
    assert "apple" in _run("search", "apple").output
    assert postgres.sql(f"SELECT count(*) FROM {schema}.memory_1") == [[(1,)]]
    assert f"/{schema} answers in" in _run("health").output
    assert json.loads(_run("--json", "health").output)["index"]["ok"] is True
    assert "brought the index up to date" in _run("tend").stderr
    output = _run("doctor").output
    assert "1 memories of 1 catalogs" in output
    everything = output + _run("--json", "doctor").output
    assert postgres.password not in everything


def test_a_wrong_index_in_the_configuration_is_named_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for text, said in (
        ("index:\n  adapter: redis\n", "amfs.yaml line 2: there is no index 'redis'"),
        ("index:\n  adapter: postgres\n", "needs the option 'dsn'"),
        (
            "index:\n  adapter: postgres\n  options: {dsn: 'postgresql:///d', skema: a}\n",
            "amfs.yaml line 3: unknown key 'skema'; did you mean 'schema'?",
        ),
    ):
        (tmp_path / "amfs.yaml").write_text(text)
        assert said in _run("ls").stderr
    (tmp_path / "amfs.yaml").unlink()
    monkeypatch.setenv("AMFS_INDEX", "user:Sec-ret@host")
    result = _run("ls")
    assert "AMFS_INDEX does not name an index" in result.stderr
    assert "Sec-ret" not in result.stderr


def test_an_index_that_a_memory_was_given_stays_open_and_one_of_its_own_closes(
    index: PostgresIndex, tmp_path: Path
) -> None:
    for _ in range(2):
        with closing(AgentMemory("a", adapter=LocalAdapter(tmp_path), index=index)) as memory:
            memory.list()
    assert index.health().error is None
