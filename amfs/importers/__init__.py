"""Importers of other systems' memories (docs/import.md). One module per kind of source."""

from amfs.importers.importing import KINDS, ImportReport, import_from

__all__ = ["KINDS", "ImportReport", "import_from"]
