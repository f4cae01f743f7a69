"""The contract of a catalog: what holds the newest version of every memory, and answers about them.

It is disposable: all that it holds can be fetched again, and when it is lost, everything begins
again on an empty one. Each that was opened has a number, by which whoever does more than one thing
knows that it was the same one all along.
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
    """What was in the catalog is gone: begin again, on an empty one."""


class CatalogUnavailable(Exception):
    """The catalog cannot be used now, or not by this process; `error` says why. `is_of_store`: the
    store let this process not read what the catalog has for others."""

    def __init__(self, error: AMFSError, *, is_of_store: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.is_of_store = is_of_store


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

    Any method but `close` may raise `CatalogLost`, and of one that is elsewhere
    `CatalogUnavailable`.
    """

    @property
    def together(self) -> int:
        """How many versions are best stored at once."""

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


class Known(NamedTuple):
    """What processes that share a catalog know of when it was complete under one path.

    Refreshes of a path are numbered as they begin. `begun` is the last that began, and `ended` the
    last of those that ended, `age` seconds after it began; 0 when there is none. `listed` and
    `listed_age` are the same of those that listed everything. `position` is where to go on in the
    store's change log, None to list, for `due_in` seconds; `again` are versions that were damaged.
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
    """A catalog of many processes, and what they know together of how fresh it is."""

    def look(self, entity_paths: Sequence[str | None]) -> dict[str | None, Known]:
        """Return what is known of each of these paths."""

    def begin(self, entity_path: str | None) -> int | None:
        """Begin a refresh, and return its number; None while another one of this path is under
        way. Whoever `keep`s nothing for some seconds is taken for dead."""

    def keep(self, entity_path: str | None, number: int) -> None:
        """Say that a refresh is under way still."""

    def end(
        self,
        entity_path: str | None,
        number: int,
        *,
        position: str | None,
        again: Page,
        due_in: float | None,
    ) -> None:
        """Note that a refresh is done. `due_in` None: it did not list everything, and when that is
        to be done next stays as it was."""

    def abandon(self, entity_path: str | None, number: int) -> None:
        """Note that a refresh ended without being done. Raises nothing."""


@dataclass(frozen=True, slots=True)
class IndexHealth:
    """Whether an index can be used now: where it is, how long it took to answer, in seconds, and
    why it cannot be used, None when it can."""

    location: str
    latency: float
    error: AMFSError | None = None


class Index(Protocol):
    """Where the catalogs of many stores are that many processes share."""

    fallback: bool
    """Whether a process has a catalog of its own while this one cannot be reached."""

    @property
    def location(self) -> str:
        """Where it is, without secrets."""

    def catalog(self, versions: VersionLog, embedder: Embedder | None) -> SharedCatalog:
        """Return the catalog of a namespace. Sends nothing. Raises `ConfigurationError` for a store
        of which nobody could say that it is the same one."""

    def health(self) -> IndexHealth:
        """Ask it for a sign of life. Never raises."""

    def queries(self) -> int:
        """Return how many statements were sent so far."""

    def checks(self) -> Iterator[Check]:
        """Yield what `amfs doctor` looks at."""

    def tend(self) -> None:
        """Do what an index needs now and then. Raises `AMFSError`."""

    def close(self) -> None:
        """Release what is held; the next use opens it again."""
