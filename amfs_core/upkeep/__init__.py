"""Verify, copy, backup, statistics, health, and rounds of that: looking after a namespace."""

from amfs_core.upkeep import copy, health, stats, verify
from amfs_core.upkeep.finding import Finding
from amfs_core.upkeep.health import Health
from amfs_core.upkeep.namespaces import namespaces
from amfs_core.upkeep.stats import Stats
from amfs_core.upkeep.verify import VerifyReport

__all__ = [
    "Finding",
    "Health",
    "Stats",
    "VerifyReport",
    "copy",
    "health",
    "namespaces",
    "stats",
    "verify",
]
