"""A store behind a server: every command as on a store at hand, whatever happens to either."""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amfs import open_store
from amfs_core.errors import (
    AMFSError,
    ConfigurationError,
    OutcomeUnknownError,
    PermissionDeniedError,
    UnknownFeatureError,
)
from amfs_core.format import Feature, Layout
from amfs_core.memory import AgentMemory
from amfs_core.storage import StoreClient
from amfs_core.versions import Manifests
from amfs_http import HttpAdapter
from amfs_local import LocalAdapter
from amfs_server import keys
from tests.conftest import REPOSITORY
from tests.support.served import Served, serving, serving_here

SECRET = "xyzzyplugh"

# Each command, on a store that the ones before made.
COMMANDS: list[list[str]] = [
    ["write", "shop/cart", "retry", '{"max": 3}', "--tag", "http"],
    ["write", "shop/cart", "retry", '{"max": 5}', "--confidence", "0.9"],
    ["write", "shop", "плюс / минус", "text"],
    ["write", "shop", "..", "dots"],
    ["write", "gone", "k", "1"],
    ["read", "shop/cart", "retry"],
    ["read", "shop/cart", "retry", "--version", "1"],
    ["read", "shop", "nothing"],
    ["ls"],
    ["ls", "shop/cart"],
    ["log", "shop/cart", "retry"],
    ["diff", "shop/cart", "retry"],
    ["search", "text"],
    ["search", "--tag", "http"],
    ["outcome", "deploy-1", "success", "--entry", "shop/cart/retry"],
    ["read", "shop/cart", "retry"],
    ["rm", "gone", "k"],
    ["ls", "gone"],
    ["purge", "gone", "k", "--yes"],
    ["log", "gone", "k"],
    ["import", "more.jsonl"],
    ["export", "shop"],
    ["stats"],
    ["verify"],
    ["watch", "shop", "--since", "beginning", "--count", "3"],
    ["read", "shop/cart", "retry", "--version", "99"],
    ["write", "", "k", "1"],
]

_VARIES = re.compile(
    r'"(session_id|written_at|committed_at|write_id|sha256|previous|erased|cursor|since|until'
    r'|oldest|newest|first|last|size|bytes)":\s*("[^"]*"|\d+)'
)


