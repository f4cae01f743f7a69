"""What a reader learns in ten seconds: the main figures of every peer, and where AMFS loses."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks import beside, contention, depth, entries, watch
from benchmarks.figure import Figure, Result
from benchmarks.peer import AMFS, GRAPH_MEMORY, ON_DISK, ON_S3
from benchmarks.pictures import number
from benchmarks.tables import grid, shown, wrapped

SLOWER = 1.15
"""A peer that is so many times better is said to win."""
SIZE = 10_000
"""Memories that are listed and searched in the short tables."""

Row = Callable[[Result, str, str], str]
"""Returns a cell: of a result, for a place ("directory" or "bucket") and a peer."""


def tables(result: Result) -> Iterator[str]:
    """Yield the short tables; a dash is what a peer can't do."""
    for place, peers, rows in (
        ("directory", ON_DISK, {**_FIRST, **_operations(beside.DISK, "/s"), **_ROWS}),
        ("bucket", ON_S3, {**_FIRST, **_operations(beside.FAR, "ms"), **_ROWS}),
    ):
        names = [peer.name for peer in peers]
        cells = {row: [cell(result, place, name) for name in names] for row, cell in rows.items()}
        told = [row for row, texts in cells.items() if any(text not in ("", "–") for text in texts)]

        if told:
            yield _HEADINGS[place]
            yield _short(told, names, cells)


def _short(rows: list[str], names: list[str], cells: dict[str, list[str]]) -> str:
    return grid(rows, names, lambda row, name: cells[row][names.index(name)])


_HEADINGS = {
    "directory": "On a directory:",
    "bucket": f"On a bucket; the milliseconds of reads and writes are of one {beside.AWAY} away:",
}


def _operations(section: str, unit: str) -> dict[str, Row]:
    """Return a row for each of the main operations of a section."""

    def row(operation: str) -> Row:
        def cell(result: Result, _: str, peer: str) -> str:
            return _value(result.of(section, unit).find(operation, peer))

        return cell

    names = ("write, new key", "write, a batch", "read, known key", "read, cold", "update")
    return {name: row(name) for name in names}


def _value(figure: Figure | None) -> str:
    return "–" if figure is None or figure.value is None else shown(figure)


def _grown(result: Result, place: str, peer: str) -> str:
    operation = depth.DISK if place == "directory" else depth.S3
    grown = result.of(depth.SECTION, "times").value(f"{operation}: {depth.FLAT}", peer)
    reached = [figure.at or 0 for figure in result.of(depth.SECTION, "ms").curve(operation, peer)]
    return f"{number(grown)}× at {max(reached):,}" if grown and reached else "–"


def _lost(work: str) -> Row:
    def cell(result: Result, place: str, peer: str) -> str:
        told, kept = (
            result.of(contention.SECTION, unit).value(f"{work}, {place}", peer)
            for unit in ("acknowledged", "kept")
        )
        return "–" if told is None or kept is None else f"{told - kept:,.0f} of {told:,.0f}"

    return cell


def _among(operation: str) -> Row:
    def cell(result: Result, place: str, peer: str) -> str:
        curve = result.of(entries.SECTION, "ms").curve(f"{operation}, {place}", peer)
        return _value(next((figure for figure in curve if figure.at == SIZE), None))

    return cell


def _delivered(result: Result, place: str, peer: str) -> str:
    where = place if place == "directory" else "bucket with notifications"
    return _value(result.of(watch.SECTION, "ms").find(f"{watch.DELIVERY}, {where}", peer))


def _durable(result: Result, place: str, peer: str) -> str:
    section = beside.DISK if place == "directory" else beside.NEAR
    figure = result.of(beside.ABILITIES).find(section, peer)
    return "–" if figure is None else figure.note


_FIRST: dict[str, Row] = {"a write that returned": _durable}
_ROWS: dict[str, Row] = {
    f"list {SIZE:,}, again": _among(entries.LIST),
    f"search among {SIZE:,}": _among(entries.SEARCH),
    "a deep key's write, slower by": _grown,
    "lost: 8 processes write a key": _lost("write"),
    "lost: 8 processes count up": _lost("count up"),
    "watch, write to delivery": _delivered,
}


def losses(result: Result) -> Iterator[str]:
    """Yield where peers are better, a line for each operation, the worst first."""
    faster_peers: dict[str, list[tuple[float, str]]] = {}
    for section, kind in (
        (beside.DISK, "/s"),
        (beside.NEAR, "/s"),
        (beside.FAR, "ms"),
        (entries.SECTION, "ms"),
        (contention.SECTION, "/s"),
    ):
        for figure in result.of(section, kind):
            ours = _ours(result, figure)
            if (
                figure.value is None
                or ours is None
                or figure.peer in (AMFS.name, GRAPH_MEMORY.name)
            ):
                continue
            times = figure.value / ours if figure.more_is_better else ours / figure.value
            if times >= SLOWER:
                at = "" if figure.at is None else f" of {figure.at:,}"
                place = f" ({section})" if section.startswith("on ") else ""
                if section == contention.SECTION:
                    place = " (eight processes, one key)"
                name = f"{figure.operation}{at}{place}"
                faster_peers.setdefault(name, []).append((times, f"{figure.peer} {number(times)}×"))
    if faster_peers:
        yield "## Where AMFS is slower"
        yield wrapped(
            "Every operation in which a peer is faster by more than "
            f"{(SLOWER - 1) * 100:.0f} %, and how many times as fast it is. What a write has "
            "survived and what a read promises differ: see [the method](#method). LangGraph's "
            "store in memory keeps nothing and is left out."
        )
        worst = sorted(faster_peers.items(), key=lambda item: max(item[1]), reverse=True)
        yield "\n".join(
            wrapped(f"- {name}: {', '.join(text for _, text in sorted(those)[::-1])}", "  ")
            for name, those in worst
        )


def _ours(result: Result, figure: Figure) -> float | None:
    for ours in result.of(figure.section, figure.unit):
        if (ours.operation, ours.at, ours.peer) == (figure.operation, figure.at, AMFS.name):
            return ours.value
    return None
