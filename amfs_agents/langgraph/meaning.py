"""Embedding texts of items, and finding the items nearest to a query by meaning."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from langgraph.store.base import IndexConfig, ensure_embeddings, get_text_at_path, tokenize_path

from amfs_agents.langgraph.items import StoredItem
from amfs_core.errors import ConfigurationError

Vector = Sequence[float]


class Meaning:
    """LangGraph's configuration of an index: the embedder, and the fields of an item that it
    embeds."""

    def __init__(self, config: IndexConfig) -> None:
        self.embeddings = ensure_embeddings(config.get("embed"))
        self._dims = config.get("dims")
        self._fields = list(config.get("fields") or ["$"])

    def texts(
        self, value: Mapping[str, Any], fields: Literal[False] | Sequence[str] | None
    ) -> dict[str, str]:
        """Return the texts of an item's value, each by the name of its field. `fields` None: the
        configured ones; False: none."""
        named_texts: dict[str, str] = {}
        for path in self._fields if fields is None else fields or ():
            texts = get_text_at_path(value, path if path == "$" else tokenize_path(path))
            for number, text in enumerate(texts):
                named_texts[path if len(texts) == 1 else f"{path}.{number}"] = text
        return named_texts

    def by_text(self, texts: Sequence[str], vectors: Sequence[Vector]) -> dict[str, str]:
        """Return an embedder's vectors for texts, packed, if there is one of the right size for
        each."""
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
        return dict(zip(texts, map(packed, vectors), strict=True))


def packed(vector: Vector) -> str:
    """Return a vector as base64 of single-precision numbers: a quarter of the size of its
    digits."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def scores(query: Vector, items: Sequence[StoredItem]) -> list[float | None]:
    """Return, for each item, the cosine of the angle between the query and its nearest vector; None
    for one that has no vector of that size."""
    import numpy as np

    size = 4 * len(query)
    owners, bodies = [], []
    for number, item in enumerate(items):
        for text in item.vectors.values():
            body = base64.b64decode(text)
            if len(body) == size:
                owners.append(number)
                bodies.append(body)
    best_scores: list[float | None] = [None] * len(items)
    matrix = np.frombuffer(b"".join(bodies), dtype="<f4").reshape(-1, len(query))
    asked = np.asarray(query, dtype=np.float32)
    products = matrix @ asked
    lengths = np.linalg.norm(matrix, axis=1) * np.linalg.norm(asked)
    cosines = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    for number, cosine in zip(owners, cosines.tolist(), strict=True):
        best = best_scores[number]
        best_scores[number] = cosine if best is None else max(best, cosine)
    return best_scores
