"""The table of kinds: every kind of object that a namespace has, and where its objects are.

A new kind is a row here; `amfs_core.format.names` makes and parses its keys. Copies, backups,
`verify` and the rights of keys go through all kinds, and `tests/format/test_kinds.py` takes each of
them through these. `docs/layout.md` has the same table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A kind of object: those in one folder of a namespace.

    `folder` is that folder, and `names` what the rest of the object key is, for people. Every
    object is created once, where there is none. `rewritten` is "by its stub" where an erasure
    replaces it, "never" elsewhere; `removed` is whether anything of AMFS deletes it.
    """

    name: str
    folder: str
    names: str
    holds: str
    rewritten: Literal["never", "by its stub"] = "never"
    removed: bool = False


MANIFEST = Kind("manifest", "manifest", "v<n>.json", "the features that everybody must know")
VERSION = Kind(
    "version",
    "entries",
    "<entity path>/<key>/v<n>.json",
    "a version of a memory",
    rewritten="by its stub",
)
OUTCOME = Kind("outcome", "outcomes", "<reference>.json", "a record of an outcome")

KINDS = (MANIFEST, VERSION, OUTCOME)
"""All kinds of a namespace's objects, in the order in which a copy brings them: each after the
kinds that it refers to. `amfs_core.upkeep.copy` says why outcomes come last."""

BACKUP = Kind(
    "backup", "backups", "<backup>/<part>.json", "the beginning and end of a backup", removed=True
)
ARCHIVE = Kind(
    "archive", "archives", "<backup>/<n>.*", "a part of a backup: objects or an index", removed=True
)

BACKUP_KINDS = (BACKUP, ARCHIVE)
"""Kinds in a store that keeps the backups of a namespace. They are no part of the namespace: a copy
leaves them out."""

WAITING = Kind(
    "waiting write",
    "waiting",
    "<2 digits>/<memory>-<time>-<random>.json",
    "a write that waits for the primary store",
    removed=True,
)
CONFLICT = Kind(
    "conflict",
    "conflicts",
    "<time>-<random>.json",
    "a write that could not be replayed",
    removed=True,
)

FALLBACK_KINDS = (WAITING, CONFLICT)
"""Kinds in a store that is the fallback of a namespace. They are not part of the namespace either.
"""
