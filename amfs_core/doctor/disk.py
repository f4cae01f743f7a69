"""Findings about the disk that a store is on, in the same words for every kind of store."""

from __future__ import annotations

from amfs_core.doctor.check import Diagnosis, ok, warning
from amfs_core.mounts import Mount

LITTLE_SPACE = 100 * 1024 * 1024
"""Bytes; less free space is a warning."""


def lasting(mount: Mount) -> Diagnosis:
    """Return whether a mounted file system keeps its files when the machine restarts."""
    finding = f"{mount.kind}, mounted at {mount.place}"
    if mount.kind in ("tmpfs", "ramfs"):
        return warning(f"{finding}: it is gone when the machine restarts", "use a disk")
    if mount.kind == "overlay":
        return warning(f"{finding}: in a container it is gone with the container", "use a volume")
    return ok(finding)


def size_text(count: float) -> str:
    """Return a number of bytes with a unit."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
