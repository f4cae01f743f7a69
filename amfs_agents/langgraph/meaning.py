"""Which texts of an item are embedded, and which items are nearest to a query by meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from langgraph.store.base import IndexConfig, ensure_embeddings, get_text_at_path, tokenize_path

from amfs_agents.langgraph.items import StoredItem
from amfs_core.errors import ConfigurationError

Vector = Sequence[float]


class Meaning:
    """An index configuration of LangGraph: what embeds texts, and where in an item these are."""

    def __init__(self, config: IndexConfig) -> None:
        self.embeddings = ensure_embeddings(config.get("embed"))
        self._dims = config.get("dims")
        self._fields = list(config.get("fields") or ["$"])

    def texts(
        self, value: Mapping[str, Any], fields: Literal[False] | Sequence[str] | None
    ) -> dict[str, str]:
        """Return the texts of an item's value, each by the name of its field. `fields` None: the
        configured ones; False: none."""
        found: dict[str, str] = {}
        for path in self._fields if fields is None else fields or ():
            texts = get_text_at_path(value, path if path == "$" else tokenize_path(path))
            for number, text in enumerate(texts):
                found[path if len(texts) == 1 else f"{path}.{number}"] = text
        return found

    def by_text(self, texts: Sequence[str], vectors: Sequence[Vector]) -> dict[str, Vector]:
        """Return what an embedder gave for texts, if it is a vector of the right size for each."""
        if len(vectors) != len(texts):
            raise ConfigurationError(
                f"the embedder gave {len(vectors)} vectors for {len(texts)} texts"
            )
        for vector in vectors:
            if self._dims is not None and len(vector) != self._dims:
                raise ConfigurationError(
                    f"the embedder gave a vector of {len(vector)} numbers, not {self._dims}",
                    hint="correct dims in the index configuration",
                )
        return dict(zip(texts, vectors, strict=True))


def scores(query: Vector, items: Sequence[StoredItem]) -> list[float | None]:
    """Return, for each item, the cosine of the angle between the query and its nearest vector; None
    for one that has no vector of that size."""
    import numpy as np

    found: list[float | None] = []
    asked = np.asarray(query, dtype=np.float64)
    length = float(np.linalg.norm(asked))
    for item in items:
        vectors = [one for one in item.vectors.values() if len(one) == len(asked)]
        if not vectors:
            found.append(None)
            continue
        matrix = np.asarray(vectors, dtype=np.float64)
        lengths = np.linalg.norm(matrix, axis=1) * length
        products = matrix @ asked
        cosines = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
        found.append(float(cosines.max()))
    return found
