"""Conflicts over HTTP: writes of an outage that others came before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import tenacity

from amfs_core.degraded import keeper
from amfs_core.layers import Layered
from amfs_core.memory import AgentMemory
from amfs_core.storage import breaker, retry
from amfs_core.testing import ModelAdapter
from amfs_local import LocalAdapter
from amfs_server import keys
from tests.layers.stores import Outage
from tests.support.served import serving_here

SECONDS = 60.0
CONFLICTS = "/v1/default/conflicts"


@pytest.fixture(autouse=True)
def known_to_be_down_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "_LEAST_SECONDS", 0.2)
    monkeypatch.setattr(retry, "_backoff", tenacity.wait_random(0, 0.05))
    monkeypatch.setattr(breaker, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(breaker, "_LONGEST_PAUSE", 0.1)
    monkeypatch.setattr(keeper, "_PAUSE", 0.02)


class Place:
    """A server whose primary store goes and comes back."""

    def __init__(self, path: Path) -> None:
        self.truth = ModelAdapter()
        self.primary = Outage(self.truth)
        self.store = Layered(self.primary, fallback=LocalAdapter(path / "fallback"))
        self.keys = path / "keys.json"
        self.tokens = {
            "all": keys.add(self.keys, "all", "writer"),
            "reader": keys.add(self.keys, "reader", "reader"),
            "mine": keys.add(self.keys, "mine", "writer", entity_paths=["mine"]),
        }
        self.url = ""

    def client(self, key: str = "all") -> httpx.Client:
        headers = {"authorization": f"Bearer {self.tokens[key]}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=SECONDS)

    def conflict(self, entity_path: str, key: str) -> str:
        """Make a conflict about a memory, and return its id."""
        name = f"/v1/default/memories/{entity_path}/{key}"
        with self.client() as client:
            assert client.put(name, json={"value": "first"}).status_code == 201
            self.primary.down = True
            kept = client.put(name, json={"value": "kept"}, headers={"if-match": '"1"'})
            assert kept.json()["provisional"] is True
            with AgentMemory("other", adapter=self.truth) as other:
                other.write(entity_path, key, "theirs")
            self.primary.down = False
            conflicts = until(lambda: self.conflicts_of(client, entity_path, key))
        assert [conflict["entry"]["value"] for conflict in conflicts] == ["kept"]
        return str(conflicts[0]["id"])

    def conflicts_of(self, client: httpx.Client, entity_path: str, key: str) -> list[Any]:
        listed = client.get(CONFLICTS).json()["conflicts"]
        name = (entity_path, key)
        return [
            conflict
            for conflict in listed
            if (conflict["entry"]["entity_path"], conflict["entry"]["key"]) == name
        ]

    def values(self, entity_path: str, key: str) -> list[Any]:
        with AgentMemory("reader", adapter=self.truth) as memory:
            return [entry.value for entry in memory.history(entity_path, key)]


def until(lookup: Callable[[], list[Any]]) -> list[Any]:
    end = time.monotonic() + SECONDS
    while not (there := lookup()):
        assert time.monotonic() < end
        time.sleep(0.01)  # between two looks at what the server's thread does
    return there


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    with serving_here(made.store, made.keys) as made.url:
        yield made


@pytest.mark.parametrize(
    ("decision", "values"),
    [
        ({"decision": "append"}, ["first", "theirs", "kept"]),
        ({"decision": "discard"}, ["first", "theirs"]),
        ({"decision": "merge", "value": "both"}, ["first", "theirs", "both"]),
        ({"decision": "merge", "value": None}, ["first", "theirs", None]),
    ],
)
def test_a_conflict_is_listed_and_decided(
    place: Place, decision: dict[str, Any], values: list[Any]
) -> None:
    id = place.conflict("mine", "k")
    with place.client() as client:
        answer = client.post(CONFLICTS, json={"id": id, **decision})
        assert answer.status_code == 200, answer.text
        entry = answer.json()["entry"]
        assert (None if entry is None else (entry["version"], entry["value"])) == (
            None if len(values) == 2 else (3, values[-1])
        )
        assert client.get(CONFLICTS).json() == {"conflicts": []}
        again = client.post(CONFLICTS, json={"id": id, **decision})
        assert (again.status_code, again.json()["code"]) == (404, "not_found")
    assert place.values("mine", "k") == values


def test_a_key_sees_and_decides_the_conflicts_of_its_paths_only(place: Place) -> None:
    hidden, seen = place.conflict("other", "secret"), place.conflict("mine", "k")
    with place.client("mine") as client:
        answer = client.get(CONFLICTS)
        assert [conflict["id"] for conflict in answer.json()["conflicts"]] == [seen]
        assert "secret" not in answer.text
        refused = client.post(CONFLICTS, json={"id": hidden, "decision": "discard"})
        absent = client.post(CONFLICTS, json={"id": "0-0", "decision": "discard"})
        assert refused.status_code == absent.status_code == 404
        assert refused.json() == absent.json()
        done = client.post(CONFLICTS, json={"id": seen, "decision": "append"})
        assert done.status_code == 200
    with place.client("reader") as client:
        assert [conflict["id"] for conflict in client.get(CONFLICTS).json()["conflicts"]] == [
            hidden
        ]
        refused = client.post(CONFLICTS, json={"id": hidden, "decision": "discard"})
        assert refused.status_code == 403
    assert place.values("other", "secret") == ["first", "theirs"]


def test_a_decision_while_the_primary_is_down_is_told_to_try_again(place: Place) -> None:
    id = place.conflict("mine", "k")
    place.primary.down = True
    with place.client() as client:
        answer = client.post(CONFLICTS, json={"id": id, "decision": "append"})
        assert (answer.status_code, answer.json()["code"]) == (503, "backend_unavailable")
        place.primary.down = False
        decide = {"id": id, "decision": "append"}
        until(lambda: [1] if client.post(CONFLICTS, json=decide).is_success else [])
    assert place.values("mine", "k") == ["first", "theirs", "kept"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"decision": "append"}, "id"),
        ({"id": 7, "decision": "append"}, "id"),
        ({"id": "a"}, "decision must be one of append, discard, merge"),
        ({"id": "a", "decision": "keep"}, "decision must be one of"),
        ({"id": "a", "decision": "merge"}, "value"),
        ({"id": "a", "decision": "append", "value": 1}, "value"),
        ({"id": "a", "decision": "append", "valeu": 1}, "did you mean 'value'"),
    ],
)
def test_a_wrong_decision_is_named(place: Place, body: dict[str, Any], said: str) -> None:
    with place.client() as client:
        answer = client.post(CONFLICTS, json=body)
    assert answer.status_code == 400
    assert said in f"{answer.json()['detail']} {answer.json()['hint']}"
