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
    """The engines of this process, for as long as anybody works on them."""

    def __init__(self) -> None:
        self.known: WeakValueDictionary[Hashable, Namespace] = WeakValueDictionary()
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        """Take a new lock in a forked child."""
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
    """Return the engine that a memory works on, which counts it from now on.

    Two memories share one when they were given the same adapter, or one is opened for them from the
    same configuration, and all settings of the engine are equal. Without an adapter the engine owns
    the one that it opens; so it is with the index. Raises `ConfigurationError` when that cannot be
    opened.
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
        # The engine keeps the objects alive that the key has the ids of.
        _engines.known[key] = made
        return made


def _configured_index(settings: Config) -> Hashable:
    return settings.index, repr(sorted(settings.index_options.items()))


def _configured(settings: Config) -> Hashable:
    """Return what tells one configured store from another: the settings, the working directory, and
    all variables, because a store's library may read any of them."""
    try:
        here = os.getcwd()
    except FileNotFoundError:  # it was removed
        here = None
    options = repr(sorted(settings.options.items()))
    if settings.file is not None and settings.place is None:
        options += settings.file.layers.identity()
    return settings.adapter, options, here, hash(frozenset(os.environ.items()))
