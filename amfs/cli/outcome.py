"""The commands about outcomes: outcome, outcomes."""

from __future__ import annotations

import click

from amfs import documents
from amfs.cli import output
from amfs.cli.options import Session
from amfs.cli.run import Command
from amfs_core.errors import InvalidValueError
from amfs_core.format import Outcome, unescape


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs outcome deploy-42 success --entry checkout-service/retry-pattern
  amfs outcome incident-7 critical_failure --entry a/b --entry a/c
  amfs outcome deploy-42 success             # again: finishes what was interrupted
  amfs outcome deploy-43 failure --entry hosts/eu%2Fweb1    # the key eu/web1 of hosts
  amfs outcome deploy-42                     # what was recorded
\b
TYPE is success, minor_failure, failure or critical_failure.
""",
)
@click.argument("ref")
@click.argument("type", required=False)
@click.option(
    "--entry", "entries", multiple=True, metavar="ENTITY/KEY", help="A memory that was used."
)
@click.pass_obj
def outcome(session: Session, ref: str, type: str | None, entries: tuple[str, ...]) -> int:
    """Record what happened after memories were used, and move their confidence.

    REF names the outcome, once. Each --entry stands for the newest version of that memory; write a
    slash in its key as %2F. Without TYPE, the recorded outcome is shown; exit code 1 when there is
    none.
    """
    if type is None and entries:
        raise InvalidValueError("say how it went: success, minor_failure, failure, …")
    if type is None:
        found = session.memory().read_outcome(ref)
    else:
        named = [_pair(entry) for entry in entries] or None
        found = session.memory().commit_outcome(ref, type, entries=named)
    if session.json:
        output.document(found and documents.outcome(found))
    elif found is None:
        click.echo(f"amfs: there is no outcome {output.plain(ref)}", err=True)
    elif type is None:
        _print([found])
    else:
        about = output.counted(len(found.memories()), "memory", "memories")
        output.line(f"recorded {output.plain(ref)}: {found.type} of {about}")
    return 0 if found else 1


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs outcomes
  amfs outcomes checkout-service
  amfs outcomes --json | jq -r 'select(.type != "success") | .ref'
""",
)
@click.argument("entity", required=False)
@click.pass_obj
def outcomes(session: Session, entity: str | None) -> None:
    """List outcomes, oldest first: of those about memories under ENTITY, if it is given."""
    found = session.memory().list_outcomes(entity)
    if session.json:
        for one in found:
            output.document(documents.outcome(one))
        return
    _print(found)
    output.faint(output.counted(len(found), "outcome", "outcomes"))


def _print(found: list[Outcome]) -> None:
    rows = (
        (
            one.ref,
            one.type.value,
            f"{one.committed_at:%Y-%m-%d %H:%M:%SZ}",
            one.agent_id,
            ", ".join(map(str, one.causes)),
        )
        for one in found
    )
    output.table(("ref", "type", "committed", "agent", "memories"), rows)


def _pair(entry: str) -> tuple[str, str]:
    entity_path, slash, key = entry.rpartition("/")
    if not slash:
        raise InvalidValueError(f"--entry must be ENTITY/KEY, not {entry!r}")
    # As object keys have it; a name that is none of theirs is meant as it is.
    return entity_path, unescape(key) or key
