"""Items of the store as memories: their places, and their form as values.

The labels of a namespace are the segments of an entity path, so `("users", "ada")` is below
`("users",)` and a search under a prefix lists only that part.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from langgraph.store.base import Item, SearchItem

from amfs_agents.labels import MAX_LABEL_BYTES, fold, label, size
from amfs_core.errors import InvalidValueError
from amfs_core.format import (
    MAX_OBJECT_KEY_BYTES,
    MAX_PREFIX_BYTES,
    MAX_VERSION,
    Layout,
    MemoryEntry,
)

_FOLD_BYTES = size(fold([])) + 1
_REFRESHED_AFTER = 0.01
"""The part of an item's time to live that must be over before a read begins it again. Otherwise an
item that is read all the time would be written all the time."""

Namespace = tuple[str, ...]


class Places:
    """The memory of an item. All are under the entity path `path`."""

    def __init__(self, layout: Layout, path: str) -> None:
        self._path = path
        version = len(f"/v{MAX_VERSION}.json")
        taken = len(layout.entity_prefix(path).encode()) + MAX_LABEL_BYTES + version
        self._room = MAX_OBJECT_KEY_BYTES - MAX_PREFIX_BYTES - taken

    def entity_path(self, namespace: Namespace) -> str:
        """Return the entity path of a namespace. Labels that do not fit into an object key are
        combined in one segment."""
        labels = [label(name, "namespace label") for name in namespace]
        if sum(size(segment) + 1 for segment in labels) > self._room:
            whole = self._fitting(labels)
            labels = [*labels[:whole], fold(namespace[whole:])]
        return "/".join([self._path, *labels])

    def above(self, prefix: Namespace) -> str:
        """Return an entity path that all namespaces with this prefix are at or below."""
        labels = [label(name, "namespace label") for name in prefix]
        return "/".join([self._path, *labels[: self._fitting(labels)]])

    def key(self, key: str) -> str:
        """Return the key of an item's memory."""
        return label(key, "key")

    def _fitting(self, labels: list[str]) -> int:
        """Return how many labels fit beside a combined segment."""
        left, count = self._room - _FOLD_BYTES, 0
        for segment in labels:
            left -= size(segment) + 1
            if left < 0:
                break
            count += 1
        return count


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item as it is stored. `ttl` is in minutes; `vectors` are the embeddings of its texts by
    field, as `amfs_agents.langgraph.meaning` packs them."""

    namespace: Namespace
    key: str
    value: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    ttl: float | None = None
    vectors: dict[str, str] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """Return it as the value of a memory, in which a search by words finds the words of the
        item."""
        kept: dict[str, Any] = {
            "namespace": list(self.namespace),
            "key": self.key,
            "value": self.value,
            "created_at": self.created_at.isoformat(),
            "updated_at": self.updated_at.isoformat(),
        }
        if self.ttl is not None:
            kept["ttl"] = self.ttl
        if self.vectors:
            kept["vectors"] = self.vectors
        return kept

    @classmethod
    def of(cls, entry: MemoryEntry) -> StoredItem:
        """Return the item that a memory holds."""
        value = entry.value
        try:
            return cls(
                tuple(value["namespace"]),
                value["key"],
                dict(value["value"]),
                datetime.fromisoformat(value["created_at"]),
                datetime.fromisoformat(value["updated_at"]),
                value.get("ttl"),
                dict(value.get("vectors", {})),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidValueError(
                f"{entry.entity_path}/{entry.key} is not an item of a LangGraph store",
                hint="delete it, or give the store another path",
                entity_path=entry.entity_path,
                key=entry.key,
            ) from error

    def item(self) -> Item:
        """Return it as LangGraph's `Item`."""
        return Item(
            namespace=self.namespace,
            key=self.key,
            value=self.value,
            created_at=self.created_at,
            updated_at=self.updated_at,
        )

    def found(self, score: float | None) -> SearchItem:
        """Return it as LangGraph's `SearchItem`."""
        return SearchItem(
            self.namespace, self.key, self.value, self.created_at, self.updated_at, score
        )


def is_due(item: StoredItem, entry: MemoryEntry, now: datetime) -> bool:
    """True when a read must begin the item's time to live again."""
    if item.ttl is None or entry.expires_at is None:
        return False
    whole = timedelta(minutes=item.ttl)
    return entry.expires_at - now < whole * (1 - _REFRESHED_AFTER)
