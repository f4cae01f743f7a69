"""Who may see what a version says: the one place that decides whether it is there to be read.

The catalog asks the same as SQL (`amfs_core.catalog.sqlite.conditions`): of a column that has
`hidden`, and of the time at which a version expires. A new reason not to show a version is one more
member here, and one more line in `hidden`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol


class Visibility(StrEnum):
    """Whether a version can be read, or why not."""

    LIVE = "live"
    EXPIRED = "expired"
    DELETED = "deleted"
    PURGED = "purged"


class Version(Protocol):
    """What the decision needs of a version."""

    @property
    def deleted(self) -> bool:
        """True for a tombstone, and for a stub."""

    @property
    def erased(self) -> str | None:
        """The SHA-256 that the content of a stub had."""

    @property
    def expires_at(self) -> datetime | None:
        """From when on it is not seen any more."""


def hidden(version: Version) -> Visibility | None:
    """Return why a version has no content to show, at any time; None when it has."""
    if version.erased is not None:
        return Visibility.PURGED
    if version.deleted:
        return Visibility.DELETED
    return None


def visibility(version: Version, at: datetime | None = None) -> Visibility:
    """Return whether a version can be read at a time (default: now), or why not."""
    why_not = hidden(version)
    if why_not is not None:
        return why_not
    expires_at = version.expires_at
    if expires_at is not None and is_over(expires_at, at):
        return Visibility.EXPIRED
    return Visibility.LIVE


def is_over(expires_at: datetime, at: datetime | None = None) -> bool:
    """True when what expires at one time has expired at another (default: now)."""
    return (at or datetime.now(UTC)) >= expires_at
