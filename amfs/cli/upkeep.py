"""The commands that inspect a store: stats, verify, health."""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING

import click

from amfs import documents
from amfs.cli import output
from amfs.cli.options import Session
from amfs.cli.run import Command
from amfs_core.errors import InvalidValueError
from amfs_core.format import time_text

if TYPE_CHECKING:
    from amfs import AgentMemory
    from amfs_core.storage import Degraded


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs stats
  amfs --namespace production stats checkout-service --json
  amfs stats --plot growth.svg
""",
)
@click.argument("entity", required=False)
@click.option("--plot", metavar="FILE", help="Draw a picture: FILE.svg, FILE.png or FILE.pdf.")
@click.pass_obj
def stats(session: Session, entity: str | None, plot: str | None) -> None:
    """Count memories, versions and bytes under ENTITY or in the whole namespace.

    The picture of --plot shows growth over time, memories by agent and by type, and confidence.
    """
    memory = session.memory()
    if plot is not None:
        _draw(memory, entity, plot)
    statistics = memory.stats(entity)
    if not statistics.versions:
        session.explain_nothing(memory.adapter, memory.namespace)
    shown = {
        name: time_text(value) if isinstance(value, datetime) else value
        for name, value in documents.stats(statistics).items()
    }
    if session.json:
        output.document(shown)
        return
    rows = ((name, "" if value is None else str(value)) for name, value in shown.items())
    output.table(("what", "count"), rows)


def _draw(memory: AgentMemory, entity: str | None, file: str) -> None:
    from amfs import plot
    from amfs.cli import atomic_file

    kind = os.path.splitext(file)[1].removeprefix(".").lower()
    if kind not in plot.FORMATS:
        raise InvalidValueError(
            f"--plot {file!r}: the name must end with .{', .'.join(plot.FORMATS)}"
        )
    plot.require()
    picture = plot.picture(memory, entity)
    if not picture.versions:
        raise InvalidValueError(f"there is nothing to draw{f' under {entity}' if entity else ''}")
    atomic_file.put(file, plot.draw(picture, kind))


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs verify
  amfs verify checkout-service --json | jq '.findings[]'
  amfs verify --repair
""",
)
@click.argument("entity", required=False)
@click.option("--repair", is_flag=True, help="Finish outcomes that were interrupted.")
@click.pass_obj
def verify(session: Session, entity: str | None, repair: bool) -> int:
    """Check the bytes, place and chain of every version under ENTITY, and every outcome.

    Exit code 1 when there is a finding.
    """
    memory = session.memory()
    with output.progress("Verifying") as progress:
        report = memory.verify(entity, repair=repair, progress=progress)
    if not report.versions:
        session.explain_nothing(memory.adapter, memory.namespace)
    if session.json:
        output.document(documents.verify(report))
        return 0 if report.ok else 1
    rows = [
        *((finding.object_key, finding.problem, "repaired") for finding in report.repaired),
        *((finding.object_key, finding.problem, finding.hint) for finding in report.findings),
    ]
    if rows:
        output.table(("object", "problem", "hint"), rows)
    verdict = (
        "all is well" if report.ok else output.counted(len(report.findings), "finding", "findings")
    )
    parts = [output.counted(report.versions, "version", "versions")]
    parts.append(f"of {output.counted(report.memories, 'memory', 'memories')}")
    if report.outcomes:
        parts.append(f"and {output.counted(report.outcomes, 'outcome', 'outcomes')}")
    output.line(f"{' '.join(parts)}: {verdict}")
    return 0 if report.ok else 1


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs health
  amfs --store s3://my-bucket/amfs/ health --json
""",
)
@click.pass_obj
def health(session: Session) -> int:
    """Check whether the store and its index, if it has one, can be read now, and how quickly.

    Exit code 1 when one of them cannot.
    """
    state = session.memory().health()
    if session.json:
        output.document(documents.health(state))
    elif state.ok:
        output.line(f"the {state.backend_type} store answers in {state.latency * 1000:.0f} ms")
        for lag in state.mirrors:
            problem = "" if lag.error is None else f"; {output.plain(lag.error)}"
            output.line(
                f"{lag.mirror}: {lag.waiting} objects wait, {lag.left_out} were left out, "
                f"{lag.differing} differ{problem}"
            )
    else:
        click.echo(f"amfs: the store cannot be used: {output.plain(str(state.error))}", err=True)
    if not session.json and state.degraded is not None and state.degraded.is_degraded:
        output.line(f"degraded{_since(state.degraded)}: {_counted(state.degraded)}")
    index = state.index
    if index is None or session.json:
        return 0 if state.ok and (index is None or index.error is None) else 1
    if index.error is not None:
        click.echo(f"amfs: the index cannot be used: {output.plain(str(index.error))}", err=True)
        return 1
    output.line(f"the index at {index.location} answers in {index.latency * 1000:.0f} ms")
    return 0 if state.ok else 1


def _since(degraded: Degraded) -> str:
    return "" if degraded.since is None else f" since {time_text(degraded.since)}"


def _counted(degraded: Degraded) -> str:
    writes = output.counted(degraded.waiting, "write waits", "writes wait")
    conflicts = output.counted(degraded.conflicts, "conflict", "conflicts")
    problem = "" if degraded.error is None else f"; {output.plain(degraded.error)}"
    return f"{writes} for the primary store, {conflicts}{problem}"
