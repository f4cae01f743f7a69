"""For pytest, in the OpenAI Agents SDK's own tests: its SQLiteSession is AMFSSession."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import agents
import agents.memory

from amfs import AgentMemory
from amfs_agents.openai import AMFSSession
from amfs_sqlite import SqliteAdapter


class StandIn(AMFSSession):
    """Made as SQLiteSession is: one path is one store."""

    def __init__(
        self,
        session_id: str,
        db_path: str | Path = ":memory:",
        *,
        session_settings: Any = None,
    ) -> None:
        directory = Path(tempfile.mkdtemp()) if str(db_path) == ":memory:" else Path(db_path).parent
        self._adapter = SqliteAdapter(directory / f"{Path(db_path).stem}.amfs")
        memory = AgentMemory("tests", adapter=self._adapter)
        super().__init__(session_id, memory, session_settings=session_settings)

    def close(self) -> None:
        self._adapter.close()


for module in (agents, agents.memory):
    setattr(module, "SQLiteSession", StandIn)  # noqa: B010 - its type is another
