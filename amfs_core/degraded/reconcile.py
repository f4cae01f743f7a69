"""What a replay did."""

from __future__ import annotations

from dataclasses import dataclass, field

from amfs_core.format import MemoryEntry
from amfs_core.layers import Conflict


@dataclass(frozen=True, slots=True)
class ReconcileReport:
    """What `reconcile` did: the versions that `landed`, by this call, those that were `discarded`,
    and the `conflicts` that are left. `waiting` operations wait still, as the primary does not
    take them: `error` says why."""

    landed: list[MemoryEntry] = field(default_factory=list)
    discarded: list[Conflict] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    waiting: int = 0
    error: str | None = None
