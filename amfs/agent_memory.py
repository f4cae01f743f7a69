"""`AgentMemory` as users make it: what is not given comes from the configuration."""

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

    Memories with the same adapter (or the same configuration), namespace and settings share one
    engine in a process: connections, caches, the catalog and `metrics`. So one for each agent, or
    for each request of a server, costs next to nothing.

    Every argument may be left out: then it comes from the `AMFS_*` variables, then from
    `amfs.yaml`, then from the defaults (namespace "default", user@host as the agent, the directory
    `.amfs`). `config` names a configuration file, or is a `Config` made in Python, which is taken
    as it is. An `adapter` that was given stays open when the memory is closed; one that was opened
    from the configuration is closed with the last memory that works on it. `embedder` turns texts
    into vectors, for `semantic_search` (docs/search.md). `cache_dir` is a directory where the
    catalog that lists and searches run on is kept between processes; without it each process makes
    its own, in memory. `index` is where lists and searches look instead, for all agents at once,
    such as `PostgresIndex(dsn)`; it stays open when the memory is closed. `max_value_bytes` is how
    large a version may be as JSON. `patience` is for how many seconds a call goes on while the
    store does not answer (docs/design/patience.md).

    Sends nothing. Raises `ConfigurationError` for a setting that is missing, misspelt or wrong.
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
