"""Stores made of stores: paths that live elsewhere, versions kept near, objects kept twice."""

from amfs_core.layers.layered import Layered
from amfs_core.layers.mirror import Mirror
from amfs_core.layers.routed import Routed

__all__ = ["Layered", "Mirror", "Routed"]
