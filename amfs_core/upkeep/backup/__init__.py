"""Backups: archives of a namespace in another store, and what is restored from them.

`docs/design/backup.md` says what a backup is consistent with, and walks through every failure.
"""

from amfs_core.upkeep.backup.backups import Backups
from amfs_core.upkeep.backup.manifest import Backup
from amfs_core.upkeep.backup.prune import PruneReport
from amfs_core.upkeep.backup.restore import RestoreReport

__all__ = ["Backup", "Backups", "PruneReport", "RestoreReport"]
