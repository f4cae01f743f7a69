"""The local-disk adapter: a directory as a store."""

from amfs_local.adapter import LocalAdapter

__all__ = ["LocalAdapter"]
