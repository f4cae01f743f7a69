"""Listing memories by their names alone."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from amfs_core.changes import Followed, Listing, Source
from amfs_core.format import Address, Layout
from amfs_core.memory import AgentMemory
from amfs_core.versions import is_foreign, reached

_MOST_PATHS = 128

Newest = Mapping[Address, int]
"""Memories, including deleted ones, and the number of each one's newest version."""


class _Known(NamedTuple):
    followed: Followed
    newest: Newest


class Names:
    """The memories under entity paths. A store with a change log is only asked for changes since
    the last look at a path, as by `AgentMemory.list`.

    Safe to share between threads, and usable after a fork.
    """

    def __init__(self, memory: AgentMemory) -> None:
        self._memory = memory
        self._layout = memory.engine.layout
        self._source = Source(memory.engine.versions.store, self._layout)
        self._known: OrderedDict[str, _Known | None] = OrderedDict()

    def newest(self, entity_path: str) -> Newest:
        """Return the memories under an entity path, including deeper paths; no contents are read. 1
        request per 1,000 objects, or 1 in all where a change log is followed."""
        known = self._known.get(entity_path)
        news = None if known is None else self._news(known)
        if news is None:
            # A log is begun at the second look only, because a process that looks once needs none.
            position = self._source.position(make=entity_path in self._known)
            begun = time.monotonic()
            newest: Newest = newest_versions(self._memory, entity_path)
            if position is not None:
                followed = self._source.followed(entity_path, position, begun)
                news = _Known(followed, newest)
        else:
            newest = news.newest
        self._known[entity_path] = news
        if len(self._known) > _MOST_PATHS:
            self._known.popitem(last=False)
        return newest

    def _news(self, known: _Known) -> _Known | None:
        """Return the memories known now; None when everything must be listed. The known memories
        are replaced, not changed, because another thread may be reading them."""
        answer = self._source.since(known.followed)
        if answer is None:
            return None
        position, page = answer
        if not page:
            return _Known(replace(known.followed, position=position), known.newest)
        newest = dict(known.newest)
        for prefix, (version, *_) in page.items():
            address = _address(self._layout, prefix)
            if address is not None and address.is_under(known.followed.entity_path):
                newest[address] = max(version, newest.get(address, 0))
        return _Known(replace(known.followed, position=position), newest)


def newest_versions(memory: AgentMemory, entity_path: str) -> dict[Address, int]:
    """Return the memories under an entity path, including deeper paths, by listing all objects.
    1 request per 1,000 objects; no contents are read."""
    versions = memory.engine.versions
    listing = Listing(versions.store, versions.layout, entity_path)
    newest: dict[str, int] = {}
    for page in listing.pages():
        for prefix, (version, *_) in page.items():
            newest[prefix] = max(version, newest.get(prefix, 0))
    numbers = {}
    for prefix, version in newest.items():
        address = _address(versions.layout, prefix)
        if address is None:
            continue
        if is_foreign(version, listing.counts.get(prefix, 1)):
            version = reached(versions.listed(address))  # noqa: PLW2901 - another tool's number
        if version:
            numbers[address] = version
    return numbers


@lru_cache(maxsize=16_384)  # a process that looks at a thread looks again, with one more checkpoint
def _address(layout: Layout, prefix: str) -> Address | None:
    """Return the memory whose versions have a prefix; None where AMFS would not have made it."""
    parsed = layout.parse(f"{prefix}v1.json")
    return None if parsed is None else parsed[0]
