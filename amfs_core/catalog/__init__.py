"""The newest versions, cached, listed and searched: a contract, and its implementation
`sqlite/`."""

import importlib
from typing import TYPE_CHECKING, Any

from amfs_core.catalog.contract import (
    Catalog,
    CatalogLost,
    CatalogUnavailable,
    Held,
    Index,
    IndexHealth,
    Known,
    SharedCatalog,
    Version,
)
from amfs_core.catalog.embedder import Embedder
from amfs_core.catalog.filters import Filters
from amfs_core.catalog.hit import SearchHit

if TYPE_CHECKING:
    from amfs_core.catalog import embedding, words
    from amfs_core.catalog.search import Search

__all__ = [
    "Catalog",
    "CatalogLost",
    "CatalogUnavailable",
    "Embedder",
    "Filters",
    "Held",
    "Index",
    "IndexHealth",
    "Known",
    "Search",
    "SearchHit",
    "SharedCatalog",
    "Version",
    "embedding",
    "words",
]


def __getattr__(name: str) -> Any:
    """Import modules that need SQLite, or the tables of words, on first use, because not every
    program searches."""
    if name == "Search":
        from amfs_core.catalog.search import Search

        return Search
    if name in ("embedding", "words"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
