"""Search by meaning: any callable is an embedder, and each version is embedded once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from amfs.embedders import OpenAIEmbedder, SentenceTransformerEmbedder
from amfs_core.errors import (
    BackendUnavailableError,
    ConfigurationError,
    InvalidValueError,
    PermissionDeniedError,
)
from amfs_core.memory import AgentMemory
from amfs_core.testing import ModelAdapter
from amfs_local import LocalAdapter

ANIMALS = {"cat": (1, 0, 0), "kitten": (0.9, 0.1, 0), "car": (0, 1, 0), "lorry": (0, 0.9, 0.2)}


class Toy:
    """Places texts by the words that it knows."""

    def __init__(self, name: str = "toy") -> None:
        self.name = name
        self.seen: list[str] = []
        self.calls = 0

    def __call__(self, texts: list[str]) -> list[list[float]]:
        self.calls += 1
        self.seen += texts
        return [
            [float(sum(ANIMALS[w][i] for w in t.split() if w in ANIMALS)) for i in range(3)]
            for t in texts
        ]


def test_it_finds_by_meaning_what_shares_no_word() -> None:
    memory = AgentMemory("a", adapter=ModelAdapter(), embedder=Toy())
    for word in ("cat", "car", "nothing known"):
        memory.write("e", word.replace(" ", "-"), word)
    hits = memory.semantic_search("kitten", limit=2)
    assert [hit.entry.key for hit in hits] == ["cat", "car"]
    assert hits[0].score == pytest.approx(0.9 / (0.81 + 0.01) ** 0.5, abs=1e-6)
    assert memory.search("kitten")[0].entry.key == "cat"  # both kinds are fused
    assert memory.search("known")[0].entry.key == "nothing-known"


def test_each_version_is_embedded_once_and_only_the_newest(tmp_path: Path) -> None:
    def opened(embedder: Toy) -> AgentMemory:
        adapter = LocalAdapter(tmp_path / "store")
        return AgentMemory("a", adapter=adapter, embedder=embedder, cache_dir=tmp_path / "cache")

    toy = Toy()
    with opened(toy) as memory:
        memory.write("e", "k", "old cat")
        memory.write("e", "k", "cat")
        memory.write("e", "deleted", "car")
        memory.delete("e", "deleted")
        for _ in range(3):
            assert memory.semantic_search("kitten")[0].entry.value == "cat"
        assert toy.seen == ["cat", "kitten", "kitten", "kitten"]
    again = Toy()
    with opened(again) as memory:
        memory.semantic_search("kitten")
        assert again.seen == ["kitten"]  # the vectors were kept
    other = Toy("another model")
    with opened(other) as memory:
        memory.semantic_search("kitten")
        assert other.seen == ["cat", "kitten"]


def test_batches_are_bounded() -> None:
    toy = Toy()
    memory = AgentMemory("a", adapter=ModelAdapter(), embedder=toy)
    memory.write_many({"entity_path": "e", "key": f"k{n}", "value": "car"} for n in range(600))
    assert len(memory.semantic_search("lorry", limit=1000)) == 600
    assert toy.calls == 3 + 1


def test_filters_hold_for_meaning_too() -> None:
    memory = AgentMemory("a", adapter=ModelAdapter(), embedder=Toy())
    memory.write("e/one", "k", "cat", tags=["x"])
    memory.write("e/two", "k", "kitten", confidence=0.2)
    memory.write("f", "k", "cat")
    hits = memory.semantic_search("cat", entity_path="e", min_confidence=0.5)
    assert [hit.entry.entity_path for hit in hits] == ["e/one"]
    assert [hit.entry.entity_path for hit in memory.semantic_search("cat", tags=["x"])] == ["e/one"]
    memory.purge("e/one", "k")
    assert [hit.entry.entity_path for hit in memory.semantic_search("cat")] == ["f", "e/two"]


def test_without_an_embedder_it_says_how_to_get_one() -> None:
    with pytest.raises(ConfigurationError, match=r"needs an embedder.*docs/search\.md"):
        AgentMemory("a", adapter=ModelAdapter()).semantic_search("x")


def fails(_: list[str]) -> list[list[float]]:
    raise RuntimeError("the model is gone")


@pytest.mark.parametrize(
    ("embedder", "problem"),
    [
        (fails, "failed.*the model is gone"),
        (lambda texts: [[1.0]] * (len(texts) + 1), "one vector for each"),
        (lambda texts: [[1.0] * (1 + n) for n, _ in enumerate(texts)] * 2, "it failed|one vector"),
        (lambda texts: [[float("nan")]] * len(texts), "not finite"),
        (lambda texts: [[] for _ in texts], "one vector for each"),
        (lambda texts: [["x"] for _ in texts], "it failed"),
    ],
)
def test_a_wrong_embedder_is_named(embedder: Any, problem: str) -> None:
    memory = AgentMemory("a", adapter=ModelAdapter(), embedder=embedder)
    memory.write("e", "k", "cat")
    memory.write("e", "k2", "cat")
    with pytest.raises(ConfigurationError, match=problem):
        memory.semantic_search("x")
    assert len(memory.list()) == 2


def test_another_length_under_the_same_name_is_refused_and_spoils_nothing(tmp_path: Path) -> None:
    class Model:
        name = "a model"
        numbers = 2

        def __call__(self, texts: list[str]) -> list[list[float]]:
            return [[1.0] * self.numbers for _ in texts]

    model, adapter = Model(), LocalAdapter(tmp_path / "store")
    memory = AgentMemory("a", adapter=adapter, embedder=model, cache_dir=tmp_path / "cache")
    memory.write("e", "a", "x")
    assert len(memory.semantic_search("q")) == 1
    memory.write("e", "b", "y")
    model.numbers = 3
    for find in (memory.semantic_search, memory.search):
        with pytest.raises(ConfigurationError, match=r"'a model'.*3 numbers, and 2 before"):
            find("x")
    model.numbers = 2
    assert len(memory.semantic_search("q")) == 2


def test_an_embedder_without_a_name_shares_no_vectors(tmp_path: Path) -> None:
    adapter = LocalAdapter(tmp_path / "store")
    for word in ("one", "two"):
        AgentMemory("w", adapter=adapter).write("e", word, word)
    for liked in ("one", "two"):

        def embed(texts: list[str], liked: str = liked) -> list[list[float]]:
            return [[1.0, 0.0] if text in (liked, "q") else [0.0, 1.0] for text in texts]

        with AgentMemory("a", adapter=adapter, embedder=embed, cache_dir=tmp_path / "c") as memory:
            assert memory.semantic_search("q", limit=1)[0].entry.key == liked


def test_an_embedder_must_be_callable() -> None:
    with pytest.raises(InvalidValueError, match="must be callable"):
        AgentMemory("a", adapter=ModelAdapter(), embedder="a model's name")  # type: ignore[arg-type]


def test_an_embedder_that_changed_under_its_name_is_noticed(tmp_path: Path) -> None:
    adapter = LocalAdapter(tmp_path / "store")
    three = Toy()
    with AgentMemory("a", adapter=adapter, embedder=three, cache_dir=tmp_path / "c") as memory:
        memory.write("e", "k", "cat")
        memory.semantic_search("cat")

    class Two(Toy):
        def __call__(self, texts: list[str]) -> list[list[float]]:
            return [[1.0, 0.0] for _ in texts]

    with (
        AgentMemory("a", adapter=adapter, embedder=Two(), cache_dir=tmp_path / "c") as memory,
        pytest.raises(ConfigurationError, match="gave 2 numbers, and 3 before"),
    ):
        memory.semantic_search("cat")


def test_a_local_model_is_asked_through_its_library() -> None:
    class Model:
        def encode(self, texts: list[str], *, show_progress_bar: bool) -> Sequence[Sequence[float]]:
            assert not show_progress_bar
            return [[1.0, 2.0] for _ in texts]

    embedder = SentenceTransformerEmbedder(Model(), name="mine")
    assert embedder.name == "mine"
    assert embedder(["a", "b"]) == [[1.0, 2.0], [1.0, 2.0]]


# -- an endpoint over HTTP -------------------------------------------------------------------


class Endpoint(ThreadingHTTPServer):
    """Answers as OpenAI's embeddings API is documented to, or with the statuses it is given."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses: list[int] = []
        self.requests: list[tuple[str, dict[str, Any], str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, body, self.headers["Authorization"]))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        vectors = Toy()(body["input"])
        data = [{"index": i, "embedding": vector} for i, vector in enumerate(vectors)]
        answer = json.dumps({"data": data[::-1]} if status == 200 else {"error": "secret-key"})
        self.send_response(status)
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_endpoint_embeds(endpoint: Endpoint) -> None:
    embedder = OpenAIEmbedder(
        "small", base_url=f"{endpoint.url}/", api_key="secret-key", dimensions=3
    )
    memory = AgentMemory("a", adapter=ModelAdapter(), embedder=embedder)
    memory.write("e", "cat", "cat")
    memory.write("e", "car", "car")
    assert [hit.entry.key for hit in memory.semantic_search("kitten")] == ["cat", "car"]
    path, body, key = endpoint.requests[0]
    assert (path, key) == ("/v1/embeddings", "Bearer secret-key")
    assert body["model"] == "small"
    assert body["dimensions"] == 3
    assert sorted(body["input"]) == ["car", "cat"]
    assert embedder.name == "small/3"


def test_failures_in_passing_are_tried_again(endpoint: Endpoint) -> None:
    endpoint.statuses = [503, 429]
    assert OpenAIEmbedder(base_url=endpoint.url)(["cat"]) == [[1.0, 0.0, 0.0]]
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, PermissionDeniedError), (404, ConfigurationError), (500, BackendUnavailableError)],
)
def test_other_failures_are_told_apart_without_the_key(
    endpoint: Endpoint, status: int, error: type[Exception]
) -> None:
    endpoint.statuses = [status] * 100
    embedder = OpenAIEmbedder(base_url=endpoint.url, api_key="secret-key", patience=0.0)
    memory = AgentMemory("a", adapter=ModelAdapter(), embedder=embedder)
    memory.write("e", "k", "cat")
    with pytest.raises(error) as raised:
        memory.semantic_search("kitten")
    assert endpoint.url in str(raised.value)
    assert "secret-key" not in repr(raised.value)


def test_an_endpoint_that_is_not_there_is_named() -> None:
    with pytest.raises(BackendUnavailableError, match=r"no answer from http://127\.0\.0\.1:9"):
        OpenAIEmbedder(base_url="http://127.0.0.1:9/v1", patience=0.0)(["x"])
