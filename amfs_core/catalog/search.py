"""Finding memories: lists and ranked searches over a catalog that was refreshed just before."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from amfs_core.catalog.embedder import Embedder
from amfs_core.catalog.filters import Filters
from amfs_core.catalog.hit import SearchHit
from amfs_core.catalog.sqlite import fulltext, vectors
from amfs_core.catalog.sqlite.catalog import Catalog
from amfs_core.catalog.sqlite.database import Database
from amfs_core.catalog.sqlite.vectors import Vectors
from amfs_core.errors import ConfigurationError, CorruptEntryError, InvalidKeyError
from amfs_core.format import Address, MemoryEntry
from amfs_core.ranking import Ranked, fusion, terms
from amfs_core.versions import VersionLog

T = TypeVar("T")

Progress = Callable[[int, int], None]
_INDEXED_AT_ONCE = 5000
_BYTES_AT_ONCE = 1_000_000  # about a second, for which other processes cannot store anything
_ENTRIES = "SELECT entity_path, key, version, data FROM memory JOIN body ON body.memory = memory.id"


class Search:
    """Lists and searches in one namespace. `directory` is where the catalog is kept, None: nowhere;
    `embedder` gives vectors for the search by meaning."""

    def __init__(
        self,
        versions: VersionLog,
        directory: Path | None = None,
        embedder: Embedder | None = None,
        *,
        is_for_one_call: bool = False,
    ) -> None:
        self._versions = versions
        self._at_work: set[int] = set()  # threads
        self._is_closing = is_for_one_call
        self._to_forget: deque[tuple[Address, int]] = deque()
        self._vectors = None if embedder is None else Vectors(embedder)
        self._catalog = Catalog(
            versions,
            directory,
            f"{fulltext.SCHEMA};\n{vectors.SCHEMA}",
            (fulltext.remove, vectors.remove),
            takes_own=not is_for_one_call,
        )

    def is_at_work_here(self) -> bool:
        """Whether this thread is inside one of the methods below, which is not to be entered twice:
        a signal handler may find it so."""
        return threading.get_ident() in self._at_work

    def find(
        self,
        filters: Filters,
        *,
        max_age: float | None = None,
        progress: Progress | None = None,
        complete: bool = False,
    ) -> list[MemoryEntry]:
        """Return what the filters let through, sorted by name."""
        condition, parameters = filters.sql()
        statement = f"{_ENTRIES} WHERE {condition}"

        def read(connection: sqlite3.Connection) -> list[MemoryEntry]:
            return [self._entry(row) for row in connection.execute(statement, parameters)]

        found = self._fresh(
            filters, lambda database: database.run(read), max_age, progress, complete=complete
        )
        return sorted(found, key=lambda entry: (entry.entity_path.split("/"), entry.key))

    def entity_paths(self, filters: Filters, *, max_age: float | None = None) -> list[str]:
        """Return the entity paths of what the filters let through, sorted by name."""
        condition, parameters = filters.sql()
        statement = f"SELECT DISTINCT entity_path FROM memory WHERE {condition}"

        def read(connection: sqlite3.Connection) -> list[str]:
            return [path for (path,) in connection.execute(statement, parameters)]

        found = self._fresh(filters, lambda database: database.run(read), max_age, complete=False)
        return sorted(found, key=lambda path: path.split("/"))

    def newest(
        self,
        filters: Filters,
        limit: int,
        *,
        max_age: float | None = None,
        complete: bool = False,
    ) -> list[SearchHit]:
        """Return what the filters let through, newest first; every score is 0."""
        condition, parameters = filters.sql()
        statement = f"{_ENTRIES} WHERE {condition} ORDER BY written_at DESC, prefix LIMIT ?"

        def read(connection: sqlite3.Connection) -> list[SearchHit]:
            rows = connection.execute(statement, (*parameters, limit))
            return [SearchHit(self._entry(row), 0.0) for row in rows]

        return self._fresh(filters, lambda database: database.run(read), max_age, complete=complete)

    def ranked(
        self,
        query: str,
        filters: Filters,
        limit: int,
        *,
        max_age: float | None = None,
        complete: bool = False,
    ) -> list[SearchHit]:
        """Return what answers a query best: by its words and, with an embedder, its meaning."""
        condition, parameters = filters.sql()

        def by_words(connection: sqlite3.Connection, limit: int) -> Ranked:
            return fulltext.search(
                connection, query, where=condition, parameters=parameters, limit=limit
            )

        def answer(database: Database) -> list[SearchHit]:
            if self._vectors is None:
                return _indexed(
                    database,
                    lambda connection: self._hits(connection, by_words(connection, limit)),
                )
            compared = self._vectors.compare(database, query, condition, parameters)

            def fuse(connection: sqlite3.Connection) -> list[SearchHit]:
                wide = max(fusion.CANDIDATES, limit)
                words = by_words(connection, wide)
                candidates = {id for id, _ in (*words, *compared.nearest(wide))}
                ranked = fusion.fused(words, compared.of(candidates), compared.average)
                return self._hits(connection, ranked[:limit])

            return _indexed(database, fuse)

        return self._fresh(filters, answer, max_age, complete=complete)

    def by_meaning(
        self,
        text: str,
        filters: Filters,
        limit: int,
        *,
        max_age: float | None = None,
        complete: bool = False,
    ) -> list[SearchHit]:
        """Return the memories whose vectors are nearest to the text's."""
        vectors = self._vectors
        if vectors is None:
            raise ConfigurationError(
                "a search by meaning needs an embedder: AgentMemory(..., embedder=…), "
                "as docs/search.md shows"
            )
        condition, parameters = filters.sql()

        def answer(database: Database) -> list[SearchHit]:
            nearest = vectors.compare(database, text, condition, parameters).nearest(limit)
            return database.run(lambda connection: self._hits(connection, nearest))

        return self._fresh(filters, answer, max_age, complete=complete)

    def forget(self, address: Address, below: int) -> None:
        """Drop what is known of a memory: the content of all versions `below` one is to be gone.

        From a signal handler that came in the middle of a search: once that has ended.
        """
        self._to_forget.append((address, below))
        if not self.is_at_work_here():
            self._at_work_on(lambda: None)

    def _at_work_on(self, work: Callable[[], T]) -> T:
        """Return `work()`, during which this thread is at work here; then forget what is to be
        forgotten, and close if that was asked for.

        Not a context manager: an interrupt that comes in the middle of its own steps would leave
        the thread at work forever.
        """
        thread = threading.get_ident()
        try:
            self._at_work.add(thread)
            try:
                return work()
            finally:
                self._forget_all()
        finally:
            self._at_work.discard(thread)
            if self._is_closing:
                self._is_closing = False
                self._catalog.close()

    def _forget_all(self) -> None:
        with suppress(IndexError):  # another thread was quicker
            while True:
                order = self._to_forget[0]
                self._catalog.forget(*order)
                with suppress(ValueError):  # the same
                    self._to_forget.remove(order)  # not before it is done, as it may be interrupted

    def _fresh(
        self,
        filters: Filters,
        work: Callable[[Database], T],
        max_age: float | None,
        progress: Progress | None = None,
        *,
        complete: bool,
    ) -> T:
        return self._at_work_on(
            lambda: self._catalog.fresh(
                filters.entity_path, work, max_age=max_age, progress=progress, complete=complete
            )
        )

    def close(self) -> None:
        """Close the catalog; from a signal handler that came in the middle of a search, once that
        has ended."""
        if self.is_at_work_here():
            self._is_closing = True
        else:
            self._catalog.close()

    def _hits(self, connection: sqlite3.Connection, ranked: Ranked) -> list[SearchHit]:
        """Return the memories of these ids; one that changed in between may be gone."""
        hits = []
        for id, score in ranked:
            row = connection.execute(f"{_ENTRIES} WHERE id = ? AND deleted = 0", (id,)).fetchone()
            if row is not None:
                hits.append(SearchHit(self._entry(row), score))
        return hits

    def _entry(self, row: tuple[str, str, int, bytes]) -> MemoryEntry:
        entity_path, key, version, body = row
        try:
            address = self._versions.layout.address(entity_path, key)
            return self._versions.decode(address, version, body)
        except (CorruptEntryError, InvalidKeyError) as damage:  # it was whole when it was stored
            raise sqlite3.DatabaseError("a memory in it is damaged") from damage


