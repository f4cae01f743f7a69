"""Writes that wait in a fallback store: shown to readers, replayed in order, conflicts decided."""

from amfs_core.degraded.log import DegradableLog
from amfs_core.degraded.reconcile import ReconcileReport

__all__ = ["DegradableLog", "ReconcileReport"]
