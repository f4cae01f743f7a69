"""Which version numbers writers can have reached, and which another tool put there."""

from __future__ import annotations

from collections.abc import Iterable

_LOST = 1000
_LOST_FOR_EACH = 10


def reached(numbers: Iterable[int]) -> int:
    """Return the highest of these numbers that writers can have reached, 0 when none is.

    Versions are numbered one by one and stay, so nearly all below a number are there. Some may have
    been lost, and a listing may be cut or lag: up to 1,000, and 10 for each that is there, may be
    missing. A number beyond that is foreign, and what works its way through the numbers up to this
    one does no more work than there are objects.
    """
    counted = enumerate(sorted(set(numbers)), start=1)
    near = (number for count, number in counted if number - count <= _LOST + _LOST_FOR_EACH * count)
    return max(near, default=0)
