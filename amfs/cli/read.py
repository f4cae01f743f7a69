"""The commands that read: read, ls, namespaces, log, diff."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from datetime import datetime

import click

from amfs import documents
from amfs.cli import output, values
from amfs.cli.options import MANY, Session
from amfs.cli.run import Command
from amfs_core.errors import InvalidValueError
from amfs_core.format import MemoryEntry
from amfs_core.versions import Change

_COLOURS = {"added": "green", "removed": "red", "changed": "yellow"}
_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs read checkout-service retry-pattern
  amfs read checkout-service retry-pattern --version 2
  amfs read checkout-service retry-pattern --at 2026-11-21T04:27:20Z
  amfs read checkout-service retry-pattern --json | jq .confidence
""",
)
@click.argument("entity")
@click.argument("key")
@click.option("--version", type=int, metavar="N", help="Read version N, not the newest.")
@click.option(
    "--at",
    type=values.moment,
    metavar="TIME",
    help="Read the version that was newest at TIME: ISO 8601, or 7d for a week ago.",
)
@click.option(
    "--min-confidence",
    type=float,
    default=0.0,
    help="Treat a memory with less confidence as absent.  [default: 0]",
)
@click.pass_obj
def read(
    session: Session,
    *,
    entity: str,
    key: str,
    version: int | None,
    at: datetime | None,
    min_confidence: float,
) -> int:
    """Print the newest version of a memory.

    Text is printed unchanged, anything else as JSON. Exit code 1 when there is no such memory.
    """
    entry = session.memory().read(
        entity, key, version=version, at=at, min_confidence=min_confidence
    )
    if entry is None:
        chosen = ""
        if version is not None:
            chosen += f" in version {version}"
        if at is not None:
            chosen += f" at {at:%Y-%m-%d %H:%M:%SZ}"
        if min_confidence:
            chosen += f" with a confidence of {min_confidence:g} or more"
        return _absent(session, entity, key, chosen)
    if session.json:
        output.document(documents.entry(entry))
        return 0
    output.faint(_headline(entry))
    if not entry.has_content:
        output.line(output.summary(entry))
    else:
        output.value_text(entry.value)
    return 0


def _absent(session: Session, entity: str, key: str, chosen: str = "") -> int:
    """Report that there is no such memory, as JSON `null` with --json; return the exit code."""
    if session.json:
        output.document(None)
    else:
        output.say_absent(entity, key, chosen)
    return 1


def _headline(entry: MemoryEntry) -> str:
    parts = [
        f"{entry.entity_path}/{entry.key} v{entry.version}",
        f"{entry.memory_type}, confidence {entry.confidence:g}",
        f"by {entry.provenance.agent_id}",
        output.when(entry),
        *(f"#{tag}" for tag in entry.tags),
    ]
    if entry.expires_at:
        parts.append(f"expires {entry.expires_at:%Y-%m-%d %H:%M:%SZ}")
    return " · ".join(parts)


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs ls
  amfs ls checkout-service
  amfs ls --json | jq -r .key
  amfs ls --paths                            # only the entity paths
""",
)
@click.argument("entity", required=False)
@click.option("--paths", is_flag=True, help="List entity paths, not memories.")
@click.pass_obj
def ls(session: Session, entity: str | None, paths: bool) -> None:
    """List the newest version of every memory under ENTITY, at any depth."""
    memory = session.memory()
    if paths:
        _names(session, "entity_path", memory.list_entity_paths(entity))
        return
    with output.progress("Reading", least=MANY) as progress:
        entries = memory.list(entity, progress=progress)
    if session.json:
        for entry in entries:
            output.document(documents.entry(entry))
    else:
        rows = (
            (
                entry.entity_path,
                entry.key,
                f"v{entry.version}",
                f"{entry.confidence:g}",
                entry.provenance.agent_id,
                output.when(entry),
                output.summary(entry),
            )
            for entry in entries
        )
        columns = ("entity", "key", "version", "confidence", "agent", "written", "value")
        output.table(columns, rows)
        output.faint(output.counted(len(entries), "memory", "memories"))
    if not entries:
        session.explain_nothing(memory.adapter, memory.namespace)
    session.suggest_catalog(memory)


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs namespaces
  amfs --store s3://my-bucket/amfs/ namespaces --json
""",
)
@click.pass_obj
def namespaces(session: Session) -> None:
    """List the namespaces of the store."""
    _names(session, "namespace", session.memory().list_namespaces())


