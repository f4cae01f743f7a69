"""The contract of a catalog, which holds the newest version of every memory and answers queries.

It is disposable: everything in it can be fetched again, and when it is lost, work begins again on
an empty one. Each opened catalog has a number, by which a caller of several methods knows that all
used the same one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol

from amfs_core.catalog.embedder import Embedder
from amfs_core.catalog.filters import Filters
from amfs_core.catalog.hit import SearchHit
from amfs_core.changes import Listed, Page
from amfs_core.errors import AMFSError
from amfs_core.format import Address, MemoryEntry

if TYPE_CHECKING:
    from amfs_core.doctor import Check
    from amfs_core.versions import VersionLog


class CatalogLost(Exception):
    """The content of the catalog is gone: begin again on an empty one."""


class CatalogUnavailable(Exception):
    """The catalog cannot be used now, or not by this process; `error` says why. `is_of_store` is
    set when the store does not let this process read everything that the catalog has for others."""

    def __init__(self, error: AMFSError, *, is_of_store: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.is_of_store = is_of_store


Held = tuple[str, int, int, int, float | None]
"""A memory in a catalog: its prefix and id, then the fields of `amfs_core.changes.Listed`, without
a time until it was listed. A plain tuple, because a refresh compares one for every memory."""


class Version(NamedTuple):
    """A newest version to store, with its body as it is in the store."""

    address: Address
    entry: MemoryEntry
    body: bytes
    modified: float | None


class Catalog(Protocol):
    """The newest versions in one namespace, for the threads of a process and for others that share
    it.

    Any method but `close` may raise `CatalogLost` and, for a remote catalog, `CatalogUnavailable`.
    """

    @property
    def together(self) -> int:
        """How many versions are best stored at once."""

    def current(self) -> int:
        """Return the number of the catalog in use, opened if none is."""

    def require(self, number: int) -> None:
        """Raise `CatalogLost` unless the catalog with this number is still in use."""

    def close(self) -> None:
        """Release what is held; the next use opens it again."""

    # -- what a refresh compares -------------------------------------------------------------

    def last_id(self) -> int:
        """Return the highest id that was given."""

    def held(self, prefixes: Iterable[str]) -> list[Held]:
        """Return the memories with these prefixes that are in the catalog."""

    def held_of_page(self, prefixes: Collection[str]) -> list[Held]:
        """Return the same, and perhaps others, for prefixes that are neighbours in order."""

    def unconfirmed(self, confirmed: bytearray, entity_path: str | None) -> list[str]:
        """Return the prefixes of the memories under a path whose ids are not in `confirmed` but low
        enough to be."""

    def last_keys(self, entity_path: str | None, without: set[str]) -> list[str]:
        """Return the object keys of the last few versions in the catalog under a path, except those
        of the memories with these prefixes."""

    # -- what a refresh stores ---------------------------------------------------------------

    def put(self, versions: list[Version]) -> None:
        """Store newest versions, except those older than the version now there. If another refresh
        has stored the same version, only the time of its object is taken, and everything derived
        from its content stays."""

    def stamp(self, stamps: list[tuple[float, int]]) -> None:
        """Note the times of objects, each with the id of its memory."""

    def drop(self, memories: list[Held]) -> None:
        """Drop memories that no longer exist, except those that changed meanwhile."""

    def forget(self, address: Address, below: int = 0) -> None:
        """Drop a memory and everything derived from it, because its content must be erased.

        With `below`, a version with that number or a later one stays, because it was written since.
        No version `below` comes back, even if another refresh fetched it before and stores it
        later.
        """

    def erase_elsewhere(self) -> None:
        """Remove this store's data of other releases and of replaced catalogs."""

    # -- what users ask ----------------------------------------------------------------------

    def find(self, filters: Filters) -> list[MemoryEntry]:
        """Return what the filters let through, in any order."""

    def entity_paths(self, filters: Filters) -> list[str]:
        """Return the entity paths of what the filters let through, in any order."""

    def newest(self, filters: Filters, limit: int) -> list[SearchHit]:
        """Return what the filters let through, newest first; every score is 0."""

    def ranked(self, query: str, filters: Filters, limit: int) -> list[SearchHit]:
        """Return the memories that answer a query best, by words and, with an embedder, by
        meaning."""

    def by_meaning(self, text: str, filters: Filters, limit: int) -> list[SearchHit]:
        """Return the memories whose vectors are nearest to the text's."""


class Known(NamedTuple):
    """How complete a shared catalog is under one path, as its users know it.

    Refreshes of a path are numbered as they begin. `begun` is the last that began, and `ended` the
    last of those that ended, `age` seconds after it began; 0 when there is none. `listed` and
    `listed_age` are the same of those that listed everything. `position` is where to continue in
    the store's change log for `due_in` seconds, None to list; `again` are versions that were
    damaged.
    """

    begun: int = 0
    ended: int = 0
    age: float = 0.0
    listed: int = 0
    listed_age: float = 0.0
    position: str | None = None
    again: Mapping[str, Listed] = MappingProxyType({})
    due_in: float = 0.0


class SharedCatalog(Catalog, Protocol):
    """A catalog of many processes, and their shared knowledge of how fresh it is."""

    def look(self, entity_paths: Sequence[str | None]) -> dict[str | None, Known]:
        """Return what is known of each of these paths."""

    def begin(self, entity_path: str | None) -> int | None:
        """Begin a refresh, and return its number; None while another one of this path is under
        way. A process that does not `keep` it for some seconds counts as dead."""

    def keep(self, entity_path: str | None, number: int) -> None:
        """Say that a refresh is still under way."""

    def end(
        self,
        entity_path: str | None,
        number: int,
        *,
        position: str | None,
        again: Page,
        due_in: float | None,
    ) -> None:
        """Note that a refresh is done. `due_in` is None if it did not list everything; the time of
        the next full listing then stays as it was."""

    def abandon(self, entity_path: str | None, number: int) -> None:
        """Note that a refresh ended early. Raises nothing."""


@dataclass(frozen=True, slots=True)
class IndexHealth:
    """Whether an index can be used now: where it is, how long it took to answer, in seconds, and
    why it cannot be used, None when it can."""

    location: str
    latency: float
    error: AMFSError | None = None


class Index(Protocol):
    """A place for the catalogs of many stores, shared by many processes."""

    fallback: bool
    """Whether a process uses its own catalog while this one cannot be reached."""

    @property
    def location(self) -> str:
        """Its location, without secrets."""

    def catalog(self, versions: VersionLog, embedder: Embedder | None) -> SharedCatalog:
        """Return the catalog of a namespace. Sends nothing. Raises `ConfigurationError` for a store
        that other processes could not recognise."""

    def health(self) -> IndexHealth:
        """Ask whether it answers. Never raises."""

    def queries(self) -> int:
        """Return how many statements were sent so far."""

    def checks(self) -> Iterator[Check]:
        """Yield the checks of `amfs doctor`."""

    def tend(self) -> None:
        """Do the regular upkeep of an index. Raises `AMFSError`."""

    def close(self) -> None:
        """Release what is held; the next use opens it again."""
