"""The contract of a catalog: what holds the newest version of every memory, and answers about them.

It is disposable: all that it holds can be fetched again, and when it is lost, everything begins
again on an empty one. Each that was opened has a number, by which whoever does more than one thing
knows that it was the same one all along.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple, Protocol

from amfs_core.catalog.filters import Filters
from amfs_core.catalog.hit import SearchHit
from amfs_core.format import Address, MemoryEntry


class CatalogLost(Exception):
    """What was in the catalog is gone: begin again, on an empty one."""


Held = tuple[str, int, int, int, float | None]
"""What a catalog has of a memory: its prefix and id, then what `amfs_core.changes.Listed` has, with
no time until a listing has had it. A plain tuple: a refresh compares one for every memory."""


class Version(NamedTuple):
    """A newest version to be held, its body as it is in the store."""

    address: Address
    entry: MemoryEntry
    body: bytes
    modified: float | None


class Catalog(Protocol):
    """Newest versions in one namespace, for the threads of a process and for whoever shares it.

    Any method but `close` may raise `CatalogLost`.
    """

    def current(self) -> int:
        """Return the number of the catalog in use, opened if none is."""

    def require(self, number: int) -> None:
        """Raise `CatalogLost` unless the catalog with this number is in use still."""

    def close(self) -> None:
        """Release what is held; the next use opens it again."""

    # -- what a refresh compares -------------------------------------------------------------

    def last_id(self) -> int:
        """Return the highest id that was given."""

    def held(self, prefixes: Iterable[str]) -> list[Held]:
        """Return those of the memories with these prefixes that are held."""

    def held_of_page(self, prefixes: Collection[str]) -> list[Held]:
        """Return the same, and perhaps others, for prefixes that stand together in their order."""

    def unconfirmed(self, confirmed: bytearray, entity_path: str | None) -> list[str]:
        """Return the prefixes of the memories under a path whose ids are not confirmed, and are
        low enough to have been."""

    def last_keys(self, entity_path: str | None, without: set[str]) -> list[str]:
        """Return the object keys of some versions that are held under a path: the last ones, but
        not of the memories with these prefixes."""

    # -- what a refresh stores ---------------------------------------------------------------

    def put(self, versions: list[Version]) -> None:
        """Store newest versions; one that is older than what is there by now is left out. Of one
        that is there by now, as another refresh has stored it, only the time of its object is
        taken: what is derived from its content stays."""

    def stamp(self, stamps: list[tuple[float, int]]) -> None:
        """Note the times of objects, each with the id of its memory."""

    def drop(self, memories: list[Held]) -> None:
        """Drop memories that are no more, but for those that changed meanwhile."""

    def forget(self, address: Address, below: int = 0) -> None:
        """Drop a memory and all that is derived from it: its content is to be gone.

        With `below` a version of that number or a later one stays: somebody wrote it since. No
        version `below` comes back, whoever fetched it before and stores it later.
        """

    def erase_elsewhere(self) -> None:
        """Remove what other releases, or catalogs that were replaced, may hold of this store."""

    # -- what users ask ----------------------------------------------------------------------

    def find(self, filters: Filters) -> list[MemoryEntry]:
        """Return what the filters let through, in any order."""

    def entity_paths(self, filters: Filters) -> list[str]:
        """Return the entity paths of what the filters let through, in any order."""

    def newest(self, filters: Filters, limit: int) -> list[SearchHit]:
        """Return what the filters let through, newest first; every score is 0."""

    def ranked(self, query: str, filters: Filters, limit: int) -> list[SearchHit]:
        """Return what answers a query best: by its words and, with an embedder, its meaning."""

    def by_meaning(self, text: str, filters: Filters, limit: int) -> list[SearchHit]:
        """Return the memories whose vectors are nearest to the text's."""
