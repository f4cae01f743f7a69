"""The vectors of the newest versions, and the search over them: by pgvector where the database has
that extension, otherwise in this process.

All vectors are compared, up to `EXACT_UP_TO` memories that satisfy the filter. Among more, the
nearest are found by an HNSW index, once `tend` has made one (docs/design/shared-index.md).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import psycopg
from psycopg import sql

from amfs_core.catalog import Embedder, embedding
from amfs_core.errors import ConfigurationError
from amfs_core.format import Layout
from amfs_core.ranking import Ranked
from amfs_postgres.connections import Link
from amfs_postgres.index.conditions import Condition
from amfs_postgres.index.statements import Statements
from amfs_postgres.index.tables import LAYOUT, plain
from amfs_postgres.index.terms import StoredTerms

if TYPE_CHECKING:
    from amfs_postgres.index.index import PostgresIndex

T = TypeVar("T")
_Run = Callable[[Callable[[Link], T]], T]

EXACT_UP_TO = 50_000
"""Up to this many memories that satisfy a filter are all compared, at 0.5 µs a number or less."""

_MOST_DIMENSIONS = 2000
"""The most numbers of a vector in an HNSW index (pgvector's own limit)."""

_CANDIDATES, _MOST_CANDIDATES = 400, 1000
"""The candidates of an HNSW search (`hnsw.ef_search`), for a recall of 0.95 or more; and the most
that pgvector allows."""

_GOES_ON = (0, 8)
"""The first pgvector that continues to read its index when a filter removes some answers."""

_SAMPLE = 1000
"""The sample whose mean nearness stands for that of all, where not all are compared."""

_EXTENSION = (
    "SELECT n.nspname, e.extversion FROM pg_extension e "
    "JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'"
)
_HEADER, _NUMBER = 20, 8
"""Bytes before the numbers of a real[] as it is sent, and of each number, with its length."""

_log = logging.getLogger("amfs")


class Extension(NamedTuple):
    """The schema of pgvector, quoted for statements, and its version."""

    schema: str
    version: tuple[int, ...]


class Wanted(NamedTuple):
    """The vector of a question, and pgvector or None."""

    vector: Any
    extension: Extension | None

    @property
    def text(self) -> str:
        """The vector in PostgreSQL's notation."""
        return _text(self.vector, "[]")


class Question(NamedTuple):
    """A comparison of the wanted vector with the memories of a catalog (`store`) that satisfy a
    condition. The answer has the `limit` nearest, and the cosines of `others`."""

    store: int
    where: Condition
    wanted: Wanted
    limit: int
    others: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Compared:
    """The memories nearest to a text, nearest first, with their cosines; the cosines of the other
    memories in the question, newest first; and the mean of all compared memories."""

    nearest: Ranked
    cosines: dict[int, float]
    average: float

    def of(self, ids: set[int]) -> dict[int, float]:
        """Return the cosines of these memories, newest first."""
        return {id: near for id, near in self.cosines.items() if id in ids}


class Vectors:
    """The vectors that one embedder makes in one catalog."""

    def __init__(self, embedder: Embedder, index: PostgresIndex, layout: Layout) -> None:
        self._embedding = embedding.Embedding(embedder)
        self._np = self._embedding.np
        self._name = plain(self._embedding.name)
        self._layout = layout
        if not self._embedding.is_known_elsewhere:
            raise ConfigurationError(
                f"embedder {self._name.rpartition(' ')[0]!r} has no name by which other processes "
                "would know its vectors in the index",
                hint="give it an attribute `name` that says which model it is",
            )
        self._statements = index.statements

    def prepare(self, run: _Run[Any], store: int, question: str) -> Wanted:
        """Embed the live memories that have no vector of this embedder, in batches, and the
        question."""
        extension = run(lambda link: _extension(self._statements, link))
        wanted = self._embedding.vectors([question])[0]
        missing = (
            "SELECT m.id, m.version, m.prefix, c.body FROM {memory} m "
            "JOIN {content} c USING (store, id) LEFT JOIN {vector} v "
            "ON v.store = m.store AND v.embedder = %s AND v.id = m.id "
            f"WHERE m.store = %s AND m.searchable AND v.id IS NULL LIMIT {embedding.BATCH}"
        )
        put = (
            "INSERT INTO {vector} (store, embedder, id, data) "
            "SELECT m.store, %s, m.id, new.data::real[] "
            "FROM unnest(%s::bigint[], %s::bigint[], %s::text[]) AS new (id, version, data) "
            "JOIN {memory} m ON m.store = %s AND m.id = new.id AND m.version = new.version "
            "ON CONFLICT (store, embedder, id) DO UPDATE SET data = excluded.data"
        )
        while rows := run(lambda link: self._statements.rows(link, missing, (self._name, store))):
            # With no transaction open, because a model may be slow.
            made = self._embedding.vectors([self._text(row[2], row[3]) for row in rows])
            self._check_kept(run, store, made.shape[1])
            values = (
                self._name,
                [row[0] for row in rows],
                [row[1] for row in rows],
                [_text(vector, "{}") for vector in made],
                store,
            )
            run(lambda link, values=values: self._statements.run(link, put, values))  # type: ignore[misc]
        return Wanted(wanted, extension)

    def compare(self, link: Link, question: Question) -> Compared:
        """Compare memories in the caller's transaction, whose statements see the same state."""
        extension = question.wanted.extension
        if extension is None:
            return self._compared(link, question, self._all_here(link, question))
        self._check_kept(lambda work: work(link), question.store, len(question.wanted.vector))
        if self._is_wide(link, question):
            return self._nearest_by_index(link, question, extension)
        return self._compared(link, question, self._by_extension(link, question, extension))

    # -- exact -------------------------------------------------------------------------------

    def _by_extension(self, link: Link, question: Question, extension: Extension) -> _Rows:
        """Return the needed cosines, computed by the database."""
        _, where, wanted, limit, others = question
        near = f"-{_product(extension)}"
        rows = self._statements.rows(
            link,
            "WITH near AS MATERIALIZED ("
            f"SELECT m.id, m.written_at, m.prefix, {near} AS near FROM {{memory}} m "
            "LEFT JOIN {vector} v ON v.store = m.store AND v.embedder = %s AND v.id = m.id "
            f"WHERE {where.where} AND m.searchable), "
            "top AS (SELECT id FROM near WHERE near IS NOT NULL "
            "ORDER BY near DESC, written_at DESC, prefix LIMIT %s), "
            "total AS (SELECT coalesce(sum(near), 0)::float8 AS sum, count(near) AS count "
            "FROM near) "
            "SELECT near.id, near, total.sum, total.count FROM near, total "
            "WHERE near IS NULL OR id = ANY(%s::bigint[]) OR id IN (SELECT id FROM top) "
            "ORDER BY written_at DESC, prefix",
            (wanted.text, self._name, *where.parameters, limit, list(others)),
        )
        total, compared = (rows[0][2], rows[0][3]) if rows else (0.0, 0)
        return _Rows([(id, cosine) for id, cosine, _, _ in rows], total, compared)

    def _all_here(self, link: Link, question: Question) -> _Rows:
        """Return all cosines, computed here from fetched vectors."""
        np, where, wanted = self._np, question.where, question.wanted
        rows = self._statements.rows(
            link,
            "SELECT m.id, array_send(v.data) FROM {memory} m "
            "LEFT JOIN {vector} v ON v.store = m.store AND v.embedder = %s AND v.id = m.id "
            f"WHERE {where.where} AND m.searchable ORDER BY m.written_at DESC, m.prefix",
            (self._name, *where.parameters),
        )
        sent = [data for _, data in rows if data is not None]
        if not sent:
            return _Rows([(id, None) for id, _ in rows], 0.0, 0)
        dimensions = (len(sent[0]) - _HEADER) // _NUMBER
        self._embedding.check_length(len(wanted.vector), dimensions)
        numbers = np.frombuffer(b"".join(data[_HEADER:] for data in sent), dtype=">f4")
        matrix = numbers.reshape(len(sent), dimensions, 2)[:, :, 1].astype(np.float32)
        cosines = iter((matrix @ wanted.vector).tolist())
        cosine_pairs = [(id, None if data is None else next(cosines)) for id, data in rows]
        there = [near for _, near in cosine_pairs if near is not None]
        return _Rows(cosine_pairs, sum(there), len(there))

    def _compared(self, link: Link, question: Question, rows: _Rows) -> Compared:
        """Return the answer, including memories that others stored meanwhile and that have no
        vector yet."""
        late = [id for id, near in rows.cosines if near is None]
        added = self._embedded_now(link, question, late)
        cosines = {id: added[id] if near is None else near for id, near in rows.cosines}
        nearest = sorted(cosines.items(), key=lambda pair: -pair[1])[: question.limit]
        count = rows.compared + len(added)
        average = (rows.total + sum(added.values())) / count if count else 0.0
        return Compared(nearest, cosines, average)

    def _embedded_now(self, link: Link, question: Question, ids: list[int]) -> dict[int, float]:
        """Return the cosines of memories for this answer only; the next search stores their
        vectors."""
        if not ids:
            return {}
        rows = self._statements.rows(
            link,
            "SELECT m.id, m.prefix, c.body FROM {memory} m JOIN {content} c USING (store, id) "
            "WHERE m.store = %s AND m.id = ANY(%s::bigint[])",
            (question.store, ids),
        )
        made = self._embedding.in_batches([self._text(prefix, body) for _, prefix, body in rows])
        return {
            row[0]: float(near)
            for row, near in zip(rows, made @ question.wanted.vector, strict=True)
        }

    # -- by an index -------------------------------------------------------------------------

    def _is_wide(self, link: Link, question: Question) -> bool:
        """Whether enough memories satisfy a condition to use an index, and there is one."""
        rows = self._statements.rows(
            link,
            "SELECT FROM pg_index JOIN pg_class c ON c.oid = indexrelid "
            "WHERE indrelid = to_regclass(%s) AND indisvalid AND c.relname = %s",
            (self._statements.name("vector"), hnsw_name(question.store, self._name)),
        )
        if not rows:
            return False
        index = StoredTerms(link, self._statements, question.store, question.where)
        return index.satisfying_up_to(EXACT_UP_TO + 1) > EXACT_UP_TO

    def _nearest_by_index(self, link: Link, question: Question, extension: Extension) -> Compared:
        """Return the nearest memories that the index finds, and the mean of a sample."""
        store, where, wanted, limit, others = question
        product = _product(extension, len(wanted.vector))
        seen = min(max(_CANDIDATES, limit), _MOST_CANDIDATES)
        link.execute(f"SET LOCAL hnsw.ef_search = {seen}".encode())
        if extension.version >= _GOES_ON:  # as long as the filter removes some
            link.execute(b"SET LOCAL hnsw.iterative_scan = strict_order")
        link.execute(b"SET LOCAL enable_sort = off")
        of_one = _of_one(store, self._name).replace("%", "%%")
        nearest = self._statements.rows(
            link,
            f"SELECT m.id, -{product} FROM {{vector}} v JOIN {{memory}} m USING (store, id) "
            f"WHERE {of_one} AND {where.where} AND m.searchable ORDER BY {product} LIMIT %s",
            (wanted.text, *where.parameters, wanted.text, limit),
        )
        link.execute(b"SET LOCAL enable_sort = on")
        ids = [*others, *(id for id, _ in nearest)]
        rows = self._statements.rows(
            link,
            f"SELECT m.id, -{product}, m.id = ANY(%s::bigint[]) FROM {{memory}} m "
            "JOIN {vector} v USING (store, id) "
            f"WHERE v.store = %s AND v.embedder = %s AND {where.where} AND m.id = ANY("
            "%s::bigint[] || ARRAY(SELECT DISTINCT (last_id * n / %s)::bigint "
            "FROM {total} AS t, generate_series(1, %s) AS n WHERE t.store = %s)) "
            "ORDER BY m.written_at DESC, m.prefix",
            (
                wanted.text,
                ids,
                store,
                self._name,
                *where.parameters,
                ids,
                _SAMPLE,
                _SAMPLE,
                store,
            ),
        )
        sample = [cosine for _, cosine, is_asked in rows if not is_asked]
        average = sum(sample) / len(sample) if sample else 0.0
        return Compared(nearest, {id: cosine for id, cosine, is_asked in rows if is_asked}, average)

    # -- what they are -----------------------------------------------------------------------

    def _text(self, prefix: str, body: bytes) -> str:
        parsed = self._layout.parse(f"{prefix}v1.json")
        return embedding.text_of("" if parsed is None else parsed[0].key, body)

    def _check_kept(self, run: _Run[Any], store: int, length: int) -> None:
        """Refuse vectors whose length differs from those stored under the same name."""
        statement = (
            "SELECT array_length(data, 1) FROM {vector} WHERE store = %s AND embedder = %s LIMIT 1"
        )
        rows = run(lambda link: self._statements.rows(link, statement, (store, self._name)))
        for (before,) in rows:
            self._embedding.check_length(length, before)


class _Rows(NamedTuple):
    """Ids and cosines, newest first, None without a vector yet; and the sum and number of all
    cosines, including those not in the list."""

    cosines: list[tuple[int, float | None]]
    total: float
    compared: int


def tend(index: PostgresIndex) -> None:
    """Make the HNSW indexes that are due. Minutes for a million; others store meanwhile."""
    statements = index.statements
    extension = index.run(lambda link: _extension(statements, link), 0.0)
    if extension is None:
        return
    due = (
        "SELECT v.store, v.embedder, max(array_length(v.data, 1)) FROM {vector} v "
        "JOIN {stores} s ON s.id = v.store AND NOT s.gone GROUP BY 1, 2 HAVING count(*) > %s"
    )
    for store, embedder, dimensions in index.run(
        lambda link: statements.rows(link, due, (EXACT_UP_TO,)), 0.0
    ):
        if dimensions <= _MOST_DIMENSIONS:
            index.alone(partial(_make, index, extension, _Due(store, embedder, dimensions)))


class _Due(NamedTuple):
    """An index to make: its catalog, its embedder, and the number of dimensions."""

    store: int
    embedder: str
    dimensions: int


def _make(index: PostgresIndex, extension: Extension, due: _Due, link: Link) -> None:
    """Make one index, unless it exists or is being made."""
    store, embedder, dimensions = due
    statements, name = index.statements, hnsw_name(store, embedder)
    state = (
        "SELECT (SELECT indisvalid FROM pg_index JOIN pg_class c ON c.oid = indexrelid "
        "WHERE indrelid = to_regclass(%s) AND c.relname = %s), EXISTS (SELECT FROM "
        "pg_stat_progress_create_index WHERE relid = to_regclass(%s))"
    )
    table = statements.name("vector")
    ((is_valid, is_being_made),) = statements.rows(link, state, (table, name, table))
    if is_valid or is_being_made:
        return
    if is_valid is False:  # the process that made it was killed
        full = sql.Identifier(index.schema, name).as_string()
        link.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {full}".encode())
    link.execute(
        f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {sql.Identifier(name).as_string()} "
        f"ON {table} USING hnsw ((data::{extension.schema}.vector({dimensions})) "
        f"{extension.schema}.vector_ip_ops) WHERE {_of_one(store, embedder, '')}".encode()
    )


def hnsw_name(store: int, embedder: str) -> str:
    """Return the name of the index over one embedder's vectors in one catalog."""
    mark = hashlib.sha256(embedder.encode()).hexdigest()[:12]
    return f"hnsw_{LAYOUT}_{store}_{mark}"


def _extension(statements: Statements, link: Link) -> Extension | None:
    """Return the extension pgvector, creating it if it is installed and this role may."""
    for _ in range(2):
        for schema, version in statements.rows(link, _EXTENSION):
            numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
            return Extension(sql.Identifier(schema).as_string(), numbers)
        available = "SELECT FROM pg_available_extensions WHERE name = 'vector'"
        if not statements.rows(link, available):
            return None
        try:
            link.execute(b"CREATE EXTENSION IF NOT EXISTS vector")
        except psycopg.Error as error:
            _log.debug("pgvector is installed and cannot be made: %s", type(error).__name__)
            return None
    return None


def _of_one(store: int, embedder: str, alias: str = "v.") -> str:
    """Return the condition of one embedder's index in one catalog, exactly as in the index."""
    return f"{alias}store = {int(store)} AND {alias}embedder = {sql.Literal(embedder).as_string()}"


def _product(extension: Extension, dimensions: int | None = None) -> str:
    """Return the negative of the cosine of a row's vector and a parameter, in pgvector's
    notation."""
    kind = f"{extension.schema}.vector" + ("" if dimensions is None else f"({dimensions})")
    return f"(v.data::{kind} OPERATOR({extension.schema}.<#>) %s::{kind})"


def _text(vector: Any, brackets: str) -> str:
    return brackets[0] + ",".join(map(repr, vector.tolist())) + brackets[1]
