"""Stores made of stores: paths that live elsewhere, versions kept near, objects kept twice, writes
that wait."""

from amfs_core.layers.fallback import (
    Decide,
    Decision,
    Fallback,
    FallbackStore,
    Merge,
)
from amfs_core.layers.layered import Layered
from amfs_core.layers.mirror import Mirror
from amfs_core.layers.operation import Conflict, Operation, new_name
from amfs_core.layers.routed import Routed
from amfs_core.layers.waiting import Waiting

__all__ = [
    "Conflict",
    "Decide",
    "Decision",
    "Fallback",
    "FallbackStore",
    "Layered",
    "Merge",
    "Mirror",
    "Operation",
    "Routed",
    "Waiting",
    "new_name",
]
