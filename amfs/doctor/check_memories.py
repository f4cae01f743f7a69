"""The check whether the namespace has memories, and whether this release can read the newest."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice

from amfs_core.doctor import Diagnosis, ok, warning
from amfs_core.format import Layout, decode_entry, unescape
from amfs_core.storage import PAGE, ObjectInfo, StorageAdapter
from amfs_core.versions import AHEAD


def other_namespace(adapter: StorageAdapter, namespace: str) -> str | None:
    """Return the name of another namespace if this one has no memories. 1 request, or 2."""
    if next(iter(adapter.list(Layout(namespace).entries)), None) is not None:
        return None
    name = _first_namespace(adapter)
    return None if name == namespace else name


def _first_namespace(adapter: StorageAdapter) -> str | None:
    first = next(iter(adapter.list("")), None)
    return None if first is None else unescape(first.key.partition("/")[0])


class Memories:
    """The first page of the memories of one namespace."""

    def __init__(self, adapter: StorageAdapter, namespace: str) -> None:
        self._adapter = adapter
        self._namespace = namespace

    def look(self) -> Diagnosis:
        """List one page, and read the version in it that was written last. 2 requests."""
        layout = Layout(self._namespace)
        page = list(islice(self._adapter.list(layout.entries), PAGE))
        if not page:
            return self._nothing()
        versions = [info for info in page if layout.parse(info.key)]
        many = "at least " if len(page) == PAGE else ""
        counted = f"{many}{len(versions):,} versions in namespace {self._namespace!r}"
        if not versions:
            return warning(
                f"{len(page):,} objects in namespace {self._namespace!r}, none in AMFS's layout",
                "check prefix and namespace; `amfs verify` names the objects",
            )
        return self._read(layout, max(versions, key=_age), counted)

    def _nothing(self) -> Diagnosis:
        """Name another namespace, if any: a misspelt namespace looks like an empty store."""
        empty = f"nothing in namespace {self._namespace!r} yet"
        name = _first_namespace(self._adapter)
        if name is None or name == self._namespace:
            return ok(empty)
        return warning(
            f"{empty}, but there is a namespace {name!r}", f"did you mean --namespace {name}?"
        )

    def _read(self, layout: Layout, info: ObjectInfo, counted: str) -> Diagnosis:
        parsed = layout.parse(info.key)
        assert parsed is not None
        address, version = parsed
        body = self._adapter.get(info.key)
        if body is None:
            return warning(f"{counted}; {info.key} is listed but absent", "run `amfs verify`")
        entry = decode_entry(body, self._namespace, address, version)
        if entry.provenance.written_at - datetime.now(UTC) > AHEAD:
            return warning(
                f"{counted}; {address} v{version} is from {entry.provenance.written_at:%Y-%m-%d}, "
                "which is in the future",
                "set the clock of the machine that wrote it, or of this one; `amfs verify` names "
                "every such memory",
            )
        return ok(f"{counted}; {address} v{version} is intact and in a format known here")


def _age(info: ObjectInfo) -> tuple[object, str]:
    return info.modified, info.key
