"""What gives vectors for texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

Embedder = Callable[[list[str]], Iterable[Sequence[float]]]
"""Gives one vector for each text, all of one length. Its attribute `name`, if it has one, says
which model it is: vectors made under another name are made again."""
