"""Every version once, in order, with a cursor."""

from amfs_core.watch.watch import Callback, Watch

__all__ = ["Callback", "Watch"]
