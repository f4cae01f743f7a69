"""The command that diagnoses problems: doctor."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING

import click

from amfs import documents
from amfs.cli import output
from amfs.cli.options import Session
from amfs.cli.run import Command

if TYPE_CHECKING:
    from amfs_core.doctor import Diagnosis

_STYLES = {"ok": "green", "warning": "bold yellow", "problem": "bold red", "skipped": "dim"}
_NAME_WIDTH, _VERDICT_WIDTH = 18, 7


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs doctor
  amfs --store s3://my-bucket/amfs/ doctor
  amfs doctor --json | jq -r 'select(.verdict == "problem") | .hint'
""",
)
@click.pass_obj
def doctor(session: Session) -> int:
    """Check the configuration, the connection to the store, and everything AMFS needs from it.

    Each check is ok, a warning or a problem, with a hint, or it is skipped. Doctor creates and
    removes scratch objects; it changes nothing else. Exit code 1 when there is a problem.
    """
    from amfs.doctor import diagnose

    counts: Counter[str] = Counter()
    findings = diagnose(session.store, session.namespace, session.config)
    with contextlib.closing(findings):
        for finding in findings:
            counts[finding.verdict] += 1
            _show(session, finding)
    if not session.json:
        output.line(_summary(counts))
    return 1 if counts["problem"] else 0


def _show(session: Session, finding: Diagnosis) -> None:
    verdict = str(finding.verdict)
    if session.json:
        output.document(documents.diagnosis(finding))
    elif output.is_terminal():
        _paint(finding)
    else:
        output.line(
            "\t".join(
                output.plain(text) for text in (finding.name, verdict, finding.found, finding.hint)
            ).rstrip("\t")
        )


def _paint(finding: Diagnosis) -> None:
    """Print a table row as soon as the finding is known; long text wraps within its column."""
    from rich.table import Table
    from rich.text import Text

    row = Table.grid(padding=(0, 2))
    row.add_column(width=_NAME_WIDTH)
    row.add_column(width=_VERDICT_WIDTH)
    row.add_column(overflow="fold")
    text = Text(output.plain(finding.found))
    if finding.hint:
        text.append(f"\n→ {output.plain(finding.hint)}", style="cyan")
    verdict = str(finding.verdict)
    row.add_row(finding.name, Text(verdict, style=_STYLES[verdict]), text)
    output.console().print(row)


def _summary(counts: Counter[str]) -> str:
    problems, warnings = counts["problem"], counts["warning"]
    if not problems and not warnings:
        return "all is well"
    parts = []
    if problems:
        parts.append(output.counted(problems, "problem", "problems"))
    if warnings:
        parts.append(output.counted(warnings, "warning", "warnings"))
    return ", ".join(parts)