def _names(session: Session, kind: str, names: list[str]) -> None:
    for name in names:
        if session.json:
            output.document({kind: name})
        else:
            output.line(output.plain(name))


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs log checkout-service retry-pattern
  amfs log checkout-service retry-pattern --json | jq -c '[.version, .value]'
""",
)
@click.argument("entity")
@click.argument("key")
@click.pass_obj
def log(session: Session, entity: str, key: str) -> int:
    """Show all versions of a memory, oldest first, including deleted and erased ones.

    Exit code 1 when there is no such memory; --json then prints nothing.
    """
    entries = session.memory().history(entity, key)
    if session.json:
        for entry in entries:
            output.document(documents.entry(entry))
    elif entries:
        rows = (
            (
                f"v{entry.version}",
                output.when(entry),
                entry.provenance.agent_id,
                f"{entry.confidence:g}",
                output.summary(entry),
            )
            for entry in entries
        )
        output.table(("version", "written", "agent", "confidence", "value"), rows)
    else:
        output.say_absent(entity, key)
    return 0 if entries else 1


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs diff checkout-service retry-pattern          # what the newest version changed
  amfs diff checkout-service retry-pattern 1        # what changed since version 1
  amfs diff checkout-service retry-pattern 1 2
""",
)
@click.argument("entity")
@click.argument("key")
@click.argument("old", type=int, required=False)
@click.argument("new", type=int, required=False)
@click.pass_obj
def diff(session: Session, entity: str, key: str, old: int | None, new: int | None) -> int:
    """Show the changes from version OLD to version NEW.

    By default NEW is the newest version and OLD the one before NEW. The places of changes are JSON
    pointers. Exit code 1 when there is no such memory.
    """
    memory = session.memory()
    try:
        difference = memory.diff(entity, key, old, new)
    except InvalidValueError:  # the memory lacks one of the versions, or does not exist
        if memory.history(entity, key):
            raise
        return _absent(session, entity, key)
    if session.json:
        output.document(documents.difference(difference))
        return 0
    before = difference.old.version if difference.old else 0
    output.faint(f"{entity}/{key} v{before} → v{difference.new.version}")
    for change in difference.changes:
        for text in _lines(change):
            _print(change, text)
    if not difference:
        output.faint("nothing changed")
    return 0


def _lines(change: Change) -> Iterator[str]:
    head = f"{_SIGNS[change.kind]} {output.plain(change.path)}"
    if change.kind == "added":
        yield f"{head}: {output.compact(change.new)}"
    elif change.kind == "removed":
        yield f"{head}: {output.compact(change.old)}"
    elif isinstance(change.old, str) and isinstance(change.new, str) and "\n" in change.new:
        yield f"{head}:"
        compared = difflib.unified_diff(
            change.old.splitlines(), change.new.splitlines(), lineterm="", n=1
        )
        yield from (f"    {output.plain(line)}" for line in list(compared)[2:])
    else:
        yield f"{head}: {output.compact(change.old)} → {output.compact(change.new)}"


def _print(change: Change, text: str) -> None:
    if not output.is_terminal():
        output.line(text)
        return
    from rich.text import Text

    colour = _COLOURS[change.kind]
    if text.startswith("    "):
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(text[4:5], "default")
    output.console().print(Text(text, style=colour), soft_wrap=True)
