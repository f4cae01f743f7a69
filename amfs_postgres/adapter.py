"""`PostgresAdapter`: objects are rows of a table, in a database that many machines share.

The key of a row is `<prefix><key>`, in the order of its bytes in UTF-8.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import psycopg

from amfs_core import arguments
from amfs_core.errors import AMFSError, BackendUnavailableError, ConfigurationError
from amfs_core.format import checked_prefix
from amfs_core.storage import (
    Capabilities,
    Doorbell,
    ListeningDoorbell,
    ObjectInfo,
    StorageAdapter,
)
from amfs_postgres.changes import SnapshotLog
from amfs_postgres.connections import Connections, Link
from amfs_postgres.doorbell import Bell, ChannelListener
from amfs_postgres.dsn import Dsn
from amfs_postgres.failures import said, translated
from amfs_postgres.schema import Schema, is_missing
from amfs_postgres.statements import Statements

if TYPE_CHECKING:
    from amfs_core.doctor import Check

T = TypeVar("T")
_Rows = list[Any]  # of tuples

_TOGETHER = 100
_ATTEMPTS = 5
_MOST_CONNECTIONS = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_log = logging.getLogger("amfs")


class PostgresAdapter(StorageAdapter):
    """One schema of a PostgreSQL database (13 or newer, in UTF-8) as a store for many machines.

    `dsn` is a connection string as libpq takes it, `postgresql://USER@HOST/DATABASE` or `host=…
    dbname=…`; parts that it leaves out come from libpq's variables (`PGHOST`, `PGPASSWORD`, …),
    password file and services. It must lead to the primary, directly or through a pooler such as
    PgBouncer, even in transaction
    mode. The first write makes the `schema` and its tables, if the role may.
    `prefix` is put before every key.

    `listen_dsn` is a connection for listening to changes, without a pooler; by default it is
    `dsn`. A
    request fails after `timeout` seconds; connecting gets `connect_timeout`, at least 2, for each
    host of the DSN. Up to `max_connections` are kept open by each process.

    Sends nothing. Raises `ConfigurationError`, never with the DSN's secrets.
    """

    backend_type = "postgres"
    capabilities = Capabilities(batch=True, location=True, doorbell=True, checks=True, changes=True)
    timeout: float

    def __init__(
        self,
        dsn: str,
        schema: str = "amfs",
        *,
        prefix: str = "",
        listen_dsn: str | None = None,
        timeout: float = 10.0,
        connect_timeout: float = 3.0,
        max_connections: int = 8,
    ) -> None:
        self._dsn = Dsn.parse(dsn, "dsn")
        self._listen_dsn = self._dsn if listen_dsn is None else Dsn.parse(listen_dsn, "listen_dsn")
        self._has_listen_dsn = listen_dsn is not None
        self.server = self._dsn.server
        self._schema = Schema(schema, self.server)
        self.schema = self._schema.name
        self.prefix = checked_prefix(prefix)
        self.timeout = arguments.timeout(timeout, "timeout")
        self.connect_timeout = arguments.timeout(connect_timeout, "connect_timeout")
        if type(max_connections) is not int or not 1 <= max_connections <= _MOST_CONNECTIONS:
            raise ConfigurationError(
                f"max_connections must be a whole number from 1 to {_MOST_CONNECTIONS}, "
                f"not {max_connections!r}"
            )
        self.max_connections = max_connections
        self._statements = Statements.of(self.schema)
        self._connections = self._connections_to(self._dsn)
        self._bell = Bell(self.schema)

    @property
    def location(self) -> str:
        """The server and database as the DSN names them, the schema and the prefix."""
        return f"postgresql://{self.server}/{self.schema}/{self.prefix}"

    def create(self, key: str, data: bytes) -> bool:
        """Insert the row if there is none; True once it is durable, False when there is one.
        1 request."""

        def work(link: Link) -> bool:
            cursor = link.execute(self._statements.create, (self.prefix + key, data))
            created = cursor.rowcount == 1
            if created:
                self._bell.ring(link)
            return created

        return bool(self._run(work, key, "write", creates=True, make=True))

    def create_many(self, objects: Mapping[str, bytes]) -> list[str]:
        """Insert rows in one transaction, and return the keys of those that were created and are
        durable. For the others call `create`, which reports the reason. 1 request."""
        if not objects:
            return []
        # In order, so that two batches with common keys wait for each other at the first of these.
        keys = sorted(objects)
        values = ([self.prefix + key for key in keys], [objects[key] for key in keys])

        def work(link: Link) -> _Rows:
            rows: _Rows = link.execute(self._statements.create_many, values).fetchall()
            if rows:
                self._bell.ring(link)
            return rows

        try:
            rows = self._run(work, "", "write", creates=True, make=True) or []
        except AMFSError as error:
            _log.debug("%d objects are created one by one: %s", len(keys), error)
            return []
        cut = len(self.prefix)
        return [name[cut:] for (name,) in rows]

    def get(self, key: str) -> bytes | None:
        """Return the row's bytes, or None when there is no such row, or no schema. 1 request."""
        for (body,) in self._read(self._statements.get, (self.prefix + key,), key, "read"):
            return bytes(body)
        return None

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Yield `(key, bytes or None)`. 1 request for up to 100 keys."""
        remaining = iter(keys)
        while some := list(islice(remaining, _TOGETHER)):
            names = [self.prefix + key for key in some]
            rows = self._read(self._statements.get_many, (names,), some[0], "read")
            bodies = {name: bytes(body) for name, body in rows}
            for key, name in zip(some, names, strict=True):
                yield key, bodies.get(name)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects under a prefix in byte order of their keys. 1 request for up to 1,000,
        and no transaction is open between."""
        first = self.prefix + prefix
        after = max(first, self.prefix + start_after, key=str.encode)
        statement, values = self._statements.list_all, {"after": after}
        if first:  # it ends with a slash, and "0" is the character after that
            statement, values["before"] = self._statements.list_below, first[:-1] + "0"
        cut = len(self.prefix)
        while page := self._read(statement, values, prefix, "list"):
            for name, size, modified in page:
                yield ObjectInfo(name[cut:], size, _EPOCH + timedelta(microseconds=modified))
            if len(page) < 1000:
                return
            values["after"] = page[-1][0]

    def replace(self, key: str, data: bytes) -> None:
        """Write the row, replacing an existing one, in one step. The old content stays in the
        table's files until `VACUUM`, and in the write-ahead log and backups for as long as those
        are kept. 1 request."""

        def work(link: Link) -> None:
            link.execute(self._statements.replace, (self.prefix + key, data))
            self._bell.ring(link)

        self._run(work, key, "write", make=True)

    def delete(self, key: str) -> None:
        """Remove the row if there is one. 1 request."""
        values = (self.prefix + key,)
        self._run(lambda link: link.execute(self._statements.delete, values), key, "delete")

    def doorbell(self, prefix: str) -> Doorbell:
        """Return a doorbell that rings for every change of the schema by any process. It has its
        own connection to `listen_dsn`; through a pooler it never rings."""
        listener = ChannelListener(self._connections_to(self._listen_dsn), self.schema)
        return ListeningDoorbell(listener, self.location)

    def changes(self) -> SnapshotLog:
        """Return the log of all writes by any process. 1 request for each call."""
        return SnapshotLog(
            lambda statement, values: self._read(statement, values, "", "list"),
            self._statements.position,
            self._statements.since,
            self.prefix,
        )

    def prepare(self) -> None:
        """Make the schema and its tables, or migrate them, as the first write does: for a role that
        may do so, before roles that may not use the store. Writes nothing else; does nothing when
        everything exists."""
        self._run(lambda link: None, "", "make", make=True)

    def checks(self) -> Iterator[Check]:
        """Yield the checks of `amfs doctor`. Where there is no store yet, a scratch schema is made
        and removed, if the role may make one."""
        from amfs_postgres.checks import PostgresChecks

        return PostgresChecks(self, self._another).all()

    def ask(self, work: Callable[[Link], T]) -> T:
        """Return `work(link)`, whether there is a store or not; psycopg's errors are translated."""
        try:
            return self._connections.run(work)
        except psycopg.Error as error:
            raise self._translated(error, "", "reach") from error

    def version(self) -> int:
        """Return the version of the tables, 0 when there are none; raises what any read does."""
        return self.ask(self._schema.look)

    @property
    def listens_directly(self) -> bool:
        """Whether a connection for the doorbell was named."""
        return self._has_listen_dsn

    def close(self) -> None:
        """Close the connections. A closed adapter opens new ones when it is used."""
        self._connections.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(PostgresAdapter, self._dsn.text, self.schema, **self._options()), ()

    def __repr__(self) -> str:
        return f"PostgresAdapter({self.server!r}, schema={self.schema!r}, prefix={self.prefix!r})"

    def _another(self, schema: str) -> PostgresAdapter:
        return PostgresAdapter(self._dsn.text, schema, **self._options())

    def _options(self) -> dict[str, Any]:
        return {
            "prefix": self.prefix,
            "listen_dsn": self._listen_dsn.text if self._has_listen_dsn else None,
            "timeout": self.timeout,
            "connect_timeout": self.connect_timeout,
            "max_connections": self.max_connections,
        }

    def _connections_to(self, dsn: Dsn) -> Connections:
        return Connections(
            dsn,
            most=self.max_connections,
            timeout=self.timeout,
            connect_timeout=self.connect_timeout,
        )

    def _read(self, statement: bytes, values: Any, key: str, verb: str) -> _Rows:
        def work(link: Link) -> _Rows:
            return link.execute(statement, values, binary=True).fetchall()

        return self._run(work, key, verb) or []

    def _run(
        self,
        work: Callable[[Link], T],
        key: str,
        verb: str,
        *,
        creates: bool = False,
        make: bool = False,
    ) -> T | None:
        """Return `work(link)`; None when there is no store and none is to be made."""
        for _ in range(_ATTEMPTS):
            attempt = _Attempt(self._schema, work, make=make)
            try:
                return self._connections.run(attempt)
            except psycopg.Error as error:
                if not (attempt.is_sent and is_missing(error)):
                    sent = creates and attempt.is_sent
                    raise self._translated(error, key, verb, creates=sent) from error
            self._schema.forget()  # it was removed: nothing was applied
        raise BackendUnavailableError(
            f"{self!r} is removed again and again", object_key=key or None
        )

    def _translated(
        self, error: psycopg.Error, key: str, verb: str, *, creates: bool = False
    ) -> AMFSError:
        text = self._dsn.redacted(said(error))
        return translated(error, text, key, verb, self.server, creates=creates)


class _Attempt(Generic[T]):
    """One attempt at a call. `is_sent` is set just before its own statement is sent."""

    __slots__ = ("_make", "_schema", "_work", "is_sent")

    def __init__(self, schema: Schema, work: Callable[[Link], T], *, make: bool) -> None:
        self._schema = schema
        self._work = work
        self._make = make
        self.is_sent = False

    def __call__(self, link: Link) -> T | None:
        if not self._schema.is_ready(link, make=self._make):
            return None
        self.is_sent = True
        return self._work(link)