def _indexed(database: Database, work: Callable[[sqlite3.Connection], T]) -> T:
    """Return `work(connection)` on a state of the catalog in which every memory is indexed.

    Those that came since the last search are indexed first; who only lists never pays for them.
    Others may share the file, and what they store is not indexed yet. So the work is done in a
    snapshot that has no such memory or, after indexing, before anybody else may write.
    """
    unindexed = (
        "SELECT id, entity_path, key, tags, data FROM memory JOIN body ON body.memory = memory.id "
        f"WHERE indexed = 0 LIMIT {_INDEXED_AT_ONCE}"
    )

    def some(connection: sqlite3.Connection) -> list[tuple[int, str, str, str, bytes]]:
        rows, size = [], 0
        for row in connection.execute(unindexed):
            rows.append(row)
            size += min(len(row[-1]), terms.MOST_CHARACTERS)
            if size >= _BYTES_AT_ONCE:
                break
        return rows

    def run(connection: sqlite3.Connection) -> T:
        with database.snapshot(connection):
            if connection.execute(unindexed).fetchone() is None:
                return work(connection)
        while True:
            with database.transaction(connection):
                rows = some(connection)
                fulltext.add(connection, (_indexable(*row) for row in rows))
                connection.executemany(
                    "UPDATE memory SET indexed = 1 WHERE id = ?", [(row[0],) for row in rows]
                )
                if connection.execute(unindexed).fetchone() is None:
                    return work(connection)

    return database.run(run)


def _indexable(id: int, entity_path: str, key: str, tags: str, body: bytes) -> fulltext.Row:
    return id, entity_path, key, json.loads(tags), msgspec.json.decode(body)["value"]
