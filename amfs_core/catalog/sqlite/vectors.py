"""The vectors of the newest versions, and the search over them.

A vector is derived from content that never changes, so it is computed once per version and kept in
the catalog. An embedder with another name makes all of them again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from amfs_core.catalog.embedder import Embedder
from amfs_core.catalog.embedding import BATCH, Embedding, text_of
from amfs_core.catalog.sqlite.database import Database

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    Ids = NDArray[numpy.int64]
    Matrix = NDArray[numpy.float32]

SCHEMA = """CREATE TABLE vector (
  memory INTEGER PRIMARY KEY, version INTEGER NOT NULL, embedder TEXT NOT NULL, data BLOB NOT NULL
)"""

_NUMBER_BYTES = 4


def remove(connection: sqlite3.Connection, ids: list[int]) -> None:
    """Drop the vectors of memories that change or go."""
    connection.executemany("DELETE FROM vector WHERE memory = ?", [(id,) for id in ids])


class Compared:
    """Memories, newest first, and the cosine of the angle between each one's vector and a text's:
    from -1 to 1, higher is nearer."""

    def __init__(self, np: Any, ids: Ids, cosines: Matrix) -> None:
        self._np = np
        self._ids = ids
        self._cosines = cosines

    def nearest(self, limit: int) -> list[tuple[int, float]]:
        """Return the nearest, nearest first."""
        best = self._np.argsort(-self._cosines, kind="stable")[:limit]
        return [(int(self._ids[index]), float(self._cosines[index])) for index in best]

    def of(self, ids: set[int]) -> dict[int, float]:
        """Return the cosines of the compared ones among these memories, newest first."""
        chosen = self._np.flatnonzero(self._np.isin(self._ids, list(ids)))
        return {int(self._ids[index]): float(self._cosines[index]) for index in chosen}

    @property
    def average(self) -> float:
        """The mean of all cosines, 0 when there are none."""
        return float(self._cosines.mean()) if len(self._cosines) else 0.0


class Vectors:
    """The vectors that one embedder makes, and the exact search over them."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedding = Embedding(embedder)
        self._np = self._embedding.np
        self._name = self._embedding.name
        self._held: tuple[object, Ids, Matrix] | None = None

    def compare(
        self, database: Database, query: str, condition: str, parameters: Sequence[Any]
    ) -> Compared:
        """Return how near the memories that satisfy a condition are to a text.

        Those that have no vector yet are embedded first. All are compared: nothing is estimated.
        """
        np = self._np
        self._embed_missing(database)
        wanted = self._embedding.vectors([query])[0]

        def compare(connection: sqlite3.Connection) -> Compared:
            with database.snapshot(connection):
                ids, vectors = self._all(connection, database.number)
                # In the order of equal scores.
                allowed = connection.execute(
                    f"SELECT id FROM memory WHERE {condition} AND searchable = 1 "
                    "ORDER BY written_at DESC, prefix",
                    parameters,
                ).fetchall()
                asked = np.array([id for (id,) in allowed], dtype=np.int64)
                places = np.searchsorted(ids, asked)
                mask = np.isin(asked, ids)
                # Others may have stored memories since, without a vector of this embedder.
                late = self._embedded_now(connection, asked[~mask])
            cosines = np.zeros(len(asked), dtype=np.float32)
            for chosen, matrix in ((mask, vectors[places[mask]]), (~mask, late)):
                if len(matrix):
                    self._embedding.check_length(len(wanted), matrix.shape[1])
                    cosines[chosen] = matrix @ wanted
            return Compared(np, asked, cosines)

        return database.run(compare)

    def _embed_missing(self, database: Database) -> None:
        """Embed the live memories that have no vector of this embedder, in batches."""
        missing = (
            "SELECT id, memory.version, key, body.data FROM memory "
            "JOIN body ON body.memory = memory.id "
            "LEFT JOIN vector ON vector.memory = memory.id AND vector.embedder = ? "
            f"WHERE vector.memory IS NULL AND memory.searchable = 1 LIMIT {BATCH}"
        )
        while True:
            rows = database.run(
                lambda connection: connection.execute(missing, (self._name,)).fetchall()
            )
            if not rows:
                return
            # Outside the database, because a model may be slow and other threads may search
            # meanwhile.
            vectors = self._embedding.vectors([text_of(key, body) for _, _, key, body in rows])
            made = [
                (self._name, vector.tobytes(), id, version)
                for (id, version, _, _), vector in zip(rows, vectors, strict=True)
            ]

            def put(connection: sqlite3.Connection, made: list[Any] = made) -> None:
                with database.transaction(connection):
                    self._check_length(connection, len(made[0][1]))
                    connection.executemany(
                        "INSERT OR REPLACE INTO vector SELECT id, version, ?, ? "
                        "FROM memory WHERE id = ? AND version = ?",
                        made,
                    )

            database.run(put)

    def _embedded_now(self, connection: sqlite3.Connection, ids: Ids) -> Matrix:
        """Return vectors of memories for this answer only; the next search stores them."""
        body = "SELECT key, body.data FROM memory JOIN body ON body.memory = memory.id WHERE id = ?"
        rows = [connection.execute(body, (int(id),)).fetchone() for id in ids]
        return self._embedding.in_batches([text_of(*row) for row in rows])

    def _check_length(self, connection: sqlite3.Connection, size: int) -> None:
        """Refuse vectors whose length differs from those kept under the same name."""
        kept = "SELECT length(data) FROM vector WHERE embedder = ? LIMIT 1"
        for (before,) in connection.execute(kept, (self._name,)):
            self._embedding.check_length(size // _NUMBER_BYTES, before // _NUMBER_BYTES)

    def _all(self, connection: sqlite3.Connection, database: int) -> tuple[Ids, Matrix]:
        """Return all ids, rising, and their vectors, one per row."""
        np = self._np
        ((version,),) = connection.execute("PRAGMA data_version")  # what other connections wrote
        state = (database, version, connection.total_changes)
        if self._held is None or self._held[0] != state:
            rows = connection.execute(
                "SELECT memory, data FROM vector WHERE embedder = ? ORDER BY memory", (self._name,)
            ).fetchall()
            ids = np.array([id for id, _ in rows], dtype=np.int64)
            joined = np.frombuffer(b"".join(data for _, data in rows), dtype=np.float32)
            self._held = state, ids, joined.reshape(len(rows), -1 if rows else 0)
        return self._held[1], self._held[2]
