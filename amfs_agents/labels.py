"""Names of any length as segments of which several fit into one object key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from amfs_agents.names import segment, unsegment
from amfs_core.errors import InvalidKeyError
from amfs_core.format import escape

MAX_LABEL_BYTES = 100
"""Longest label, as it is in an object key."""

# No segment has a percent sign that is not followed by two digits: `segment` escapes them all.
_EMPTY = "%"
_HASHED = "%~"
_FOLDED = "%+"


def label(name: str, what: str) -> str:
    """Return a segment of at most `MAX_LABEL_BYTES` for a name that may be empty or of any length.

    A longer name, once escaped, becomes its SHA-256, so a caller that needs the name back must
    store it too. Raises `InvalidValueError`, naming `what`, if the name is not text.
    """
    if name == "":
        return _EMPTY
    plain = segment(name, what)
    return plain if size(plain) <= MAX_LABEL_BYTES else _HASHED + _digest(name)


def unlabel(label: str) -> str | None:
    """Return the name that a label stands for; None for one that is a hash."""
    if label == _EMPTY:
        return ""
    return None if label.startswith(_HASHED) else unsegment(label)


def fold(names: Sequence[str]) -> str:
    """Return one segment that stands for several names, which cannot be recovered from it."""
    return _FOLDED + _digest(json.dumps(list(names)))


def size(segment: str) -> int:
    """Return how many bytes a segment takes in an object key; more than any may when too many."""
    try:
        return len(escape(segment).encode())
    except InvalidKeyError:  # longer than a segment may be
        return len(segment.encode()) + MAX_LABEL_BYTES


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
