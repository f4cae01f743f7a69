"""The command that follows new versions: watch."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from amfs import documents
from amfs.cli import atomic_file, output, values
from amfs.cli.options import Session
from amfs.cli.run import Command
from amfs_core.errors import BackendUnavailableError, InvalidValueError
from amfs_core.format import MemoryEntry

if TYPE_CHECKING:
    from rich.table import Table

    from amfs_core.watch import Watch

_COLUMNS = ("written", "name", "version", "agent", "value")
_TICK = 0.25
"""Seconds between updates of the table and of the cursor file."""

_MOST_ROWS = 500


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs watch
  amfs watch checkout-service --interval 30
  amfs watch --json | jq -r .key
  amfs watch --since beginning --count 100 --json
  amfs watch --json --cursor-file seen.cursor >> changes.jsonl
""",
)
@click.argument("entity", required=False)
@click.option("--since", metavar="CURSOR|beginning", help="Where to begin.  [default: now]")
@click.option(
    "--cursor-file",
    metavar="FILE",
    help="Start from the cursor in FILE if it exists; save the cursor there.",
)
@click.option(
    "--interval",
    type=values.length,
    metavar="TIME",
    help="How often to look.  [default: 5 seconds]",
)
@click.option("--count", type=click.IntRange(1), metavar="N", help="Stop after N versions.")
@click.pass_obj
def watch(
    session: Session,
    *,
    entity: str | None,
    since: str | None,
    cursor_file: str | None,
    interval: timedelta | None,
    count: int | None,
) -> None:
    """Show every new version under ENTITY as any process writes it, until Ctrl-C.

    Each version is shown once, and those of a memory in order, including deleted and erased ones.
    With --cursor-file, the next run continues where this one ended, however it ended. After a
    crash, the last lines may be repeated, but none is missing.
    """
    with contextlib.ExitStack() as ending:
        show: Callable[[MemoryEntry], None] = _print_line
        ticks: list[Callable[[], None]] = []
        if session.json:
            show = _print_document
        elif output.is_terminal():
            table = ending.enter_context(_Table())
            show, ticks = table.add, [table.refresh]
        following = _Following(show, count)
        saved = _saved(cursor_file)
        try:
            watching = session.memory().watch(
                entity,
                following.deliver,
                interval=None if interval is None else interval.total_seconds(),
                since=saved or since,
            )
        except InvalidValueError as error:
            if saved is not None:
                raise InvalidValueError(f"{cursor_file}: {error}") from error
            if since is not None and _is_time(since):
                raise InvalidValueError(
                    "--since takes a cursor or beginning, not a time",
                    hint=f"amfs search --since {since} lists what was written since then",
                ) from error
            raise
        ending.callback(watching.cancel)
        with _termination_as_interrupt():
            following.follow(watching, cursor_file, ticks)


def _is_time(text: str) -> bool:
    try:
        values.moment(text)
    except click.BadParameter:
        return False
    return True


class _Following:
    """One run of a watch. The watch's own thread delivers versions; the main thread, which receives
    Ctrl-C, waits."""

    def __init__(self, show: Callable[[MemoryEntry], None], count: int | None) -> None:
        self._show = show
        self._count = count
        self._delivered = 0
        self._failure: Exception | None = None
        self._watch: Watch | None = None
        self._begun = threading.Event()
        self._over = threading.Event()
        self._ended = threading.Event()

    def deliver(self, entry: MemoryEntry) -> None:
        """Show a version; the watch calls this."""
        self._begun.wait()
        try:
            self._show(entry)
            sys.stdout.flush()  # a reader of the pipe waits for it
        except Exception as error:  # such as a closed pipe
            self._failure = error
            self._over.set()
            self._ended.wait()  # the version was not shown, but a return would mark it delivered
            return
        self._delivered += 1
        if self._delivered == self._count:
            assert self._watch is not None  # since it has begun
            self._watch.cancel()
            self._over.set()

    def follow(
        self, watch: Watch, cursor_file: str | None, ticks: list[Callable[[], None]]
    ) -> None:
        """Wait until the wanted number of versions is delivered, or an error occurs."""
        self._watch = watch
        cursor = _Cursor(watch, cursor_file)
        cursor.save()
        self._begun.set()
        try:
            while not self._over.wait(_TICK):
                cursor.tick(self._delivered)
                for tick in ticks:
                    tick()
                if watch.error and not isinstance(watch.error, BackendUnavailableError):
                    raise watch.error
        finally:
            watch.cancel()
            try:
                cursor.save()
            finally:
                self._ended.set()
        if self._failure is not None:
            raise self._failure


class _Cursor:
    """The file that says where the next run continues."""

    def __init__(self, watch: Watch, file: str | None) -> None:
        self._watch = watch
        self._file = file
        self._text = ""
        self._delivered = 0
        self._looks = 0

    def tick(self, delivered: int) -> None:
        """Save the watch's position if it may have moved; asking for it takes time."""
        if delivered != self._delivered:
            # The cursor includes a version only after the callback; the second look surely does.
            self._delivered, self._looks = delivered, 2
        if self._looks:
            self._looks -= 1
            self.save()

    def save(self) -> None:
        """Save the watch's position if it has moved."""
        if self._file is None:
            return
        text = self._watch.cursor
        if text != self._text:
            atomic_file.put(self._file, f"{text}\n".encode())
            self._text = text


def _saved(file: str | None) -> str | None:
    if file is None or not os.path.exists(file):
        return None
    with open(file, encoding="ascii", errors="replace") as lines:
        return lines.read().strip() or "(empty)"


@contextlib.contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM, as sent by `timeout` and service managers, like Ctrl-C: save the cursor."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print_document(entry: MemoryEntry) -> None:
    output.document(documents.entry(entry))


def _print_line(entry: MemoryEntry) -> None:
    output.table(_COLUMNS, [_fields(entry)])


def _fields(entry: MemoryEntry) -> tuple[str, ...]:
    return (
        output.when(entry),
        f"{entry.entity_path}/{entry.key}",
        f"v{entry.version}",
        entry.provenance.agent_id,
        output.summary(entry),
    )


class _Table:
    """The last versions on a terminal, newest at the bottom."""

    def __init__(self) -> None:
        from rich.live import Live

        self._rows: deque[tuple[str, ...]] = deque(maxlen=_MOST_ROWS)
        self._changed = True
        self._terminal = output.console()
        self._live = Live(console=self._terminal, auto_refresh=False)

    def add(self, entry: MemoryEntry) -> None:
        """Add a version for the next refresh to show."""
        self._rows.append(_fields(entry))
        self._changed = True

    def refresh(self) -> None:
        """Show new versions, as many as there is room for."""
        if self._changed:
            self._changed = False
            self._live.update(self._shown(), refresh=True)

    def __enter__(self) -> _Table:
        self._live.start()
        self.refresh()
        return self

    def __exit__(self, *_: object) -> None:
        self.refresh()
        self._live.stop()

    def _shown(self) -> Table:
        from rich.text import Text

        width, height = self._terminal.size
        limits = (width, width // 4, width, width // 8, width)  # a wrapped row would need more room
        rows = []
        for row in list(self._rows.copy())[-max(1, height - 2) :]:
            texts = [Text(output.plain(field)) for field in row]
            for text, limit in zip(texts, limits, strict=True):
                text.truncate(limit, overflow="ellipsis")
            rows.append(texts)
        return output.grid(_COLUMNS, rows, width, one_line=True)
