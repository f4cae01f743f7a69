"""The changes under a path since a position: by listing, and by the store's change log."""

from amfs_core.changes.listing import Listed, Listing, Page, Stored, stored
from amfs_core.changes.source import Followed, Source

__all__ = ["Followed", "Listed", "Listing", "Page", "Source", "Stored", "stored"]
