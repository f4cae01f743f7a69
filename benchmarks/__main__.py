"""`python -m benchmarks`: measure, save the figures, and make the page of them."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks import (
    beside,
    contention,
    conversations,
    depth,
    entries,
    find,
    interpreter,
    langgraph,
    load,
    local,
    looks,
    machine,
    page,
    requests,
    s3,
    server,
    shared_index,
    startup,
    stores,
    watch,
)
from benchmarks.compare import Verdict, changes, missing
from benchmarks.figure import Figure, Result
from benchmarks.page import SKIPPED
from benchmarks.peer import AMFS, CannotError
from benchmarks.scale import FULL, QUICK, Scale
from benchmarks.tables import shown
from benchmarks.workplace import clear
from tests.support.servers import ServerUnavailableError

RESULTS = Path("bench-results")
DOCS = Path("docs")

# What is compared with a limit comes first, as long as the run's own files are in nobody's way.
PARTS: dict[str, Callable[[Scale], Iterator[Figure]]] = {
    "startup": startup.starts,
    "raw-s3": s3.comparisons,
    "raw-local": local.comparisons,
    "raw-find": find.scans,
    "interpreter": interpreter.costs,
    "disk": beside.on_disk,
    "s3": beside.on_s3,
    "far": beside.far_away,
    "requests": requests.counted,
    "depth": depth.curves,
    "contention": contention.outcomes,
    "entries": entries.sizes,
    "watch": watch.latencies,
    "looks": looks.with_nothing_new,
    "stores": stores.beside,
    "index": shared_index.shared,
    "server": server.over_http,
    "langgraph": langgraph.comparisons,
    "locomo": load.locomo,
    "load": load.conversations,
    "conversations": conversations.kept,
}


@click.group()
def main() -> None:
    """Measure AMFS beside its peers and beside the physical limit."""


@main.command()
@click.option("--quick", is_flag=True, help="Fewer of everything: under three minutes.")
@click.option("--only", type=click.Choice([*PARTS]), help="One part; prints it, makes no page.")
@click.option(
    "--load-fully", is_flag=True, help="Load all 500,000 memories, however long it takes."
)
def run(*, quick: bool, only: str | None, load_fully: bool) -> None:
    """Measure, print, save, and make the page (a quick run's page stays beside its result)."""
    scale = QUICK if quick else FULL
    if load_fully:
        scale = replace(FULL, loading=3_600.0)
    console = Console(stderr=True)
    started = time.monotonic()
    figures: list[Figure] = []
    saved = RESULTS / (f"{scale.name}-{only}.json" if only else f"{scale.name}.json")
    for name in [only] if only else PARTS:
        begun = time.monotonic()
        with console.status(f"measuring: {name} …"):
            try:
                figures.extend(PARTS[name](scale))
            except (ServerUnavailableError, CannotError) as reason:
                console.print(f"[red]SKIPPED the rest of {name}[/red]: {reason}")
                figures.append(Figure(SKIPPED, name, AMFS.name, "", note=str(reason)))
        console.print(f"measured {name} in {time.monotonic() - begun:.0f} s")
        minutes = (time.monotonic() - started) / 60
        result = Result(machine.description(), scale.name, minutes, figures)
        result.save(saved)
    if only:
        _print(figures)
    else:
        click.echo(page.write(result, RESULTS if quick else DOCS))
    click.echo(f"figures: {saved}, {minutes:.1f} minutes")
    with console.status("removing the files of this run …"):
        clear()


@main.command("page")
@click.argument("results", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--into", type=click.Path(path_type=Path), default=DOCS, help="A directory.")
def page_of(results: tuple[Path, ...], into: Path) -> None:
    """Make the page of saved RESULTS again. Of a figure that several have, the last one counts."""
    loaded = [Result.load(path) for path in results]
    if len({result.scale for result in loaded}) > 1:
        raise click.UsageError("the results differ in scale")
    click.echo(page.write(functools.reduce(Result.followed_by, loaded), into))


@main.command()
@click.argument("before", type=click.Path(exists=True, path_type=Path))
@click.argument("after", type=click.Path(exists=True, path_type=Path))
def compare(before: Path, after: Path) -> None:
    """Print how each figure changed; exit 1 if one of AMFS's got worse beyond the spread."""
    baseline, other = Result.load(before), Result.load(after)
    comparisons = list(changes(baseline, other))
    table = Table("figure", "before", "after", "change", "")
    for change in comparisons:
        table.add_row(
            change.before.name,
            shown(change.before),
            shown(change.after),
            f"{(change.ratio - 1) * 100:+.0f} %",
            "" if change.verdict is Verdict.SAME else change.verdict.value,
        )
    console = Console()
    if not console.is_terminal:
        console.width = 160
    console.print(table)
    for name in missing(baseline, other):
        console.print(f"only in {before.name}: {name}")
    if baseline.scale != other.scale or baseline.machine != other.machine:
        console.print("The two runs differ in scale, machine or versions.")
    ours = [change.verdict for change in comparisons if change.before.peer == AMFS.name]
    worse, better = ours.count(Verdict.WORSE), ours.count(Verdict.BETTER)
    console.print(f"{len(ours)} of AMFS: {better} better, {worse} worse beyond the spread")
    sys.exit(1 if worse else 0)


def _print(figures: list[Figure]) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = 160
    table = Table("figure", "median", "spread", "goal")
    for figure in figures:
        goal = "" if figure.goal is None else f"{figure.goal:g}{'' if figure.met else '  MISSED'}"
        spread = f"{figure.spread[0]:,.4g} to {figure.spread[1]:,.4g}" if figure.samples else ""
        table.add_row(figure.name, shown(figure), spread, goal)
    console.print(table)


if __name__ == "__main__":
    main()
