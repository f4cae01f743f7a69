"""The commands that look after a store: stats, verify, health."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

import click

from amfs.cli import output
from amfs.cli.program import Command
from amfs.cli.session import Session
from amfs_core.entry import time_text


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs stats
  amfs --namespace production stats checkout-service --json
""",
)
@click.argument("entity", required=False)
@click.pass_obj
def stats(session: Session, entity: str | None) -> None:
    """Count memories, versions and bytes under ENTITY or in the namespace."""
    found = asdict(session.memory().stats(entity))
    shown = {
        name: time_text(one) if isinstance(one, datetime) else one for name, one in found.items()
    }
    if session.json:
        output.document(shown)
        return
    rows = ((name, "" if one is None else str(one)) for name, one in shown.items())
    output.table(("what", "count"), rows)


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs verify
  amfs verify checkout-service --json | jq '.findings[]'
""",
)
@click.argument("entity", required=False)
@click.pass_obj
def verify(session: Session, entity: str | None) -> int:
    """Read every version under ENTITY and check its bytes, its place and its chain.

    Exit code 1 when something is wrong.
    """
    with output.progress("Verifying") as progress:
        report = session.memory().verify(entity, progress=progress)
    if session.json:
        output.document({"ok": report.ok, **asdict(report)})
        return 0 if report.ok else 1
    if not report.ok:
        findings = ((one.object_key, one.problem, one.mend) for one in report.findings)
        output.table(("object", "problem", "mend"), findings)
    verdict = "all is well" if report.ok else f"{len(report.findings)} findings"
    versions = output.counted(report.versions, "version", "versions")
    memories = output.counted(report.memories, "memory", "memories")
    output.line(f"{versions} of {memories}: {verdict}")
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
    """Say whether the store can be read now, and how quickly.

    Exit code 1 when it can't.
    """
    found = session.memory().health()
    if session.json:
        output.document(
            {
                "ok": found.ok,
                "backend_type": found.backend_type,
                "latency": found.latency,
                "error": None if found.error is None else str(found.error),
            }
        )
    elif found.ok:
        output.line(f"the {found.backend_type} store answers in {found.latency * 1000:.0f} ms")
    else:
        click.echo(f"amfs: the store cannot be used: {output.plain(str(found.error))}", err=True)
    return 0 if found.ok else 1
