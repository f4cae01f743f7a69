"""The commands about outcomes: outcome, outcomes."""

from __future__ import annotations

import click

from amfs import documents
from amfs.cli import output
from amfs.cli.options import Session
from amfs.cli.run import Command
from amfs_core.errors import InvalidValueError
from amfs_core.format import Outcome, OutcomeType, unescape


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs outcome deploy-42 success --entry checkout-service/retry-pattern
  amfs outcome incident-7 critical_failure --entry a/b --entry a/c
  amfs outcome deploy-42 success             # again: finish after an interruption
  amfs outcome deploy-43 failure --entry hosts/eu%2Fweb1    # the key eu/web1 of hosts
  amfs outcome deploy-42                     # show the recorded outcome
\b
TYPE is success, minor_failure, failure or critical_failure.
""",
)
@click.argument("ref")
@click.argument("type", required=False)
@click.option(
    "--entry", "entries", multiple=True, metavar="ENTITY/KEY", help="A memory that was used."
)
@click.option("--nothing", is_flag=True, help="No memory was used.")
@click.pass_obj
def outcome(
    session: Session, ref: str, type: str | None, entries: tuple[str, ...], nothing: bool
) -> int:
    """Record what came of using memories, and adjust their confidence.

    REF is the unique name of the outcome. Each --entry stands for the newest version of that
    memory; write a slash in its key as %2F. Without TYPE, show the recorded outcome; exit code 1
    when there is none.
    """
    if nothing and entries:
        raise click.UsageError("--nothing and --entry exclude each other")
    if type is None and (entries or nothing):
        raise InvalidValueError(
            f"{'--entry' if entries else '--nothing'} needs a TYPE: success, minor_failure, "
            "failure or critical_failure"
        )
    memory = session.memory()
    if type is None:
        recorded = memory.read_outcome(ref)
    else:
        named = [_pair(entry) for entry in entries] if entries or nothing else None
        try:
            recorded = memory.commit_outcome(ref, type, entries=named)
        except InvalidValueError as error:
            if named is not None or type not in {kind.value for kind in OutcomeType}:
                raise
            raise InvalidValueError(
                f"nothing says which memories the outcome {ref!r} is about",
                hint="name each with --entry ENTITY/KEY, or say --nothing",
            ) from error
    if session.json:
        output.document(recorded and documents.outcome(recorded))
    elif recorded is None:
        click.echo(f"amfs: there is no outcome {output.plain(ref)}", err=True)
    elif type is None:
        _print([recorded])
    else:
        about = output.counted(len(recorded.memories()), "memory", "memories")
        output.line(f"recorded {output.plain(ref)}: {recorded.type} of {about}")
    return 0 if recorded else 1


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
    """List outcomes, oldest first; with ENTITY, only those about memories under it."""
    listed = session.memory().list_outcomes(entity)
    if session.json:
        for recorded in listed:
            output.document(documents.outcome(recorded))
        return
    _print(listed)
    output.faint(output.counted(len(listed), "outcome", "outcomes"))


def _print(listed: list[Outcome]) -> None:
    rows = (
        (
            recorded.ref,
            recorded.type.value,
            f"{recorded.committed_at:%Y-%m-%d %H:%M:%SZ}",
            recorded.agent_id,
            ", ".join(map(str, recorded.causes)),
        )
        for recorded in listed
    )
    output.table(("ref", "type", "committed", "agent", "memories"), rows)


def _pair(entry: str) -> tuple[str, str]:
    entity_path, slash, key = entry.rpartition("/")
    if not slash:
        raise InvalidValueError(f"--entry must be ENTITY/KEY, not {entry!r}")
    # The key is escaped as in object keys; text that is not a valid escaped name is taken as it is.
    return entity_path, unescape(key) or key
