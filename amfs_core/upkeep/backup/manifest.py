"""The manifest, which makes an attempt a backup, and its bytes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from amfs_core.errors import CorruptEntryError
from amfs_core.format import seal


class Part(msgspec.Struct, frozen=True):
    """An object of a backup: its name, its size in bytes, its SHA-256, and how many objects of the
    namespace it has or describes."""

    name: str
    size: int
    sha256: str
    objects: int


class Run(msgspec.Struct, frozen=True):
    """Objects in their order: the parts that have them, and the parts of their index."""

    archive: tuple[Part, ...]
    index: tuple[Part, ...]


class Backup(msgspec.Struct, frozen=True):
    """A backup of one namespace, which is complete together with those that it builds on.

    It has the content of the namespace at the time `as_of`: `memories`, `versions` and `outcomes`
    count it, and `bytes` is its size. `added` is how many objects the backup has itself, `size` its
    own size in bytes. `base` is the backup that it builds on, None for a full one. `left_out` are
    versions that the namespace had lost, up to 100: nothing after them is in the backup. `manifest`
    has the bodies of all versions of the namespace's manifest.
    """

    name: str
    namespace: str
    as_of: datetime
    took: float
    base: str | None
    memories: int
    versions: int
    outcomes: int
    bytes: int
    added: int
    size: int
    runs: tuple[Run, ...]
    left_out: tuple[str, ...] = ()
    manifest: tuple[str, ...] = ()

    @property
    def is_full(self) -> bool:
        """True when it builds on no other."""
        return self.base is None

    def to_dict(self) -> dict[str, Any]:
        """Return its description as plain JSON, without its parts."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        del fields["runs"], fields["manifest"]
        return fields


ABANDONED = seal.sealed({"format": seal.FORMAT, "kind": "abandoned"})
"""What stands in the place of the manifest of an attempt that may not finish any more."""


class Started(msgspec.Struct, frozen=True):
    """The beginning of an attempt: the backup that it builds on."""

    base: str | None


def encode(backup: Backup) -> bytes:
    """Return the bytes of a manifest, sealed."""
    fields = msgspec.to_builtins(backup)
    if not backup.manifest:
        del fields["manifest"]
    return seal.sealed({"format": seal.FORMAT, "kind": "backup", **fields})


def decode(body: bytes, object_key: str) -> Backup | None:
    """Return the backup that a manifest is of; None when the attempt was abandoned.

    Raises `CorruptEntryError` for bytes that were damaged, or are of a newer format.
    """
    try:
        fields = seal.opened(body, "a manifest", lambda problem: _corrupt(object_key, problem))
        if fields.pop("kind") == "abandoned":
            return None
        return msgspec.convert(fields, Backup)
    except seal.DAMAGES as error:
        raise CorruptEntryError(
            f"{object_key}: it is not a manifest of a backup ({error!r:.200})",
            hint="restore an earlier backup",
            object_key=object_key,
        ) from error


def _corrupt(object_key: str, problem: str) -> Any:
    raise CorruptEntryError(
        f"{object_key}: {problem}", hint="restore an earlier backup", object_key=object_key
    )


UNFINISHED_AFTER = timedelta(days=1)
"""An attempt that has made no object for this long is over."""
