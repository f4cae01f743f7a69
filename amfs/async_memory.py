"""`AsyncAgentMemory` as users create it: arguments left out come from the configuration."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from amfs.agent_memory import AgentMemory
from amfs.config import Config
from amfs_core import memory
from amfs_core.storage import StorageAdapter

if TYPE_CHECKING:
    from amfs_core.catalog import Embedder, Index


class AsyncAgentMemory(memory.AsyncAgentMemory):
    """The awaitable twin of `AgentMemory`, with the same arguments; an async context manager.

    A cancelled task stops waiting, but its current request runs to the end, so a cancelled write is
    either absent or complete. To find out which, pass a `write_id` and call `find_write`.
    """

    def __init__(
        self,
        agent_id: str | None = None,
        *,
        adapter: StorageAdapter | None = None,
        namespace: str | None = None,
        session_id: str | None = None,
        config: str | os.PathLike[str] | Config | None = None,
        embedder: Embedder | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        max_value_bytes: int | None = None,
        patience: float | None = None,
        index: Index | None = None,
    ) -> None:
        super().__init__(
            AgentMemory(
                agent_id,
                adapter=adapter,
                namespace=namespace,
                session_id=session_id,
                config=config,
                embedder=embedder,
                cache_dir=cache_dir,
                max_value_bytes=max_value_bytes,
                patience=patience,
                index=index,
            )
        )
