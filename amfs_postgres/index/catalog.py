"""`PostgresCatalog`: the newest versions in one namespace of one store, in a shared database."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from amfs_core import fork
from amfs_core.catalog import (
    CatalogLost,
    CatalogUnavailable,
    Embedder,
    Filters,
    Held,
    Known,
    SearchHit,
    Version,
    words,
)
from amfs_core.changes import Page
from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    ConfigurationError,
    CorruptEntryError,
)
from amfs_core.format import Address, MemoryEntry
from amfs_core.ranking import Ranked, fusion
from amfs_core.versions import VersionLog
from amfs_postgres.connections import Link
from amfs_postgres.index import looks, storing
from amfs_postgres.index.conditions import Condition, condition, under
from amfs_postgres.index.statements import LOOKING, WRITING
from amfs_postgres.index.storing import Storing
from amfs_postgres.index.tables import LAYOUT
from amfs_postgres.index.terms import StoredTerms
from amfs_postgres.index.vectors import Question, Vectors

if TYPE_CHECKING:
    from amfs_postgres.index.index import PostgresIndex

T = TypeVar("T")

_SOME = 10
_MOST_LOSSES = 5
"""Losses without an answer in between. More mean that somebody keeps damaging the tables."""

_log = logging.getLogger("amfs")

_Found = tuple[str, int, bytes]
"""The prefix of a memory, the number of its newest version, and that version's body."""


