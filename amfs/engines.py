"""One engine for each store and namespace in this process, shared by all memories on it."""

from __future__ import annotations

import os
import threading
from collections.abc import Hashable
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from amfs.config import Config
from amfs_core import fork
from amfs_core.memory import AgentMemory, Namespace
from amfs_core.storage import StorageAdapter

if TYPE_CHECKING:
    from amfs_core.catalog import Embedder, Index


class _Engines:
    """The engines of this process; each lives as long as a memory uses it."""

    def __init__(self) -> None:
        self.known: WeakValueDictionary[Hashable, Namespace] = WeakValueDictionary()
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        """Create a new lock in a forked child."""
        self.lock = threading.RLock()  # re-entrant: a signal handler may make a memory


_engines = _Engines()


def join(
    memory: AgentMemory,
    adapter: StorageAdapter | None,
    settings: Config,
    namespace: str,
    *,
    embedder: Embedder | None,
    cache_dir: str | None,
    index: Index | None,
    max_value_bytes: int,
) -> Namespace:
    """Return the engine for a memory, and register the memory as one of its users.

    Two memories share an engine when all settings are equal and they have the same adapter, or
    adapters opened from the same configuration. The engine owns, and later closes, an adapter or
    index that it opens itself. Raises `ConfigurationError` when one cannot be opened.
    """
    key: Hashable = (
        _configured(settings) if adapter is None else id(adapter),
        namespace,
        settings.patience,
        None if embedder is None else id(embedder),
        cache_dir,
        max_value_bytes,
        _configured_index(settings) if index is None else id(index),
    )
    known = _engines.known.get(key)
    if known is not None and known.join(memory):
        return known
    with _engines.lock:
        known = _engines.known.get(key)
        if known is not None and known.join(memory):
            return known
        opened = settings.open_adapter() if adapter is None else adapter
        looked_in = index
        try:
            if looked_in is None:
                looked_in = settings.open_index()
            made = Namespace(
                opened,
                namespace,
                patience=settings.patience,
                owns_adapter=adapter is None,
                embedder=embedder,
                cache_dir=cache_dir,
                max_value_bytes=max_value_bytes,
                index=looked_in,
                owns_index=index is None,
            )
        except BaseException:
            if adapter is None:
                opened.close()
            raise
        made.join(memory)
        # The engine keeps the objects alive whose ids are in the key.
        _engines.known[key] = made
        return made


def _configured_index(settings: Config) -> Hashable:
    return settings.index, repr(sorted(settings.index_options.items()))


def _configured(settings: Config) -> Hashable:
    """Return the identity of a configured store: its settings, the working directory, and all
    variables, because a store's library may read any of them."""
    try:
        here = os.getcwd()
    except FileNotFoundError:  # it was removed
        here = None
    options = repr(sorted(settings.options.items()))
    if settings.file is not None and settings.place is None:
        options += settings.file.layers.identity()
    return settings.adapter, options, here, hash(frozenset(os.environ.items()))
