"""One examination: settings, store, memories, catalog, in this order."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from amfs.config import Config, load, open_store
from amfs.doctor import check_cache, check_memories, check_settings
from amfs_core.catalog import Index
from amfs_core.doctor import Check, Diagnosis, checks_of, examine, ok
from amfs_core.storage import StorageAdapter


def diagnose(
    store: str | None = None, namespace: str | None = None, config: str | None = None
) -> Generator[Diagnosis, None, None]:
    """Examine the store that the arguments or the configuration select; yield findings one by one.

    `store` is a place as for `amfs.open_store`, `config` a configuration file. About 20 requests
    for a bucket. Never raises `AMFSError`; such an error becomes a finding.
    """
    with contextlib.closing(_Examination(store, namespace, config)) as examination:
        checks = examination.checks()
        with contextlib.closing(checks):  # also if the caller stops early: removes scratch objects
            yield from examine(checks)


class _Examination:
    def __init__(self, store: str | None, namespace: str | None, config: str | None) -> None:
        self._place = store
        self._namespace = namespace
        self._file = config
        self._config: Config | None = None
        self._adapter: StorageAdapter | None = None
        self._index: Index | None = None

    def checks(self) -> Generator[Check, None, None]:
        yield Check("configuration", self._read_settings)
        yield Check("store", self._open, ("configuration",))
        # The iterator resumes after the check has run, so the store has been opened by now.
        if self._adapter is not None:
            yield from checks_of(self._adapter)
        if self._adapter is not None and self._config is not None:
            namespace = self._namespace or self._config.namespace
            look = check_memories.Memories(self._adapter, namespace).look
            needs = ("root", "server", "sign-in", "bucket", "list")
            yield Check("memories", look, needs)
        if self._config is not None and self._config.index is not None:
            yield Check("index settings", self._open_index, ("configuration",))
        if self._index is not None:
            yield from self._index.checks()
        if self._config is not None and self._config.cache_dir is not None:
            directory = self._config.cache_dir
            yield Check("cache_dir", lambda: check_cache.look(directory))

    def close(self) -> None:
        if self._adapter is not None:
            self._adapter.close()
        if self._index is not None:
            self._index.close()

    def _open_index(self) -> Diagnosis:
        assert self._config is not None
        self._index = self._config.open_index()
        assert self._index is not None
        return ok(check_settings.index(self._config, self._index))

    def _read_settings(self) -> Diagnosis:
        self._config = load(self._file)
        return check_settings.sources(self._config, self._place)

    def _open(self) -> Diagnosis:
        assert self._config is not None
        if self._place is None:
            self._adapter = self._config.open_adapter()
            return ok(check_settings.origins(self._config, self._namespace))
        self._adapter = open_store(self._place)
        return ok(check_settings.named(self._place, self._adapter, self._config, self._namespace))
