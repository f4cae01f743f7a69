"""Which version numbers writers can have reached, and which another tool put there."""

from __future__ import annotations

from collections.abc import Iterable

_LOST = 1000
_LOST_FOR_EACH = 10


def is_foreign(number: int, count: int) -> bool:
    """True when writers cannot have reached a number, of a memory with so many versions there.

    Versions are numbered one by one and stay, so nearly all below a number are there. Some may have
    been lost, and a listing may be cut or lag: up to 1,000, and 10 for each that is there, may be
    missing.
    """
    return number - count > _LOST + _LOST_FOR_EACH * count


def reached(numbers: Iterable[int]) -> int:
    """Return the highest of these numbers that writers can have reached, 0 when none is.

    What works its way through the numbers up to it does no more work than there are objects.
    """
    counted = enumerate(sorted(set(numbers)), start=1)
    return max((number for count, number in counted if not is_foreign(number, count)), default=0)
