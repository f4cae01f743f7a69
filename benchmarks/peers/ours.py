"""AMFS itself, by the same protocol as the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from thin import Item, Thin, Value

from amfs import AgentMemory
from amfs_core.storage import StorageAdapter
from amfs_local import LocalAdapter
from amfs_s3 import S3Adapter

# Between two looks where no doorbell rings; the default, said here since the page gives its price.
INTERVAL = timedelta(seconds=5)


class Peer(Thin):
    """An `AgentMemory` on a directory or on a bucket."""

    package = "amfs"

    def __init__(self, place: dict[str, str]) -> None:
        self._adapter = _adapter(place)
        self.durability = "fsync" if "directory" in place else "in the bucket"
        self._memory = AgentMemory(place["agent"], adapter=self._adapter)

    def write(self, path: str, key: str, value: Value) -> None:
        self._memory.write(path, key, value)

    def fill(self, items: Sequence[Item]) -> None:
        self._memory.write_many(
            {"entity_path": item.path, "key": item.key, "value": item.value} for item in items
        )

    def read(self, path: str, key: str) -> Value | None:
        found = self._memory.read(path, key)
        return None if found is None else found.value

    def read_version(self, path: str, key: str, version: int) -> Value:
        found = self._memory.read(path, key, version=version)
        assert found is not None
        value: Value = found.value
        return value

    def versions(self, path: str, key: str) -> list[Value]:
        return [entry.value for entry in self._memory.history(path, key)]

    def add_one(self, path: str, key: str) -> None:
        self._memory.update(path, key, lambda old: {"count": old["count"] + 1 if old else 1})

    def list(self) -> int:
        return len(self._memory.list())

    def search(self, words: str) -> int:
        return len(self._memory.search(words))

    def search_seen(self, words: str) -> int:
        return len(self._memory.search(words, max_age=3_600))

    def watch(self, path: str, callback: Callable[[Value], None]) -> Callable[[], None]:
        watch = self._memory.watch(path, lambda entry: callback(entry.value), interval=INTERVAL)
        return watch.cancel

    def close(self) -> None:
        self._memory.close()
        self._adapter.close()


def _adapter(place: dict[str, str]) -> StorageAdapter:
    if "directory" in place:
        return LocalAdapter(place["directory"])
    return S3Adapter(
        place["bucket"],
        endpoint_url=place["endpoint_url"],
        region_name=place["region"],
        aws_access_key_id=place["access_key"],
        aws_secret_access_key=place["secret_key"],
    )
