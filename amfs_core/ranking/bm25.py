"""How well memories answer a query: BM25 over weighted fields, including the memories written just
before and after.

`docs/design/search.md` gives the reasons and the effect of each constant.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

K1 = 1.2
"""How soon more occurrences of a term stop counting (Robertson and Walker's usual value)."""

B = 0.4
"""How much a memory's length lowers its score: less than for documents, where 0.75 is usual."""

NEAR = (0.4, 0.2)
"""The weight of a term in the memory written just before or after, or two away.

The weights add up to less than 1, so a term in the memory itself always counts more.
"""

FIELD_NAMES = KEY = TAGS = 1.0
ENTITY_PATH = 0.5
"""The weight of an occurrence outside the value; many memories share a path."""

Neighbours = tuple[int, int, int, int]
"""The memories one before, one after, two before and two after, or `NOBODY`."""

NOBODY = -1

NOT_HELD = 0
"""The code of a term that is not in a memory."""

_STEPS = 4  # a weighted frequency is stored in quarters, at most 255 of them
_LENGTH_STEPS = 16  # a length is stored to a sixteenth of its binary logarithm: 4 % apart


class _FrequencyCodes(dict[float, int]):
    """From a weighted frequency to the upper half of a posting's code."""

    def __missing__(self, frequency: float) -> int:
        code = min(255, max(1, round(frequency * _STEPS))) << 8
        if len(self) < 1000:
            self[frequency] = code
        return code


FREQUENCY_CODES = _FrequencyCodes()


def length_code(length: int) -> int:
    """Return a memory's number of terms as the lower half of a posting's code."""
    return min(255, round(_LENGTH_STEPS * math.log2(1 + length)))


class Frequencies(dict[int, float]):
    """From a posting's code to the term's frequency, scaled to a memory of average length."""

    def __init__(self, average_length: float) -> None:
        super().__init__({NOT_HELD: 0.0})
        self._average = max(average_length, 1.0)

    def __missing__(self, code: int) -> float:
        length = 2 ** ((code & 255) / _LENGTH_STEPS) - 1
        frequency = (code >> 8) / _STEPS / (1 - B + B * length / self._average)
        self[code] = frequency
        return frequency


class Worths(dict[int, float]):
    """From a posting's code to the term's contribution to the score of its memory."""

    def __init__(self, rarity: float, frequencies: Frequencies) -> None:
        super().__init__()
        self._rarity = rarity
        self._frequencies = frequencies

    def __missing__(self, code: int) -> float:
        worth = self._rarity * saturated(self._frequencies[code])
        self[code] = worth
        return worth


def rarity(holders: int, memories: int) -> float:
    """Return the weight of a term that this many memories contain (Robertson and Sparck Jones)."""
    return math.log(1 + (memories - holders + 0.5) / (holders + 0.5))


def saturated(frequency: float) -> float:
    """Return the weight of a frequency, between 0 and K1 + 1: 1 for a frequency of 1."""
    return frequency * (K1 + 1) / (frequency + K1)


def score(
    candidates: Iterable[int],
    weighted_codes: Sequence[tuple[float, Mapping[int, int]]],
    frequencies: Frequencies,
    neighbours: Mapping[int, Neighbours],
) -> dict[int, float]:
    """Return the score of each candidate.

    `weighted_codes` has the rarity of each query term, and its code in each memory that contains
    the term.
    """
    scores = {}
    near, far = NEAR
    for memory in candidates:
        before, after, before2, after2 = around = neighbours[memory]
        total = 0.0
        for weight, codes in weighted_codes:
            if memory not in codes and codes.keys().isdisjoint(around):
                continue
            code = codes.get
            beside = max(frequencies[code(before, NOT_HELD)], frequencies[code(after, NOT_HELD)])
            beyond = max(frequencies[code(before2, NOT_HELD)], frequencies[code(after2, NOT_HELD)])
            frequency = frequencies[code(memory, NOT_HELD)] + near * beside + far * beyond
            total += weight * saturated(frequency)
        scores[memory] = total
    return scores
