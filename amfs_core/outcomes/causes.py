"""The causes of an outcome: the `entries` that a caller names, and the versions that they stand
for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from amfs_core import arguments
from amfs_core.errors import InvalidValueError
from amfs_core.format import Address, Cause, Layout, MemoryEntry, Outcome, values
from amfs_core.parallel import mapped
from amfs_core.versions import NONE_KNOWN, VersionLog


@dataclass(frozen=True, slots=True)
class Named:
    """The causes that a caller named: exact versions, each with its SHA-256 if that is known, and
    memories, which stand for their newest version."""

    versions: dict[Cause, str | None] = field(default_factory=dict)
    memories: dict[tuple[str, str], Address] = field(default_factory=dict)

    def difference(self, outcome: Outcome) -> str | None:
        """Return how these differ from the causes of a recorded outcome; None if they do not.

        A memory without a version matches any recorded version of it, because counting the outcome
        has changed the newest one.
        """
        recorded = set(outcome.causes)
        for cause in self.versions:
            if cause not in recorded:
                return f"it is not about {cause}"
        about = outcome.memories()
        for name in self.memories:
            if name not in about:
                return f"it is not about {'/'.join(name)}"
        for cause in outcome.causes:
            if cause not in self.versions and cause[:2] not in self.memories:
                return f"it is about {cause} too"
        return None


def named(layout: Layout, entries: Iterable[Any]) -> Named:
    """Return the versions and memories that `entries` name. Sends nothing.

    Raises `InvalidValueError` or `InvalidKeyError`.
    """
    if isinstance(entries, str | bytes | Mapping | MemoryEntry | Cause) or not isinstance(
        entries, Iterable
    ):
        raise InvalidValueError(
            "entries must be a list of entries or (entity_path, key) pairs, "
            f"not {type(entries).__name__}"
        )
    names = Named()
    for index, entry in enumerate(entries):
        match entry:
            case MemoryEntry():
                if entry.namespace != layout.namespace:
                    raise InvalidValueError(
                        f"entries[{index}] is of the namespace {entry.namespace!r}, and this is "
                        f"{layout.namespace!r}"
                    )
                cause = Cause(entry.entity_path, entry.key, entry.version)
                names.versions[cause] = entry.erased or entry.sha256
            case Cause():
                layout.address(entry.entity_path, entry.key)
                arguments.version(entry.version, f"entries[{index}].version")
                names.versions.setdefault(entry)
            case (entity_path, key):
                names.memories[entity_path, key] = layout.address(entity_path, key)
            case _:
                raise InvalidValueError(
                    f"entries[{index}] must be an entry or an (entity_path, key) pair, "
                    f"not {values.shown(entry)}"
                )
    return names


def resolve(versions: VersionLog, names: Named, threads: int) -> tuple[Cause, ...]:
    """Return the named versions, sorted by name.

    A read for each memory without a version; 1 request for each exact version, 0 when this process
    knows the memory.
    Raises `InvalidValueError` for a memory without a live version, and for a version that does not
    exist or is not the one that was given.
    """

    def newest(address: Address) -> Cause:
        entry = versions.newest(address)
        if entry is None or not entry.is_live():
            raise InvalidValueError(
                f"{address} has no live version that could be used",
                hint="leave it out of entries, or name the version that was used",
            )
        return Cause(address.entity_path, address.key, entry.version)

    def exact(cause: Cause) -> Cause:
        address = versions.layout.address(cause.entity_path, cause.key)
        head = versions.cache.head(address) or NONE_KNOWN
        if cause.version <= head.version and versions.cache.body(address, cause.version) is None:
            return cause  # it exists, and need not be fetched for the comparison
        entry = versions.get(address, cause.version)
        if entry is None:
            raise InvalidValueError(f"there is no {cause} in this store")
        wanted = names.versions[cause]
        if wanted is not None and wanted not in (entry.sha256, entry.erased):
            raise InvalidValueError(f"{cause} of this store is not the entry that was given")
        return cause

    lookups = [
        *(partial(exact, cause) for cause in names.versions),
        *(partial(newest, address) for address in names.memories.values()),
    ]
    if len(lookups) < 2:  # no thread is needed for one
        return tuple(look() for look in lookups)
    return tuple(sorted(set(mapped(lambda look: look(), lookups, threads))))
