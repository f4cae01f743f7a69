"""`AgentMemory` as users make it: what is not given comes from the configuration."""

from __future__ import annotations

import os

from amfs.config import Config, load
from amfs_core import memory
from amfs_core.storage import StorageAdapter


class AgentMemory(memory.AgentMemory):
    """The memory of a namespace, as one agent reads and writes it.

    Every argument may be left out: then it comes from the `AMFS_*` variables, then from
    `amfs.yaml`, then from the defaults (namespace "default", user@host as the agent, the directory
    `.amfs`). `config` names a configuration file, or is a `Config` made in Python, which is taken
    as it is. An `adapter` that was given stays open when the memory is closed; one that was opened
    from the configuration is closed with it.

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
    ) -> None:
        settings = config if isinstance(config, Config) else load(config)
        opened = settings.open_adapter() if adapter is None else adapter
        try:
            super().__init__(
                settings.signing_agent() if agent_id is None else agent_id,
                adapter=opened,
                namespace=settings.namespace if namespace is None else namespace,
                session_id=session_id,
                patience=settings.patience,
                owns_adapter=adapter is None,
            )
        except BaseException:
            if adapter is None:
                opened.close()
            raise
