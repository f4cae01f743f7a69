"""The type of a function that returns vectors for texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

Embedder = Callable[[list[str]], Iterable[Sequence[float]]]
"""Returns one vector for each text, all of the same length. Its attribute `name`, if it has one,
identifies the model: vectors made under another name are made again."""
