"""The namespaces in a store, found by skipping from one to the next."""

from __future__ import annotations

from collections.abc import Iterator

from amfs_core.format import unescape
from amfs_core.storage import StoreClient

_LAST = "\U0010ffff"


def namespaces(store: StoreClient) -> Iterator[str]:
    """Yield the names in the byte order of their escaped form. 1 request each, and 1 more."""
    after = ""
    while (info := next(store.list("", after), None)) is not None:
        segment, slash, _ = info.key.partition("/")
        name = unescape(segment)
        if slash and name is not None and not segment.startswith("."):
            yield name
        # Whatever else is in it comes before this, in the byte order of keys.
        after = f"{segment}/{_LAST}" if slash else info.key
