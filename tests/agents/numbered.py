"""Chains and conversations with something in them."""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T")


def numbered(noun: str, kinds: tuple[str, str], record: T, count: int) -> T:
    """Append so many texts, "NOUN 1" and on, of two kinds in turn, and return the record."""
    appendable: Any = record
    for number in range(1, count + 1):
        appendable.append(kinds[(number - 1) % 2], f"{noun} {number}")
    return record
