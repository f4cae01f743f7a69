"""The JSON form of entries, hits, differences, outcomes, reports and errors: one for the command
line, for HTTP, for events and for MCP.

Each function returns a dict of plain JSON types. Times are ISO 8601 in UTC, as in stored objects.
"""

from __future__ import annotations

import dataclasses
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import msgspec

from amfs_core.format import time_text

if TYPE_CHECKING:
    from amfs_core.catalog import SearchHit
    from amfs_core.degraded import ReconcileReport
    from amfs_core.doctor import Diagnosis
    from amfs_core.errors import AMFSError
    from amfs_core.format import MemoryEntry, Outcome
    from amfs_core.layers import Conflict
    from amfs_core.storage import Degraded
    from amfs_core.upkeep import Health, Stats, VerifyReport
    from amfs_core.upkeep.backup import Backup, PruneReport, RestoreReport
    from amfs_core.upkeep.tend import TendReport
    from amfs_core.versions import Diff

Document = dict[str, Any]


def entry(of: MemoryEntry) -> Document:
    """Return a version as it is stored; `provisional` where it is not in the primary store yet."""
    fields = of.to_dict()
    return {**fields, "provisional": True} if of.provisional else fields


def hit(of: SearchHit) -> Document:
    """Return the version that was found, and its `score`."""
    return {**entry(of.entry), "score": of.score}


def outcome(of: Outcome) -> Document:
    """Return an outcome as it is stored."""
    return of.to_dict()


def difference(of: Diff) -> Document:
    """Return what changed between two versions. `old` is null for the first one."""
    return {
        "entity_path": of.new.entity_path,
        "key": of.new.key,
        "old": of.old.version if of.old else None,
        "new": of.new.version,
        "changes": [
            {"kind": change.kind, "path": change.path, "old": change.old, "new": change.new}
            for change in of.changes
        ],
    }


def stats(of: Stats) -> Document:
    """Return the counts and sizes."""
    return asdict(of)


def verify(of: VerifyReport) -> Document:
    """Return what `verify` found, `ok` first."""
    return {"ok": of.ok, **asdict(of)}


def backup(of: Backup) -> Document:
    """Return what a backup says of itself."""
    return of.to_dict()


def restored(of: RestoreReport) -> Document:
    """Return what was restored, from which backup."""
    return {
        "backup": of.backup.name,
        "restored": of.restored,
        "already_there": of.already_there,
        "erased": of.erased,
        "bytes": of.bytes,
    }


def pruned(of: PruneReport) -> Document:
    """Return the names of the backups that were removed and kept, and how many attempts were."""
    return {
        "removed": [backup.name for backup in of.removed],
        "kept": [backup.name for backup in of.kept],
        "attempts": of.attempts,
    }


def tended(of: TendReport) -> Document:
    """Return what a round of upkeep did, in `took` seconds."""
    return {
        "outcomes": of.outcomes,
        "mirrors": [dataclasses.asdict(mirror) for mirror in of.mirrors],
        "backup": None if of.backup is None else backup(of.backup),
        "pruned": None if of.pruned is None else pruned(of.pruned),
        "indexed": of.indexed,
        "took": of.took,
    }


def health(of: Health) -> Document:
    """Return whether the store answers, and how quickly (`latency`, in seconds); how far its
    mirrors are behind, and what waits in its fallback (null without one); and the same of the
    index, if there is one."""
    index = of.index
    return {
        "ok": of.ok,
        "backend_type": of.backend_type,
        "latency": of.latency,
        "error": None if of.error is None else str(of.error),
        "mirrors": [msgspec.structs.asdict(lag) for lag in of.mirrors],
        "degraded": None if of.degraded is None else degraded(of.degraded),
        "index": None
        if index is None
        else {
            "ok": index.error is None,
            "location": index.location,
            "latency": index.latency,
            "error": None if index.error is None else str(index.error),
        },
    }


def degraded(of: Degraded) -> Document:
    """Return what waits in a fallback, and since when the primary is down."""
    since = None if of.since is None else time_text(of.since)
    return {**msgspec.structs.asdict(of), "since": since}


def conflict(of: Conflict) -> Document:
    """Return a write that could not be replayed: its `id`, `reason`, the `newest` version then, and
    the version as it was kept."""
    return {"id": of.id, "reason": of.reason, "newest": of.newest, "entry": entry(of.entry)}


def reconciled(of: ReconcileReport) -> Document:
    """Return what a replay did, and what is left."""
    return {
        "landed": [entry(version) for version in of.landed],
        "discarded": [conflict(discarded_conflict) for discarded_conflict in of.discarded],
        "conflicts": [conflict(open_conflict) for open_conflict in of.conflicts],
        "waiting": of.waiting,
        "error": of.error,
    }


def diagnosis(of: Diagnosis) -> Document:
    """Return what `doctor` found about one thing."""
    return {
        "name": of.name,
        "verdict": str(of.verdict),
        "found": of.found,
        "hint": of.hint or None,
    }


_NAMES = (
    *("entity_path", "key", "version", "object_key", "retry_after"),
    *("expected", "actual", "write_id", "outcome_ref", "feature", "since"),
)


def error(of: AMFSError) -> Document:
    """Return an error: its `code`, `problem`, `hint`, what was `written`, and all that it names."""
    named = {name: getattr(of, name, None) for name in _NAMES}
    return {
        "code": of.code,
        "problem": of.problem,
        "hint": of.hint,
        "written": of.written,
        **{name: value for name, value in named.items() if value is not None},
    }
