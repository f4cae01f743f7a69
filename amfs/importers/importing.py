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
"""The kinds of sources, and the class that reads each, whose module is imported when it is used."""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """How many records became what: see `amfs_core.memory.Imported`."""

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
    """Import the records of a source that are new or changed there, signed by `memory`'s agent.

    `kind` is one of `KINDS`, `source` a file, a directory, or for "langgraph" also a connection
    string of PostgreSQL. The memories are under the entity path `into`, by default one that the
    kind has; "" stands for the root. `origin` names the source where its place does not: a
    memory that another one wrote is kept. With `dry_run` nothing is written. `overwrite` writes
    also what somebody changed or deleted here since. `on_record` is called with what became of each
    record, in their order. A record that cannot be a memory does not keep others from it.

    About 3 requests for each record, and 1 more for each that is written. Raises
    `ConfigurationError` for a source that is not of that kind, `InvalidKeyError` for an `into` that
    cannot be an entity path, `OSError` for a file that cannot be read. `AMFSError` says at which
    record a failing store stopped it; to import again goes on from there.
    """
    if into:
        memory.engine.layout.entity_prefix(into)
    reader = _reader(kind, os.fspath(source), into)
    counts: Counter[str] = Counter()
    with closing(reader.records()) as records:  # type: ignore[type-var]  # generators, all of them
        for one in import_records(
            memory,
            records,
            kind=kind,
            origin=reader.origin if origin is None else origin,
            dry_run=dry_run,
            overwrite=overwrite,
        ):
            counts[one.state] += 1
            if on_record is not None:
                on_record(one)
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
