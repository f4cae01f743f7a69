"""Which file system a directory is on, where the system tells."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

_TABLE = "/proc/self/mounts"
_ESCAPE = re.compile(r"\\([0-7]{3})")

NETWORK = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "virtiofs")
)
"""Types of file systems that other machines may use at the same time."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted file system."""

    place: str
    kind: str
    options: frozenset[str]

    @property
    def is_network(self) -> bool:
        """True when the files are on another machine, or may be."""
        return self.kind in NETWORK or self.kind.startswith("fuse.")


def mount_of(path: str) -> Mount | None:
    """Return the mount that a path is on; None where there is no /proc to ask."""
    try:
        with open(_TABLE, encoding="utf-8", errors="surrogateescape") as table:
            mounts = [_parsed(line) for line in table]
    except OSError:
        return None
    real = os.path.realpath(path)
    over = [mount for mount in mounts if mount is not None and _is_under(real, mount.place)]
    # Of several at the same place the last one hides the others.
    return max(enumerate(over), key=lambda pair: (len(pair[1].place), pair[0]))[1] if over else None


def _parsed(line: str) -> Mount | None:
    """Return a line of the table: device, place, type, options (proc_pid_mounts(5), fstab(5))."""
    fields = line.split(" ")
    if len(fields) < 4:
        return None
    place = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[1])
    return Mount(place, fields[2], frozenset(fields[3].split(",")))


def _is_under(path: str, place: str) -> bool:
    return path == place or path.startswith(place.rstrip("/") + "/")
