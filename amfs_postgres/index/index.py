"""`PostgresIndex`: the catalogs of many stores, for all agents."""

from __future__ import annotations

import json
import logging
import platform
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg import sql

from amfs_core import arguments
from amfs_core.catalog import CatalogLost, Embedder, IndexHealth
from amfs_core.errors import AMFSError, BackendUnavailableError, ConfigurationError
from amfs_core.versions import VersionLog
from amfs_postgres.connections import Connections, Link
from amfs_postgres.dsn import Dsn
from amfs_postgres.failures import said, translated
from amfs_postgres.index.catalog import PostgresCatalog
from amfs_postgres.index.statements import Statements
from amfs_postgres.index.tables import INDEX
from amfs_postgres.schema import Schema, is_missing

if TYPE_CHECKING:
    from amfs_core.doctor import Check

T = TypeVar("T")

_MOST_CONNECTIONS = 1000
_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_SWEPT_AT_ONCE = 5000

# Places that differ on each machine: files, and servers on the machine itself.
_OF_THIS_MACHINE = re.compile(
    r"\b(?:file|sqlite)://|//(?:[^/@]*@)?(?:localhost|127\.[0-9.]+|\[?::1\]?)[:/]", re.IGNORECASE
)

_log = logging.getLogger("amfs")


