"""Memories over HTTP: the same results as in Python, and conditions as HTTP has them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from amfs_core.memory import AgentMemory
from amfs_local import LocalAdapter
from tests.support.served import Served, serving


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served") / "store"


@pytest.fixture(scope="module")
def served(root: Path) -> Iterator[Served]:
    with serving(root) as server:
        yield server


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    with served.client() as made:
        yield made


@pytest.fixture
def here(root: Path, request: pytest.FixtureRequest) -> AgentMemory:
    """The same memory without the server, in a namespace of the test's own."""
    namespace = re.sub(r"\W", "_", request.node.name)[:80] + str(len(request.node.name))
    return AgentMemory("here", adapter=LocalAdapter(root), namespace=namespace)


def place(here: AgentMemory, resource: str, entity_path: str = "", key: str = "") -> str:
    names = [here.namespace, resource, *filter(None, entity_path.split("/")), *filter(None, [key])]
    return "/v1/" + "/".join(quote(name, safe="") for name in names)


def put(
    client: httpx.Client, path: str, value: Any, headers: dict[str, str] | None = None, **more: Any
) -> httpx.Response:
    return client.put(path, json={"value": value, **more}, headers=headers)


def test_python_reads_what_was_written_over_http(client: httpx.Client, here: AgentMemory) -> None:
    answer = put(
        client,
        place(here, "memories", "checkout/eu", "retry"),
        {"max": 3, "π": [1.5, None, "x"]},
        confidence=0.9,
        tags=["b", "a"],
        memory_type="belief",
        pattern_refs=["p"],
    )
    assert answer.status_code == 201
    assert answer.headers["etag"] == '"1"'
    entry = here.read("checkout/eu", "retry")
    assert entry is not None
    assert answer.json() == entry.to_dict()
    located = client.get(answer.headers["location"])
    assert located.json() == entry.to_dict()


def test_http_reads_what_python_wrote(client: httpx.Client, here: AgentMemory) -> None:
    here.write("e", "k", 1)
    second = here.write("e", "k", 2)
    answer = client.get(place(here, "memories", "e", "k"))
    assert answer.json() == second.to_dict() and answer.headers["etag"] == '"2"'
    first = client.get(place(here, "memories", "e", "k"), params={"version": 1})
    assert first.json()["value"] == 1
    moment = first.json()["provenance"]["written_at"]
    assert (
        client.get(place(here, "memories", "e", "k"), params={"at": moment}).json()["version"] == 1
    )


NAMES = ["a/b", "..", ".", "ü n ï", "%2F", "a%2Fb", "?#&=", "new\nline", "v1.json", "🙂", "a\\b"]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_comes_back_exactly(
    client: httpx.Client, here: AgentMemory, served: Served, name: str
) -> None:
    # A raw request: clients take dots out of paths, and what comes here is what was sent.
    encoded = quote(name, safe="")
    encoded = encoded.replace(".", "%2E") if set(name) == {"."} else encoded
    segment = encoded if "/" not in name else "plain"
    path = f"/v1/{here.namespace}/memories/{segment}/{encoded}".encode()
    url = httpx.URL(served.url).copy_with(raw_path=path)
    assert client.put(url, json={"value": name}).status_code == 201
    entity_path = name if "/" not in name else "plain"
    entry = here.read(entity_path, name)
    assert entry is not None and entry.value == name
    assert client.get(url).json()["key"] == name
    page = client.get(place(here, "memories"), params={"under": entity_path}).json()
    assert name in [memory["key"] for memory in page["entries"]]


@pytest.mark.parametrize(
    "path", ["e", "", "e//k", "/e/k", "%ff/k", "a%2Fb/k", "e/" + "x" * 300, "e/k/"]
)
def test_an_invalid_name_is_refused(client: httpx.Client, served: Served, path: str) -> None:
    raw = f"/v1/names/memories/{path}".encode()
    url = httpx.URL(served.url).copy_with(raw_path=raw)
    answer = client.put(url, json={"value": 1})
    assert answer.status_code in (400, 405), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_condition_that_does_not_hold_writes_nothing_and_says_what_there_is(
    client: httpx.Client, here: AgentMemory
) -> None:
    path = place(here, "memories", "e", "k")
    assert put(client, path, 1, {"if-none-match": "*"}).status_code == 201
    refused = put(client, path, 2, {"if-none-match": "*"})
    assert refused.status_code == 412 and refused.headers["etag"] == '"1"'
    problem = refused.json()
    assert problem["type"] == "urn:amfs:problem:version_conflict"
    assert (problem["expected"], problem["actual"], problem["written"]) == (0, 1, "nothing")
    assert put(client, path, 2, {"if-match": '"1"'}).headers["etag"] == '"2"'
    assert put(client, path, 3, {"if-match": '"1"'}).status_code == 412
    assert [entry.value for entry in here.history("e", "k")] == [1, 2]


@pytest.mark.parametrize("condition", ["1", '"x"', "*", '""', 'W/"1"', '"0"', '"1", "2"'])
def test_a_condition_that_cannot_be_kept_is_refused(
    client: httpx.Client, here: AgentMemory, condition: str
) -> None:
    path = place(here, "memories", "e", "k")
    assert put(client, path, 1, {"if-match": condition}).status_code == 400
    assert here.history("e", "k") == []


