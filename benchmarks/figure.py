"""What was measured: figures, and all of a run's together."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

MORE_IS_BETTER = ("/s", "×", "kept", "acknowledged", "memories")
"""Units of rates, of ratios to a limit, and of what is there; of all others less is better."""

MANY = 10
"""Samples; more are single operations and not repetitions."""


class Figure(msgspec.Struct, frozen=True):
    """One operation of one peer: a sample per repetition, or none and the reason in `note`."""

    section: str
    operation: str
    peer: str
    unit: str
    samples: tuple[float, ...] = ()
    note: str = ""
    goal: float | None = None
    at: int | None = None
    """How deep or how many, where a figure is a point of a curve."""

    @property
    def name(self) -> str:
        """What tells it from all others of its run."""
        at = "" if self.at is None else f" at {self.at:,}"
        return f"{self.section}: {self.operation}{at}, {self.peer}, {self.unit}"

    @property
    def value(self) -> float | None:
        """The median."""
        return statistics.median(self.samples) if self.samples else None

    @property
    def spread(self) -> tuple[float, float]:
        """From the least to the most; of many samples the middle half."""
        if len(self.samples) > MANY:
            low, _, high = statistics.quantiles(self.samples, n=4)
            return low, high
        return min(self.samples), max(self.samples)

    @property
    def more_is_better(self) -> bool:
        """Whether a larger value is the better one."""
        return self.unit in MORE_IS_BETTER

    @property
    def met(self) -> bool | None:
        """Whether it reaches its goal; None where there is none."""
        if self.goal is None or self.value is None:
            return None
        return self.value >= self.goal if self.more_is_better else self.value <= self.goal


class Result(msgspec.Struct, frozen=True):
    """A run: where and how it was, and its figures in the order of measuring."""

    machine: dict[str, str]
    scale: str
    minutes: float
    figures: list[Figure]

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> Result:
        """Read what `save` wrote."""
        return msgspec.json.decode(path.read_bytes(), type=cls)

    def followed_by(self, later: Result) -> Result:
        """Return both as one run. Of a figure that both have, the later one counts."""
        names = {figure.name for figure in later.figures}
        kept = [figure for figure in self.figures if figure.name not in names]
        minutes = self.minutes + later.minutes
        return Result(self.machine, self.scale, minutes, kept + later.figures)

    def of(self, section: str, unit: str = "") -> Figures:
        """Return the figures of a section, of one unit if it is given."""
        return Figures(
            figure
            for figure in self.figures
            if figure.section == section and unit in ("", figure.unit)
        )


class Figures:
    """Some figures, found by operation and peer."""

    def __init__(self, figures: Iterable[Figure]) -> None:
        self._figures = list(figures)

    def __iter__(self) -> Iterator[Figure]:
        return iter(self._figures)

    @property
    def peers(self) -> list[str]:
        """Return the peers, in the order of measuring."""
        return list(dict.fromkeys(figure.peer for figure in self._figures))

    @property
    def operations(self) -> list[str]:
        """Return the operations, in the order of measuring."""
        return list(dict.fromkeys(figure.operation for figure in self._figures))

    def find(self, operation: str, peer: str) -> Figure | None:
        """Return the figure, if it was measured."""
        matches = (
            figure
            for figure in self._figures
            if (figure.operation, figure.peer) == (operation, peer)
        )
        return next(matches, None)

    def value(self, operation: str, peer: str) -> float | None:
        """Return the median, if it was measured."""
        figure = self.find(operation, peer)
        return None if figure is None else figure.value

    def curve(self, operation: str, peer: str) -> list[Figure]:
        """Return the points of a curve."""
        return [
            figure
            for figure in self._figures
            if (figure.operation, figure.peer) == (operation, peer) and figure.at is not None
        ]
