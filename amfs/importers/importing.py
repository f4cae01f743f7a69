"""Importing from a source of a given kind."""

from __future__ import annotations

import importlib
import os
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import cast

from amfs.importers.source import Source
from amfs_core.errors import ConfigurationError
from amfs_core.memory import AgentMemory, Imported, import_records
from amfs_core.spelling import did_you_mean

KINDS: Mapping[str, str] = {
    "mcp-memory": "mcp_memory:McpMemory",
    "mem0": "mem0:Mem0Export",
    "langgraph": "langgraph:LangGraphStore",
    "markdown": "markdown:MarkdownDirectory",
}
"""The kinds of sources, each with the class that reads it; the module is imported on use."""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The number of records in each state; see `amfs_core.memory.Imported`."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    kept: int = 0
    expired: int = 0
    refused: int = 0


def import_from(
    memory: AgentMemory,
    kind: str,
    source: str | os.PathLike[str],
    *,
    into: str | None = None,
    origin: str | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    on_record: Callable[[Imported], None] | None = None,
) -> ImportReport:
    """Import the new and changed records of a source, signed by `memory`'s agent.

    A record that cannot become a memory does not stop the others.

    Args:
        memory: The memory to import into.
        kind: One of `KINDS`.
        source: A file or a directory; for "langgraph" also a PostgreSQL connection string.
        into: The entity path for the memories; "" is the root. Default: a path of the kind.
        origin: The name of the source. Default: its place. Memories imported from a source with
            another name are kept.
        dry_run: Write nothing.
        overwrite: Also overwrite memories that were changed or deleted here since.
        on_record: Called with the result for each record, in the order of the source.

    Returns:
        The number of records in each state.

    Raises:
        ConfigurationError: The source is not of that kind.
        InvalidKeyError: `into` is not a valid entity path.
        OSError: A file cannot be read.
        AMFSError: The store failed; the error names the record. Importing again continues there.

    Cost:
        About 3 requests for each record, and 1 more for each that is written.
    """
    if into:
        memory.engine.layout.entity_prefix(into)
    reader = _reader(kind, os.fspath(source), into)
    counts: Counter[str] = Counter()
    with closing(reader.records()) as records:  # type: ignore[type-var]  # generators, all of them
        for record in import_records(
            memory,
            records,
            kind=kind,
            origin=reader.origin if origin is None else origin,
            dry_run=dry_run,
            overwrite=overwrite,
        ):
            counts[record.state] += 1
            if on_record is not None:
                on_record(record)
    return ImportReport(**counts)


def _reader(kind: str, source: str, into: str | None) -> Source:
    if kind not in KINDS:
        raise ConfigurationError(
            f"there is no import from {kind!r}{did_you_mean(kind, KINDS)}",
            hint=f"known are {', '.join(KINDS)}",
        )
    module, _, name = KINDS[kind].partition(":")
    reader = getattr(importlib.import_module(f"amfs.importers.{module}"), name)
    return cast(Source, reader(source, reader.path if into is None else into))
