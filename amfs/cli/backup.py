"""The commands that make backups, list and restore them, and remove old ones."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from amfs import documents
from amfs.cli import output, values
from amfs.cli.options import Session
from amfs.cli.run import Command
from amfs_core.format import time_text

if TYPE_CHECKING:
    from amfs_core.upkeep.backup import Backup, Backups


@click.group(
    epilog="""\b
Examples:
  amfs backup create backups
  amfs --store s3://my-bucket/amfs/ backup create s3://my-backups/amfs/
  amfs backup list backups
  amfs --store restored backup restore backups
  amfs backup prune backups --keep 7 --keep-for 30d
"""
)
def backup() -> None:
    """Make, list, restore and prune backups of a namespace.

    PLACE is the store that keeps the backups; it takes the same forms as --store.
    """


@backup.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs backup create backups
  amfs --namespace production backup create sqlite:///backups.db --full
""",
)
@click.argument("place")
@click.option("--full", is_flag=True, help="Save everything; do not build on an earlier backup.")
@click.pass_obj
def create(session: Session, place: str, *, full: bool) -> int:
    """Back up the namespace to PLACE; agents may go on writing meanwhile.

    The backup saves only what earlier backups do not have. Exit code 1 when the namespace has lost
    versions, and later versions of those memories are not in the backup; or when the namespace is
    empty and another one is not.
    """
    memory = session.memory()
    backups = _kept(session, place, memory.namespace, must_exist=False)
    with output.progress("Saving") as progress:
        made = backups.create(memory.adapter, full=full, progress=progress)
    if session.json:
        output.document(documents.backup(made))
    else:
        kind = "full" if made.base is None else f"builds on {made.base}"
        new = output.counted(made.added, "new object", "new objects")
        output.line(f"made {made.name}: {new}, {made.size:,} bytes ({kind})")
    for key in made.left_out:
        click.echo(f"amfs: {output.plain(key)} is lost; later versions are left out", err=True)
    is_mistyped = False
    if not made.versions + made.outcomes:
        output.note("the backup is empty")
        is_mistyped = session.explain_nothing(memory.adapter, memory.namespace)
    return 1 if made.left_out or is_mistyped else 0


@backup.command("list", cls=Command)
@click.argument("place")
@click.pass_obj
def list_(session: Session, place: str) -> None:
    """List the backups in PLACE that can be restored, oldest first."""
    backups = _kept(session, place).list()
    if session.json:
        for entry in backups:
            output.document(documents.backup(entry))
        return
    columns = ("name", "as of", "memories", "versions", "outcomes", "new", "bytes", "kind")
    output.table(columns, map(_row, backups))


def _row(entry: Backup) -> tuple[str, ...]:
    counts = (entry.memories, entry.versions, entry.outcomes, entry.added, entry.size)
    kind = "full" if entry.base is None else f"on {entry.base}"
    return entry.name, _when(entry.as_of), *map(str, counts), kind


def _when(moment: datetime) -> str:
    return time_text(moment)


@backup.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs --store restored backup restore backups
  amfs --store s3://my-bucket/amfs/ backup restore backups 20261127T081500Z-1a2b3c4d
  amfs backup restore backups --dry-run
""",
)
@click.argument("place")
@click.argument("name", required=False)
@click.option("--dry-run", is_flag=True, help="Read and check everything, but write nothing.")
@click.pass_obj
def restore(session: Session, place: str, name: str | None, *, dry_run: bool) -> None:
    """Restore the backup NAME from PLACE, by default the newest, into --store.

    Missing objects are created, byte for byte; nothing is overwritten. Memories erased there since
    the backup stay erased. After an interruption, run the command again.
    """
    memory = session.memory()
    backups = _kept(session, place, memory.namespace)
    with output.progress("Restoring") as progress:
        report = backups.restore(None if dry_run else memory.adapter, name, progress=progress)
    if session.json:
        output.document(documents.restored(report))
        return
    of = report.backup
    if dry_run:
        versions = output.counted(of.versions, "version", "versions")
        outcomes = output.counted(of.outcomes, "outcome", "outcomes")
        output.line(f"{of.name} can be restored: {versions}, {outcomes}")
        return
    restored = output.counted(report.restored, "object", "objects")
    parts = [
        f"restored {restored} ({report.bytes:,} bytes) of {of.name}",
        output.were(report.already_there, "there already"),
    ]
    if report.erased:
        parts.append(f"{report.erased} stay erased")
    output.line(", ".join(parts))


@backup.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs backup prune backups --keep 7 --keep-for 30d
  amfs backup create backups --full && amfs backup prune backups --keep 1
""",
)
@click.argument("place")
@click.option("--keep", type=click.IntRange(min=1), metavar="N", help="Keep the newest N backups.")
@click.option("--keep-for", metavar="TIME", help="Keep backups younger than this, such as 30d.")
@click.option("--dry-run", is_flag=True, help="List what would be removed, but remove nothing.")
@click.pass_obj
def prune(
    session: Session, place: str, *, keep: int | None, keep_for: str | None, dry_run: bool
) -> None:
    """Remove old backups from PLACE, and the remains of interrupted attempts.

    A backup stays if either option keeps it or a kept backup builds on it; the newest always stays.
    Without either option, no backup is removed.
    """
    report = _kept(session, place).prune(
        keep=keep,
        keep_for=None if keep_for is None else values.length(keep_for),
        dry_run=dry_run,
    )
    if session.json:
        output.document(documents.pruned(report))
        return
    for removed in report.removed:
        output.line(f"{'would remove' if dry_run else 'removed'} {removed.name}")
    if report.attempts:
        attempts = output.counted(report.attempts, "interrupted attempt", "interrupted attempts")
        output.line(f"{'would remove' if dry_run else 'removed'} {attempts}")
    output.line(f"{output.counted(len(report.kept), 'backup is kept', 'backups are kept')}")


def _kept(
    session: Session, place: str, namespace: str | None = None, *, must_exist: bool = True
) -> Backups:
    from amfs_core.upkeep.backup import Backups

    store = session.open_existing(place, "with backups") if must_exist else session.open(place)
    settings = session.settings()
    name = namespace or session.namespace or settings.namespace
    return Backups(store, name, patience=settings.patience)
