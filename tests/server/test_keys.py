"""Keys: every role tries every resource, and what a key does not see leaves no trace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from amfs_core.errors import ConfigurationError
from amfs_core.memory import AgentMemory
from amfs_local import LocalAdapter
from amfs_server import keys
from amfs_server.app import _ROUTES
from tests.conftest import REPOSITORY
from tests.support.served import Served, serving

SECRET = "xyzzyplugh"  # what a key that sees `mine` only must never come across

BODY = {"value": 1}
COMMIT = {"type": "success", "entries": [{"entity_path": "mine", "key": "k"}]}
RESOURCES = [
    ("GET", "/v1/team/memories", None, "reader"),
    ("GET", "/v1/team/memories/mine/k", None, "reader"),
    ("PUT", "/v1/team/memories/mine/k", BODY, "writer"),
    ("DELETE", "/v1/team/memories/mine/gone", None, "writer"),
    ("DELETE", "/v1/team/memories/mine/gone?purge=true", None, "eraser"),
    ("GET", "/v1/team/history/mine/k", None, "reader"),
    ("GET", "/v1/team/diff/mine/k", None, "reader"),
    ("GET", "/v1/team/paths", None, "reader"),
    ("GET", "/v1/team/stats", None, "reader"),
    ("GET", "/v1/team/search?q=pelican", None, "reader"),
    ("POST", "/v1/team/search", {"q": "pelican"}, "reader"),
    ("GET", "/v1/team/outcomes", None, "reader"),
    ("GET", "/v1/team/outcomes/one", None, "reader"),
    ("PUT", "/v1/team/outcomes/two", COMMIT, "writer"),
    ("GET", "/v1/team/conflicts", None, "reader"),
    ("POST", "/v1/team/conflicts", {"id": "none", "decision": "discard"}, "writer"),
    ("GET", "/metrics", None, "reader"),
]
RANKS = ["reader", "writer", "eraser"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keyed") / "store"


@pytest.fixture(scope="module")
def tokens(root: Path) -> dict[str, str]:
    path = root.parent / "keys.json"
    made = {role: keys.add(path, role, role) for role in ("reader", "writer", "eraser")}
    made["mine"] = keys.add(
        path, "mine", "eraser", namespaces=["team"], entity_paths=["mine"], agent_id="ann"
    )
    made["two"] = keys.add(path, "two", "reader", entity_paths=["mine", "other/deep"])
    return made


@pytest.fixture(scope="module")
def here(root: Path) -> AgentMemory:
    memory = AgentMemory("here", adapter=LocalAdapter(root), namespace="team")
    memory.write("mine", "k", "a pelican")
    memory.write("mine", "k", "a pelican again")
    memory.write("mined", "k", f"{SECRET} pelican")
    memory.write("other/deep", "k", f"{SECRET} pelican")
    memory.commit_outcome("one", "success", entries=[("mine", "k")])
    memory.commit_outcome(SECRET, "failure", entries=[("other/deep", "k")])
    memory.commit_outcome(f"{SECRET}-empty", "failure", entries=[])
    return memory


@pytest.fixture(scope="module")
def served(root: Path, tokens: dict[str, str], here: AgentMemory) -> Iterator[Served]:
    with serving(root, "--keys", str(root.parent / "keys.json"), "--log") as server:
        yield server


def test_every_route_is_tried_by_every_role() -> None:
    tried = set()
    for method, path, _, _ in RESOURCES:
        _, version, *rest = path.partition("?")[0].split("/")
        if version == "v1":
            tried.add(((rest[1], len(rest) > 2), method))
    assert tried == {(route, method) for route, methods in _ROUTES.items() for method in methods}


@pytest.mark.parametrize(("method", "path", "body", "needed"), RESOURCES)
def test_each_role_may_do_what_it_is_for_and_no_more(
    served: Served,
    tokens: dict[str, str],
    method: str,
    path: str,
    body: dict[str, object] | None,
    needed: str,
) -> None:
    for role in RANKS:
        with served.client(tokens[role]) as client:
            answer = client.request(method, path, json=body)
        if RANKS.index(role) < RANKS.index(needed):
            assert answer.status_code == 403, (role, answer.text)
            assert answer.json()["type"] == "urn:amfs:problem:forbidden"
        else:
            assert answer.status_code in (200, 201, 404), (role, answer.text)


@pytest.mark.parametrize(("method", "path", "body", "needed"), RESOURCES)
@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer nonsense", "Basic YTpi", "bearer x y", "Bearer " + "x" * 5000],
)
def test_without_a_known_key_nothing_is_answered(
    served: Served,
    method: str,
    path: str,
    body: dict[str, object] | None,
    needed: str,
    header: str | None,
) -> None:
    headers = {} if header is None else {"authorization": header}
    with served.client() as client:
        answer = client.request(method, path, json=body, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/team/memories", None),
        ("GET", "/v1/team/memories?under=other", None),
        ("GET", "/v1/team/memories?under=mined", None),
        ("GET", "/v1/team/memories?under=", None),
        ("GET", "/v1/team/memories/mined/k", None),
        ("GET", "/v1/team/memories/other/deep/k", None),
        ("GET", "/v1/team/memories/mine/../other/deep/k", None),
        ("GET", "/v1/team/memories/mine/%2E%2E/other/deep/k", None),
        ("GET", "/v1/team/history/mined/k", None),
        ("GET", "/v1/team/diff/mined/k", None),
        ("GET", "/v1/team/paths", None),
        ("GET", "/v1/team/search?q=pelican", None),
        ("GET", f"/v1/team/search?q={SECRET}", None),
        ("POST", "/v1/team/search", {"q": "pelican", "under": "other"}),
        ("GET", "/v1/team/outcomes", None),
        ("GET", f"/v1/team/outcomes/{SECRET}", None),
        ("PUT", f"/v1/team/outcomes/{SECRET}", {"type": "success", "entries": []}),
        ("PUT", "/v1/team/memories/mined/k", {"value": 1}),
        ("DELETE", "/v1/team/memories/mined/k?purge=true", None),
        ("GET", "/v1/secret/memories", None),
        ("GET", "/metrics", None),
    ],
)
def test_a_key_for_one_path_sees_nothing_of_another(
    served: Served,
    tokens: dict[str, str],
    here: AgentMemory,
    method: str,
    path: str,
    body: dict[str, object] | None,
) -> None:
    with served.client(tokens["mine"]) as client:
        answer = client.request(method, path, json=body)
    echo = (f"outcome '{SECRET}'", f'"outcome_ref":"{SECRET}"')  # what the client has sent
    shown = answer.text.replace(echo[0], "").replace(echo[1], "")
    assert SECRET not in shown
    assert "mined" not in shown and "deep" not in shown
    assert here.history("mined", "k")[-1].version == 1


def test_a_refusal_is_the_same_for_what_exists_and_what_does_not(
    served: Served, tokens: dict[str, str]
) -> None:
    with served.client(tokens["mine"]) as client:
        answers = [
            client.get(f"/v1/team/memories/{path}/k").text for path in ("other/deep", "nowhere")
        ]
    assert answers[0] == answers[1]


def test_a_key_with_several_paths_names_one(served: Served, tokens: dict[str, str]) -> None:
    with served.client(tokens["two"]) as client:
        assert client.get("/v1/team/search?q=pelican").status_code == 403
        hits = client.get("/v1/team/search?q=pelican&under=other/deep").json()["hits"]
    assert [hit["entity_path"] for hit in hits] == ["other/deep"]


def test_nobody_signs_as_another(served: Served, tokens: dict[str, str]) -> None:
    with served.client(tokens["mine"]) as client:
        path = "/v1/team/memories/mine/signed"
        forged = client.put(path, json={"value": 1}, headers={"amfs-agent": "bob"})
        assert forged.status_code == 403
        assert client.put(path, json={"value": 1}).json()["provenance"]["agent_id"] == "ann"


def test_the_events_of_a_key_are_those_of_its_path(served: Served, tokens: dict[str, str]) -> None:
    with served.client(tokens["mine"]) as client:
        refused = client.get("/v1/team/watch?under=other&since=beginning")
        assert refused.status_code == 403
        with client.stream("GET", "/v1/team/watch?since=beginning") as stream:
            seen = ""
            for text in stream.iter_text():
                seen += text
                if seen.count("data:") >= 2:
                    break
    assert SECRET not in seen


def test_no_key_is_in_a_log(served: Served, tokens: dict[str, str]) -> None:
    with served.client(tokens["reader"]) as client:
        client.get("/v1/team/memories")
    with served.client("amfs_wrong-but-secret") as client:
        client.get("/v1/team/memories")
    written = "\n".join(served.lines)
    assert '"key":"reader"' in written
    for token in (*tokens.values(), "wrong-but-secret"):
        assert token not in written


def test_a_file_of_keys_gives_nobody_a_key(root: Path, tokens: dict[str, str]) -> None:
    path = root.parent / "keys.json"
    assert path.stat().st_mode & 0o077 == 0
    assert not any(token in path.read_text() for token in tokens.values())


def test_a_key_that_is_added_or_removed_counts_at_once(
    served: Served, root: Path, tokens: dict[str, str]
) -> None:
    path = root.parent / "keys.json"
    token = keys.add(path, "late", "reader")
    with served.client(token) as client:
        assert client.get("/v1/team/stats").status_code == 200
        assert keys.remove(path, "late")
        assert client.get("/v1/team/stats").status_code == 401
    good = path.read_text()
    path.write_text("{")
    with served.client(tokens["reader"]) as client:
        assert client.get("/v1/team/stats").status_code == 200  # as it was before
    path.write_text(good)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"keys": [{"name": "x"}]}',
        '{"keys": [{"name": "x", "sha256": "short"}]}',
        '{"keys": [{"name": "x", "sha256": "' + "0" * 64 + '", "role": "king"}]}',
        '{"keys": [{"name": "x", "sha256": "' + "0" * 64 + '", "colour": "red"}]}',
    ],
)
def test_a_file_of_keys_that_is_wrong_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.json").write_text(text)
    with pytest.raises(ConfigurationError, match=r"keys\.json"):
        keys.read(tmp_path / "keys.json")


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "amfs", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_command_makes_lists_and_removes_keys(tmp_path: Path) -> None:
    made = run(
        "key", "new", "ci", "--role", "writer", "--path", "a/b", "--agent", "ci", cwd=tmp_path
    )
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    assert token.startswith("amfs_") and len(token) > 40
    assert token not in (tmp_path / "keys.json").read_text()
    listed = run("key", "ls", cwd=tmp_path).stdout
    assert "ci\twriter\tall\ta/b\tci" in listed
    again = run("key", "new", "ci", cwd=tmp_path)
    assert again.returncode == 2 and "already a key named 'ci'" in again.stderr
    assert run("key", "remove", "ci", cwd=tmp_path).returncode == 0
    assert run("key", "remove", "ci", cwd=tmp_path).returncode == 1
    assert json.loads((tmp_path / "keys.json").read_text()) == {"keys": []}


def test_without_keys_it_binds_to_this_machine_only(tmp_path: Path) -> None:
    refused = run("serve", "--host", "0.0.0.0", "--port", "0", cwd=tmp_path)
    assert refused.returncode == 2
    assert "without keys" in refused.stderr and "amfs key new" in refused.stderr


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "", "127.0.0.1.evil.example"])
def test_without_keys_a_page_of_another_host_is_not_answered(tmp_path: Path, host: str) -> None:
    with serving(tmp_path / "store") as server, server.client() as client:
        answer = client.get("/v1/default/memories", headers={"host": host})
        assert answer.status_code in (400, 421)
        assert client.get("/v1/default/memories").status_code == 200
        assert server.stop(signal.SIGTERM) == 0


def test_browsers_come_from_named_origins_only(tmp_path: Path) -> None:
    asked = {"origin": "https://app.example", "access-control-request-method": "PUT"}
    with serving(tmp_path / "one") as server, server.client() as client:
        answer = client.options("/v1/default/memories/e/k", headers=asked)
        assert "access-control-allow-origin" not in answer.headers
    origin = ("--origin", "https://app.example")
    with serving(tmp_path / "two", *origin) as server, server.client() as client:
        answer = client.options("/v1/default/memories/e/k", headers=asked)
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        other = client.get("/healthz", headers={"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


def test_a_client_may_not_send_more_than_fits(tmp_path: Path) -> None:
    variables = {"AMFS_MAX_VALUE_BYTES": "1000"}
    with serving(tmp_path / "store", **variables) as server, server.client() as client:
        path = "/v1/default/memories/e/k"
        assert client.put(path, json={"value": "x" * 2000}).status_code == 400
        big = client.put(path, json={"value": "x" * 3_000_000})
        assert big.status_code == 413
        parts = (b'{"value": "' if n == 0 else b"x" * 65536 for n in range(60))
        headers = {"content-type": "application/json"}
        try:
            streamed = client.put(path, content=parts, headers=headers).status_code
        except httpx.TransportError:  # the server has closed the connection in the middle
            streamed = 413
        assert streamed == 413
        assert client.get(path).status_code == 404
