"""A picture of the memories: growth over time, agents, types and confidence.

Needs the extra `plot`. The same memories give the same bytes, and text in an SVG stays text.
"""

from __future__ import annotations

import io
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from amfs_core.changes import Stored, stored
from amfs_core.errors import ConfigurationError
from amfs_core.format import MEMORY_TYPES
from amfs_core.memory import AgentMemory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("svg", "png", "pdf")
MOST_BARS = 12
"""The number of agents with a bar of their own; the others share one."""

# The palette of Okabe and Ito, which colour-blind people can tell apart.
_BLUE, _ORANGE, _GREEN, _PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
_GREY = "#5f5f5f"
_LONGEST = 26  # cells for a name
_FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans", "Noto Emoji")
_STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9a9a9a",
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.8,
    "svg.fonttype": "none",  # keep text as text, so that it can be searched, read aloud and copied
    "svg.hashsalt": "amfs",  # without it, the ids differ in every run
    "pdf.fonttype": 42,
    "text.parse_math": False,  # an agent may be called $x$
    "timezone": "UTC",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """The data to draw. `memories` has the time at which the store received the first version of
    each memory, `versions` that of every version; the rest is about the newest live versions."""

    title: str
    memories: Sequence[datetime]
    versions: Sequence[datetime]
    agents: Mapping[str, int]
    types: Mapping[str, int]
    confidences: Sequence[float]


def picture(memory: AgentMemory, entity_path: str | None = None) -> Picture:
    """Collect the data to draw. Costs a `list`, and 1 request per 1,000 objects."""
    first: dict[object, datetime] = {}
    times = []
    versions = memory.engine.versions
    for item in stored(versions.store, versions.layout, entity_path):
        if isinstance(item, Stored):
            times.append(item.modified)
            first[item.address] = min(item.modified, first.get(item.address, item.modified))
    entries = memory.list(entity_path)
    types = Counter(entry.memory_type for entry in entries)
    return Picture(
        title=memory.namespace if entity_path is None else f"{memory.namespace}: {entity_path}",
        memories=sorted(first.values()),
        versions=sorted(times),
        agents=Counter(entry.provenance.agent_id for entry in entries),
        types={name: types[name] for name in (*MEMORY_TYPES, *sorted(types))},
        confidences=sorted(entry.confidence for entry in entries),
    )


def require() -> None:
    """Raise `ConfigurationError` if pictures cannot be drawn here."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            f"pictures need the extra 'plot': pip install 'amfs[plot]' ({error})"
        ) from error


def draw(picture: Picture, kind: str) -> bytes:
    """Return the picture as a file of this kind, one of `FORMATS`."""
    require()
    import warnings

    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    fonts = [font for font in _FONTS if font in installed]
    style: dict[Any, Any] = {**_STYLE, "font.family": [*fonts, "sans-serif"]}
    metadata: dict[str, Any] = {
        "svg": {"Date": None, "Title": _heading(picture)},
        "pdf": {"CreationDate": None, "Title": _heading(picture)},
    }.get(kind, {})
    data = io.BytesIO()
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # Scripts without a font here are drawn as boxes; for an SVG, the viewer brings the fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(12, 8), dpi=120, layout="constrained")
        _fill(figure, picture)
        figure.savefig(data, format=kind, metadata=metadata)
    return data.getvalue()


def _fill(figure: Figure, picture: Picture) -> None:
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.15)  # type: ignore[union-attr, call-arg]
    figure.suptitle(_heading(picture), fontsize=14)
    (growth, agents), (confidence, types) = figure.subplots(2, 2)
    _growth(growth, picture)
    _bars(agents, "Memories by agent", picture.agents, _ORANGE)
    _confidence(confidence, picture.confidences)
    _bars(types, "Memories by type", picture.types, _GREEN)


def _heading(picture: Picture) -> str:
    live = len(picture.confidences)
    return f"{_shown(picture.title, 60)} · {_count(live, 'live memory', 'live memories')}"


def _growth(axes: Axes, picture: Picture) -> None:
    """Draw the number of memories and versions over time."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    axes.set_title("Growth")
    begin, end = picture.versions[0], picture.versions[-1]
    spare = max((end - begin) * 0.02, timedelta(minutes=5))
    for times, nouns, colour, line in (
        (picture.versions, ("version", "versions"), _BLUE, "-"),
        (picture.memories, ("memory", "memories"), _PURPLE, "--"),
    ):
        moments = [begin - spare, *times, end + spare]
        counts = [0, *range(1, len(times) + 1), len(times)]
        axes.plot(
            moments,  # type: ignore[arg-type]
            counts,
            drawstyle="steps-post",
            color=colour,
            linestyle=line,
            linewidth=2,
            label=_count(len(times), *nouns),
        )
    axes.set_xlim(begin - spare, end + spare)  # type: ignore[arg-type]
    locator = AutoDateLocator(minticks=3, maxticks=7)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.set_xlabel("time in the store (UTC)")
    axes.set_ylabel("number so far")
    _whole_numbers(axes, "y", len(picture.versions))
    axes.legend(loc="upper left", frameon=False)
    axes.grid(True)


