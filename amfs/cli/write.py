"""The commands that change memories: write, rm, purge."""

from __future__ import annotations

from datetime import timedelta

import click

from amfs import documents
from amfs.cli import output, streams, values
from amfs.cli.options import Session
from amfs.cli.run import Command
from amfs_core.errors import ConfigurationError
from amfs_core.format import MEMORY_TYPES


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs write checkout-service retry-pattern '{"max_retries": 3}'
  amfs write notes today 'plain text works too' --tag diary --ttl 7d
  amfs write reports q3 @report.json --confidence 0.8 --type belief
  curl -s https://example.com/status.json | amfs write site status -
  amfs write counters seen 5 --expect 2      # only if version 2 is the newest
  amfs write thermometer outside -- -5       # a value that begins with a dash
""",
)
@click.argument("entity")
@click.argument("key")
@click.argument("value")
@click.option("--confidence", type=float, default=1.0, help="From 0 to 1.  [default: 1]")
@click.option("--tag", "tags", multiple=True, help="Add a tag; repeat for several.")
@click.option(
    "--type",
    "memory_type",
    type=click.Choice(MEMORY_TYPES),
    default="fact",
    help="The type of the memory.  [default: fact]",
)
@click.option(
    "--ttl",
    type=values.length,
    metavar="TIME",
    help="Let it expire after TIME: 90 (seconds), 15m, 2h, 7d.",
)
@click.option(
    "--pattern-ref",
    "pattern_refs",
    multiple=True,
    help="Add a pattern reference; repeat for several.",
)
@click.option("--no-index", is_flag=True, help="Exclude it from searches by words and by meaning.")
@click.option("--expect", type=int, metavar="N", help="Write only if version N is the newest.")
@click.pass_obj
def write(
    session: Session,
    *,
    entity: str,
    key: str,
    value: str,
    confidence: float,
    tags: tuple[str, ...],
    memory_type: str,
    ttl: timedelta | None,
    pattern_refs: tuple[str, ...],
    no_index: bool,
    expect: int | None,
) -> None:
    """Write a new version of a memory.

    VALUE is JSON, or plain text, or @FILE, or - for standard input.
    """
    entry = session.memory().write(
        entity,
        key,
        values.value(value),
        confidence=confidence,
        tags=tags,
        memory_type=memory_type,
        ttl=ttl,
        pattern_refs=pattern_refs,
        expected_version=expect,
        index=not no_index,
    )
    if session.json:
        output.document(documents.entry(entry))
    else:
        output.line(f"wrote {output.plain(f'{entity}/{key}')} v{entry.version}")


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs rm checkout-service retry-pattern
  amfs log checkout-service retry-pattern    # it is all still there
""",
)
@click.argument("entity")
@click.argument("key")
@click.pass_obj
def rm(session: Session, entity: str, key: str) -> int:
    """Delete a memory: reads no longer see it, but its history stays.

    Exit code 1 when there was nothing to delete.
    """
    entry = session.memory().delete(entity, key)
    if session.json:
        output.document(documents.entry(entry) if entry else None)
    elif entry:
        output.line(f"deleted {output.plain(f'{entity}/{key}')} (v{entry.version})")
    else:
        output.say_absent(entity, key)
    return 0 if entry else 1


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs purge customers/4711 email
  amfs purge customers/4711 email --yes      # without asking, for scripts
""",
)
@click.argument("entity")
@click.argument("key")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def purge(session: Session, entity: str, key: str, yes: bool) -> int:
    """Erase the contents of every version of a memory permanently.

    Stubs remain so that version numbers are never reused. Exit code 1 when there was nothing to
    erase.
    """
    name = output.plain(f"{entity}/{key}")
    if not yes:
        if not streams.somebody_types():
            raise ConfigurationError(
                "purge erases permanently",
                hint="confirm with --yes",
            )
        if not click.confirm(f"Erase every version of {name} permanently?", err=True):
            return 1
    erased = session.memory().purge(entity, key)
    if session.json:
        output.document({"entity_path": entity, "key": key, "erased": erased})
    elif erased:
        output.line(f"erased {output.counted(erased, 'version', 'versions')} of {name}")
    else:
        output.say_absent(entity, key)
    return 0 if erased else 1
