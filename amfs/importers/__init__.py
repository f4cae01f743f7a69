"""Importers: what other systems remember, as memories (docs/import.md). One module per source."""

from amfs.importers.importing import KINDS, ImportReport, import_from

__all__ = ["KINDS", "ImportReport", "import_from"]
