"""Whether the namespace has memories, and whether this release can read the newest."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice

from amfs_core.doctor import Diagnosis, ok, warning
from amfs_core.format import Layout, decode_entry, unescape
from amfs_core.storage import PAGE, ObjectInfo, StorageAdapter
from amfs_core.versions import AHEAD


class Memories:
    """The memories of one namespace, the first page of them."""

    def __init__(self, adapter: StorageAdapter, namespace: str) -> None:
        self._adapter = adapter
        self._namespace = namespace

    def look(self) -> Diagnosis:
        """Look at one page, and read what was written last in it. 2 requests."""
        layout = Layout(self._namespace)
        page = list(islice(self._adapter.list(layout.entries), PAGE))
        if not page:
            return self._nothing()
        versions = [info for info in page if layout.parse(info.key)]
        many = "at least " if len(page) == PAGE else ""
        found = f"{many}{len(versions):,} versions in namespace {self._namespace!r}"
        if not versions:
            return warning(
                f"{len(page):,} objects in namespace {self._namespace!r}, none of AMFS's layout",
                "check prefix and namespace; `amfs verify` names the objects",
            )
        return self._read(layout, max(versions, key=_age), found)

    def _nothing(self) -> Diagnosis:
        """Say which other namespace there is: a misspelt one looks like an empty store."""
        found = f"nothing in namespace {self._namespace!r} yet"
        other = next(iter(self._adapter.list("")), None)
        name = None if other is None else unescape(other.key.partition("/")[0])
        if name is None or name == self._namespace:
            return ok(found)
        return warning(
            f"{found}, but there is a namespace {name!r}", f"did you mean --namespace {name}?"
        )

    def _read(self, layout: Layout, info: ObjectInfo, found: str) -> Diagnosis:
        parsed = layout.parse(info.key)
        assert parsed is not None
        address, version = parsed
        body = self._adapter.get(info.key)
        if body is None:
            return warning(f"{found}; {info.key} is listed and absent", "run `amfs verify`")
        entry = decode_entry(body, self._namespace, address, version)
        if entry.provenance.written_at - datetime.now(UTC) > AHEAD:
            return warning(
                f"{found}; {address} v{version} is from {entry.provenance.written_at:%Y-%m-%d}, "
                "which is in the future",
                "set the clock of the machine that wrote it, or of this one; `amfs verify` names "
                "every such memory",
            )
        return ok(f"{found}; {address} v{version} is whole, in a format known here")


def _age(info: ObjectInfo) -> tuple[object, str]:
    return info.modified, info.key
