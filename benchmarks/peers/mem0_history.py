"""mem0's local history: the part of mem0 that keeps versions and needs no model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mem0.memory.storage import SQLiteManager
from thin import Item, Thin, Value


class Peer(Thin):
    """Its SQLite file of changes."""

    package = "mem0ai"
    durability = "fsync"  # of SQLite's journal, which is the default

    def __init__(self, place: dict[str, str]) -> None:
        self._history = SQLiteManager(str(Path(place["directory"]) / "history.db"))

    def write(self, path: str, key: str, value: Value) -> None:
        self._history.add_history(f"{path}/{key}", None, json.dumps(value), "ADD")

    def fill(self, items: Sequence[Item]) -> None:
        self._history.batch_add_history(
            [
                {
                    "memory_id": f"{item.path}/{item.key}",
                    "new_memory": json.dumps(item.value),
                    "event": "ADD",
                }
                for item in items
            ]
        )

    def read(self, path: str, key: str) -> Value | None:
        found = self.versions(path, key)
        return found[-1] if found else None

    def read_version(self, path: str, key: str, version: int) -> Value:
        return self.versions(path, key)[version - 1]

    def versions(self, path: str, key: str) -> list[Value]:
        return [json.loads(row["new_memory"]) for row in self._history.get_history(f"{path}/{key}")]

    def close(self) -> None:
        self._history.close()