def test_an_entry_that_the_client_has_is_not_sent_again(
    client: httpx.Client, here: AgentMemory
) -> None:
    here.write("e", "k", 1)
    path = place(here, "memories", "e", "k")
    answer = client.get(path, headers={"if-none-match": '"1"'})
    assert (answer.status_code, answer.content) == (304, b"")
    here.write("e", "k", 2)
    assert client.get(path, headers={"if-none-match": '"1"'}).json()["value"] == 2


def test_a_repeated_write_gives_the_version_of_the_first(
    client: httpx.Client, here: AgentMemory
) -> None:
    path = place(here, "memories", "e", "k")
    headers = {"idempotency-key": "order-66"}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: put(client, path, "once", headers), range(16)))
    assert {answer.json()["version"] for answer in answers} == {1}
    here.write("e", "k", "later")
    assert put(client, path, "once", headers).json()["version"] == 1
    assert [entry.value for entry in here.history("e", "k")] == ["once", "later"]


def test_delete_leaves_a_tombstone_and_purge_erases(
    client: httpx.Client, here: AgentMemory
) -> None:
    path = place(here, "memories", "e", "k")
    assert client.delete(path).status_code == 404
    here.write("e", "k", "xyzzyplugh")
    assert client.delete(path).json()["deleted"] is True
    assert client.get(path).status_code == 404
    assert client.get(path, params={"version": 1}).json()["value"] == "xyzzyplugh"
    assert client.delete(path, params={"purge": "true"}).json() == {"erased": 2}
    answer = client.get(place(here, "history", "e", "k"))
    assert "xyzzyplugh" not in answer.text and len(answer.json()["entries"]) == 3


def test_pages_hold_everything_once_and_in_order(client: httpx.Client, here: AgentMemory) -> None:
    here.write_many(
        [{"entity_path": f"e{n % 3}", "key": f"k{n:02}", "value": n} for n in range(25)]
    )
    entries: list[dict[str, Any]] = []
    after = None
    while True:
        params = {"limit": 7} | ({} if after is None else {"after": after})
        page = client.get(place(here, "memories"), params=params).json()
        assert len(page["entries"]) <= 7
        entries += page["entries"]
        after = page["next"]
        if after is None:
            break
    assert entries == [entry.to_dict() for entry in here.list()]
    below = client.get(place(here, "memories"), params={"under": "e1"}).json()["entries"]
    assert below == [entry.to_dict() for entry in here.list("e1")]
    assert client.get(place(here, "paths")).json() == {"entity_paths": ["e0", "e1", "e2"]}


def test_history_and_difference(client: httpx.Client, here: AgentMemory) -> None:
    for number in range(5):
        here.write("e", "k", {"n": number})
    page = client.get(place(here, "history", "e", "k"), params={"limit": 2, "after": 1}).json()
    assert [entry["version"] for entry in page["entries"]] == [2, 3] and page["next"] == 3
    difference = client.get(place(here, "diff", "e", "k"), params={"old": 1, "new": 5}).json()
    assert difference["changes"] == [{"kind": "changed", "path": "/value/n", "old": 0, "new": 4}]
    assert client.get(place(here, "history", "e", "absent")).status_code == 404


def test_search_by_query_and_by_body(client: httpx.Client, here: AgentMemory) -> None:
    here.write("sea", "bird", "a pelican fishes", tags=["bird", "sea"])
    here.write("zoo", "bird", "a pelican sleeps", tags=["bird"])
    ours = [(hit.entry.to_dict(), hit.score) for hit in here.search("pelican", tags=["sea"])]
    for answer in (
        client.get(place(here, "search"), params={"q": "pelican", "tags": ["bird", "sea"]}),
        client.post(place(here, "search"), json={"q": "pelican", "tags": ["bird", "sea"]}),
    ):
        hits = answer.json()["hits"]
        assert [({**hit}.pop("score"), hit["entity_path"]) for hit in hits] == [
            (score, entry["entity_path"]) for entry, score in ours
        ]
    newest = client.get(place(here, "search"), params={"under": "zoo"}).json()["hits"]
    assert [hit["entity_path"] for hit in newest] == ["zoo"]


def test_a_complete_list_and_search_find_what_was_put_into_the_directory_by_hand(
    client: httpx.Client, here: AgentMemory, root: Path, tmp_path: Path
) -> None:
    here.write("sea", "bird", "a pelican fishes")
    lists, searches = place(here, "memories"), place(here, "search")
    for _ in range(3):  # the server follows the change log, in which a copied file is not
        client.get(lists)
        client.get(searches, params={"q": "pelican"})
    elsewhere = AgentMemory("other", adapter=LocalAdapter(tmp_path), namespace=here.namespace)
    elsewhere.write("zoo", "bird", "a pelican sleeps")
    [made] = (path for path in tmp_path.rglob("v1.json"))
    (root / made.relative_to(tmp_path)).parent.mkdir(parents=True)
    shutil.copy(made, root / made.relative_to(tmp_path))
    listed = client.get(lists, params={"complete": "true"}).json()["entries"]
    assert [entry["entity_path"] for entry in listed] == ["sea", "zoo"]
    for answer in (
        client.get(searches, params={"q": "sleeps", "complete": "true"}),
        client.post(searches, json={"q": "sleeps", "complete": True}),
    ):
        assert [hit["entity_path"] for hit in answer.json()["hits"]] == ["zoo"]
    assert client.get(lists, params={"complete": "perhaps"}).status_code == 400
    assert client.post(searches, json={"complete": "yes"}).status_code == 400


