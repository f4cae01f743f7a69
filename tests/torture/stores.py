"""The stores that are tortured: what workers are given, what can be killed, what is left."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from amfs_core.memory import AgentMemory
from amfs_local import LocalAdapter
from amfs_postgres import PostgresAdapter
from amfs_sqlite import SqliteAdapter
from tests.support import ceph, postgres, servers
from tests.support.postgres import Postgres
from tests.support.proxy import FaultProxy
from tests.support.s3_store import Place, contents_of
from tests.support.servers import Server
from tests.torture import faults
from tests.torture.places import Bucket, Database, Directory, File

PREFIX = "amfs/"


class StoreClient(Protocol):
    """A store under torture."""

    @property
    def where(self) -> Directory | File | Database | Bucket:
        """What workers are given."""

    def crash(self) -> bool:
        """Kill the server and start it again; False where there is none."""

    def settle(self) -> None:
        """End the faults, and have everything land that is still on its way."""

    def faults(self) -> Counter[str]:
        """How often each fault was made, as far as workers have not noted it."""

    def objects(self) -> dict[str, bytes]:
        """Every object, by its key below the prefix, past AMFS and past the faults."""

    def memory(self) -> AgentMemory:
        """A memory that no fault reaches."""


class _WithoutServer:
    """A store in which nothing can be killed but the workers, who note their own faults."""

    def crash(self) -> bool:
        return False

    def settle(self) -> None:
        pass

    def faults(self) -> Counter[str]:
        return Counter()


class DirectoryStore(_WithoutServer):
    """A directory."""

    def __init__(self, root: Path, rate: float) -> None:
        self._root = root
        self.where = Directory(str(root), rate)

    def objects(self) -> dict[str, bytes]:
        files = (path for path in self._root.rglob("*") if path.is_file())
        named = ((path.relative_to(self._root).as_posix(), path) for path in files)
        return {name: path.read_bytes() for name, path in named if not name.startswith(".")}

    def memory(self) -> AgentMemory:
        return AgentMemory("judge", adapter=LocalAdapter(self._root), owns_adapter=True)


class FileStore(_WithoutServer):
    """A SQLite file."""

    def __init__(self, path: Path, rate: float) -> None:
        self._path = path
        self.where = File(str(path), rate)

    def objects(self) -> dict[str, bytes]:
        with contextlib.closing(sqlite3.connect(self._path)) as connection:
            whole = connection.execute("PRAGMA integrity_check").fetchall()
            assert whole == [("ok",)], whole
            rows = connection.execute("SELECT key, body FROM objects").fetchall()
        return {key.decode(): body for key, body in rows}

    def memory(self) -> AgentMemory:
        return AgentMemory("judge", adapter=SqliteAdapter(self._path), owns_adapter=True)


class DatabaseStore(_WithoutServer):
    """A PostgreSQL of its own, which is ended at once and recovers from its log."""

    def __init__(self, server: Postgres, rate: float) -> None:
        self._server = server
        self.where = Database(server.dsn, rate)

    def crash(self) -> bool:
        self._server.crash()
        self._server.start()
        return True

    def objects(self) -> dict[str, bytes]:
        # By the table, past its index, so that both must have the same.
        [_, rows] = self._server.sql(
            "SET enable_indexscan = off", "SELECT key, body FROM amfs.objects"
        )
        assert len(rows) == len({key for key, _ in rows})
        return dict(rows)

    def memory(self) -> AgentMemory:
        return AgentMemory("judge", adapter=PostgresAdapter(self._server.dsn), owns_adapter=True)


class BucketStore:
    """A bucket on a server of its own, behind the proxy."""

    def __init__(self, server: Server, proxy: FaultProxy, rate: float, seed: int) -> None:
        self._server = server
        self._proxy = proxy
        self._bucket = server.new_bucket()
        place = Place.on(server, self._bucket, proxy.endpoint_url)
        self.where = Bucket(place)
        with place.memory("prover", namespace="proof") as prover:
            prover.write("proof", "made", None)  # conditional writes are proved once, in peace
        proxy.late_seconds = faults.LATE_SECONDS
        proxy.lag_seconds = faults.LAG_SECONDS
        proxy.delay_seconds = faults.DELAY_SECONDS
        if rate:
            proxy.chaos(seed, rate, faults.ON_THE_WIRE)

    def crash(self) -> bool:
        self._server.kill()
        self._server.start()
        return True

    def settle(self) -> None:
        self._proxy.quiet()
        self._proxy.settle()

    def faults(self) -> Counter[str]:
        made = (request.fault for request in self._proxy.requests)
        return Counter(fault.name.lower() for fault in made if fault is not None)

    def objects(self) -> dict[str, bytes]:
        client = self._server.boto3_client()
        try:
            contents = contents_of(client, self._bucket)
        finally:
            client.close()
        named = {name.removeprefix(PREFIX): body for name, body in contents.items()}
        # Names with a dot are scratch: who is killed in the middle of a proof leaves one.
        aside = ("proof/", ".")
        return {name: body for name, body in named.items() if not name.startswith(aside)}

    def memory(self) -> AgentMemory:
        return Place.on(self._server, self._bucket).memory("judge")


SERVERS: Mapping[str, Callable[[], AbstractContextManager[Server]]] = {
    "minio": lambda: servers.running(servers.MINIO),
    "versity": lambda: servers.running(servers.VERSITY),
    "ceph": ceph.running,  # only its gateway can be killed: its objects are in memory
    "moto": lambda: servers.running(servers.MOTO),
}
NAMES = ("local", "sqlite", "postgres", "minio", "versity", "ceph")
"""What is tortured at length. Not moto, a stand-in for tests: a kill takes its objects with it."""


@contextlib.contextmanager
def own_cache() -> Iterator[None]:
    """A cache directory for this run: no other may find where conditional writes were proved."""
    os.environ.setdefault("AMFS_TEST_CACHE", str(servers.cache_directory()))  # before it moves
    before = os.environ.get("XDG_CACHE_HOME")
    with tempfile.TemporaryDirectory(prefix="amfs-torture-home-") as home:
        os.environ["XDG_CACHE_HOME"] = home
        try:
            yield
        finally:
            os.environ.pop("XDG_CACHE_HOME")
            if before is not None:
                os.environ["XDG_CACHE_HOME"] = before


@contextlib.contextmanager
def opened(name: str, directory: Path, *, rate: float, seed: int) -> Iterator[StoreClient]:
    """The store of that name: in this directory, or on a server that runs while the block lasts.

    Raises `ServerUnavailableError` where the server cannot be had.
    """
    if name == "local":
        yield DirectoryStore(directory / "store", rate)
        return
    if name == "sqlite":
        yield FileStore(directory / "store.db", rate)
        return
    if name == "postgres":
        with postgres.running() as database:
            yield DatabaseStore(database, rate)
        return
    with SERVERS[name]() as server, FaultProxy(server.endpoint_url) as proxy:
        yield BucketStore(server, proxy, rate, seed)
