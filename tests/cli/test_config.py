"""Configuration: arguments over variables over amfs.yaml over the defaults."""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from amfs import AgentMemory, ConfigurationError
from amfs.config import Config, load, open_store
from amfs_local import LocalAdapter
from amfs_sqlite import SqliteAdapter

REPOSITORY = Path(__file__).resolve().parents[2]

S3_FILE = """\
namespace: production
layers:
  primary:
    adapter: s3
    options:
      bucket: my-amfs-bucket
      prefix: team/
      endpoint_url: ""
      region_name: us-east-1
"""


@pytest.fixture(autouse=True)
def empty_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AMFS_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def write_file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def problem(tmp_path: Path, text: str) -> str:
    """Return the message for a file with a mistake, once a memory is made of it."""
    write_file(tmp_path / "amfs.yaml", text)
    with pytest.raises(ConfigurationError) as error:
        AgentMemory("a")
    return str(error.value)


# -- where settings come from ----------------------------------------------------------------


def test_without_any_configuration_it_is_the_directory_amfs(tmp_path: Path) -> None:
    with AgentMemory() as memory:
        memory.write("e", "k", 1)
        assert memory.namespace == "default" and "@" in memory.agent_id
    assert (tmp_path / ".amfs/default/entries/e/k/v1.json").is_file()


def test_variables_win_over_the_file_and_arguments_over_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path / "amfs.yaml", "namespace: filed\nagent_id: filed\npatience: 3\n")
    assert AgentMemory().namespace == AgentMemory().agent_id == "filed"
    assert load().patience == 3.0
    monkeypatch.setenv("AMFS_NAMESPACE", "varied")
    monkeypatch.setenv("AMFS_AGENT_ID", "varied")
    monkeypatch.setenv("AMFS_PATIENCE", "0.5")
    assert AgentMemory().namespace == AgentMemory().agent_id == "varied"
    assert load().patience == 0.5
    memory = AgentMemory("argued", namespace="argued")
    assert memory.namespace == memory.agent_id == "argued"


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AMFS_S3_BUCKET", "AMFS_NAMESPACE", "AMFS_CONFIG", "AMFS_PATIENCE", "AMFS_ROOT"):
        monkeypatch.setenv(name, "")
    config = load()
    assert (config.adapter, config.namespace, config.patience) == ("local", "default", 10.0)


def test_the_file_is_found_upwards_and_its_root_is_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path / "amfs.yaml", "namespace: found\n")
    deep = tmp_path / "some/where"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    with AgentMemory("a") as memory:
        memory.write("e", "k", 1)
    assert (tmp_path / ".amfs/found/entries/e/k/v1.json").is_file()


def test_amfs_root_is_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path / "amfs.yaml", "namespace: found\n")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    monkeypatch.setenv("AMFS_ROOT", "here")
    with AgentMemory("a") as memory:
        memory.write("e", "k", 1)
    assert (tmp_path / "sub/here/found/entries/e/k/v1.json").is_file()


def test_amfs_config_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(tmp_path / "amfs.yaml", "namespace: near\n")
    monkeypatch.setenv("AMFS_CONFIG", str(write_file(tmp_path / "other.yaml", "namespace: named")))
    assert load().namespace == "named"
    monkeypatch.setenv("AMFS_CONFIG", str(tmp_path / "absent.yaml"))
    with pytest.raises(ConfigurationError, match=r"AMFS_CONFIG names .*absent\.yaml"):
        load()


def test_config_argument_is_a_path_or_a_config(tmp_path: Path) -> None:
    path = write_file(tmp_path / "mine.yaml", "namespace: mine\n")
    assert AgentMemory("a", config=path).namespace == "mine"
    made = Config(options={"root": str(tmp_path / "made")}, namespace="made", agent_id="made")
    with AgentMemory(config=made) as memory:
        memory.write("e", "k", 1)
        assert memory.agent_id == "made"
    assert (tmp_path / "made/made/entries/e/k/v1.json").is_file()
    with pytest.raises(ConfigurationError, match="no such file"):
        AgentMemory("a", config=tmp_path / "absent.yaml")


