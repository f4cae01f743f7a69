"""`AgentMemory` as users create it: arguments that are left out come from the configuration."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from amfs import engines
from amfs.config import Config, checked_path, load
from amfs_core import arguments, memory
from amfs_core.storage import StorageAdapter, check_adapter

if TYPE_CHECKING:
    from amfs_core.catalog import Embedder, Index


class AgentMemory(memory.AgentMemory):
    """The memory of a namespace, as one agent reads and writes it.

    Within a process, memories with the same adapter (or the same configuration), namespace and
    settings share one engine: connections, caches, the catalog and `metrics`. One memory for each
    agent, or for each request of a server, therefore costs next to nothing.

    Every argument may be left out. Its value then comes from the `AMFS_*` variables, from
    `amfs.yaml`, or from the defaults, in this order.

    Args:
        agent_id: The agent that signs writes. Default: user@host.
        adapter: The store; it stays open when the memory is closed. Default: the configured store
            or the directory `.amfs`, closed together with the last memory that uses it.
        namespace: The namespace. Default: "default".
        session_id: Names the session in what is written. Default: a new random name.
        config: A configuration file, or a `Config` made in Python, which replaces variables and
            file.
        embedder: Turns texts into vectors, for `semantic_search` (docs/search.md).
        cache_dir: A directory that keeps the catalog for lists and searches between processes.
            Default: each process makes its own catalog in memory.
        max_value_bytes: The largest size of a version as JSON, in bytes.
        patience: For how many seconds a call goes on trying while the store does not answer, 0 or
            more (docs/design/patience.md).
        index: Where lists and searches look, in place of the catalog, for all agents at once, such
            as `PostgresIndex(dsn)`; it stays open when the memory is closed.

    Raises:
        ConfigurationError: A setting is missing, misspelt or invalid.

    Cost:
        No request.
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
        if adapter is not None:
            check_adapter(adapter)
        settings = config if isinstance(config, Config) else load(config)
        if patience is not None:
            settings = replace(settings, patience=arguments.seconds(patience, "patience"))
        kept_in = checked_path(settings.cache_dir if cache_dir is None else cache_dir, "cache_dir")
        engine = engines.join(
            self,
            adapter,
            settings,
            settings.namespace if namespace is None else namespace,
            embedder=embedder,
            cache_dir=kept_in,
            index=index,
            max_value_bytes=(
                settings.max_value_bytes if max_value_bytes is None else max_value_bytes
            ),
        )
        try:
            super().__init__(
                settings.signing_agent() if agent_id is None else agent_id,
                session_id=session_id,
                engine=engine,
            )
        except BaseException:
            engine.leave(self)
            raise
