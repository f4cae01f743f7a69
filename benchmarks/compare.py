"""Two runs beside each other: what became better, and what became worse beyond the spread."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.figure import Figure, Result

EXACT = ("LIST", "GET", "PUT", "DELETE", "kept", "acknowledged")
"""Units of what is counted: any change is one."""
ALONE = 0.3
"""The change that is taken for noise where a figure was measured once, and so has no spread."""


class Verdict(enum.Enum):
    """What a change is taken for."""

    BETTER = "better"
    WORSE = "WORSE"
    SAME = "same"


@dataclass(frozen=True, slots=True)
class Change:
    """One figure in both runs."""

    before: Figure
    after: Figure

    @property
    def ratio(self) -> float:
        """The later value as a multiple of the earlier one."""
        assert self.before.value is not None
        assert self.after.value is not None
        if self.before.value == self.after.value:
            return 1.0  # two zeros too
        return self.after.value / self.before.value if self.before.value else float("inf")

    @property
    def verdict(self) -> Verdict:
        """Better or worse only if both medians are outside of the other run's spread."""
        was, now = self.before.value, self.after.value
        assert was is not None
        assert now is not None
        if was == now or not self._beyond(was, now):
            return Verdict.SAME
        better = now > was if self.before.more_is_better else now < was
        return Verdict.BETTER if better else Verdict.WORSE

    def _beyond(self, was: float, now: float) -> bool:
        if self.before.unit in EXACT:
            return True
        if min(len(self.before.samples), len(self.after.samples)) < 2:
            return abs(now - was) > ALONE * max(abs(was), abs(now))
        low, high = self.before.spread
        begin, end = self.after.spread
        return not low <= now <= high and not begin <= was <= end


def changes(before: Result, after: Result) -> Iterator[Change]:
    """Yield every figure that both runs have, in the order of the first."""
    later = {figure.name: figure for figure in after.figures if figure.samples}
    for figure in before.figures:
        if figure.samples and figure.name in later:
            yield Change(figure, later[figure.name])


def missing(before: Result, after: Result) -> list[str]:
    """Return the names of figures that only the earlier run has."""
    later = {figure.name for figure in after.figures if figure.samples}
    return [figure.name for figure in before.figures if figure.samples and figure.name not in later]
