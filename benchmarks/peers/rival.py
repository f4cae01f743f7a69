"""The PyPI package `amfs` 0.5, another project with the same import names."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from amfs_core.exceptions import VersionConflictError
from thin import Cannot, Item, Thin, Value

import amfs
from amfs import AgentMemory, ConflictPolicy, StaleWriteError

# Each environment can import one of the two. Measuring the wrong one would look plausible.
assert Path(amfs.__file__).is_relative_to(sys.prefix), amfs.__file__
assert importlib.metadata.version("amfs").startswith("0.5.")


class Peer(Thin):
    """Its `AgentMemory` on its filesystem adapter or on its S3 adapter."""

    package = "amfs"

    def __init__(self, place: dict[str, str]) -> None:
        self._bucket = "bucket" in place
        # On disk a rename; in a bucket a copy, a delete and a put, and no condition on any.
        self.durability = "in the bucket, in 3 steps" if self._bucket else "no fsync"
        self._memory: Any = AgentMemory(
            place["agent"],
            adapter=_adapter(place),
            conflict_policy=ConflictPolicy.RAISE,  # its defence against lost updates
        )

    def write(self, path: str, key: str, value: Value) -> None:
        self._memory.write(path, key, value)

    def fill(self, items: Sequence[Item]) -> None:
        with self._memory.transaction("fill") as transaction:
            for item in items:
                transaction.write(*item)

    def read(self, path: str, key: str) -> Value | None:
        found = self._memory.read(path, key)
        return None if found is None else found.value

    def read_version(self, path: str, key: str, version: int) -> Value:
        value: Value = self._memory.adapter.read_at_version(path, key, version).value
        return value

    def versions(self, path: str, key: str) -> list[Value]:
        return [entry.value for entry in self._memory.history(path, key)]

    def add_one(self, path: str, key: str) -> None:
        while True:
            found = self._memory.read(path, key)
            try:
                count = found.value["count"] + 1 if found else 1
                self._memory.write(path, key, {"count": count})
                return
            except (StaleWriteError, VersionConflictError):
                continue

    def list(self) -> int:
        return len(self._memory.list())

    def search(self, words: str) -> int:
        return len(self._memory.search(query=words, limit=10))

    def watch(self, path: str, callback: Callable[[Value], None]) -> Callable[[], None]:
        if self._bucket:
            raise Cannot("its watch on S3 sees only its own process")
        handle = self._memory.watch(path, lambda entry: callback(entry.value))
        cancel: Callable[[], None] = handle.cancel
        return cancel

    def close(self) -> None:
        self._memory.close()


def _adapter(place: dict[str, str]) -> Any:
    if "directory" in place:
        from amfs_filesystem import FilesystemAdapter

        return FilesystemAdapter(Path(place["directory"]), "default")
    from amfs_s3 import S3Adapter

    return S3Adapter(
        place["bucket"],
        endpoint_url=place["endpoint_url"],
        region_name=place["region"],
        aws_access_key_id=place["access_key"],
        aws_secret_access_key=place["secret_key"],
    )
