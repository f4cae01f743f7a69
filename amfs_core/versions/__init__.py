"""Append, find, batch, purge: one namespace's log of versions."""

from amfs_core.versions import absence, batch, purge
from amfs_core.versions.cache import NONE_KNOWN, Cache, Head
from amfs_core.versions.clock import AHEAD, Clock
from amfs_core.versions.diff import Change, Diff, diff
from amfs_core.versions.foreign import is_foreign, reached
from amfs_core.versions.guarded import GuardedClient
from amfs_core.versions.log import DEFAULT_MAX_VALUE_BYTES, Prepared, VersionLog
from amfs_core.versions.manifest import LEASE, Manifests
from amfs_core.versions.write_id import new_write_id

__all__ = [
    "AHEAD",
    "DEFAULT_MAX_VALUE_BYTES",
    "LEASE",
    "NONE_KNOWN",
    "Cache",
    "Change",
    "Clock",
    "Diff",
    "GuardedClient",
    "Head",
    "Manifests",
    "Prepared",
    "VersionLog",
    "absence",
    "batch",
    "diff",
    "is_foreign",
    "new_write_id",
    "purge",
    "reached",
]
