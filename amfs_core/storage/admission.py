"""What is let in as an adapter: an object with the methods of the contract, and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, cast

from amfs_core.errors import ConfigurationError
from amfs_core.storage.adapter import ChangeLog, Doorbell, ObjectInfo, StorageAdapter
from amfs_core.storage.capabilities import Capabilities

_METHODS = ("create", "get", "get_many", "list", "replace", "delete", "doorbell", "close")


def check_adapter(adapter: object) -> None:
    """Raise `ConfigurationError` for an object that is not an adapter, or lacks a method of the
    contract."""
    missing = [name for name in _METHODS if not callable(getattr(adapter, name, None))]
    if isinstance(adapter, type):
        kind = f"the class {adapter.__name__}"
    elif {"create", "get", "list"} & set(missing) or not missing:
        kind = type(adapter).__name__
    else:
        raise ConfigurationError(
            f"adapter {type(adapter).__name__} lacks {', '.join(missing)}: a store has all methods "
            "of amfs_core.storage.StorageAdapter",
            hint="derive from that to inherit those that may be left out (doorbell, close)",
        )
    if missing or isinstance(adapter, type):
        raise ConfigurationError(
            f"adapter must be an open store such as LocalAdapter('memories'), not {kind}",
            hint="amfs.open_store opens one by its place; amfs.yaml and AMFS_STORE choose one",
        )


def adopted(adapter: StorageAdapter) -> StorageAdapter:
    """Return an adapter that has every method of the contract, the optional ones too: `adapter`,
    or what stands for it when its class is not derived from `StorageAdapter`."""
    return adapter if isinstance(adapter, StorageAdapter) else _Adopted(adapter)


class _Adopted(StorageAdapter):
    """An adapter whose class has the methods and is not derived from `StorageAdapter`. This is the
    only place that looks for optional methods, once."""

    def __init__(self, adapter: Any) -> None:
        self.adapter = adapter
        self.backend_type = getattr(adapter, "backend_type", "")
        self.timeout = getattr(adapter, "timeout", None)
        declared = getattr(adapter, "capabilities", None)
        self.capabilities = declared if isinstance(declared, Capabilities) else _shown_by(adapter)

    @property
    def location(self) -> str | None:
        return cast("str | None", self.adapter.location) if self.capabilities.location else None

    def create(self, key: str, data: bytes) -> bool:
        return cast(bool, self.adapter.create(key, data))

    def create_many(self, objects: Mapping[str, bytes]) -> Collection[str]:
        if not self.capabilities.batch:
            return ()
        return cast("Collection[str]", self.adapter.create_many(objects))

    def get(self, key: str) -> bytes | None:
        return cast("bytes | None", self.adapter.get(key))

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        return cast("Iterator[tuple[str, bytes | None]]", self.adapter.get_many(keys))

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        return cast("Iterator[ObjectInfo]", self.adapter.list(prefix, start_after))

    def replace(self, key: str, data: bytes) -> None:
        self.adapter.replace(key, data)

    def delete(self, key: str) -> None:
        self.adapter.delete(key)

    def changes(self) -> ChangeLog | None:
        return cast(ChangeLog, self.adapter.changes()) if self.capabilities.changes else None

    def doorbell(self, prefix: str) -> Doorbell | None:
        return cast("Doorbell | None", self.adapter.doorbell(prefix))

    def checks(self) -> Iterator[Any]:
        return (
            cast("Iterator[Any]", self.adapter.checks()) if self.capabilities.checks else iter(())
        )

    def close(self) -> None:
        self.adapter.close()

    def __repr__(self) -> str:
        return repr(self.adapter)


def _shown_by(adapter: object) -> Capabilities:
    """Return what an object can do, judged by its members. Looks at the class first: to evaluate a
    `location` may take requests."""
    members = {
        name: getattr(type(adapter), name, None) or getattr(adapter, name, None)
        for name in ("create_many", "location", "doorbell", "checks", "changes", "paged")
    }
    members["paged"] = getattr(adapter, "paged", True)
    return Capabilities().with_members(members)
