"""The pictures of the page. Text in them stays text, and the same figures give the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks import beside, contention, depth, entries, money
from benchmarks.figure import Figures, Result
from benchmarks.measure import SECTION as LIMITS
from benchmarks.measure import SPEED
from benchmarks.peer import AMFS, ON_DISK, ON_S3, RIVAL

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "font.family": ["DejaVu Sans", "sans-serif"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9a9a9a",
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.8,
    "figure.facecolor": "white",  # on a dark page too
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
    "svg.hashsalt": "amfs",
}
# Okabe and Ito's colours, which people who confuse colours can tell apart; AMFS is always blue.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7f7f7f", "#333333")
_MARKS = "osD^v<>P"
_DARK = "#333333"

Draw = Callable[[Result], Drawing | None]


def draw(result: Result, into: Path, kind: str = "svg") -> list[str]:
    """Write every picture whose figures were measured, and return their names."""
    into.mkdir(parents=True, exist_ok=True)
    made = []
    with matplotlib.rc_context(_STYLE):
        for name, picture in PICTURES.items():
            drawing = picture(result)
            if drawing is not None:
                metadata = {"Date": None} if kind == "svg" else {}
                drawing.savefig(into / f"{name}.{kind}", metadata=metadata)
                made.append(name)
    return made


def _colour(peer: str, section: str) -> str:
    names = [known_peer.name for known_peer in (ON_S3 if "bucket" in section else ON_DISK)]
    return _COLOURS[names.index(peer) % len(_COLOURS)] if peer in names else _COLOURS[-1]


def number(value: float) -> str:
    """Return a number with as many digits as a reader needs."""
    if value >= 100_000:
        return f"{value / 1000:,.0f}k"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.1 else f"{value:.2g}"


def _bars(result: Result, section: str, unit: str, title: str, columns: int = 3) -> Drawing | None:
    """Draw a panel for each operation and a bar for each peer."""
    figures = result.of(section, unit)
    operations, peers = figures.operations, figures.peers
    if not operations:
        return None
    rows = -(-len(operations) // columns)
    drawing = Drawing(figsize=(11, 0.6 + rows * (0.55 + 0.24 * len(peers))), layout="constrained")
    drawing.suptitle(title, fontsize=12, x=0.01, ha="left")
    panels = drawing.subplots(rows, columns, squeeze=False).flatten()
    for panel, operation in zip(panels, operations, strict=False):
        _panel(panel, figures, operation, peers, section)
    for panel in panels[len(operations) :]:
        panel.remove()
    for place, panel in enumerate(panels[: len(operations)]):
        if place % columns:
            panel.set_yticklabels([])
    return drawing


def _panel(panel: Axes, figures: Figures, operation: str, peers: list[str], section: str) -> None:
    panel.set_title(operation)
    panel.set_xscale("log")
    values = [figures.value(operation, peer) for peer in peers]
    known = [value for value in values if value]
    low, high = (min(known) / 3, max(known) * 12) if known else (1.0, 10.0)
    for place, (peer, value) in enumerate(zip(peers, values, strict=True)):
        if value:
            panel.barh(place, value - low, left=low, color=_colour(peer, section), height=0.7)
            panel.text(value, place, f" {number(value)}", va="center", color=_DARK, fontsize=8)
        else:
            panel.text(low, place, " –", va="center", color=_DARK, fontsize=8)
    panel.set_xlim(low, high)
    panel.set_yticks(range(len(peers)), peers)
    panel.set_ylim(len(peers) - 0.4, -0.6)
    panel.tick_params(axis="y", length=0)
    panel.set_xticks([])
    panel.set_xticks([], minor=True)
    panel.grid(False)


def _on_disk(result: Result) -> Drawing | None:
    title = "On a directory: operations per second, longer is better (log scale)"
    return _bars(result, beside.DISK, "/s", title)


def _on_s3(result: Result) -> Drawing | None:
    title = "On a bucket of this machine: operations per second, longer is better (log scale)"
    return _bars(result, beside.NEAR, "/s", title)


def _far(result: Result) -> Drawing | None:
    title = "On a bucket 20 ms away: milliseconds, shorter is better (log scale)"
    return _bars(result, beside.FAR, "ms", title)


def _curves(
    result: Result, section: str, names: dict[str, str], axis: str, title: str
) -> Drawing | None:
    """Draw a panel for each operation and a line for each peer, on two log scales."""
    figures = result.of(section, "ms")
    drawing = Drawing(figsize=(11, 4.2 * -(-len(names) // 2)), layout="constrained")
    drawing.suptitle(title, fontsize=12, x=0.01, ha="left")
    panels = drawing.subplots(-(-len(names) // 2), 2, squeeze=False).flatten()
    drawn = False
    for panel, (operation, heading) in zip(panels, names.items(), strict=False):
        panel.set_title(heading)
        for peer in figures.peers:
            points = [
                (figure.at, figure.value)
                for figure in figures.curve(operation, peer)
                if figure.at is not None and figure.value is not None
            ]
            if not points:
                continue
            drawn = True
            where = "bucket" if "bucket" in operation else "directory"
            colour = _colour(peer, where)
            mark = _MARKS[_COLOURS.index(colour)]
            ats, values = zip(*points, strict=True)
            width = 2.6 if peer == AMFS.name else 1.4
            panel.plot(ats, values, marker=mark, color=colour, lw=width, ms=4, label=peer)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.minorticks_off()
        panel.set_xlabel(axis)
        panel.set_ylabel("milliseconds")
        for each in (panel.xaxis, panel.yaxis):
            each.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            each.set_minor_formatter(NullFormatter())
        if panel.lines:
            panel.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return drawing if drawn else None


def _depth(result: Result) -> Drawing | None:
    names = {depth.DISK: "on a directory", depth.S3: "on a bucket"}
    title = "One key, written again and again: milliseconds per write"
    return _curves(result, depth.SECTION, names, "versions that the key has", title)


def _entries(result: Result) -> Drawing | None:
    names = {
        f"{operation}, {where}": f"{operation}, on a {where}"
        for where in ("directory", "bucket")
        for operation in (entries.LIST, entries.SEARCH)
    }
    title = "Everything listed, and ten best found: milliseconds"
    return _curves(result, entries.SECTION, names, "memories", title)


def _contention(result: Result) -> Drawing | None:
    told, kept = (result.of(contention.SECTION, unit) for unit in ("acknowledged", "kept"))
    operations = told.operations
    if not operations:
        return None
    drawing = Drawing(figsize=(11, 5), layout="constrained")
    drawing.suptitle(
        f"{contention.PROCESSES} processes, one key: what was acknowledged (outline) and what is "
        "there (filled)",
        fontsize=12,
        x=0.01,
        ha="left",
    )
    panels = drawing.subplots(2, 2, squeeze=False).flatten()
    for panel, operation in zip(panels, operations, strict=False):
        panel.set_title(operation)
        peers = [peer for peer in told.peers if told.value(operation, peer) is not None]
        for place, peer in enumerate(peers):
            acknowledged = told.value(operation, peer) or 0
            there = kept.value(operation, peer) or 0
            lost = acknowledged - there
            panel.barh(place, there, color=_colour(peer, operation), height=0.6)
            panel.barh(place, acknowledged, fill=False, edgecolor=_DARK, height=0.6)
            label = f"  {lost:,.0f} lost" if lost > 0 else ""
            panel.text(acknowledged, place, label, va="center", fontsize=8, color="#B00020")
        panel.set_yticks(range(len(peers)), peers)
        panel.set_ylim(len(peers) - 0.4, -0.6)
        panel.set_xlim(0, 1.2 * max(told.value(operation, peer) or 0 for peer in peers))
        panel.tick_params(axis="y", length=0)
        panel.grid(False)
    return drawing


def _money(result: Result) -> Drawing | None:
    bills = {
        use.name: [(peer.name, money.dollars(result, peer.name, use)) for peer in (AMFS, RIVAL)]
        for use in money.USES
    }
    drawing = Drawing(figsize=(11, 2.6), layout="constrained")
    drawing.suptitle(
        "Dollars a month at S3's public prices, shorter is better (log scale)",
        fontsize=12,
        x=0.01,
        ha="left",
    )
    panels = drawing.subplots(1, len(bills), squeeze=False).flatten()
    for panel, (name, bill) in zip(panels, bills.items(), strict=True):
        panel.set_title(name)
        panel.set_xscale("log")
        for place, (peer, spent) in enumerate(bill):
            if spent is None:
                return None
            panel.barh(place, spent, color=_colour(peer, "directory"), height=0.6)
            panel.text(spent, place, f" ${spent:,.2f}", va="center", fontsize=8, color=_DARK)
        panel.set_xlim(0.5, 200 * max(spent or 1 for _, spent in bill))
        panel.set_yticks(range(len(bill)), [peer for peer, _ in bill])
        panel.set_ylim(len(bill) - 0.4, -0.6)
        panel.tick_params(axis="y", length=0)
        panel.set_xticks([])
        panel.set_xticks([], minor=True)
        panel.grid(False)
        if panel is not panels[0]:
            panel.set_yticklabels([])
    return drawing


def _limits(result: Result) -> Drawing | None:
    figures = [figure for figure in result.of(LIMITS, "×") if figure.samples]
    if not figures:
        return None
    drawing = Drawing(figsize=(11, 0.8 + 0.36 * len(figures)), layout="constrained")
    panel = drawing.subplots()
    panel.set_title("AMFS as a part of the raw client's rate: 1 is the limit; the bar is the goal")
    for place, figure in enumerate(figures):
        low, high = figure.spread
        value = figure.value or 0
        panel.plot([low, high], [place, place], color=_COLOURS[0], lw=2, alpha=0.5)
        panel.plot(value, place, "o", color=_COLOURS[0])
        panel.text(max(high, value), place, f"  {value:.2f}", va="center", fontsize=8, color=_DARK)
        if figure.goal is not None:
            panel.plot(figure.goal, place, "|", color=_COLOURS[1], ms=16, mew=2.5)
    panel.axvline(1, color="#9a9a9a", lw=1)
    panel.set_yticks(
        range(len(figures)), [figure.operation.removesuffix(f": {SPEED}") for figure in figures]
    )
    panel.set_ylim(len(figures) - 0.4, -0.6)
    panel.set_xlim(left=0)
    panel.tick_params(axis="y", length=0)
    return drawing


PICTURES: dict[str, Draw] = {
    "directory": _on_disk,
    "bucket": _on_s3,
    "far": _far,
    "depth": _depth,
    "entries": _entries,
    "contention": _contention,
    "money": _money,
    "limits": _limits,
}