def test_the_bucket_variable_selects_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMFS_S3_BUCKET", "from-variable")
    monkeypatch.setenv("AMFS_S3_ENDPOINT", "http://localhost:1")
    assert (load().adapter, dict(load().options)) == (
        "s3",
        {"bucket": "from-variable", "endpoint_url": "http://localhost:1"},
    )
    write_file(tmp_path / "amfs.yaml", S3_FILE)
    assert load().options["bucket"] == "from-variable"
    assert load().options["prefix"] == "team/"
    monkeypatch.setenv("AMFS_S3_PREFIX", "varied/")
    assert load().options["prefix"] == "varied/"
    write_file(tmp_path / "amfs.yaml", "layers: {primary: {adapter: local, options: {root: x}}}")
    assert "root" not in load().options


def test_the_yaml_of_the_contract_opens_the_s3_adapter(tmp_path: Path) -> None:
    s3 = pytest.importorskip("amfs_s3")
    write_file(tmp_path / "amfs.yaml", S3_FILE)
    with AgentMemory("a") as memory:
        assert isinstance(memory.adapter, s3.S3Adapter)
        assert memory.namespace == "production"
    assert load().options["endpoint_url"] is None


def test_an_adapter_that_was_given_stays_open() -> None:
    class Watched(LocalAdapter):
        closed = 0

        def close(self) -> None:
            Watched.closed += 1

    with AgentMemory("a", adapter=Watched(durability="none")):
        pass
    assert Watched.closed == 0


# -- mistakes --------------------------------------------------------------------------------

OPTIONS = "layers:\n  primary:\n    adapter: {}\n    options:\n      {}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("namespce: x", "amfs.yaml line 1: unknown key 'namespce'; did you mean 'namespace'?"),
        ("a: 1", "amfs.yaml line 1: unknown key 'a'; known are namespace, agent_id, patience"),
        ("layers:\n  primry: {}", "line 2: unknown key 'primry'; did you mean 'primary'?"),
        ("layers:\n  primary:\n    adaptr: s3", "line 3: unknown key 'adaptr'; did you mean"),
        (OPTIONS.format("s3", "buckett: b"), "line 5: unknown key 'buckett'; did you mean 'buck"),
        (OPTIONS.format("local", "rooot: b"), "line 5: unknown key 'rooot'; did you mean 'root'?"),
        (OPTIONS.format("locl", "root: b"), "line 3: there is no adapter 'locl'; did you mean 'lo"),
        (OPTIONS.format("s3", "prefix: b"), "line 4: adapter 's3' needs the option 'bucket'"),
        (OPTIONS.format("local", "root: [1]"), "line 5: 'root': it must be text or a path"),
        (OPTIONS.format("local", "durability: no"), "line 5: 'durability': it must be 'fsync'"),
        (
            OPTIONS.format("local", "root: a\n      root: b"),
            "line 6: 'root' is already set on line 5",
        ),
        ("layers:\n  primary: s3", "line 2: 'primary' must hold keys of its own"),
        ("layers:\n  primary:\n    options: {}", "line 2: 'primary' needs 'adapter'"),
        ("namespace: 12", "line 1: 'namespace': it must be text"),
        ("patience: -1", "line 1: 'patience': it must be seconds, 0 or more"),
        ("patience: soon", "line 1: 'patience': it must be seconds"),
        ("agent_id: a\nnamespace: [", "amfs.yaml line 2: not YAML"),
        ("agent_id: a\nnamespace: \x07", "amfs.yaml line 2: not YAML"),
        ("agent_id: a\nnamespace: 2026-13-45", "line 2: this value is not valid"),
        ("namespace: !!python/name:os.system x", "amfs.yaml line 1: not YAML"),
        ("a: &a\n  b: *a", "this part contains itself"),
        ("- 1", "line 1: the file must hold settings"),
        ("a: 1\n---\nb: 1", "amfs.yaml line 2: not YAML"),
        ("namespace: a/b\nx: 1", "line 2: unknown key 'x'"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    assert message in problem(tmp_path, text)


def test_an_empty_file_is_valid(tmp_path: Path) -> None:
    write_file(tmp_path / "amfs.yaml", "# nothing yet\n")
    assert load().namespace == "default"


def test_a_directory_is_not_a_configuration_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "settings").mkdir()
    for way in ("AMFS_CONFIG", "config"):
        monkeypatch.setenv("AMFS_CONFIG", "settings" if way == "AMFS_CONFIG" else "")
        with pytest.raises(ConfigurationError, match=f"{way} names 'settings', a directory"):
            load("settings" if way == "config" else None)
    monkeypatch.delenv("AMFS_CONFIG")
    with pytest.raises(ConfigurationError, match="config names 'absent', but there is no such"):
        load("absent")
    (tmp_path / "amfs.yaml").mkdir()
    with pytest.raises(ConfigurationError, match=r"amfs\.yaml' is not a readable file"):
        load()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cache_dir": 5}, "cache_dir must be a path, not int"),
        ({"cache_dir": "\0"}, "cache_dir contains a NUL character"),
        ({"cache_dir": ""}, "cache_dir is empty"),
        ({"config": 5}, "config must be a path, not int"),
        ({"config": ""}, "config is empty"),
        ({"config": Config(cache_dir="a\0b")}, "cache_dir contains a NUL character"),
        ({"adapter": "s3"}, "adapter must be an open store .*, not str"),
        ({"adapter": LocalAdapter}, "adapter must be an open store .*, not the class LocalAdapter"),
        ({"adapter": 5}, "adapter must be an open store .*, not int"),
    ],
)
def test_an_argument_of_a_wrong_kind_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        AgentMemory("a", **arguments)


