"""The catalog: the newest version of every memory, in a database that may be thrown away.

A refresh lists the objects and gets only the newest versions that it has not seen. They are
immutable, so the catalog's versions never go stale. Sizes and times of the listing are compared
anyway, because a directory or a bucket may have been replaced by another under the same name.
`docs/design/catalog.md` says what goes wrong without each part.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable
from itertools import islice
from pathlib import Path

from amfs_core.catalog.contract import Held, Version
from amfs_core.catalog.embedder import Embedder
from amfs_core.catalog.filters import Filters
from amfs_core.catalog.hit import SearchHit
from amfs_core.catalog.sqlite import answers, fulltext, tables, vectors
from amfs_core.catalog.sqlite.conditions import under
from amfs_core.catalog.sqlite.database import Database
from amfs_core.catalog.sqlite.vectors import Vectors
from amfs_core.errors import ConfigurationError, CorruptEntryError, InvalidKeyError
from amfs_core.format import Address, MemoryEntry
from amfs_core.versions import VersionLog

_SOME = 10
_ERASED = (
    "INSERT INTO erased VALUES (?, ?) "
    "ON CONFLICT (prefix) DO UPDATE SET version = max(version, excluded.version)"
)
_STAMP = "UPDATE memory SET modified = ? WHERE id = ?"


class SqliteCatalog:
    """The newest versions in one namespace. Safe for threads, and for processes that share a file.

    `directory` is where the file is kept, one for every store and namespace; with None it is in
    memory. `embedder` returns vectors for the search by meaning.
    """

    together = 500

    def __init__(
        self, versions: VersionLog, directory: Path | None, embedder: Embedder | None
    ) -> None:
        self._versions = versions
        self._vectors = None if embedder is None else Vectors(embedder)
        location = versions.store.location
        identity = json.dumps([location, versions.layout.namespace])
        if location is None:
            directory = None
        schema = ";\n".join((tables.SCHEMA, fulltext.SCHEMA, vectors.SCHEMA))
        self.database = Database(directory, schema, identity)

    def current(self) -> int:
        """Return the number of the database in use, opened if none is."""
        return self.database.current()

    def require(self, number: int) -> None:
        """Raise `CatalogLost` unless the database with this number is still in use."""
        self.database.require(number)

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    # -- what a refresh compares -------------------------------------------------------------

    def last_id(self) -> int:
        """Return the highest id there is."""
        statement = "SELECT ifnull(max(id), 0) FROM memory"
        return int(
            self.database.run(lambda connection: connection.execute(statement).fetchone())[0]
        )

    def held(self, prefixes: Iterable[str]) -> list[Held]:
        """Return the memories with these prefixes that are in the catalog."""
        return self.database.run(lambda connection: _held(connection, prefixes))

    def held_of_page(self, prefixes: Collection[str]) -> list[Held]:
        """Return the same, and perhaps others, for prefixes that are neighbours in order.

        Reading the index from one end to the other costs a quarter less than looking each up.
        """
        if not prefixes:
            return []
        most = 2 * len(prefixes)
        memories: list[Held] = self.database.run(
            lambda connection: connection.execute(
                "SELECT prefix, id, version, size, modified FROM memory "
                "WHERE prefix BETWEEN ? AND ? LIMIT ?",
                (min(prefixes), max(prefixes), most + 1),
            ).fetchall()
        )
        # Memories of deeper paths may come between those of a page.
        return memories if len(memories) <= most else self.held(prefixes)

    def unconfirmed(self, confirmed: bytearray, entity_path: str | None) -> list[str]:
        """Return the prefixes of the memories under a path whose ids are not in `confirmed` but low
        enough to be."""
        condition, parameters = under(entity_path)

        def read(connection: sqlite3.Connection) -> list[str]:
            among = f"FROM memory WHERE {condition} AND id < ?"
            bounds = (*parameters, len(confirmed))
            ((count,),) = connection.execute(f"SELECT count(*) {among}", bounds)
            if count == confirmed.count(1):  # reading them all would cost five times as much
                return []
            rows = connection.execute(f"SELECT id {among}", bounds)
            ids = [id for (id,) in rows if not confirmed[id]]
            wanted = "SELECT prefix FROM memory WHERE id = ?"
            return [prefix for id in ids for (prefix,) in connection.execute(wanted, (id,))]

        return self.database.run(read)

    def last_keys(self, entity_path: str | None, without: set[str]) -> list[str]:
        """Return the object keys of the last few versions in the catalog under a path, except those
        of the memories with these prefixes."""
        condition, parameters = under(entity_path)

        def read(connection: sqlite3.Connection) -> list[str]:
            rows = connection.execute(
                f"SELECT prefix, version FROM memory WHERE {condition} ORDER BY id DESC", parameters
            )
            versions = ((prefix, version) for prefix, version in rows if prefix not in without)
            return [f"{prefix}v{version}.json" for prefix, version in islice(versions, _SOME)]

        return self.database.run(read)

    # -- what a refresh stores ---------------------------------------------------------------

    def put(self, versions: list[Version]) -> None:
        """Store newest versions with their bodies, except those older than the version now there.
        If another refresh has stored the same version, only the time of its object is taken, and
        everything derived from its content stays."""
        memories = [
            (
                tables.row(version.address, version.entry, len(version.body), version.modified),
                version.body,
            )
            for version in versions
        ]

        def put(connection: sqlite3.Connection) -> None:
            with self.database.transaction(connection):
                known = {
                    memory[0]: memory
                    for memory in _held(connection, [row[tables.PREFIX] for row, _ in memories])
                }
                erased = dict(_erased(connection, [row[tables.PREFIX] for row, _ in memories]))
                newer = []
                for row, body in memories:
                    if row[tables.VERSION] < erased.get(row[tables.PREFIX], 0):
                        continue  # fetched before a purge that has ended meanwhile
                    memory = known.get(row[tables.PREFIX])
                    if memory is not None and memory[2] > row[tables.VERSION]:
                        continue
                    if (
                        memory is None
                        or memory[2] < row[tables.VERSION]
                        or _body(connection, memory[1]) != body
                    ):
                        newer.append((row, body))
                    elif row[tables.MODIFIED] is not None:
                        connection.execute(_STAMP, (row[tables.MODIFIED], memory[1]))
                prefixes = [row[tables.PREFIX] for row, _ in newer]
                self._tell(connection, [known[prefix] for prefix in prefixes if prefix in known])
                connection.executemany(tables.UPSERT, [row for row, _ in newer])
                connection.executemany(
                    tables.BODY, [(body, row[tables.PREFIX]) for row, body in newer]
                )
                connection.executemany(
                    "INSERT OR IGNORE INTO tag SELECT id, ? FROM memory WHERE prefix = ?",
                    [
                        (tag, row[tables.PREFIX])
                        for row, _ in newer
                        if row[tables.TAGS] != "[]"
                        for tag in json.loads(row[tables.TAGS])
                    ],
                )

        if memories:
            self.database.run(put)

    def stamp(self, stamps: list[tuple[float, int]]) -> None:
        """Note the times of objects, each with the id of its memory."""

        def put(connection: sqlite3.Connection) -> None:
            with self.database.transaction(connection):
                connection.executemany(_STAMP, stamps)

        if stamps:
            self.database.run(put)

    def drop(self, memories: list[Held]) -> None:
        """Drop memories that no longer exist, except those that changed meanwhile."""

        def drop(connection: sqlite3.Connection) -> None:
            with self.database.transaction(connection):
                now = _held(connection, [memory[0] for memory in memories])
                self._drop(connection, [memory for memory in now if memory in memories])

        self.database.run(drop)

    def forget(self, address: Address, below: int = 0) -> None:
        """Drop a memory and everything derived from it, because its content must be erased.

        With `below`, a version with that number or a later one stays, because it was written since.
        No version `below` comes back, even if another refresh fetched it before and stores it
        later.
        """

        def drop(connection: sqlite3.Connection) -> None:
            with self.database.transaction(connection):
                known = _held(connection, [address.prefix])
                self._drop(
                    connection, [memory for memory in known if not below or memory[2] < below]
                )
                if below:
                    connection.execute(_ERASED, (address.prefix, below))

        self.database.run(drop)

    def erase_elsewhere(self) -> None:
        """Remove all files of this store except the one in use."""
        self.database.remove_others()

    # -- what users ask ----------------------------------------------------------------------

    def find(self, filters: Filters) -> list[MemoryEntry]:
        """Return what the filters let through, in any order."""
        return self.database.run(
            lambda connection: [self._entry(memory) for memory in answers.find(connection, filters)]
        )

    def entity_paths(self, filters: Filters) -> list[str]:
        """Return the entity paths of what the filters let through, in any order."""
        return self.database.run(lambda connection: answers.entity_paths(connection, filters))

    def newest(self, filters: Filters, limit: int) -> list[SearchHit]:
        """Return what the filters let through, newest first; every score is 0."""
        return self.database.run(
            lambda connection: [
                SearchHit(self._entry(memory), 0.0)
                for memory in answers.newest(connection, filters, limit)
            ]
        )

    def ranked(self, query: str, filters: Filters, limit: int) -> list[SearchHit]:
        """Return the memories that answer a query best, by words and, with an embedder, by
        meaning."""
        return self._hits(answers.ranked(self.database, query, filters, limit, self._vectors))

    def by_meaning(self, text: str, filters: Filters, limit: int) -> list[SearchHit]:
        """Return the memories whose vectors are nearest to the text's."""
        if self._vectors is None:
            raise ConfigurationError(
                "a search by meaning needs an embedder: AgentMemory(..., embedder=…), "
                "as docs/search.md shows"
            )
        return self._hits(answers.by_meaning(self.database, text, filters, limit, self._vectors))

    def _hits(self, memories: list[tuple[answers.Memory, float]]) -> list[SearchHit]:
        # Within `run`, where a body that rotted in the file condemns the file.
        return self.database.run(
            lambda _: [SearchHit(self._entry(memory), score) for memory, score in memories]
        )

    def _entry(self, memory: answers.Memory) -> MemoryEntry:
        entity_path, key, version, body = memory
        try:
            address = self._versions.layout.address(entity_path, key)
            return self._versions.decode(address, version, body)
        except (CorruptEntryError, InvalidKeyError) as damage:  # it was whole when it was stored
            raise sqlite3.DatabaseError("a memory in it is damaged") from damage

    def _drop(self, connection: sqlite3.Connection, memories: Iterable[Held]) -> None:
        gone = list(memories)
        self._tell(connection, gone)
        ids = [(memory[1],) for memory in gone]
        connection.executemany("DELETE FROM memory WHERE id = ?", ids)
        connection.executemany("DELETE FROM body WHERE memory = ?", ids)

    def _tell(self, connection: sqlite3.Connection, memories: list[Held]) -> None:
        """Remove everything derived from the content of these memories."""
        ids = [id for _, id, *_ in memories]
        if ids:
            fulltext.remove(connection, ids)
            vectors.remove(connection, ids)
            connection.executemany("DELETE FROM tag WHERE memory = ?", [(id,) for id in ids])


def _held(connection: sqlite3.Connection, prefixes: Iterable[str]) -> list[Held]:
    return connection.execute(
        "SELECT prefix, memory.id, version, size, modified FROM json_each(?) "
        "CROSS JOIN memory ON memory.prefix = json_each.value",
        (json.dumps(list(prefixes), ensure_ascii=False),),
    ).fetchall()


def _erased(connection: sqlite3.Connection, prefixes: Iterable[str]) -> list[tuple[str, int]]:
    return connection.execute(
        "SELECT prefix, version FROM json_each(?) "
        "CROSS JOIN erased ON erased.prefix = json_each.value",
        (json.dumps(list(prefixes), ensure_ascii=False),),
    ).fetchall()


def _body(connection: sqlite3.Connection, id: int) -> bytes:
    ((body,),) = connection.execute("SELECT data FROM body WHERE memory = ?", (id,))
    return bytes(body)
