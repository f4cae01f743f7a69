"""Tables of figures in Markdown, and why some cells are empty."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from benchmarks.figure import Figure, Result
from benchmarks.pictures import number

Cell = Callable[[str, str], str]


def shown(figure: Figure | None) -> str:
    """Return a figure as a table's cell: its value and unit, or why there is none."""
    if figure is None:
        return ""
    if figure.value is None:
        return figure.note
    value = figure.value
    if figure.unit == "ms" and value >= 10_000:
        return f"{number(value / 1000)} s"
    unit = figure.unit if figure.unit.startswith("/") or figure.unit == "×" else f" {figure.unit}"
    return f"{number(value)}{unit}"


def table(result: Result, section: str, kind: str, *, unit: bool = True) -> Iterator[str]:
    """Yield a table of a section's operations by peers, and a list of why cells are empty."""
    figures = result.of(section, kind)
    reasons: list[str] = []

    def cell(operation: str, peer: str) -> str:
        figure = figures.find(operation, peer)
        if figure is not None and figure.value is None:
            reasons.append(f"{peer}, {operation}: {figure.note}")
            return "–"
        text = shown(figure)
        return text if unit else text.removesuffix(f" {kind}")

    yield grid(figures.operations, figures.peers, cell)
    yield from notes(reasons)


def grid(rows: Sequence[str], columns: Sequence[str], cell: Cell, corner: str = "") -> str:
    lines = [f"| {corner} | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    for row in rows:
        cells = (cell(row, column) for column in columns)
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def notes(reasons: Sequence[str]) -> Iterator[str]:
    """Yield the reasons, those of one peer that are the same together."""
    together: dict[tuple[str, str], list[str]] = {}
    for reason in reasons:
        place, _, why = reason.partition(": ")
        peer, _, operation = place.partition(", ")
        together.setdefault((peer, why), []).append(operation)
    if together:
        yield "\n".join(
            wrapped(f"- {peer}: {why} ({'; '.join(dict.fromkeys(operations))})", "  ")
            for (peer, why), operations in together.items()
        )


def wrapped(text: str, indent: str = "") -> str:
    """Break lines as the other pages do; a cell or a line of code is not passed here."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) + 1 > 100:
            lines.append(f"{indent}{word}")
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines)
