"""Turning texts into vectors of length 1 with any embedder, and the name under which they are
kept."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import msgspec

from amfs_core.catalog.embedder import Embedder
from amfs_core.errors import AMFSError, ConfigurationError
from amfs_core.ranking import terms

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    Matrix = NDArray[numpy.float32]

BATCH = 256
"""Texts given to the embedder at once."""


class Embedding:
    """One embedder, whose answers are checked. Raises `ConfigurationError` without NumPy."""

    def __init__(self, embedder: Embedder) -> None:
        self.np = _numpy()
        self._embedder = embedder
        self.name, self.is_known_elsewhere = _name_of(embedder)

    def vectors(self, texts: list[str]) -> Matrix:
        """Return the vectors of texts, each of length 1 (0 for a vector of zeros)."""
        np = self.np
        try:
            answer = self._embedder(texts)
            rows = answer if hasattr(answer, "__len__") else list(answer)
            made: Matrix = np.array(rows, dtype=np.float32)
        except AMFSError:
            raise
        except Exception as error:
            raise self.wrong(f"it failed: {error!r:.200}") from error
        if made.ndim != 2 or len(made) != len(texts) or not made.shape[1]:
            raise self.wrong(
                f"it must give one vector for each of {len(texts)} texts, all of one length; "
                f"its answer has the shape {made.shape}"
            )
        if not np.isfinite(made).all():
            raise self.wrong("its vectors have numbers that are not finite")
        lengths = np.linalg.norm(made, axis=1, keepdims=True)
        made /= np.where(lengths == 0, 1, lengths)
        return made

    def in_batches(self, texts: list[str]) -> Matrix:
        """Return the vectors of any number of texts."""
        parts = [
            self.vectors(texts[first : first + BATCH]) for first in range(0, len(texts), BATCH)
        ]
        none: Matrix = self.np.zeros((0, 0), dtype=self.np.float32)
        return self.np.concatenate(parts) if parts else none

    def check_length(self, now: int, before: int) -> None:
        """Refuse vectors whose length differs from those kept under the same name."""
        if now != before:
            raise self.wrong(
                f"it gave {now} numbers, and {before} before; a model that is another one needs a "
                "name of its own"
            )

    def wrong(self, problem: str) -> ConfigurationError:
        """Return the error for an embedder that breaks its contract."""
        return ConfigurationError(f"embedder {self.name!r}: {problem}")


def text_of(key: str, body: bytes) -> str:
    """Return the text to embed for a memory: the text in its value, or else its key."""
    content, _ = terms.texts(msgspec.json.decode(body)["value"])
    return content or key


def _name_of(embedder: Embedder) -> tuple[str, bool]:
    """Return the name under which an embedder's vectors are kept, and whether other processes would
    recognise it.

    An embedder without a `name` is known by the place of its definition. That does not identify a
    lambda, a function within another one, or an object, which may have been made in many ways:
    their vectors are kept for this process only.
    """
    name = getattr(embedder, "name", None)
    if name is not None:
        return str(name), True
    kind = embedder if hasattr(embedder, "__qualname__") else type(embedder)
    place = f"{kind.__module__}.{kind.__qualname__}"
    if kind is not embedder or "<" in place:
        return f"{place} {uuid.uuid4()}", False
    return place, True


def _numpy() -> Any:
    try:
        import numpy
    except ImportError as error:
        raise ConfigurationError(
            "an embedder needs the extra 'embeddings': pip install 'amfs[embeddings]'"
        ) from error
    return numpy
