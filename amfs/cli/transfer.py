"""The commands that move memories: import, export, copy."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from amfs.cli import output, streams
from amfs.cli.options import Session
from amfs.cli.run import Command
from amfs.importers import KINDS, import_from
from amfs_core.memory import Imported, jsonl
from amfs_core.upkeep.copy import copy as copy_store

if TYPE_CHECKING:
    from amfs_core.storage import StorageAdapter
    from amfs_core.upkeep.copy import CopyReport


@click.command(
    "import",
    cls=Command,
    epilog="""\b
Examples:
  amfs import memories.jsonl
  amfs --store old export | amfs --store new import -
  amfs import --from mcp-memory ~/memory.jsonl --dry-run
  amfs import --from langgraph postgresql:///agents --into agents
\b
A line:
  {"entity_path": "checkout-service", "key": "retry-pattern", "value": {"max_retries": 3}}
and optionally confidence, tags, memory_type, ttl or expires_at, pattern_refs, index.
""",
)
@click.argument("source", metavar="SOURCE")
@click.option("--from", "kind", metavar="KIND", help=f"The kind of SOURCE: {', '.join(KINDS)}.")
@click.option("--into", metavar="ENTITY", help="Put the memories under ENTITY.")
@click.option("--dry-run", is_flag=True, help="Show what would be written, but write nothing.")
@click.option("--overwrite", is_flag=True, help="Overwrite memories changed here since.")
@click.option(
    "--origin", metavar="NAME", help="A name for SOURCE that still identifies it after a move."
)
@click.pass_obj
def import_(session: Session, /, source: str, kind: str | None, **options: Any) -> int:
    """Write a new version for every line of SOURCE, a file of JSON lines (- for standard input).

    All lines are checked first; if any line is bad, nothing is written.

    With --from, import new and changed records from another system's SOURCE. Exit code 1 when some
    records cannot become memories.
    """
    if kind is not None:
        return _import_from(session, kind, source, **options)
    if used := [name for name, value in options.items() if value]:
        raise click.UsageError(f"--{used[0].replace('_', '-')} needs --from")
    with _input(source) as lines, output.progress("Importing") as progress:
        report = jsonl.import_lines(session.memory(), lines, progress)
    if session.json:
        output.document(asdict(report))
    else:
        expired = f", {report.expired} had expired" if report.expired else ""
        output.line(f"imported {output.counted(report.written, 'memory', 'memories')}{expired}")
    return 0


def _import_from(session: Session, kind: str, source: str, *, dry_run: bool, **options: Any) -> int:
    shown = {"kept", "refused"} | ({"new", "changed"} if dry_run else set())
    done = itertools.count(1)
    with output.progress("Importing") as progress:

        def show(record: Imported) -> None:
            if progress:
                progress(next(done), None)
            if record.state in shown:
                _show(record, as_json=session.json)

        report = import_from(
            session.memory(), kind, source, dry_run=dry_run, on_record=show, **options
        )
    if session.json:
        output.document({**asdict(report), "dry_run": dry_run})
    else:
        counts = [f"{count:,} {state}" for state, count in asdict(report).items() if count]
        output.line(f"{'dry run' if dry_run else 'imported'}: {', '.join(counts) or 'nothing'}")
    return 1 if report.refused else 0


def _show(record: Imported, *, as_json: bool) -> None:
    if as_json:
        output.document(asdict(record))
        return
    name = "" if record.key is None else f"{record.entity_path}/{record.key}"
    fields = [record.state, record.place, name, record.reason or ""]
    output.line("\t".join(output.plain(field) for field in fields).rstrip("\t"))


@contextlib.contextmanager
def _input(file: str) -> Iterator[IO[bytes]]:
    if file == "-":
        yield streams.standard_input()
    else:
        with Path(file).open("rb") as lines:
            yield lines


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs export > memories.jsonl
  amfs export checkout-service -o checkout.jsonl
""",
)
@click.argument("entity", required=False)
@click.option("-o", "--output", "file", metavar="FILE", help="Write to FILE, not standard output.")
@click.pass_obj
def export(session: Session, entity: str | None, file: str | None) -> None:
    """Print the newest version of every memory under ENTITY, one JSON object per line.

    `amfs import` reads this output. It does not include histories; `amfs copy` copies them.
    """
    count = 0
    with _output(file) as lines, output.progress("Exporting") as progress:
        memory = session.memory()
        for entry in jsonl.export_entries(memory, entity, progress):
            text = json.dumps(entry, ensure_ascii=False)
            lines.write((output.plain(text) + "\n").encode())
            count += 1
    click.echo(f"exported {output.counted(count, 'memory', 'memories')}", err=True)
    if not count:
        session.explain_nothing(memory.adapter, memory.namespace)


@contextlib.contextmanager
def _output(file: str | None) -> Iterator[IO[bytes]]:
    """Yield the file to write; a named file appears whole or not at all."""
    if file is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if os.path.exists(file) and not os.path.isfile(file):  # such as /dev/stdout
        with open(file, "wb") as lines:
            yield lines
        return
    temporary = f"{file}.{uuid.uuid4().hex[:8]}.part"
    try:
        with open(temporary, "xb") as lines:
            yield lines
        os.replace(temporary, file)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs copy .amfs s3://my-bucket/amfs/
  amfs copy s3://my-bucket/amfs/ backup
  amfs --namespace production copy .amfs s3://my-bucket/amfs/
""",
)
@click.argument("src")
@click.argument("dst")
@click.pass_obj
def copy(session: Session, src: str, dst: str) -> int:
    """Copy every version and outcome from store SRC to store DST, byte for byte.

    SRC and DST take the same forms as --store. All namespaces are copied unless --namespace names
    one. Objects that DST already has are skipped, so after an interruption run the command again.
    An object in DST with different bytes is never overwritten. Exit code 1 when the
    namespace to copy is empty and another one is not.
    """
    source = session.open_existing(src, "to copy from")
    target = session.open(dst)
    with output.progress("Copying") as progress:
        report = copy_store(source, target, namespace=session.namespace, progress=progress)
    if session.json:
        output.document(asdict(report))
        return _code(session, report, source)
    parts = [
        f"copied {output.counted(report.copied, 'object', 'objects')} ({report.bytes:,} bytes)",
        output.were(report.already_there, "there already"),
    ]
    if report.erased:
        parts.append(output.were(report.erased, "erased, as in the source"))
    if report.foreign:
        parts.append(output.were(report.foreign, "not AMFS's own and left out"))
    output.line(", ".join(parts))
    return _code(session, report, source)


def _code(session: Session, report: CopyReport, source: StorageAdapter) -> int:
    """Return the exit code: 1 when nothing was copied because a name may be mistyped."""
    if session.namespace is None or report.copied + report.already_there + report.erased:
        return 0
    return 1 if session.explain_nothing(source, session.namespace) else 0