def test_the_home_directory_is_meant_by_a_tilde_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    write_file(tmp_path / "home" / "settings.yaml", "namespace: at-home")
    assert load("~/settings.yaml").namespace == "at-home"
    for cached in ("~/one", Path("~/two")):
        with AgentMemory("a", cache_dir=cached) as memory:
            memory.write("e", "k", 1)
            assert memory.search("1")
    with AgentMemory("a", config=Config(options={"root": "~/three"}, cache_dir="~/four")) as memory:
        memory.write("e", "k", 1)
        assert memory.search("1")
    assert not (tmp_path / "~").exists()
    names = {path.name for path in (tmp_path / "home").iterdir()}
    assert names == {"one", "two", "three", "four", "settings.yaml"}


def test_a_value_is_never_repeated_as_it_may_be_a_secret(tmp_path: Path) -> None:
    text = OPTIONS.format("s3", "bucket: b\n      aws_secret_access_key: [hunter2]")
    assert "hunter2" not in problem(tmp_path, text)
    assert "hunter2" not in problem(
        tmp_path, text.replace("[hunter2]", "hunter2\n      tiemout: 1")
    )
    write_file(tmp_path / "amfs.yaml", text.replace("[hunter2]", "hunter2"))
    assert "hunter2" not in repr(load())


def test_a_wrong_patience_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for patience in ("soon", "-1", "nan", "inf"):
        monkeypatch.setenv("AMFS_PATIENCE", patience)
        with pytest.raises(ConfigurationError, match="AMFS_PATIENCE must be seconds"):
            load()


def test_s3_without_its_extra_says_what_to_install(tmp_path: Path) -> None:
    write_file(tmp_path / "amfs.yaml", S3_FILE)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import importlib.util as util\n"
        "found = util.find_spec\n"
        "util.find_spec = lambda name, *a: None if name == 'boto3' else found(name, *a)\n"
        "import amfs\n"
        "try: amfs.AgentMemory('a')\n"
        "except amfs.ConfigurationError as error: print(error)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, str(REPOSITORY)], capture_output=True, text=True, check=True
    )
    assert "amfs.yaml line 4" in said.stdout and "pip install 'amfs[s3]'" in said.stdout


# -- third parties ---------------------------------------------------------------------------

