"""Any text as one segment of an entity path, and back."""

from __future__ import annotations

from amfs_core import arguments


def segment(name: str, what: str) -> str:
    """Return the one segment that stands for `name`, in which a slash does not part anything.

    Raises `InvalidValueError`, naming `what`, for what is not text or is empty.
    """
    return arguments.text(name, what).replace("%", "%25").replace("/", "%2F")


def unsegment(segment: str) -> str:
    """Return the name that a segment stands for."""
    return segment.replace("%2F", "/").replace("%25", "%")
