"""The commands about writes made while the primary store was down: conflicts, reconcile."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

from amfs import documents
from amfs.cli import output
from amfs.cli.options import Session
from amfs.cli.run import Command
from amfs_core.errors import ConfigurationError, InvalidValueError
from amfs_core.format import time_text

if TYPE_CHECKING:
    from amfs_core.layers import Conflict, Decision
    from amfs_core.memory import AgentMemory


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs conflicts
  amfs conflicts --json | jq .reason
""",
)
@click.pass_obj
def conflicts(session: Session) -> None:
    """List the writes of an outage that could not be replayed, oldest first.

    `amfs reconcile --append ID` or `amfs reconcile --discard ID` resolves a conflict.
    """
    listed = _opened(session).conflicts()
    if session.json:
        for conflict in listed:
            output.document(documents.conflict(conflict))
    elif listed:
        _table(listed)
    else:
        output.line("no conflicts")


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs reconcile --dry-run
  amfs reconcile
  amfs reconcile --append 0006463f07b1f8c0-5a0c3d2be1f49876
  amfs reconcile --discard all
""",
)
@click.option(
    "--append", metavar="ID", multiple=True, help="Write this conflict, or `all`, anyway."
)
@click.option("--discard", metavar="ID", multiple=True, help="Remove this conflict, or `all`.")
@click.option("--dry-run", is_flag=True, help="Show what waits, but change nothing.")
@click.pass_obj
def reconcile(
    session: Session, append: tuple[str, ...], discard: tuple[str, ...], *, dry_run: bool
) -> int:
    """Replay the writes made while the primary store was down, and resolve conflicts.

    Each conflict stays unless --append writes it after the newest version, or --discard removes it.
    Exit code 1 while writes wait or conflicts remain.
    """
    memory = _opened(session)
    if dry_run:
        degraded = memory.engine.degraded()
        waiting = 0 if degraded is None else degraded.waiting
        left = memory.conflicts()
        if session.json:
            output.document(
                {"waiting": waiting, "conflicts": [documents.conflict(c) for c in left]}
            )
        else:
            _say(waiting, left, None)
        return 1 if waiting or left else 0
    report = memory.reconcile(_decided(append, discard, memory.conflicts()))
    if session.json:
        output.document(documents.reconciled(report))
    else:
        for entry in report.landed:
            name = output.plain(f"{entry.entity_path}/{entry.key}")
            output.line(f"{name} is version {entry.version} now")
        for conflict in report.discarded:
            output.line(f"discarded {conflict.id}")
        _say(report.waiting, report.conflicts, report.error)
    return 1 if report.waiting or report.conflicts else 0


def _opened(session: Session) -> AgentMemory:
    """Return the memory, unless its store is a server's: its fallback is out of this process's
    sight."""
    memory = session.memory()
    if memory.engine.stored.store.backend_type == "http":
        raise ConfigurationError(
            "the server replays what waits, and keeps its conflicts itself",
            hint=f"ask it for /v1/{memory.namespace}/conflicts, or run this where the server runs",
        )
    return memory


def _decided(
    append: tuple[str, ...], discard: tuple[str, ...], conflicts: Iterable[Conflict]
) -> Callable[[Conflict], Decision]:
    from amfs_core.layers import Decision

    known = {conflict.id for conflict in conflicts}
    for name in (*append, *discard):
        if name != "all" and name not in known:
            raise InvalidValueError(
                f"there is no conflict {name!r}", hint="amfs conflicts lists them"
            )
    if both := set(append) & set(discard):
        raise InvalidValueError(f"{min(both)} cannot be both appended and discarded: choose one")

    def decide(conflict: Conflict) -> Decision:
        # A conflict's own id takes precedence over `all`.
        for name in (conflict.id, "all"):
            if name in append:
                return Decision.APPEND
            if name in discard:
                return Decision.DISCARD
        return Decision.KEEP

    return decide


def _say(waiting: int, left: list[Conflict], error: str | None) -> None:
    if left:
        _table(left)
    writes = output.counted(waiting, "write waits", "writes wait")
    problem = "" if error is None else f": {output.plain(error)}"
    output.line(f"{writes}, {output.counted(len(left), 'conflict', 'conflicts')}{problem}")


def _table(listed: list[Conflict]) -> None:
    rows = (
        (
            conflict.id,
            f"{conflict.entry.entity_path}/{conflict.entry.key}",
            conflict.entry.provenance.agent_id,
            time_text(conflict.entry.provenance.written_at),
            conflict.reason,
        )
        for conflict in listed
    )
    output.table(("conflict", "memory", "agent", "written at", "reason"), rows)
