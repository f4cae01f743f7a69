"""The engines of the server: one for each namespace in use."""

from __future__ import annotations

import threading
from collections import OrderedDict

from amfs_core.memory import AgentMemory, Namespace
from amfs_core.storage import Metrics, StoreClient
from amfs_server.settings import Settings

_MOST_NAMESPACES = 256


class Engines:
    """One store, and an engine for each namespace in it. At most 256 engines are kept open; the
    least recently used is closed first, and opened again on its next use."""

    def __init__(self, settings: Settings) -> None:
        config = settings.config
        self.agent_id = config.signing_agent()
        self.adapter = settings.adapter or config.open_adapter()
        self.index = config.open_index()
        self.store = StoreClient(self.adapter, config.patience)
        """The client for requests about objects; each engine has its own client."""
        self._config = config
        self._owns_adapter = settings.adapter is None
        self._keepers: OrderedDict[str, AgentMemory] = (
            OrderedDict()
        )  # a handle keeps an engine open
        self._lock = threading.Lock()

    def engine(self, namespace: str) -> Namespace:
        """Return the engine of a namespace; raises `InvalidKeyError`. No request."""
        return self._keeper(namespace).engine

    def memory(self, namespace: str, agent_id: str | None, session_id: str | None) -> AgentMemory:
        """Return a handle for one request."""
        engine = self.engine(namespace)
        return AgentMemory(agent_id or self.agent_id, session_id=session_id, engine=engine)

    def metrics(self) -> dict[str, Metrics]:
        """Return the metrics of the store by namespace. Requests about objects, which may belong to
        any namespace, are under an empty name."""
        with self._lock:
            keepers = dict(self._keepers)
        counts = {namespace: keeper.metrics for namespace, keeper in keepers.items()}
        return {**counts, "": self.store.meter.snapshot()}

    def close(self) -> None:
        """Close all engines, the index, and the store if it was opened here."""
        with self._lock:
            keepers, self._keepers = self._keepers, OrderedDict()
        for keeper in keepers.values():
            keeper.close()
        if self.index is not None:
            self.index.close()
        if self._owns_adapter:
            self.adapter.close()

    def _keeper(self, namespace: str) -> AgentMemory:
        with self._lock:
            keeper = self._keepers.get(namespace)
            if keeper is None:
                config = self._config
                engine = Namespace(
                    self.adapter,
                    namespace,
                    patience=config.patience,
                    cache_dir=config.cache_dir,
                    max_value_bytes=config.max_value_bytes,
                    index=self.index,
                )
                keeper = self._keepers[namespace] = AgentMemory(self.agent_id, engine=engine)
            self._keepers.move_to_end(namespace)
            oldest = None
            if len(self._keepers) > _MOST_NAMESPACES:
                _, oldest = self._keepers.popitem(last=False)
        if oldest is not None:
            oldest.close()
        return keeper
