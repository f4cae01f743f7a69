"""The command that finds memories: search."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from amfs import documents
from amfs.cli import output, values
from amfs.cli.excerpt import Matches
from amfs.cli.options import Session
from amfs.cli.run import Command
from amfs_core.format import MEMORY_TYPES, MemoryEntry

if TYPE_CHECKING:
    from rich.text import Text

    from amfs_core.catalog import SearchHit

_AGES = ((86_400, "d"), (3_600, "h"), (60, "min"))


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs search retry pattern
  amfs search                                # all memories, newest first
  amfs search timeout --entity checkout-service --since 7d
  amfs search --tag http --tag slow --min-confidence 0.5 -n 50
  amfs search retry --json | jq -r '[.score, .entity_path, .key] | @tsv'
""",
)
@click.argument("query", nargs=-1)
@click.option("--entity", metavar="ENTITY", help="Only memories under ENTITY, at any depth.")
@click.option(
    "--tag", "tags", multiple=True, help="Only memories with this tag; repeat to require several."
)
@click.option(
    "--type", "memory_type", type=click.Choice(MEMORY_TYPES), help="Only memories of this type."
)
@click.option(
    "--by", "agent_id", metavar="AGENT", help="Only memories whose newest version AGENT wrote."
)
@click.option(
    "--since",
    type=values.moment,
    metavar="TIME",
    help="Only memories written at TIME or later: ISO 8601, or 7d for a week ago.",
)
@click.option(
    "--until",
    type=values.moment,
    metavar="TIME",
    help="Only memories written before TIME: ISO 8601, or 12h for twelve hours ago.",
)
@click.option(
    "--min-confidence",
    type=float,
    default=0.0,
    help="Only memories with at least this confidence.  [default: 0]",
)
@click.option("-n", "--limit", type=int, default=10, help="The most hits to return.  [default: 10]")
@click.pass_obj
def search(
    session: Session,
    *,
    query: tuple[str, ...],
    entity: str | None,
    tags: tuple[str, ...],
    memory_type: str | None,
    agent_id: str | None,
    since: datetime | None,
    until: datetime | None,
    min_confidence: float,
    limit: int,
) -> int:
    """Find memories by their words, best match first; without QUERY, newest first.

    The search covers words of values, keys, entity paths and tags, in any language. There is no
    query syntax. Exit code 1 when nothing is found.
    """
    words = " ".join(query)
    memory = session.memory()
    hits = memory.search(
        words,
        entity_path=entity,
        tags=tags,
        memory_type=memory_type,
        agent_id=agent_id,
        since=since,
        until=until,
        min_confidence=min_confidence,
        limit=limit,
    )
    if session.json:
        for hit in hits:
            output.document(documents.hit(hit))
    elif not hits:
        click.echo("amfs: nothing found", err=True)
    elif output.is_terminal():
        _show(hits, Matches(words))
    else:
        matches = Matches(words)
        for hit in hits:
            fields = (_score(hit), _name(hit), output.when(hit.entry), _agent(hit))
            output.line("\t".join((*fields, matches.excerpt(hit.entry.value))))
    if not hits:
        session.explain_nothing(memory.adapter, memory.namespace)
    session.suggest_catalog(memory)
    return 0 if hits else 1


def _show(hits: list[SearchHit], matches: Matches) -> None:
    """Print a table with the matching words highlighted."""
    now = datetime.now(UTC)
    rows = (
        (
            _score(hit),
            _marked(_name(hit), matches),
            _age(hit.entry, now),
            _agent(hit),
            _marked(matches.excerpt(hit.entry.value), matches),
        )
        for hit in hits
    )
    terminal = output.console()
    terminal.print(output.grid(("score", "name", "age", "agent", "value"), rows, terminal.width))


def _marked(line: str, matches: Matches) -> Text:
    from rich.text import Text

    shown = Text(line)
    for start, end in matches.spans(line):
        shown.stylize("bold yellow", start, end)
    return shown


def _score(hit: SearchHit) -> str:
    return f"{hit.score:.3g}"


def _name(hit: SearchHit) -> str:
    return output.plain(f"{hit.entry.entity_path}/{hit.entry.key}")


def _agent(hit: SearchHit) -> str:
    return output.plain(hit.entry.provenance.agent_id)


def _age(entry: MemoryEntry, now: datetime) -> str:
    seconds = (now - entry.provenance.written_at).total_seconds()
    for size, unit in _AGES:
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return "now"