def _bars(axes: Axes, title: str, counts: Mapping[str, int], colour: str) -> None:
    """Draw a bar for each name, the largest on top, and one bar for the rest beyond `MOST_BARS`."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    labels = _labels([name for name, _ in ranked[:MOST_BARS]])
    shown = [(label, count) for label, (_, count) in zip(labels, ranked, strict=False)]
    if others := ranked[MOST_BARS:]:
        shown.append((f"{len(others):,} others", sum(count for _, count in others)))
    places = range(len(shown))
    bars = axes.barh(places, [count for _, count in shown], height=0.65, color=colour)
    if others:
        bars[-1].set_color(_GREY)
    axes.bar_label(bars, [f"{count:,}" for _, count in shown], padding=4, color="#333333")
    axes.set_yticks(places, [name for name, _ in shown])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(max(len(shown), 4) - 0.4, -0.6)
    axes.set_title(title)
    axes.set_xlabel("memories")
    _whole_numbers(axes, "x", max((count for _, count in shown), default=0))
    axes.grid(True, axis="x")


def _confidence(axes: Axes, confidences: Sequence[float]) -> None:
    """Draw the number of memories by confidence, in ten steps; 1 counts in the last step."""
    counts = steps(confidences)
    places = [step / 10 for step in range(10)]
    bars = axes.bar(places, counts, 0.1, align="edge", color=_BLUE, edgecolor="white")
    labels = [f"{count:,}" if count else "" for count in counts]
    axes.bar_label(bars, labels, padding=3, color="#333333")
    axes.set_title("Confidence")
    axes.set_xlim(0, 1)
    axes.set_xticks([tenth / 10 for tenth in range(11)])
    axes.set_xlabel("confidence (0 to 1)")
    axes.set_ylabel("memories")
    _whole_numbers(axes, "y", max(counts))
    axes.grid(True, axis="y")


def steps(confidences: Iterable[float]) -> list[int]:
    """Return the number of confidences in each tenth, lower bound included; 1 is in the last."""
    # Round first: in binary, 0.7 is less than 7 tenths.
    counts = Counter(min(int(round(confidence * 10, 6)), 9) for confidence in confidences)
    return [counts[step] for step in range(10)]


def _whole_numbers(axes: Axes, side: str, most: int) -> None:
    """Make an axis count in whole numbers from 0, with room for a label."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axis = axes.xaxis if side == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    limits = (0, max(most * 1.15, 1.5))
    axes.set_xlim(limits) if side == "x" else axes.set_ylim(limits)


def _count(number: int, singular: str, many: str) -> str:
    return f"{number:,} {singular if number == 1 else many}"


def _labels(names: Sequence[str]) -> list[str]:
    """Return names shortened for an axis; different names stay different."""
    short = {name: _shown(name, _LONGEST) for name in names}
    for label, count in Counter(short.values()).items():
        if count > 1:
            same = {name: _printable(name) for name in names if short[name] == label}
            differ = _common(min(same.values()), max(same.values()))
            for name, text in same.items():
                short[name] = f"…{_fitting(text[max(0, differ - 6) :], _LONGEST - 2)}…"
    return [short[name] for name in names]


def _common(first: str, last: str) -> int:
    """Return the length of the common prefix of the first and last of sorted texts."""
    pairs = zip(first, last, strict=False)
    return next(
        (at for at, (character, other) in enumerate(pairs) if character != other), len(first)
    )


def _printable(name: str) -> str:
    return "".join(
        character if character.isprintable() else _escaped(character) for character in name
    )


def _shown(name: str, most: int) -> str:
    """Return a name of at most `most` cells, cut in the middle: both ends tell names apart."""
    text = _printable(name)
    if _cells(text) <= most:
        return text
    return f"{_fitting(text, most // 2)}…{_fitting(text[::-1], (most - 1) // 2)[::-1]}"


def _escaped(character: str) -> str:
    return f"\\u{ord(character):04x}"


def _fitting(text: str, most: int) -> str:
    end = next((at for at in range(len(text)) if _cells(text[: at + 1]) > most), len(text))
    return text[:end]


def _cells(text: Iterable[str]) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
