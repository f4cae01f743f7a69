"""Turso's AgentFS: its key-value store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from agentfs_sdk import AgentFS, AgentFSOptions
from thin import Cannot, Thin, Value

T = TypeVar("T")


class Peer(Thin):
    """One file; its API is asynchronous, and its one connection takes one statement at a time."""

    package = "agentfs-sdk"
    durability = "fsync"  # of its write-ahead log, once for each set

    def __init__(self, place: dict[str, str]) -> None:
        self._loop = asyncio.new_event_loop()
        self._turn = threading.Lock()
        path = str(Path(place["directory"]) / "agent.db")
        self._agent = self._wait(AgentFS.open(AgentFSOptions(path=path)))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        with self._turn:
            return self._loop.run_until_complete(work)

    def write(self, path: str, key: str, value: Value) -> None:
        self._wait(self._agent.kv.set(f"{path}/{key}", value))

    def read(self, path: str, key: str) -> Value | None:
        found: Value | None = self._wait(self._agent.kv.get(f"{path}/{key}"))
        return found

    def add_one(self, path: str, key: str) -> None:
        raise Cannot("its set takes no condition: the last writer wins")

    def list(self) -> int:
        return len(self._wait(self._agent.kv.list("")))

    def close(self) -> None:
        self._wait(self._agent.close())
        self._loop.close()