TAPE = """
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Protocol, TypeVar
from msgspec import Meta
from amfs_local import LocalAdapter

T = TypeVar("T")

class Case: ...

class Label(Protocol):
    text: str

class TapeAdapter(LocalAdapter):
    backend_type = "tape"
    def __init__(self, reel: Path, speed: int = 1, side: Literal["a", "b"] = "a",
                 gain: Mapping[str, float] | None = None, tracks: tuple[int, ...] = (),
                 label: Label | str | None = None, case: Case | None = None,
                 recorded: date | None = None, erased: bool = False, anything: T = None,
                 level: Annotated[int, Meta(ge=1, description="decibels, 1 or more")] = 1) -> None:
        assert isinstance(reel, Path)
        self.options = (speed, gain, tracks, label, recorded, erased, anything)
        super().__init__(str(reel), durability="none")

class Impostor(TapeAdapter):
    backend_type = "disk"
"""


@pytest.fixture
def tape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a third party's adapter as pip would: a module, and metadata that announces it."""
    site = tmp_path / "site"
    metadata = site / "amfs_tape-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "amfs_tape_for_tests.py").write_text(TAPE)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: amfs-tape\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[amfs.adapters]\n"
        "tape = amfs_tape_for_tests:TapeAdapter\n"
        "cassette = amfs_tape_for_tests:Impostor\n"
        "broken = amfs_tape_for_tests:Absent\n"
    )
    monkeypatch.syspath_prepend(str(site))


@pytest.mark.usefixtures("tape")
def test_a_third_partys_adapter_is_found_through_its_entry_point(tmp_path: Path) -> None:
    reel = tmp_path / "reel"
    write_file(tmp_path / "amfs.yaml", OPTIONS.format("tape", f"reel: {reel}\n      side: b"))
    with AgentMemory("a") as memory:
        assert memory.adapter.backend_type == "tape"
        memory.write("e", "k", 1)
    assert (reel / "default/entries/e/k/v1.json").is_file()


@pytest.mark.usefixtures("tape")
def test_options_become_what_the_annotations_ask_for(tmp_path: Path) -> None:
    options = (
        "reel: x\n      speed: '2'\n      gain: {bass: 1}\n      tracks: [1, 2]\n      label: b\n"
        "      recorded: 2026-11-27\n      erased: true\n      anything: {a: b}"
    )
    write_file(tmp_path / "amfs.yaml", OPTIONS.format("tape", options))
    with AgentMemory("a") as memory:
        assert memory.adapter.options == (  # type: ignore[attr-defined]
            *(2, {"bass": 1.0}, (1, 2), "b", datetime.date(2026, 11, 27), True, {"a": "b"}),
        )


@pytest.mark.usefixtures("tape")
@pytest.mark.parametrize(
    ("adapter", "options", "message"),
    [
        ("tape", "rel: x", "line 5: unknown key 'rel'; did you mean 'reel'?"),
        ("tape", "speed: 1", "line 4: adapter 'tape' needs the option 'reel'"),
        ("tape", "reel: x\n      speed: fast", "line 6: 'speed': it must be a whole number"),
        ("tape", "reel: x\n      side: c", "line 6: 'side': it must be 'a' or 'b'"),
        ("tape", "reel: x\n      gain: loud", "line 6: 'gain': it must be keys of its own, inden"),
        ("tape", "reel: x\n      gain:\n        bass: 1\n        treble: hi", "line 8: 'treble': "),
        ("tape", "reel: x\n      tracks: [1, two]", "line 6: 'tracks': it must be a whole number"),
        ("tape", "reel: x\n      case: x", "line 6: 'case': it must be of the type Case"),
        ("tape", "reel: x\n      recorded: 5", "line 6: 'recorded': it must be of the type date"),
        ("tape", "reel: x\n      level: 0", "line 6: 'level': it must be decibels, 1 or more"),
        ("tap", "reel: x", "line 3: there is no adapter 'tap'; did you mean 'tape'? (installed: "),
        ("cassette", "reel: x", "line 3: the class of the adapter 'cassette' has the backend_type"),
        ("broken", "reel: x", "line 3: the adapter 'broken' cannot be imported"),
    ],
)
def test_a_third_partys_options_are_checked_as_our_own(
    tmp_path: Path, adapter: str, options: str, message: str
) -> None:
    assert message in problem(tmp_path, OPTIONS.format(adapter, options))


