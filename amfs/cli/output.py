"""Printing: tables and colour on a terminal, lines of text or JSON for programs.

Text from agents must not control the reader's terminal, so control characters are printed as
escapes.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from amfs_core.format import MemoryEntry

# C0, DEL and C1 control terminals; the others reorder or hide surrounding text (Unicode TR 36).
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


_LEAST = 12
"""Cells that the last column of a table keeps."""

_NAMES = ("name", "entity", "key", "ref", "object")
"""Columns of names, which people copy."""


def plain(text: str, keep: str = "") -> str:
    """Return text with its control characters, except those in `keep`, as visible escapes."""
    return _CONTROL.sub(lambda match: match[0] if match[0] in keep else _escape(match[0]), text)


def _escape(character: str) -> str:
    return f"\\u{ord(character):04x}"


def compact(value: Any) -> str:
    """Return a value as JSON on one line, safe on a terminal."""
    # `plain` escapes as JSON does, and control characters occur only inside JSON strings.
    return plain(json.dumps(value, ensure_ascii=False))


def is_terminal() -> bool:
    """True when standard output is a terminal."""
    return sys.stdout.isatty()


def line(text: str) -> None:
    """Print a line."""
    sys.stdout.write(text + "\n")


def document(value: Any) -> None:
    """Print one JSON document on a line."""
    line(compact(value))


def say_absent(entity: str, key: str, chosen: str = "") -> None:
    """Say on stderr that there is no such memory; `chosen` says how the version was chosen."""
    print(f"amfs: there is no {plain(f'{entity}/{key}')}{chosen}", file=sys.stderr)


def value_text(value: Any) -> None:
    """Print a memory's value: text unchanged, anything else as indented JSON.

    Control characters are escaped on a terminal only.
    """
    if not isinstance(value, str):
        line(plain(json.dumps(value, ensure_ascii=False, indent=2), keep="\n"))
        return
    text = plain(value, keep="\n\t") if is_terminal() else value
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows: as a table on a terminal, otherwise as tab-separated lines."""
    if not is_terminal():
        for row in rows:
            line("\t".join(plain(field) for field in row))
        return
    terminal = console()
    terminal.print(grid(columns, rows, terminal.width))


def grid(
    columns: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    width: int,
    *,
    one_line: bool = False,
) -> Table:
    """Return a table at most `width` cells wide. The last column is cut to make it fit; if that is
    not enough, other columns become narrower, and names are the last to. Long fields continue on
    the next line, unless each row has only `one_line`.

    Fields that are `Text` must already consist of `plain` text.
    """
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    shown = [
        [field if isinstance(field, Text) else Text(plain(field)) for field in row] for row in rows
    ]
    *narrow, last = columns
    widest = [
        max(cell_len(column), *(row[index].cell_len for row in shown), 0)
        for index, column in enumerate(narrow)
    ]
    gap = 2 if sum(widest) + 2 * len(widest) + _LEAST <= width else 1
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, gap, 0, 0))
    for column, cells in zip(narrow, widest, strict=True):
        if one_line:
            table.add_column(column, no_wrap=True, overflow="ellipsis")
        else:
            fixed = min(cells, max(len(column), width // 3)) if column in _NAMES else None
            table.add_column(column, overflow="fold", width=fixed, min_width=len(column))
    # without a maximum, rich shrinks the other columns instead of cutting this one
    rest = width - sum(widest) - gap * len(widest)
    table.add_column(last, no_wrap=True, overflow="ellipsis", max_width=max(_LEAST, rest))
    for row in shown:
        table.add_row(*row)
    return table


def faint(text: str) -> None:
    """Print a faint line on a terminal; print nothing for a program."""
    if is_terminal():
        from rich.text import Text

        console().print(Text(plain(text), style="dim"), soft_wrap=True)


def note(text: str) -> None:
    """Print a remark on stderr."""
    print(f"amfs: note: {plain(text)}", file=sys.stderr)


def hint(text: str) -> None:
    """Print a tip on stderr if that is a terminal."""
    if sys.stderr.isatty():
        from rich.text import Text

        console(stderr=True).print(Text(text, style="dim"), soft_wrap=True)


def console(*, stderr: bool = False) -> Console:
    """Return a rich console for the terminal."""
    from rich.console import Console

    return Console(highlight=False, stderr=stderr)


def counted(number: int, singular: str, many: str) -> str:
    """Return a number with its noun, singular or plural."""
    return f"{number:,} {singular if number == 1 else many}"


def were(number: int, what: str) -> str:
    """Return "1 was …" or "2 were …"."""
    return f"{number:,} {'was' if number == 1 else 'were'} {what}"


def summary(entry: MemoryEntry) -> str:
    """Return a version on one line: its value, or "(deleted)" or "(erased)"."""
    if not entry.has_content:
        if entry.visibility() == "purged":
            return "(erased)"
        return "(erased all before)" if entry.purges else "(deleted)"
    text = compact(entry.value)
    return text if len(text) <= 200 else text[:199] + "…"


def when(entry: MemoryEntry) -> str:
    """Return when a version was written: UTC, to the second."""
    return f"{entry.provenance.written_at:%Y-%m-%d %H:%M:%SZ}"


@contextlib.contextmanager
def progress(label: str, least: int = 0) -> Iterator[Callable[[int, int | None], None] | None]:
    """Yield a callback `(done, total)` that moves a progress bar on stderr, or None when stderr is
    not a terminal.

    With `least`, the bar appears only when the total is at least that. `total` is None while it is
    unknown. Lines printed meanwhile appear above the bar.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    bar = Progress(
        *columns,
        console=console(stderr=True),
        transient=True,
        redirect_stdout=is_terminal(),  # otherwise output to a file would go to the terminal
    )
    task = bar.add_task(label, total=None)

    def move(done: int, total: int | None) -> None:
        if total is None or total >= least:
            bar.start()
        bar.update(task, completed=done, total=total)

    if not least:
        bar.start()
    try:
        yield move
    finally:
        if bar.live.is_started:
            bar.stop()
