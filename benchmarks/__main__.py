"""`make bench`: measure, and print one table. Ratios hold within a run, rates on one machine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks import find, local, s3, startup, watch
from benchmarks.find import Figure
from benchmarks.measure import Comparison
from tests.servers import MINIO, running


def measured(*, quick: bool) -> Iterator[Comparison | Figure]:
    """Yield everything as it is measured."""
    count, repetitions = (1500, 3) if quick else (5000, 7)
    with running(MINIO) as server:
        yield from s3.comparisons(server, count, repetitions)
        yield from find.s3(server, 2_000 if quick else 20_000, 3)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as root:
        yield from local.comparisons(Path(root), count // 3, repetitions)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as root:
        yield from find.local(Path(root), 5_000 if quick else 100_000, 3)
    for one in watch.latencies(quick=quick):
        yield Figure(one.name, f"p50 {one.p50:.0f} ms, p95 {one.p95:.0f} ms", one.goal)


@click.command()
@click.option("--quick", is_flag=True, help="Fewer operations: under three minutes.")
def main(*, quick: bool) -> None:
    """Print how AMFS compares with the raw client, and how quickly it starts."""
    console = Console()
    if not console.is_terminal:
        console.width = 140
    table = Table(title="AMFS beside the raw client")
    for name in ("what", "ours/s", "raw/s", "ratio", "spread", "CPU µs", "raw µs", "CPU ×", "goal"):
        table.add_column(name, justify="left" if name in ("what", "goal") else "right")
    with console.status("measuring …"):
        figures: list[Figure] = []
        for one in measured(quick=quick):
            if isinstance(one, Figure):
                figures.append(one)
                continue
            table.add_row(
                one.name,
                f"{one.ours.rate:,.0f}",
                f"{one.raw.rate:,.0f}",
                f"{one.speed:.2f}",
                f"{min(one.ratios):.2f}–{max(one.ratios):.2f}",
                f"{one.ours.cpu:.0f}",
                f"{one.raw.cpu:.0f}",
                f"{one.cpu:.2f}",
                one.goal,
            )
        starts = {
            "import amfs": (("-c", "import amfs"), "< 0.2 s"),
            "amfs --help": (("-m", "amfs", "--help"), "< 0.4 s"),
        }
        times = {name: startup.seconds(*args, repetitions=7) for name, (args, _) in starts.items()}
    console.print(table)
    for figure in figures:
        console.print(f"{figure.name}: {figure.value}{figure.goal and f' (goal {figure.goal})'}")
    for name, spent in times.items():
        console.print(f"{name}: {spent:.3f} s from a cold start (goal {starts[name][1]})")


if __name__ == "__main__":
    main()