# -- places ----------------------------------------------------------------------------------


def test_open_store_of_a_directory(tmp_path: Path) -> None:
    adapter = open_store("some/where")
    assert isinstance(adapter, LocalAdapter)
    assert adapter.root == str(tmp_path / "some/where")


@pytest.mark.parametrize(
    ("place", "prefix"),
    [
        ("s3://my-bucket", "amfs/"),
        ("s3://my-bucket/", "amfs/"),
        ("s3://my-bucket/a/b", "a/b/"),
        ("S3://my-bucket/a/b", "a/b/"),
        ("s3://my-bucket/a#b?c/", "a#b?c/"),
    ],
)
def test_open_store_of_a_bucket(place: str, prefix: str) -> None:
    pytest.importorskip("amfs_s3")
    adapter = open_store(place, {"AMFS_S3_ENDPOINT": "http://localhost:1"})
    assert (adapter.bucket, adapter.prefix) == ("my-bucket", prefix)  # type: ignore[attr-defined]
    adapter.close()


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ("sqlite:///memories.db", "memories.db"),
        ("sqlite:///some/where.db", "some/where.db"),
        ("SQLite:////absolute/where.db", "/absolute/where.db"),
        ("sqlite:///100%#a b.db", "100%#a b.db"),
    ],
)
def test_open_store_of_a_file(tmp_path: Path, place: str, path: str) -> None:
    adapter = open_store(place)
    assert isinstance(adapter, SqliteAdapter)
    assert adapter.path == str(tmp_path / path)


@pytest.mark.parametrize(
    ("place", "server", "schema"),
    [
        ("postgresql://u:secret@db.example/memories", "db.example:5432/memories", "amfs"),
        ("postgres://u@db.example:6432/m?sslmode=require", "db.example:6432/m", "amfs"),
        ("PostgreSQL://u@h/m?schema=team%20a&sslmode=require", "h:5432/m", "team a"),
        ("postgresql://u@h1,h2:1/m?schema=t", "h1:5432,h2:1/m", "t"),
        ("postgresql:///m?host=/run/socket&user=u", "/run/socket:5432/m", "amfs"),
    ],
)
def test_open_store_of_a_database(place: str, server: str, schema: str) -> None:
    pytest.importorskip("psycopg")
    adapter = open_store(place)
    assert adapter.backend_type == "postgres"
    assert (adapter.server, adapter.schema) == (server, schema)  # type: ignore[attr-defined]
    assert "secret" not in repr(adapter)
    config = load(environ={"AMFS_STORE": place, "AMFS_PATIENCE": "2"})
    assert config.adapter == "postgres"
    assert "secret" not in repr(config)
    assert config.open_adapter().timeout == 2.0  # type: ignore[attr-defined]


def test_open_store_takes_a_path_and_is_at_the_front_door(tmp_path: Path) -> None:
    import amfs

    adapter = amfs.open_store(tmp_path / "store")
    assert isinstance(adapter, LocalAdapter)
    assert "open_store" in amfs.__all__


@pytest.mark.parametrize(
    "place",
    [
        *("sqlite:memories.db", "sqlite:/memories.db", "sqlite://memories.db", "sqlite://"),
        *("sqlite:///", "sqlite:////", "sqlite:///a.db?mode=ro", "sqlite:///:memory:"),
        *("sqlite:///directory/", "sqlite:///a\0b", None, 5),
        *("", "s3://", "s3:///x", "gs://bucket/x", "s3://key:pass@b/x"),
        *("s3:/b", "s3:b", "S3:/b", "file:/x", "a\0b"),
        *("postgresql:/m", "postgres:m", "postgresql://u:pass@h:1/m?sslmod=x"),
        *("postgresql://u:pass@[h/m", "postgresql://u:pass%@h/m", "postgresql://h/m?schema="),
    ],
)
def test_a_place_that_is_none_is_refused(place: Any) -> None:
    with pytest.raises(ConfigurationError) as error:
        open_store(place)
    assert "pass" not in str(error.value)


