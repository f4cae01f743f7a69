"""Storing newest versions, their words with them, in the transaction of the caller.

Everything derived from a memory's content is stored and removed with it, so that readers see
memories and words that belong together at any moment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec

from amfs_core.catalog import Held, Version
from amfs_core.ranking import postings
from amfs_postgres.connections import Link
from amfs_postgres.index import tables
from amfs_postgres.index.statements import Statements

_PREFIX, _VERSION, _MODIFIED, _SEARCHABLE = 0, 1, 3, -1

_HELD = "SELECT prefix, id, version, size, modified FROM {memory} WHERE store = %s"

_NAMES = ("store", "id", *tables.COLUMNS, "length")
_UPSERT = (
    f"INSERT INTO {{memory}} ({', '.join(_NAMES)}) "
    f"SELECT %s, id, {', '.join(tables.COLUMNS).replace('tags', 'tags::text[]')}, length "
    f"FROM unnest(%s::bigint[], {', '.join(f'%s::{kind}[]' for kind in tables.COLUMNS.values())}, "
    f"%s::int[]) AS new (id, {', '.join(tables.COLUMNS)}, length) "
    "ON CONFLICT (store, id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _NAMES[2:])
)
_CONTENT = (
    "INSERT INTO {content} (store, id, body, terms) "
    "SELECT %s, * FROM unnest(%s::bigint[], %b::bytea[], %s::text[]) "
    "ON CONFLICT (store, id) DO UPDATE SET body = excluded.body, terms = excluded.terms"
)
_POSTINGS = (
    "INSERT INTO {posting} AS held (store, term, block, postings) "
    "SELECT %s, * FROM unnest(%s::text[], %s::int[], %b::bytea[]) "
    "ON CONFLICT (store, term, block) DO UPDATE SET postings = held.postings || excluded.postings"
)
_REPLACED = (
    "UPDATE {posting} AS held SET postings = gone.postings "
    "FROM unnest(%s::text[], %s::int[], %b::bytea[]) AS gone (term, block, postings) "
    'WHERE held.store = %s AND held.term = gone.term COLLATE "C" AND held.block = gone.block'
)


def held(link: Link, statements: Statements, store: int, prefixes: Iterable[str]) -> list[Held]:
    """Return the memories with these prefixes that are in the catalog."""
    return statements.rows(link, f"{_HELD} AND prefix = ANY(%s::text[])", (store, list(prefixes)))


def held_between(
    link: Link, statements: Statements, store: int, prefixes: Collection[str], most: int
) -> list[Held]:
    """Return up to `most` memories from the first to the last of these prefixes."""
    return statements.rows(
        link,
        f"{_HELD} AND prefix >= %s AND prefix <= %s LIMIT %s",
        (store, min(prefixes), max(prefixes), most),
    )


class Storing:
    """One transaction that stores in a catalog while no other does."""

    def __init__(self, link: Link, statements: Statements, store: int, last_id: int) -> None:
        self._link = link
        self._statements = statements
        self._store = store
        self._last_id = last_id
        self._memories = self._length = 0

    def put(self, versions: Sequence[Version]) -> None:
        """Store versions, except those older than the present version or an erasure."""
        # The newest version of a memory that comes twice.
        new = {
            version.address.prefix: version
            for version in sorted(versions, key=lambda version: version.entry.version)
        }
        known = {
            memory[0]: memory for memory in held(self._link, self._statements, self._store, new)
        }
        erased = dict(
            self._rows(
                "SELECT prefix, version FROM {erased} "
                "WHERE store = %s AND prefix = ANY(%s::text[])",
                (self._store, list(new)),
            )
        )
        bodies = self._bodies(
            [
                known[prefix][1]
                for prefix, version in new.items()
                if prefix in known and known[prefix][2] == version.entry.version
            ]
        )
        newer: list[Version] = []
        stamps: list[tuple[float, int]] = []
        for prefix, version in new.items():
            number = version.entry.version
            there = known.get(prefix)
            if number < erased.get(prefix, 0) or (there is not None and there[2] > number):
                continue
            if there is not None and there[2] == number and bodies.get(there[1]) == version.body:
                if version.modified is not None:
                    stamps.append((version.modified, there[1]))
            else:
                newer.append(version)
        self.stamp(stamps)
        self._tell(
            [
                known[version.address.prefix][1]
                for version in newer
                if version.address.prefix in known
            ]
        )
        if newer:
            self._add(newer, known)
        self._count()

    def stamp(self, stamps: Sequence[tuple[float, int]]) -> None:
        """Note the times of objects, each with the id of its memory."""
        if stamps:
            self._run(
                "UPDATE {memory} AS m SET modified = new.modified "
                "FROM unnest(%s::float8[], %s::bigint[]) AS new (modified, id) "
                "WHERE m.store = %s AND m.id = new.id",
                (*map(list, zip(*stamps, strict=True)), self._store),
            )

    def drop(self, memories: Iterable[Held]) -> None:
        """Drop memories, and everything derived from them."""
        ids = [memory[1] for memory in memories]
        if not ids:
            return
        self._tell(ids)
        for table in ("memory", "content"):
            self._run(
                f"DELETE FROM {{{table}}} WHERE store = %s AND id = ANY(%s::bigint[])",
                (self._store, ids),
            )
        self._count()

    def never_below(self, prefix: str, version: int) -> None:
        """Let no version of a memory below this one come back."""
        self._run(
            "INSERT INTO {erased} AS held VALUES (%s, %s, %s) ON CONFLICT (store, prefix) "
            "DO UPDATE SET version = greatest(held.version, excluded.version)",
            (self._store, prefix, version),
        )

    def _add(self, newer: Sequence[Version], known: dict[str, Held]) -> None:
        ids = []
        for version in newer:
            there = known.get(version.address.prefix)
            if there is None:
                self._last_id += 1
            ids.append(self._last_id if there is None else there[1])
        rows = [
            tables.row(version.address, version.entry, len(version.body), version.modified)
            for version in newer
        ]
        index = postings.indexed(
            (
                id,
                version.entry.entity_path,
                version.entry.key,
                version.entry.tags,
                _value(version.body),
            )
            for id, version, row in zip(ids, newer, rows, strict=True)
            if row[_SEARCHABLE]
        )
        lengths = {id: (length, terms) for id, length, terms in index.memories}
        self._run(
            _UPSERT,
            (
                self._store,
                ids,
                *map(list, zip(*rows, strict=True)),
                [lengths.get(id, (0, ""))[0] for id in ids],
            ),
        )
        self._run(
            _CONTENT,
            (
                self._store,
                ids,
                [version.body for version in newer],
                [lengths.get(id, (0, ""))[1] for id in ids],
            ),
        )
        places = sorted(
            (term, block, packed)
            for block, terms in index.blocks.items()
            for term, packed in terms.items()
        )
        if places:
            self._run(_POSTINGS, (self._store, *map(list, zip(*places, strict=True))))
        self._memories += len(index.memories)
        self._length += sum(length for _, length, _ in index.memories)

    def _tell(self, ids: Sequence[int]) -> None:
        """Remove everything derived from the content of these memories."""
        if not ids:
            return
        places: defaultdict[tuple[str, int], set[int]] = defaultdict(set)
        rows = self._rows(
            "SELECT m.id, m.length, c.terms FROM {memory} m JOIN {content} c USING (store, id) "
            "WHERE m.store = %s AND m.id = ANY(%s::bigint[]) AND m.searchable",
            (self._store, list(ids)),
        )
        for id, length, terms in rows:
            self._memories -= 1
            self._length -= length
            for term in terms.split():
                places[term, id >> postings.BLOCK_BITS].add(id)
        self._take_out(places)
        self._run(
            "DELETE FROM {vector} WHERE store = %s AND id = ANY(%s::bigint[])",
            (self._store, list(ids)),
        )

    def _take_out(self, places: dict[tuple[str, int], set[int]]) -> None:
        """Take memories out of blocks of postings."""
        if not places:
            return
        terms, blocks = ([place[part] for place in places] for part in (0, 1))
        before = self._rows(
            "SELECT held.term, held.block, held.postings FROM {posting} AS held "
            "JOIN unnest(%s::text[], %s::int[]) AS gone (term, block) "
            'ON held.term = gone.term COLLATE "C" AND held.block = gone.block '
            "WHERE held.store = %s",
            (terms, blocks, self._store),
        )
        after: list[tuple[str, int, bytes]] = [
            (term, block, postings.without(packed, places[term, block]))
            for term, block, packed in before
        ]
        if kept := [row for row in after if row[2]]:
            columns = map(list, zip(*kept, strict=True))
            self._run(_REPLACED, (*columns, self._store))
        if emptied := [row[:2] for row in after if not row[2]]:
            self._run(
                "DELETE FROM {posting} AS held USING unnest(%s::text[], %s::int[]) "
                "AS gone (term, block) WHERE held.store = %s "
                'AND held.term = gone.term COLLATE "C" AND held.block = gone.block',
                (*map(list, zip(*emptied, strict=True)), self._store),
            )

    def _bodies(self, ids: list[int]) -> dict[int, bytes]:
        if not ids:
            return {}
        return dict(
            self._rows(
                "SELECT id, body FROM {content} WHERE store = %s AND id = ANY(%s::bigint[])",
                (self._store, ids),
            )
        )

    def _count(self) -> None:
        self._run(
            "UPDATE {total} SET last_id = %s, memories = memories + %s, length = length + %s "
            "WHERE store = %s",
            (self._last_id, self._memories, self._length, self._store),
        )
        self._memories = self._length = 0

    def _rows(self, statement: str, parameters: tuple[Any, ...]) -> list[Any]:
        return self._statements.rows(self._link, statement, parameters)

    def _run(self, statement: str, parameters: tuple[Any, ...]) -> None:
        self._statements.run(self._link, statement, parameters)


def _value(body: bytes) -> Any:
    return msgspec.json.decode(body)["value"]