def test_outcomes(client: httpx.Client, here: AgentMemory) -> None:
    here.write("e", "k", 1)
    path = place(here, "outcomes") + "/deploy%2F42"
    body = {"type": "failure", "entries": [{"entity_path": "e", "key": "k"}]}
    answer = client.put(path, json=body)
    assert answer.status_code == 201
    recorded = here.read_outcome("deploy/42")
    assert recorded is not None and answer.json() == recorded.to_dict()
    assert client.put(path, json=body).json() == answer.json()
    conflict = client.put(path, json={**body, "type": "success"})
    assert conflict.status_code == 409
    assert client.get(path).json() == answer.json()
    assert client.get(place(here, "outcomes")).json()["outcomes"] == [answer.json()]
    moved = here.read("e", "k")
    assert moved is not None and moved.confidence < 1


def test_the_agent_and_the_session_are_what_the_client_says(
    client: httpx.Client, here: AgentMemory
) -> None:
    headers = {"amfs-agent": "ann", "amfs-session": "monday"}
    answer = put(client, place(here, "memories", "e", "k"), 1, headers)
    provenance = answer.json()["provenance"]
    assert (provenance["agent_id"], provenance["session_id"]) == ("ann", "monday")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not UTF-8"),
        (b"[1]", "must be a JSON object"),
        (b"{}", "no value"),
        (b'{"value": NaN}', "not JSON"),
        (b'{"value": 0.1234567890123456789}', "would be rounded"),
        (b'{"value": 1, "value": 2}', "twice"),
        (b'{"value": 1, "vale": 2}', "no field"),
        (b'{"value": 1, "tags": "x"}', "tags must be a list"),
        (b'{"value": 1, "confidence": 2}', "confidence"),
        (b'{"value": 1, "confidence": "high"}', "confidence"),
        (b'{"value": 1, "ttl": -1}', "ttl"),
        (b'{"value": 1, "expires_at": "tomorrow"}', "expires_at"),
        (b'{"value": 1, "expires_at": "2030-01-01T00:00:00"}', "time zone"),
        (b'{"value": 1, "memory_type": "rumour"}', "memory_type"),
        (b'{"value": ' + b"[" * 5000 + b"]" * 5000 + b"}", "nested"),
    ],
)
def test_a_body_that_is_wrong_writes_nothing(
    client: httpx.Client, here: AgentMemory, body: bytes, problem: str
) -> None:
    path = place(here, "memories", "e", "k")
    answer = client.put(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert problem in answer.json()["detail"], answer.text
    assert here.history("e", "k") == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/default/memories/e/k", 405),
        ("DELETE", "/v1/default/memories", 405),
        ("GET", "/v1/default/nothing", 404),
        ("GET", "/v2/default/memories", 404),
        ("GET", "/v1/default/memories?undr=e", 400),
        ("GET", "/v1/default/memories?limit=0", 400),
        ("GET", "/v1/default/memories?limit=1&limit=2", 400),
        ("GET", "/v1/default/search?since=yesterday", 400),
        ("GET", "/v1/default/search?min_confidence=high", 400),
        ("GET", "/v1/default/watch?since=nonsense", 400),
        ("GET", "/v1//memories", 400),
        ("PUT", "/v1/default/outcomes/a/b", 400),
    ],
)
def test_a_request_that_is_wrong_is_a_problem_document(
    client: httpx.Client, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path, json={} if method == "PUT" else None)
    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status and problem["type"].startswith("urn:amfs:problem:")
    if status == 405:
        assert "GET" in answer.headers["allow"]


def test_another_content_type_is_refused(client: httpx.Client, here: AgentMemory) -> None:
    path = place(here, "memories", "e", "k")
    answer = client.put(path, content=b'{"value": 1}', headers={"content-type": "text/plain"})
    assert answer.status_code == 415


def test_a_head_has_the_headers_and_no_body(client: httpx.Client, here: AgentMemory) -> None:
    here.write("e", "k", 1)
    answer = client.head(place(here, "memories", "e", "k"))
    assert (answer.status_code, answer.headers["etag"], answer.content) == (200, '"1"', b"")


def test_long_answers_are_compressed_on_request(client: httpx.Client, here: AgentMemory) -> None:
    here.write("e", "k", "pelican " * 10_000)
    path = place(here, "memories", "e", "k")
    assert client.get(path).headers["content-encoding"] == "gzip"
    plain = client.get(path, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.json()["value"] == "pelican " * 10_000