# -- AMFS_STORE ------------------------------------------------------------------------------


def test_amfs_store_comes_before_the_bucket_and_the_file(tmp_path: Path) -> None:
    write_file(
        tmp_path / "amfs.yaml",
        "namespace: mine\nlayers:\n  primary:\n    adapter: local\n"
        "    options: {root: in-the-file, durability: none}\n",
    )
    variables = {"AMFS_STORE": "sqlite:///named.db", "AMFS_S3_BUCKET": "b", "AMFS_ROOT": "r"}
    config = load(environ=variables)
    assert (config.adapter, dict(config.options)) == ("sqlite", {"path": "named.db"})
    assert config.namespace == "mine"
    config = load(environ={**variables, "AMFS_STORE": "named"})
    adapter = config.open_adapter()
    assert isinstance(adapter, LocalAdapter)
    assert (adapter.root, adapter.durability) == (str(tmp_path / "named"), "fsync")
    assert load(environ={**variables, "AMFS_STORE": ""}).adapter == "s3"


def test_amfs_store_takes_a_bucket_with_its_variables() -> None:
    config = load(
        environ={
            "AMFS_STORE": "s3://named/a",
            "AMFS_S3_BUCKET": "other",
            "AMFS_S3_PREFIX": "p/",
            "AMFS_S3_ENDPOINT": "http://localhost:1",
        }
    )
    endpoint = "http://localhost:1"
    assert dict(config.options) == {"bucket": "named", "prefix": "a/", "endpoint_url": endpoint}


def test_a_store_in_the_variable_that_is_none_is_named_by_it() -> None:
    with pytest.raises(ConfigurationError, match=r"^AMFS_STORE: gs://"):
        load(environ={"AMFS_STORE": "gs://bucket"})


def test_a_file_names_a_sqlite_store_that_is_relative_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(
        tmp_path / "amfs.yaml",
        "layers:\n  primary:\n    adapter: sqlite\n    options:\n      path: memories.db\n",
    )
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    adapter = load(environ={}).open_adapter()
    assert isinstance(adapter, SqliteAdapter)
    assert adapter.path == str(tmp_path / "memories.db")


# -- cold start ------------------------------------------------------------------------------


def imported(code: str, cwd: Path) -> set[str]:
    code = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n{code}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


HEAVY = {
    *("boto3", "botocore", "pycurl", "pydantic", "yaml", "click", "rich"),
    *("amfs_s3", "amfs_sqlite", "amfs_postgres", "psycopg", "psycopg_pool"),
}


def test_import_amfs_imports_nothing_heavy(tmp_path: Path) -> None:
    assert not imported("import amfs", tmp_path) & HEAVY


def test_a_local_memory_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import amfs; m = amfs.AgentMemory('a'); m.write('e', 'k', 1); m.read('e', 'k')"
    assert not imported(code, tmp_path) & HEAVY


def test_a_configuration_file_imports_no_cloud_sdk_and_no_second_checker(tmp_path: Path) -> None:
    write_file(tmp_path / "amfs.yaml", "namespace: x\n")
    modules = imported("import amfs; amfs.AgentMemory('a').write('e', 'k', 1)", tmp_path)
    assert "yaml" in modules
    assert not modules & (HEAVY - {"yaml"})


def test_the_version_is_the_distributions() -> None:
    import tomllib

    import amfs

    declared = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert declared.get("version", amfs.__version__) == amfs.__version__


def test_everything_announced_is_there() -> None:
    import amfs

    assert all(hasattr(amfs, name) for name in amfs.__all__)


def test_an_extra_installs_the_modules_that_are_looked_for() -> None:
    import tomllib

    from amfs.config.adapters import _NEEDS

    declared = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = declared["optional-dependencies"]
    for extra, modules in _NEEDS.items():
        names = [
            re.split(r"[\[<>=]", requirement)[0].replace("-", "_") for requirement in extras[extra]
        ]
        assert sorted(modules) == sorted(names)
