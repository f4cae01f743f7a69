"""LangGraph's SqliteStore, opened as its documentation does."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from langgraph.store.base import BaseStore, PutOp
from langgraph.store.sqlite import SqliteStore
from thin import Cannot, Item, Thin, Value


class Graph(Thin):
    """Any store of LangGraph."""

    store: BaseStore

    def write(self, path: str, key: str, value: Value) -> None:
        self.store.put(("memories", path), key, value)

    def fill(self, items: Sequence[Item]) -> None:
        self.store.batch(
            PutOp(("memories", item.path), item.key, item.value, index=False) for item in items
        )

    def read(self, path: str, key: str) -> Value | None:
        found = self.store.get(("memories", path), key)
        return None if found is None else found.value

    def list(self) -> int:
        return len(self.store.search(("memories",), limit=10_000_000))

    def search(self, words: str) -> int:
        raise Cannot("no text search: it needs an embedder")


class Peer(Graph):
    """The store on a file."""

    package = "langgraph-checkpoint-sqlite"
    durability = "fsync"  # of SQLite's journal, which is the default

    def __init__(self, place: dict[str, str]) -> None:
        self._stack = ExitStack()
        path = str(Path(place["directory"]) / "store.db")
        store = self._stack.enter_context(SqliteStore.from_conn_string(path))
        store.setup()
        self.store = store

    def add_one(self, path: str, key: str) -> None:
        raise Cannot("its put takes no condition: the last writer wins")

    def close(self) -> None:
        self._stack.close()
