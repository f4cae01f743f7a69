"""Several stores in `amfs.yaml`: a cache, mirrors and routes, and what is wrong with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from amfs import AgentMemory, ConfigurationError, Layered, Mirror, Routed
from amfs.config import load
from amfs.doctor import diagnose
from amfs_core.storage import StorageAdapter
from amfs_local import LocalAdapter
from amfs_sqlite import SqliteAdapter

ALL = """\
layers:
  primary: {adapter: local, options: {root: primary}}
  cache: {adapter: sqlite, options: {path: cache.db, durability: none}}
  mirrors:
    - adapter: local
      options: {root: waited}
      wait: true
    - {adapter: local, options: {root: later, durability: none}}
routes:
  - under: scratch/notes
    adapter: sqlite
    options: {path: scratch.db}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def opened(text: str = ALL) -> StorageAdapter:
    Path("amfs.yaml").write_text(text)
    return load().open_adapter()


def test_a_file_names_layers_and_routes_relative_to_itself(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("amfs.yaml").write_text(ALL)
    Path("below").mkdir()
    monkeypatch.chdir("below")
    store = load().open_adapter()
    assert isinstance(store, Routed)
    scratch = store.routes["scratch/notes"]
    assert isinstance(scratch, SqliteAdapter)
    assert scratch.path == str(here / "scratch.db")
    assert isinstance(store.inner, Layered)
    assert isinstance(store.inner.inner, LocalAdapter)
    assert [mirror.wait for mirror in store.inner.mirrors] == [True, False]
    roots = [mirror.adapter.root for mirror in store.inner.mirrors if isinstance(mirror, Mirror)]  # type: ignore[attr-defined]
    assert roots == [str(here / "waited"), str(here / "later")]
    with AgentMemory("a") as memory:
        memory.write("e", "k", 1)
        memory.write("scratch/notes", "k", 2)
        assert len(memory.list()) == 2
    for name in ("primary", "waited", "later"):
        assert [path.name for path in (here / name).rglob("*.json")] == ["v1.json"], name


def test_routes_need_no_layers() -> None:
    text = ALL[ALL.index("routes:") :]
    store = opened(text)
    assert isinstance(store, Routed)
    assert isinstance(store.inner, LocalAdapter)


def test_memories_of_two_files_share_no_engine(here: Path) -> None:
    files = [here / "one.yaml", here / "two.yaml"]
    for number, file in enumerate(files):
        file.write_text(ALL.replace("root: waited", f"root: waited{number}"))
    memories = [AgentMemory("a", config=file) for file in (*files, files[0])]
    assert memories[0].engine is memories[2].engine
    assert memories[0].engine is not memories[1].engine
    for memory in memories:
        memory.close()


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ("cache: ", "cash: ", "line 3: unknown key 'cash'; did you mean 'cache'?"),
        ("wait: true", "wait: 1", "line 7: 'wait': it must be true or false"),
        ("wait: true", "weit: true", "line 7: unknown key 'weit'; did you mean 'wait'?"),
        ("under: scratch/notes", "under: 1", "line 10: 'under': it must be text"),
        ("  - under: scratch/notes\n    ad", "  - ad", "number 1 of 'routes' needs 'under'"),
        ("{root: waited}", "{rot: waited}", "line 6: unknown key 'rot'; did you mean 'root'?"),
        ("adapter: sqlite\n", "adapter: sqlight\n", "line 11: there is no adapter 'sqlight'"),
        ("none}}\n  mirrors", "1}}\n  mirrors", "line 3: 'durability': it must"),
        ("    - adapter: local\n", "    - adapter: s3\n", "line 6: unknown key 'root'"),
        ("mirrors:\n", "mirrors: 1\n  more:\n", "line 4: 'mirrors': it must be"),
        ("root: waited", "root: primary", "mirror 1 is at .* within the other"),
        ("root: waited", "root: ''", "line 6: root is empty"),
        ("under: scratch/notes", "under: scratch//notes", "the route 'scratch//notes' is not"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(wrong: str, right: str, message: str) -> None:
    assert wrong in ALL
    with pytest.raises(ConfigurationError, match=message):
        opened(ALL.replace(wrong, right, 1))


def test_amfs_store_counts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMFS_STORE", "sqlite:///m.db")
    assert isinstance(opened(), SqliteAdapter)


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [("AMFS_ROOT", "elsewhere", 2), ("AMFS_S3_BUCKET", "my-bucket", 2)],
)
def test_a_variable_does_not_send_another_store_to_the_mirrors(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, line: int
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(
        ConfigurationError,
        match=rf"line {line}: a variable replaces this, .* \(a cache, 2 mirrors, 1 route\)",
    ):
        opened()


def test_variables_complete_what_the_file_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMFS_S3_BUCKET", "my-bucket")
    primary = "{adapter: local, options: {root: primary}}"
    store = opened(ALL.replace(primary, "{adapter: s3, options: {endpoint_url: 'http://h:1'}}"))
    assert isinstance(store, Routed)
    assert "my-bucket" in repr(store)


def test_a_store_that_cannot_be_opened_leaves_none_open(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[LocalAdapter] = []

    def close(self: LocalAdapter) -> None:
        closed.append(self)

    monkeypatch.setattr(LocalAdapter, "close", close)
    with pytest.raises(ConfigurationError):
        opened(ALL.replace("adapter: sqlite\n", "adapter: sqlight\n"))
    assert len(closed) == 3


def test_commands_work_on_all_of_it(here: Path) -> None:
    Path("amfs.yaml").write_text(ALL)

    def amfs(*arguments: str) -> str:
        command = [sys.executable, "-m", "amfs", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    amfs("write", "e", "k", "1")
    amfs("write", "scratch/notes", "k", "2")
    assert amfs("ls").count("v1") >= 1
    assert "mirror 2: 0 objects wait" in amfs("health")
    assert '"mirror": "mirror 1"' in amfs("health", "--json")
    for mirror in ("waited", "later"):  # also the one that nobody waits for
        assert [path.name for path in (here / mirror).rglob("*.json")] == ["v1.json"]
    diagnoses = {diagnosis.name: diagnosis for diagnosis in diagnose()}
    assert "with a cache, 2 mirrors, 1 route" in diagnoses["store"].found
    assert diagnoses["mirror 2: lag"].found == "of all objects, none is missing"
    assert diagnoses["route scratch/notes: create"].verdict == "ok"
