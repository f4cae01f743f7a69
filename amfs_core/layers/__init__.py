"""Stores made of stores: paths that live elsewhere, versions kept near, objects kept twice."""

from amfs_core.layers.routed import Routed

__all__ = ["Routed"]
