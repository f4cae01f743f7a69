"""Any text as one segment of an entity path, and back."""

from amfs_core.arguments import segment, unsegment

__all__ = ["segment", "unsegment"]