class PostgresIndex:
    """One schema of a PostgreSQL database (13 or newer, in UTF-8) as the catalog of many processes,
    which `list` and `search` use, for any number of stores and namespaces.

    `AgentMemory(index=PostgresIndex(dsn))`. Its users bring it up to date, one at a time, so each
    version is fetched from the store once for all. The first use makes the `schema` and its tables,
    if the role may. The index is disposable: the store has everything.

    `dsn` is a connection string as for `PostgresAdapter`; a pooler in transaction mode works too.
    `name` identifies the store where its location does not: a directory that machines share, or a
    server that is "localhost" on each. With `fallback`, a process that cannot reach the database
    uses its own catalog, which it fills from the store; without it a search then raises
    `BackendUnavailableError`. A request fails after `timeout` seconds, connecting after
    `connect_timeout`. Each process keeps up to `max_connections` open.

    Everybody who may read the database can read the whole index, and everybody who may write to it
    can make searches show memories that the store never had. So its users need the same trust as
    those of the store.

    Sends nothing. Raises `ConfigurationError`, never with the DSN's secrets.
    """

    kind = "postgres"

    def __init__(
        self,
        dsn: str,
        schema: str = "amfs_index",
        *,
        name: str | None = None,
        fallback: bool = False,
        timeout: float = 60.0,
        connect_timeout: float = 3.0,
        max_connections: int = 4,
    ) -> None:
        self._dsn = Dsn.parse(dsn, "dsn")
        self.server = self._dsn.server
        self._schema = Schema(schema, self.server, INDEX)
        self.schema = self._schema.name
        self.name = None if name is None else arguments.text(name, "name")
        if not isinstance(fallback, bool):
            raise ConfigurationError("fallback must be true or false")
        self.fallback = fallback
        self.timeout = arguments.timeout(timeout, "timeout")
        self.connect_timeout = arguments.timeout(connect_timeout, "connect_timeout")
        if type(max_connections) is not int or not 1 <= max_connections <= _MOST_CONNECTIONS:
            raise ConfigurationError(
                f"max_connections must be a whole number from 1 to {_MOST_CONNECTIONS}, "
                f"not {max_connections!r}"
            )
        self.max_connections = max_connections
        self.statements = Statements(self.schema)
        self._connections = Connections(
            self._dsn,
            most=max_connections,
            timeout=self.timeout,
            connect_timeout=self.connect_timeout,
        )

    @property
    def location(self) -> str:
        """The server, the database and the schema."""
        return f"postgresql://{self.server}/{self.schema}"

    def catalog(self, versions: VersionLog, embedder: Embedder | None) -> PostgresCatalog:
        """Return the catalog of a namespace. Sends nothing. Raises `ConfigurationError` for a store
        that has no location."""
        return PostgresCatalog(self, self._identity(versions), versions, embedder)

    def health(self) -> IndexHealth:
        """Ask the database whether it answers. 1 request, and those of connecting; never raises."""
        begun = time.monotonic()
        error: AMFSError | None = None
        try:
            self.run_once(lambda link: link.execute(b"SELECT 1"))
        except AMFSError as problem:
            error = problem
        return IndexHealth(self.location, time.monotonic() - begun, error)

    def queries(self) -> int:
        """Return how many statements this process sent so far."""
        return self.statements.sent

    def checks(self) -> Iterator[Check]:
        """Yield what `amfs doctor` looks at. Makes nothing."""
        from amfs_postgres.index.checks import IndexChecks

        return IndexChecks(self).all()

    def tend(self) -> None:
        """Remove unused catalogs, and make the indexes of vectors that are due."""
        from amfs_postgres.index import vectors

        self.sweep()
        with suppress(CatalogLost):  # there is none yet
            vectors.tend(self)

    def version(self) -> int:
        """Return the version of the tables, 0 when there are none."""
        return self.run_once(self._schema.look)

    def prepare(self) -> None:
        """Make the schema and its tables, or those that this release adds, as the first use does:
        for a role that may do so, before roles that may not use the index."""
        self.run(lambda link: None, 0.0, make=True)

    def close(self) -> None:
        """Close the connections. A closed index opens new ones when it is used."""
        self._connections.close()

    # -- for its catalogs --------------------------------------------------------------------

    def run(self, work: Callable[[Link], T], patience: float, *, make: bool = False) -> T:
        """Return `work(link)`, tried again while the database fails and patience lasts, because
        everything done here may be done twice. Raises `CatalogLost` when the tables are missing and
        must not be made."""

        def attempt(link: Link) -> T:
            if not self._schema.is_ready(link, make=make):
                raise CatalogLost
            return work(link)

        until, pause = time.monotonic() + patience, _PAUSE
        while True:
            try:
                return self.run_once(attempt)
            except BackendUnavailableError:
                pause = min(2 * pause, _LONGEST_PAUSE)
                wait = random.uniform(0, pause)
                if time.monotonic() + wait > until:
                    raise
                time.sleep(wait)

    def run_once(self, work: Callable[[Link], T]) -> T:
        """Return `work(link)`; psycopg's errors are translated."""
        try:
            return self._connections.run(work)
        except psycopg.Error as error:
            if is_missing(error):  # somebody removed it
                self._schema.forget()
                raise CatalogLost from error
            text = self._dsn.redacted(said(error))
            raise translated(error, f"the index: {text}", "", "reach", self.server) from error

    def alone(self, work: Callable[[Link], T]) -> T:
        """Return `work(link)` on a separate connection without a time limit."""
        try:
            with self._connections.connect() as link:
                link.limit = None
                self.statements.sent += 1
                return work(link)
        except psycopg.Error as error:
            text = self._dsn.redacted(said(error))
            raise translated(error, f"the index: {text}", "", "reach", self.server) from error

    def sweep(self, identity: str | None = None) -> None:
        """Remove the rows of unused catalogs: all, or those of one identity."""
        with suppress(CatalogLost):
            for store, tables in self.run(partial(self._gone, identity), 0.0):
                for table in tables:
                    name = sql.Identifier(self.schema, table).as_string()
                    self._delete_all(name, store)
                self.run(
                    lambda link, store=store: self.statements.run(  # type: ignore[misc]
                        link, "DELETE FROM {stores} WHERE id = %s AND gone", (store,)
                    ),
                    0.0,
                )

    def _gone(self, identity: str | None, link: Link) -> list[tuple[int, list[str]]]:
        return self.statements.rows(
            link,
            "SELECT id, tables FROM {stores} JOIN {layouts} USING (layout) "
            "WHERE gone AND (%s::text IS NULL OR identity = %s)",
            (identity, identity),
        )

    def _delete_all(self, table: str, store: int) -> None:
        """Remove a store's rows, some at a time, because the time of a statement is limited."""
        statement = (
            f"DELETE FROM {table} WHERE ctid = ANY(ARRAY("
            f"SELECT ctid FROM {table} WHERE store = %s LIMIT {_SWEPT_AT_ONCE}))"
        )
        while self.run(lambda link: self.statements.run(link, statement, (store,)), 0.0):
            pass

    def _identity(self, versions: VersionLog) -> str:
        location = self.name or versions.store.location
        if location is None:
            raise ConfigurationError(
                "this store has no location by which processes would know that it is the same",
                hint="give the index a name: PostgresIndex(…, name=…)",
            )
        place = [location, versions.layout.namespace]
        if self.name is None and _OF_THIS_MACHINE.search(location):
            place.append(platform.node())
        return json.dumps(place)

    # ----------------------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        options: dict[str, Any] = {
            "name": self.name,
            "fallback": self.fallback,
            "timeout": self.timeout,
            "connect_timeout": self.connect_timeout,
            "max_connections": self.max_connections,
        }
        return partial(PostgresIndex, self._dsn.text, self.schema, **options), ()

    def __repr__(self) -> str:
        return f"PostgresIndex({self.server!r}, schema={self.schema!r})"
