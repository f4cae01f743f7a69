"""The command that maintains a namespace, once or repeatedly: tend."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from amfs import documents
from amfs.cli import output, values
from amfs.cli.options import Session
from amfs.cli.run import Command
from amfs_core.errors import AMFSError
from amfs_core.format import time_text

if TYPE_CHECKING:
    from amfs_core.upkeep.tend import TendReport


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs tend
  amfs tend --backup backups --keep 7 --keep-for 30d
  amfs tend --every 10m --backup s3://my-backups/amfs/ --metrics 9464
""",
)
@click.option("--every", metavar="TIME", help="Start a round this often, such as 10m.")
@click.option("--backup", "place", metavar="PLACE", help="Make backups in PLACE, and prune them.")
@click.option(
    "--backup-every",
    default="1d",
    show_default=True,
    metavar="TIME",
    help="How often to make a backup.",
)
@click.option("--keep", type=click.IntRange(min=1), metavar="N", help="Keep the newest N backups.")
@click.option("--keep-for", metavar="TIME", help="Keep backups younger than this, such as 30d.")
@click.option("--metrics", metavar="[HOST:]PORT", help="Serve Prometheus metrics at this address.")
@click.pass_obj
def tend(
    session: Session,
    *,
    every: str | None,
    place: str | None,
    backup_every: str,
    keep: int | None,
    keep_for: str | None,
    metrics: str | None,
) -> None:
    """Maintain the namespace: finish interrupted outcomes, complete mirrors, make due backups,
    prune old backups, and update the index, if there is one.

    Each round prints a line on standard error about what it did. Several processes may tend a
    namespace at the same time. With --every, a failed round is reported and the next one tries
    again.
    """
    if place is None and (keep is not None or keep_for is not None):
        raise click.UsageError("--keep and --keep-for apply to backups, so they need --backup")
    pause = None if every is None else values.length(every).total_seconds()
    if pause == 0:
        raise click.BadParameter("--every must be more than 0 seconds")
    memory = session.memory()
    figures = None
    if metrics is not None:
        from amfs.cli.figures import Figures

        figures = Figures(memory.namespace, metrics)
    backup = None if place is None else session.open(place)
    length = values.length(backup_every)
    kept_for = None if keep_for is None else values.length(keep_for)

    def work() -> None:
        report = memory.tend(backup=backup, backup_every=length, keep=keep, keep_for=kept_for)
        if figures is not None:
            figures.count(report)
        if session.json:
            output.document(documents.tended(report))
            sys.stdout.flush()
        else:
            _say(_summary(report))

    if pause is None:
        work()
        return
    while True:
        started = time.monotonic()
        try:
            work()
        except AMFSError as error:
            if figures is not None:
                figures.count_failure()
            _say(f"this round failed: {error}")
        time.sleep(max(0.0, pause - (time.monotonic() - started)))


def _say(text: str) -> None:
    click.echo(f"amfs: {time_text(datetime.now(UTC))} {output.plain(text)}", err=True)


def _summary(report: TendReport) -> str:
    parts = [f"tended in {report.took:.1f} s"]
    if report.indexed:
        parts.append("brought the index up to date")
    if report.outcomes:
        parts.append(f"finished {output.counted(report.outcomes, 'outcome', 'outcomes')}")
    for mirror in report.mirrors:
        if changed := mirror.copied + mirror.erased:
            parts.append(f"{mirror.mirror} got {output.counted(changed, 'object', 'objects')}")
        if mirror.error is not None:
            parts.append(f"{mirror.mirror} is still incomplete: {mirror.error}")
    if report.backup is not None:
        made = report.backup
        new = output.counted(made.added, "new object", "new objects")
        parts.append(f"made the backup {made.name} ({new}, {made.size:,} bytes)")
        if made.left_out:
            parts.append(f"{made.left_out[0]} is lost (run verify)")
    if report.pruned is not None and report.pruned.removed:
        parts.append(f"pruned {output.counted(len(report.pruned.removed), 'backup', 'backups')}")
    return ", ".join(parts)
