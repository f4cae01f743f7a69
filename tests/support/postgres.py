"""A PostgreSQL of our own for the tests, crashed and started again at will, and a PgBouncer.

    with running() as server:
        adapter = PostgresAdapter(server.dsn)
        server.crash()      # as a power cut of the process: what was not flushed is gone
        server.start()      # same port, same data

The collation of its databases is a language's, not that of bytes. It flushes as it does in earnest.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from tests.support.servers import START_ATTEMPTS, ServerUnavailableError, free_port

DATABASE = "memories"
USER = "amfs"
START_SECONDS = 60.0
STOP_SECONDS = 15.0

_PLACES = ("/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt", "/usr")
_USERS = ("postgres", "nobody")


@functools.cache
def programs() -> Path | None:
    """The directory of PostgreSQL's programs, the newest version's; None where there is none."""
    on_path = shutil.which("initdb")
    if on_path is not None and (beside := Path(on_path).resolve().parent / "postgres").exists():
        return beside.parent
    directories = [path.parent for place in _PLACES for path in Path(place).glob("*/bin/initdb")]
    return max(directories, key=_version, default=None)


def _version(directory: Path) -> int:
    said = subprocess.run([directory / "postgres", "--version"], capture_output=True, text=True)
    digits = "".join(char if char.isdigit() else " " for char in said.stdout).split()
    return int(digits[0]) if digits else 0


@functools.cache
def _account() -> dict[str, Any]:
    """Who runs the server: it refuses to be run by root."""
    if os.geteuid() != 0:
        return {}
    for name in _USERS:
        with contextlib.suppress(KeyError):
            account = pwd.getpwnam(name)
            return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    raise ServerUnavailableError(f"PostgreSQL needs another user than root, as {_USERS[0]}")


def _own(path: Path) -> None:
    if account := _account():
        os.chown(path, account["user"], account["group"])


@dataclass(slots=True)
class Postgres:
    """One server, in a directory of its own."""

    directory: Path
    port: int
    password: str = field(repr=False)
    _child: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        """How its superuser connects."""
        return self.dsn_of(USER, self.password)

    def dsn_of(self, user: str, password: str, port: int | None = None) -> str:
        """How somebody connects, to another port perhaps."""
        return f"postgresql://{user}:{password}@127.0.0.1:{port or self.port}/{DATABASE}"

    @property
    def pid(self) -> int:
        """The process that all others of the server are children of."""
        assert self._child is not None
        return self._child.pid

    @property
    def variables(self) -> dict[str, str]:
        """What makes `postgresql:///memories` lead here."""
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": USER,
            "PGPASSWORD": self.password,
        }

    def start(self) -> None:
        """Start it and wait until it takes connections, after what it has to recover."""
        bin_directory = programs()
        assert bin_directory is not None
        data = self.directory / "data"
        with (self.directory / "log").open("ab") as log:
            self._child = subprocess.Popen(
                [bin_directory / "postgres", "-D", data, "-p", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                start_new_session=True,
                **_account(),
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._child.poll() is not None or time.monotonic() > deadline:
                self.crash()
                raise ServerUnavailableError(f"PostgreSQL did not start: {self.log}")
            time.sleep(0.02)  # between two looks

    def _answers(self) -> bool:
        place = self.dsn.replace(f"/{DATABASE}", "/postgres")
        try:
            psycopg.connect(place, connect_timeout=5).close()
        except psycopg.Error:
            return False
        return True

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGINT)  # "fast": it does not wait for its clients

    def crash(self) -> None:
        """End it at once ("immediate"), without a checkpoint: it recovers from its log."""
        self._end(signal.SIGQUIT)

    def _end(self, signum: int) -> None:
        if self._child is None:
            return
        if self._child.poll() is None:
            self._child.send_signal(signum)
        try:
            self._child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    @property
    def log(self) -> str:
        """The end of what it printed."""
        path = self.directory / "log"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""

    def sql(self, *statements: str, dsn: str | None = None) -> list[Any]:
        """What another program gets that sends these; of one without rows, None."""
        answers: list[Any] = []
        with psycopg.connect(dsn or self.dsn, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
                answers.append(cursor.fetchall() if cursor.description else None)
        return answers

    def new_role(self, options: str = "LOGIN") -> tuple[str, str]:
        """Make a role that nobody else uses, and return its name and how it connects."""
        name, password = f"role_{secrets.token_hex(6)}", secrets.token_hex(12)
        self.sql(f"CREATE ROLE {name} {options} PASSWORD '{password}'")
        return name, self.dsn_of(name, password)

    def new_database(self, options: str = "") -> str:
        """Make a database that nobody else uses, and return how its superuser connects."""
        name = f"d_{secrets.token_hex(6)}"
        self.sql(f"CREATE DATABASE {name} {options}")
        return self.dsn.replace(f"/{DATABASE}", f"/{name}")


def new_schema() -> str:
    """A name that no other test uses."""
    return f"s_{secrets.token_hex(8)}"


@contextlib.contextmanager
def running() -> Iterator[Postgres]:
    """A PostgreSQL in a temporary directory of its own, for as long as the block lasts.

    Raises `ServerUnavailableError` where it is not installed or does not start.
    """
    if programs() is None:
        raise ServerUnavailableError("PostgreSQL is not installed")
    with tempfile.TemporaryDirectory(prefix="amfs-postgres-", ignore_cleanup_errors=True) as aside:
        directory = Path(aside)
        _own(directory)
        server = _started(directory)
        try:
            server.sql(f"CREATE DATABASE {DATABASE}", dsn=server.dsn.replace(DATABASE, "postgres"))
            yield server
        finally:
            server.stop()


def _started(directory: Path) -> Postgres:
    password = secrets.token_hex(16)
    _initialise(directory, password)
    for attempt in range(1, START_ATTEMPTS + 1):
        server = Postgres(directory, free_port(), password)
        try:
            server.start()
            return server
        except ServerUnavailableError:
            if attempt == START_ATTEMPTS:  # else, most likely, another process took the port
                raise
    raise AssertionError("unreachable")


def _initialise(directory: Path, password: str) -> None:
    bin_directory = programs()
    assert bin_directory is not None
    secret = directory / "password"
    secret.write_text(password)
    _own(secret)
    options = ["--auth=scram-sha-256", f"--username={USER}", f"--pwfile={secret}", "--no-sync"]
    options += ["--encoding=UTF8", "--locale=C.UTF-8"]
    if _version(bin_directory) >= 15:
        options += ["--locale-provider=icu", "--icu-locale=en-US"]
    made = subprocess.run(
        [bin_directory / "initdb", f"--pgdata={directory / 'data'}", *options],
        capture_output=True,
        text=True,
        cwd=directory,
        **_account(),
    )
    if made.returncode != 0:
        raise ServerUnavailableError(f"initdb failed: {made.stdout}{made.stderr}")
    with (directory / "data" / "postgresql.conf").open("a") as file:
        file.write(
            "listen_addresses = '127.0.0.1'\n"
            "unix_socket_directories = ''\n"
            "max_connections = 200\n"
            "shared_buffers = 32MB\n"
            "log_min_messages = fatal\n"
        )


# --- PgBouncer -----------------------------------------------------------------------------------


def pooler() -> Path | None:
    """PgBouncer's program, or None."""
    program = shutil.which(
        "pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    )
    return None if program is None else Path(program)


@contextlib.contextmanager
def pooled(server: Postgres, mode: str = "transaction", size: int = 3) -> Iterator[str]:
    """A PgBouncer before the server, with so many connections to it; yields how to connect.

    Raises `ServerUnavailableError` where it is not installed or does not start.
    """
    program = pooler()
    if program is None:
        raise ServerUnavailableError("PgBouncer is not installed")
    with tempfile.TemporaryDirectory(prefix="amfs-pgbouncer-", ignore_cleanup_errors=True) as aside:
        directory, port = Path(aside), free_port()
        _own(directory)
        (directory / "users").write_text(f'"{USER}" "{server.password}"\n')
        (directory / "ini").write_text(
            "[databases]\n"
            f"* = host=127.0.0.1 port={server.port}\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = scram-sha-256\nauth_file = {directory}/users\n"
            f"pool_mode = {mode}\ndefault_pool_size = {size}\nmax_client_conn = 500\n"
        )
        for name in ("users", "ini"):
            _own(directory / name)
        with (directory / "log").open("ab") as log:
            child = subprocess.Popen(
                [program, directory / "ini"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **_account(),
            )
        dsn = server.dsn_of(USER, server.password, port)
        try:
            _wait_for(dsn, child, directory / "log")
            yield dsn
        finally:
            child.kill()
            child.wait()


def _wait_for(dsn: str, child: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(psycopg.Error):
            psycopg.connect(dsn, connect_timeout=5).close()
            return
        if child.poll() is not None or time.monotonic() > deadline:
            raise ServerUnavailableError(f"PgBouncer did not start: {log.read_text()[-2000:]}")
        time.sleep(0.02)  # between two looks


def identifier(name: str) -> str:
    """A name as it stands in a statement."""
    return sql.Identifier(name).as_string()