class PostgresCatalog:
    """The newest versions in one namespace, for all users of the same index. Safe for threads.

    `identity` names the namespace and its store. It has one number in the index as long as its
    catalog is in use.
    """

    together = 4000

    def __init__(
        self, index: PostgresIndex, identity: str, versions: VersionLog, embedder: Embedder | None
    ) -> None:
        self._index = index
        self._identity = identity
        self._versions = versions
        self._layout = versions.layout
        self._statements = index.statements
        self._vectors = None if embedder is None else Vectors(embedder, index, versions.layout)
        self._number = 0
        self._losses = 0
        self._kept: dict[tuple[str, int], float] = {}
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        """Become another worker in a forked child."""
        self._worker = f"{os.getpid()}-{secrets.token_hex(8)}"

    # -- which one is in use -----------------------------------------------------------------

    def current(self) -> int:
        """Return the number of this catalog in the index, made if there is none."""
        if not self._number:
            self._number = self._run(self._found_or_made, make=True)
        return self._number

    def require(self, number: int) -> None:
        """Raise `CatalogLost` unless the catalog with this number is still in use. 1 request."""
        if not self._run(lambda link: self._is_in_use(link, number)):
            self._number = 0
            raise CatalogLost
        self._losses = 0

    def close(self) -> None:
        """Do nothing: the connections are the index's."""

    def _found_or_made(self, link: Link) -> int:
        find = (
            "SELECT id, store IS NOT NULL FROM {stores} LEFT JOIN {total} ON store = id "
            "WHERE layout = %s AND identity = %s AND NOT gone"
        )
        make = (
            "WITH made AS (INSERT INTO {stores} (layout, identity) VALUES (%s, %s) "
            "ON CONFLICT (layout, identity) WHERE NOT gone DO NOTHING RETURNING id) "
            "INSERT INTO {total} (store) SELECT id FROM made"
        )
        for _ in range(2):
            for number, is_whole in self._statements.rows(link, find, (LAYOUT, self._identity)):
                if is_whole:
                    return int(number)
                self._give_up(link, number)
            self._statements.run(link, make, (LAYOUT, self._identity))
        raise CatalogLost

    def _give_up(self, link: Link, number: int) -> None:
        """Mark the catalog with this number as no longer used."""
        self._statements.run(link, "UPDATE {stores} SET gone = true WHERE id = %s", (number,))

    def _is_in_use(self, link: Link, number: int) -> bool:
        statement = "SELECT FROM {stores} WHERE id = %s AND NOT gone"
        return bool(self._statements.rows(link, statement, (number,)))

    # -- what is known of how fresh it is ----------------------------------------------------

    def look(self, entity_paths: Sequence[str | None]) -> dict[str | None, Known]:
        """Return what is known of these paths. 1 request."""
        return self._run(
            lambda link: looks.look(
                link, self._statements, self.current(), self._layout, entity_paths
            )
        )

    def begin(self, entity_path: str | None) -> int | None:
        """Begin a refresh, unless another one of the path is under way. 1 request."""
        scope, store = looks.scope_text(self._layout, entity_path), self.current()
        return self._run(
            lambda link: looks.begin(link, self._statements, store, scope, self._worker)
        )

    def keep(self, entity_path: str | None, number: int) -> None:
        """Say that a refresh is still under way. 1 request every 2 seconds."""
        scope, store, now = (
            looks.scope_text(self._layout, entity_path),
            self.current(),
            time.monotonic(),
        )
        if now - self._kept.get((scope, number), 0.0) > looks.KEEP_SECONDS:
            self._kept = {(scope, number): now}
            self._run(lambda link: looks.keep(link, self._statements, store, scope, number))

    def end(
        self,
        entity_path: str | None,
        number: int,
        *,
        position: str | None,
        again: Page,
        due_in: float | None,
    ) -> None:
        """Note that a refresh is done. 1 request."""
        scope, store = looks.scope_text(self._layout, entity_path), self.current()
        self._run(
            lambda link: looks.end(
                link,
                self._statements,
                store,
                scope,
                number,
                position=position,
                again=again,
                due_in=due_in,
            )
        )

    def abandon(self, entity_path: str | None, number: int) -> None:
        """Note that a refresh ended early; otherwise it would count as dead after 10 s."""
        if not self._number:
            return
        scope, store = looks.scope_text(self._layout, entity_path), self._number
        try:
            self._index.run_once(
                lambda link: looks.let_go(link, self._statements, store, scope, number)
            )
        except (AMFSError, CatalogLost) as error:
            _log.debug("a refresh is not abandoned: %s", error)

    # -- what a refresh compares -------------------------------------------------------------

    def last_id(self) -> int:
        """Return the highest id ever used. 1 request."""
        rows = self._rows("SELECT last_id FROM {total} WHERE store = %s", (self.current(),))
        if not rows:
            self._number = 0
            raise CatalogLost
        return int(rows[0][0])

    def held(self, prefixes: Iterable[str]) -> list[Held]:
        """Return the memories with these prefixes that are in the catalog. 1 request."""
        wanted, store = list(prefixes), self.current()
        return self._run(lambda link: storing.held(link, self._statements, store, wanted))

    def held_of_page(self, prefixes: Collection[str]) -> list[Held]:
        """Return the same, and perhaps others, for prefixes that are neighbours in order. 1 or 2
        requests."""
        if not prefixes:
            return []
        store, most = self.current(), 2 * len(prefixes)

        def read(link: Link) -> list[Held]:
            return storing.held_between(link, self._statements, store, prefixes, most + 1)

        memories = self._run(read)
        # Memories of deeper paths may come between those of a page.
        return memories if len(memories) <= most else self.held(prefixes)

    def unconfirmed(self, confirmed: bytearray, entity_path: str | None) -> list[str]:
        """Return the prefixes of the memories under a path whose ids are not in `confirmed` but low
        enough to be. 1 request, or 3 when there may be some."""
        where, parameters = under(self.current(), self._layout, entity_path)
        among = f"FROM {{memory}} m WHERE {where} AND m.id < %s"
        bounds = (*parameters, len(confirmed))
        ((count,),) = self._rows(f"SELECT count(*) {among}", bounds)
        if count == confirmed.count(1):  # reading them all would cost far more
            return []
        ids = [id for (id,) in self._rows(f"SELECT m.id {among}", bounds) if not confirmed[id]]
        return [
            prefix
            for (prefix,) in self._rows(
                "SELECT prefix FROM {memory} WHERE store = %s AND id = ANY(%s::bigint[])",
                (self.current(), ids),
            )
        ]

    def last_keys(self, entity_path: str | None, without: set[str]) -> list[str]:
        """Return the object keys of the last few versions in the catalog under a path, except those
        of the memories with these prefixes. 1 request."""
        where, parameters = under(self.current(), self._layout, entity_path)
        rows = self._rows(
            f"SELECT m.prefix, m.version FROM {{memory}} m WHERE {where} "
            "AND m.prefix <> ALL(%s::text[]) ORDER BY m.id DESC LIMIT %s",
            (*parameters, list(without), _SOME),
        )
        return [f"{prefix}v{version}.json" for prefix, version in rows]

    # -- what a refresh stores ---------------------------------------------------------------

    def put(self, versions: list[Version]) -> None:
        """Store newest versions with their words, in one transaction. About 15 requests."""
        if versions:
            self._store(lambda storing: storing.put(versions))

    def stamp(self, stamps: list[tuple[float, int]]) -> None:
        """Note the times of objects, each with the id of its memory."""
        if stamps:
            self._store(lambda storing: storing.stamp(stamps))

    def drop(self, memories: list[Held]) -> None:
        """Drop memories that no longer exist, except those that changed meanwhile."""

        def drop(link: Link, store: int, storing_now: Storing) -> None:
            now = storing.held(link, self._statements, store, [memory[0] for memory in memories])
            storing_now.drop([memory for memory in now if memory in memories])

        if memories:
            self._store_with(drop)

    def forget(self, address: Address, below: int = 0) -> None:
        """Drop a memory and everything derived from it, because its content must be erased."""

        def drop(link: Link, store: int, storing_now: Storing) -> None:
            known = storing.held(link, self._statements, store, [address.prefix])
            storing_now.drop([memory for memory in known if not below or memory[2] < below])
            if below:
                storing_now.never_below(address.prefix, below)

        self._store_with(drop)

    def erase_elsewhere(self) -> None:
        """Remove this store's rows of other releases, and replaced catalogs."""
        self._run(
            lambda link: self._statements.run(
                link,
                "UPDATE {stores} SET gone = true WHERE identity = %s AND layout <> %s AND NOT gone",
                (self._identity, LAYOUT),
            )
        )
        self._index.sweep(self._identity)

    def _store(self, work: Callable[[Storing], None]) -> None:
        self._store_with(lambda _link, _store, storing_now: work(storing_now))

    def _store_with(self, work: Callable[[Link, int, Storing], None]) -> None:
        """Do `work` in a transaction while nobody else stores in this catalog."""
        store = self.current()
        lock = (
            "SELECT last_id FROM {total} JOIN {stores} ON id = store "
            "WHERE store = %s AND NOT gone FOR UPDATE"
        )

        def store_all(link: Link) -> None:
            with self._statements.transaction(link, WRITING):
                rows = self._statements.rows(link, lock, (store,))
                if not rows:
                    raise CatalogLost
                work(link, store, Storing(link, self._statements, store, rows[0][0]))

        self._run(store_all)

    # -- what users ask ----------------------------------------------------------------------

    def find(self, filters: Filters) -> list[MemoryEntry]:
        """Return what the filters let through, in any order. 1 request."""
        at = datetime.now(UTC)
        where, parameters = self._condition(filters, at)
        return self._entries(
            self._rows(
                "SELECT m.prefix, m.version, c.body FROM {memory} m "
                f"JOIN {{content}} c USING (store, id) WHERE {where}",
                parameters,
            ),
            filters,
            at,
        )

    def entity_paths(self, filters: Filters) -> list[str]:
        """Return the entity paths of what the filters let through, in any order. 1 request."""
        where, parameters = self._condition(filters, datetime.now(UTC))
        rows = self._rows(f"SELECT DISTINCT m.path FROM {{memory}} m WHERE {where}", parameters)
        paths = []
        for (path,) in rows:
            parsed = self._layout.parse(f"{path}k/v1.json")
            if parsed is None:
                self._lose("a path in it is not one")
            paths.append(parsed[0].entity_path)
        return paths

    def newest(self, filters: Filters, limit: int) -> list[SearchHit]:
        """Return what the filters let through, newest first; every score is 0. 1 request."""
        at = datetime.now(UTC)
        where, parameters = self._condition(filters, at)
        rows = self._rows(
            "SELECT m.prefix, m.version, c.body FROM {memory} m "
            f"JOIN {{content}} c USING (store, id) WHERE {where} "
            "ORDER BY m.written_at DESC, m.prefix LIMIT %s",
            (*parameters, limit),
        )
        return [SearchHit(entry, 0.0) for entry in self._entries(rows, filters, at)]

    def ranked(self, query: str, filters: Filters, limit: int) -> list[SearchHit]:
        """Return the memories that answer a query best, by words and, with an embedder, by meaning.

        6 requests where up to 4,096 memories satisfy the filters, else about 20; with an embedder
        some more.
        """
        store, at = self.current(), datetime.now(UTC)
        where = self._condition(filters, at)
        vectors = self._vectors
        wanted = None if vectors is None else vectors.prepare(self._run, store, query)

        def rank(link: Link) -> list[tuple[_Found, float]]:
            index = StoredTerms(link, self._statements, store, where)
            if vectors is None or wanted is None:
                return self._of(link, store, words.search(index, query, limit))
            wide = max(fusion.CANDIDATES, limit)
            by_words = words.search(index, query, wide)
            ids = [id for id, _ in by_words]
            compared = vectors.compare(link, Question(store, where, wanted, wide, ids))
            candidates = {id for id, _ in (*by_words, *compared.nearest)}
            best = fusion.fused(by_words, compared.of(candidates), compared.average)
            return self._of(link, store, best[:limit])

        return self._hits(self._looked(rank), filters, at)

    def by_meaning(self, text: str, filters: Filters, limit: int) -> list[SearchHit]:
        """Return the memories whose vectors are nearest to the text's."""
        if self._vectors is None:
            raise ConfigurationError(
                "a search by meaning needs an embedder: AgentMemory(..., embedder=…), "
                "as docs/search.md shows"
            )
        vectors, store, at = self._vectors, self.current(), datetime.now(UTC)
        where = self._condition(filters, at)
        wanted = vectors.prepare(self._run, store, text)

        def rank(link: Link) -> list[tuple[_Found, float]]:
            compared = vectors.compare(link, Question(store, where, wanted, limit))
            return self._of(link, store, compared.nearest)

        return self._hits(self._looked(rank), filters, at)

    def _looked(self, work: Callable[[Link], T]) -> T:
        """Return `work(link)`, all of whose statements see the same state."""

        def look(link: Link) -> T:
            with self._statements.transaction(link, LOOKING):
                return work(link)

        return self._run(look)

    def _of(self, link: Link, store: int, ranked: Ranked) -> list[tuple[_Found, float]]:
        rows = self._statements.rows(
            link,
            "SELECT m.id, m.prefix, m.version, c.body FROM {memory} m "
            "JOIN {content} c USING (store, id) WHERE m.store = %s AND m.id = ANY(%s::bigint[])",
            (store, [id for id, _ in ranked]),
        )
        versions = {row[0]: row[1:] for row in rows}
        return [(versions[id], score) for id, score in ranked if id in versions]

    def _hits(
        self, scored_versions: list[tuple[_Found, float]], filters: Filters, at: datetime
    ) -> list[SearchHit]:
        entries = self._entries([version for version, _ in scored_versions], filters, at)
        return [
            SearchHit(entry, score)
            for entry, (_, score) in zip(entries, scored_versions, strict=True)
        ]

    def _entries(
        self, versions: Iterable[_Found], filters: Filters, at: datetime
    ) -> list[MemoryEntry]:
        """Return entries, each checked: its seal, its place, and the filters.

        The index only says which memories; nothing else it says is believed.
        """
        entries = []
        for prefix, version, body in versions:
            parsed = self._layout.parse(f"{prefix}v{version}.json")
            if parsed is None:
                self._lose(f"{prefix!r:.100} is not the name of a memory")
            try:
                entry = self._versions.decode(parsed[0], version, bytes(body))
            except CorruptEntryError as damage:
                self._lose(str(damage))
            if not filters.lets_through(entry, at):
                self._lose(f"{parsed[0]} differs from its columns")
            entries.append(entry)
        return entries

    def _condition(self, filters: Filters, at: datetime) -> Condition:
        return condition(self.current(), self._layout, filters, at)

    # -- asking ------------------------------------------------------------------------------

    def _lose(self, problem: str) -> NoReturn:
        """Let everybody begin again with an empty catalog, because the content of this one is
        wrong."""
        number = self.current()
        self._losses += 1
        if self._losses > _MOST_LOSSES:
            raise CatalogUnavailable(
                BackendUnavailableError(
                    f"the index at {self._index.location} is damaged again and again: {problem}",
                    hint="find out who else writes to its schema, or drop the schema",
                )
            )
        _log.warning("the index of %s is rebuilt: %s", self._identity, problem)
        self._run(lambda link: self._give_up(link, number))
        self._number = 0
        raise CatalogLost

    def _rows(self, statement: str, parameters: tuple[Any, ...]) -> list[Any]:
        return self._run(lambda link: self._statements.rows(link, statement, parameters))

    def _run(self, work: Callable[[Link], T], *, make: bool = False) -> T:
        """Return `work(link)`. Raises `CatalogLost` when the tables are gone, and
        `CatalogUnavailable` when the database fails for as long as patience lasts."""
        try:
            return self._index.run(work, self._versions.store.patience.seconds, make=make)
        except CatalogLost as loss:
            self._number = 0
            self._losses += 1
            if self._losses > _MOST_LOSSES:
                raise CatalogUnavailable(
                    ConfigurationError(
                        f"the index at {self._index.location} lacks tables, or loses them again "
                        "and again: they are not as AMFS made them",
                        hint="drop its schema; AMFS makes it again",
                    )
                ) from loss
            raise
        except AMFSError as error:
            raise CatalogUnavailable(error) from error