def run(store: str, *arguments: str, cwd: Path, **variables: str) -> tuple[int, str, str]:
    finished = subprocess.run(
        [sys.executable, "-m", "amfs", "--store", store, "--agent", "ann", "--json", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return finished.returncode, finished.stdout, finished.stderr


def test_every_command_does_what_it_does_on_a_directory(tmp_path: Path) -> None:
    more = '{"entity_path": "bulk", "key": "a", "value": 1}\n'
    (tmp_path / "more.jsonl").write_text(more)
    with serving(tmp_path / "behind") as served:
        for command in COMMANDS:
            here, there = (
                run(store, *command, cwd=tmp_path) for store in (str(tmp_path / "here"), served.url)
            )
            same = [
                (code, _VARIES.sub(r'"\1":…', out), err.replace(served.url, "STORE"))
                for code, out, err in (here, there)
            ]
            assert same[1] == same[0], command
        code, out, _ = run(served.url, "copy", served.url, str(tmp_path / "copied"), cwd=tmp_path)
        assert code == 0, out
        code, out, err = run(served.url, "doctor", cwd=tmp_path)
        assert code == 0, out + err
    for path in (tmp_path / "behind").rglob("*.json"):
        copied = tmp_path / "copied" / path.relative_to(tmp_path / "behind")
        assert copied.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("command", ["conflicts", "reconcile"])
def test_what_waits_behind_a_server_is_not_called_nothing(tmp_path: Path, command: str) -> None:
    with serving_here(LocalAdapter(tmp_path / "store")) as url:
        code, out, err = run(url, command, cwd=tmp_path)
    assert (code, out) == (2, "")
    assert "/v1/default/conflicts" in err and err.count("\n") == 1


def test_doctor_says_that_a_server_is_none_of_amfs(tmp_path: Path) -> None:
    code, out, _ = run("http://127.0.0.1:9", "doctor", cwd=tmp_path)
    assert code != 0 and "amfs serve" in out


def test_the_place_of_a_server_is_taken_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMFS_API_KEY", "amfs_given")
    store = open_store("https://memory.example.com/team/")
    assert isinstance(store, HttpAdapter)
    assert store.url == "https://memory.example.com:443/team"
    assert store.location != open_store("https://memory.example.com/team/", {}).location
    for wrong in ("http:/host", "http://user:pw@host"):
        with pytest.raises(ConfigurationError):
            open_store(wrong)
    with serving_here(LocalAdapter(tmp_path / "store")) as url:
        (tmp_path / "amfs.yaml").write_text(
            f"layers:\n  primary:\n    adapter: http\n    options:\n      url: {url}\n"
        )
        script = "from amfs import AgentMemory; AgentMemory('a').write('e', 'k', 1)"
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)
    with AgentMemory("b", adapter=LocalAdapter(tmp_path / "store")) as memory:
        entry = memory.read("e", "k")
    assert entry is not None and entry.value == 1


def test_a_pickled_store_works_elsewhere_with_its_key(tmp_path: Path) -> None:
    token = keys.add(tmp_path / "keys.json", "w", "writer")
    with serving_here(LocalAdapter(tmp_path / "s"), tmp_path / "keys.json") as url:
        store = HttpAdapter(url, api_key=token)
        assert store.create("team/a", b"1")
        assert pickle.loads(pickle.dumps(store)).get("team/a") == b"1"


def test_a_forked_child_has_connections_of_its_own(tmp_path: Path) -> None:
    with serving(tmp_path / "store") as served:
        store = HttpAdapter(served.url)
        assert store.create("team/parent", b"1")
        child = os.fork()
        if child == 0:
            ok = store.get("team/parent") == b"1" and store.create("team/child", b"2")
            os._exit(0 if ok else 1)
        _, status = os.waitpid(child, 0)
        assert status == 0
        assert store.get("team/child") == b"2"


def test_a_server_killed_under_writers_loses_and_doubles_nothing(tmp_path: Path) -> None:
    root = tmp_path / "store"
    served = Served(before=("--store", str(root)))
    port = str(served.port)
    acknowledged: list[int] = []
    stopping = threading.Event()

    def work() -> None:
        with AgentMemory("w", adapter=HttpAdapter(served.url), patience=30) as memory:
            while not stopping.is_set():
                memory.update("count", "k", lambda old: (old or 0) + 1)
                acknowledged.append(1)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    try:
        for _ in range(3):
            seen = len(acknowledged)
            while len(acknowledged) < seen + 20:
                workers[0].join(0.01)
            served.stop(signal.SIGKILL)
            served = Served("--port", port, before=("--store", str(root)))
        stopping.set()
        for worker in workers:
            worker.join(60)
    finally:
        stopping.set()
        served.stop()
    with AgentMemory("r", adapter=LocalAdapter(root)) as memory:
        history = memory.history("count", "k")
        assert [entry.value for entry in history] == list(range(1, len(history) + 1))
        assert len(history) == len(acknowledged)
        assert memory.verify().ok


# --- keys ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str], Path]]:
    root = tmp_path_factory.mktemp("keyed")
    file = root / "keys.json"
    tokens = {
        "reader": keys.add(file, "r", "reader"),
        "writer": keys.add(file, "w", "writer"),
        "eraser": keys.add(file, "e", "eraser"),
        "mine": keys.add(
            file, "m", "eraser", namespaces=["team"], entity_paths=["mine"], agent_id="ann"
        ),
        "writes mine": keys.add(
            file, "wm", "writer", namespaces=["team"], entity_paths=["mine"], agent_id="ann"
        ),
        "signs": keys.add(file, "s", "writer", namespaces=["team"], agent_id="ann"),
    }
    with AgentMemory("bob", adapter=LocalAdapter(root / "s"), namespace="team") as memory:
        memory.write("mine", "k", "seen")
        memory.write("other", SECRET, SECRET)
        memory.write("mineral", SECRET, SECRET)
        memory.commit_outcome(SECRET, "success", entries=[("other", SECRET)])
        memory.commit_outcome("ours", "success", entries=[("mine", "k")])
    with serving_here(LocalAdapter(root / "s"), file) as url:
        yield url, tokens, root / "s"


def opened(place: tuple[str, dict[str, str], Path], key: str) -> HttpAdapter:
    return HttpAdapter(place[0], api_key=place[1][key])


Place = tuple[str, dict[str, str], Path]


def test_each_role_does_with_objects_what_it_may_with_memories(place: Place) -> None:
    store = opened(place, "reader")
    assert store.get("team/entries/mine/k/v1.json")
    for work in (
        lambda: store.create("scratch/a", b"1"),
        lambda: store.replace("scratch/a", b"1"),
        lambda: store.delete("scratch/a"),
    ):
        with pytest.raises(PermissionDeniedError):
            work()
    writer = opened(place, "writer")
    assert writer.create("scratch/a", b"1") and not writer.create("scratch/a", b"1")
    with pytest.raises(PermissionDeniedError):
        writer.replace("scratch/a", b"1")
    with pytest.raises(PermissionDeniedError):
        writer.delete("scratch/a")
    eraser = opened(place, "eraser")
    eraser.replace("scratch/a", b"2")
    eraser.delete("scratch/a")
    assert eraser.get("scratch/a") is None
    with pytest.raises(PermissionDeniedError, match="AMFS_API_KEY"):
        HttpAdapter(place[0], api_key="amfs_unknown").get("team/a")


def test_a_key_for_one_path_sees_nothing_of_another(place: Place) -> None:
    store = opened(place, "mine")
    seen = [info.key for prefix in ("", "team/entries/") for info in store.list(prefix)]
    assert seen and not [key for key in seen if SECRET in key or "/mine/" not in key]
    hidden = [
        f"team/entries/other/{SECRET}/v1.json",
        f"team/outcomes/{SECRET}.json",
        "elsewhere/entries/mine/k/v1.json",
        "team/scratch",
    ]
    for key in hidden:
        with pytest.raises(PermissionDeniedError) as caught:
            store.get(key)
        assert SECRET not in str(caught.value).replace(key, "")
        with pytest.raises(PermissionDeniedError):
            list(store.get_many([key, "team/entries/mine/k/v1.json"]))
        with pytest.raises(PermissionDeniedError):
            store.create(key, b"x")
        with pytest.raises(PermissionDeniedError):
            store.delete(key)
    assert store.get("team/outcomes/ours.json")
    for prefix in ("team/entries/other/", "team/outcomes/", "team/", "elsewhere/"):
        with pytest.raises(PermissionDeniedError):  # never an empty listing
            list(store.list(prefix))


def test_a_memory_of_a_key_for_one_path_is_whole_there(place: Place) -> None:
    with AgentMemory("ann", adapter=opened(place, "mine"), namespace="team") as memory:
        assert memory.write("mine/deep", "new", 1).version == 1
        assert memory.update("mine/deep", "new", lambda old: old + 1).value == 2
        assert [entry.key for entry in memory.list("mine/deep")] == ["new"]
        assert [hit.entry.key for hit in memory.search("seen")] == ["k"]
        memory.delete("mine/deep", "new")
        assert memory.purge("mine/deep", "new") > 0
        outcome = memory.commit_outcome("mine-1", "success", entries=[("mine", "k")])
        assert outcome.ref == "mine-1"
        with pytest.raises(PermissionDeniedError):
            memory.write("other", "k", 1)
        with pytest.raises(PermissionDeniedError):
            memory.read("other", SECRET)


@pytest.mark.parametrize("key", ["mine", "signs", "writer"])
def test_every_key_reads_the_manifest_and_a_limited_key_does_not_write_it(
    key: str, tmp_path: Path
) -> None:
    file, root = tmp_path / "keys.json", LocalAdapter(tmp_path / "s")
    limits: dict[str, Any] = {
        "mine": {"entity_paths": ["mine"], "agent_id": "ann"},
        "signs": {"agent_id": "ann"},
        "writer": {},
    }
    token = keys.add(file, key, "writer", **limits[key])
    layout = Layout("team")
    features = {"notices": Feature("writers", "9.1")}
    with serving_here(root, file) as url:
        store = HttpAdapter(url, api_key=token)
        with AgentMemory("ann", adapter=store, namespace="team") as memory:
            memory.write("mine", "k", 1)
        if limits[key]:
            with pytest.raises(PermissionDeniedError):
                Manifests(StoreClient(store), layout).change(lambda _: features)
        Manifests(StoreClient(root), layout).change(lambda _: features)
        assert store.get(layout.manifest_key(1)) == root.get(layout.manifest_key(1))
        assert [info.key for info in store.list(layout.manifests)] == [layout.manifest_key(1)]
        with AgentMemory("ann", adapter=store, namespace="team") as memory:
            assert memory.read("mine", "k") is not None
            with pytest.raises(UnknownFeatureError, match="'notices'"):
                memory.write("mine", "k", 2)


@pytest.mark.parametrize("key", ["writes mine", "signs"])
def test_nobody_signs_as_another_or_rewrites_a_history(place: Place, key: str) -> None:
    store = opened(place, key)
    with (
        AgentMemory("mallory", adapter=store, namespace="team") as memory,
        pytest.raises(PermissionDeniedError, match="ann"),
    ):
        memory.write("mine", "forged", 1)
    root = place[2]
    body = (root / "team/entries/mine/k/v1.json").read_bytes()
    with pytest.raises(PermissionDeniedError):  # bytes of another place
        store.create("team/entries/mine/copied/v1.json", body)
    with AgentMemory("ann", adapter=LocalAdapter(root / "aside"), namespace="team") as aside:
        for value in range(3):
            aside.write("mine", "k", value)
    for version in (3, 9):  # of another history, and with no version before it
        forged = (root / "aside/team/entries/mine/k/v3.json").read_bytes()
        with pytest.raises(PermissionDeniedError):
            store.create(f"team/entries/mine/k/v{version}.json", forged)
    with AgentMemory("ann", adapter=store, namespace="team") as memory:
        with pytest.raises(PermissionDeniedError):  # erasing is an eraser's
            memory.purge("mine", "k")
        assert memory.write("mine", "own", 1).provenance.agent_id == "ann"


@pytest.mark.parametrize(
    "key",
    [
        *("../outside", "team/../../outside", "team/./k", "./team/k", "team//k", "team/"),
        *("team/a\0b", "team/" + "x" * 256, "team/" + "x/" * 600 + "k"),
    ],
)
def test_only_a_key_of_the_layout_gets_to_the_store(place: Place, key: str) -> None:
    store = opened(place, "eraser")
    (place[2].parent / "outside").write_text(SECRET)
    for work in (
        lambda: store.get(key),
        lambda: store.create(key, b"x"),
        lambda: store.replace(key, b"x"),
        lambda: store.delete(key),
        lambda: list(store.get_many([key, "team/a"])),
    ):
        with pytest.raises(ConfigurationError):
            work()
    assert (place[2].parent / "outside").read_text() == SECRET


def test_nobody_writes_a_file_of_the_stores_own(place: Place) -> None:
    store = opened(place, "eraser")
    for work in (
        lambda: store.create("team/.own", b"x"),
        lambda: store.replace("team/.own", b"x"),
        lambda: store.delete("team/.own"),
    ):
        with pytest.raises(ConfigurationError):
            work()


def test_objects_too_large_are_refused_and_nothing_is_unknown(place: Place) -> None:
    store = opened(place, "writer")
    with pytest.raises(AMFSError) as caught:
        store.create("team/large", b"x" * (64 * 1024 * 1024))
    assert not isinstance(caught.value, OutcomeUnknownError)
    assert store.get("team/large") is None
