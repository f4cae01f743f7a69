"""Real S3 servers for the tests: MinIO and versitygw, found or built, started and crashed at will.

    with running(MINIO) as server:
        client = server.boto3_client()
        bucket = server.new_bucket()
        server.kill()       # as a crash would
        server.restart()    # same port, same data

`python -m tests.support.servers build` finds or builds both and prints where they are.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import importlib.util
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import botocore.config
import botocore.exceptions

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REGION = "us-east-1"
START_SECONDS = 60.0
STOP_SECONDS = 15.0
START_ATTEMPTS = 5

# Below the range from which systems give ports to outgoing connections. A port out of that range
# could be lost to any client between a crash and the restart, and a client that polls a port which
# nobody listens on can even connect to itself.
PORTS = range(20_000, 32_000)

# What `go install` builds. Both are released versions, so two builds are the same program.
MODULES = {
    "minio": "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c",
    # The last one that sends an event as it happens: since minio/minio#21651 (October 2025) they
    # wait until 4 KB have come together. It drops a connection now and then, so the other tests
    # use the newer one.
    "minio-pushing": "github.com/minio/minio@v0.0.0-20250907161309-07c3a429bfed",
    "versitygw": "github.com/versity/versitygw/cmd/versitygw@v1.8.0",
    # No server, and not for the tests: the slow network of the benchmarks.
    "toxiproxy-server": "github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0",
}
TESTED = ("minio", "minio-pushing", "versitygw")


class NotCoveredWarning(UserWarning):
    """Something that these tests should exercise can't be had here; the message says what."""


class ServerUnavailableError(RuntimeError):
    """A server's program can't be had, or it did not start."""


# --- finding and building ------------------------------------------------------------------------


def cache_directory() -> Path:
    """Where built servers are kept between runs: `$AMFS_TEST_CACHE`, or in the user's cache."""
    chosen = os.environ.get("AMFS_TEST_CACHE")
    if chosen:
        return Path(chosen)
    user_cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(user_cache) if user_cache else Path.home() / ".cache") / "amfs-tests"


@functools.cache
def locate(name: str) -> Path | None:
    """The program `name`, one of `MODULES`: from PATH, from the cache, or else built.

    Returns None, with a `NotCoveredWarning`, when it can't be had. Where the environment says
    `CI=true` that is a `ServerUnavailableError`: a pipeline must not pass by testing less.
    """
    binary = _find(name)
    if binary is not None:
        return binary
    try:
        return _build(name)
    except ServerUnavailableError as reason:
        if os.environ.get("CI", "").lower() == "true":
            raise
        warnings.warn(
            f"NOT COVERED: {name} can't be had, so no test runs against it: {reason}",
            NotCoveredWarning,
            stacklevel=2,
        )
        return None


def _find(name: str) -> Path | None:
    on_path = shutil.which(name)
    if on_path is not None:
        return Path(on_path)
    cached = cache_directory() / "bin" / name
    return cached if os.access(cached, os.X_OK) else None


def _build(name: str) -> Path:
    go = shutil.which("go")
    if go is None:
        raise ServerUnavailableError(
            f"{name} is neither on PATH nor in {cache_directory() / 'bin'}, and there is no Go "
            f"to build it; install Go, or {name}"
        )
    binaries = cache_directory() / "bin"
    binaries.mkdir(parents=True, exist_ok=True)
    with _only_builder(binaries / f".{name}.lock"):
        # Another process may have built it while this one waited for the lock.
        return _find(name) or _go_install(go, name, binaries)


@contextlib.contextmanager
def _only_builder(lock: Path) -> Iterator[None]:
    with lock.open("w") as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)
        yield  # closing the file releases the lock, and so does the death of this process


def _go_install(go: str, name: str, binaries: Path) -> Path:
    print(f"building {MODULES[name]} (once; this takes minutes)", file=sys.stderr, flush=True)
    # Built aside and moved, so that whoever looks without the lock never finds half a program.
    with tempfile.TemporaryDirectory(dir=binaries, prefix=".build-") as aside:
        built = subprocess.run(
            [go, "install", MODULES[name]],
            env={**os.environ, "GOBIN": aside, "CGO_ENABLED": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if built.returncode != 0:
            raise ServerUnavailableError(
                f"go install {MODULES[name]} failed: {built.stdout[-2000:].strip()}"
            )
        program = Path(MODULES[name].partition("@")[0]).name
        return (Path(aside) / program).replace(binaries / name)


# --- programs ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Program:
    """How one kind of server is started: its command line, and how it learns its credentials."""

    name: str
    binary: Callable[[], Path | None]
    arguments: Callable[[int, Path], list[str]]
    access_key_variable: str = ""
    secret_key_variable: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)


def _minio_arguments(port: int, data: Path) -> list[str]:
    return ["server", "--quiet", "--address", f"127.0.0.1:{port}", str(data)]


def _versity_arguments(port: int, data: Path) -> list[str]:
    backend = ["posix", str(data)]
    if not _keeps_attributes(data):
        beside = data.with_name("attributes")
        beside.mkdir(exist_ok=True)
        backend = ["posix", "--sidecar", str(beside), str(data)]
    return ["--quiet", "--port", f"127.0.0.1:{port}", *backend]


def _keeps_attributes(directory: Path) -> bool:
    """Whether the filesystem has the extended attributes that versitygw keeps metadata in."""
    if sys.platform != "linux":
        return True
    try:
        os.setxattr(directory, "user.amfs-test", b"1")
    except OSError:
        return False
    os.removexattr(directory, "user.amfs-test")
    return True


def _moto_arguments(port: int, data: Path) -> list[str]:
    return ["-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]


def _python_with_moto() -> Path | None:
    return Path(sys.executable) if importlib.util.find_spec("moto") else None


MINIO = Program(
    name="minio",
    binary=lambda: locate("minio"),
    arguments=_minio_arguments,
    access_key_variable="MINIO_ROOT_USER",
    secret_key_variable="MINIO_ROOT_PASSWORD",
    settings={"MINIO_BROWSER": "off", "MINIO_UPDATE": "off", "MINIO_CI_CD": "on"},
)

MINIO_PUSHING = replace(MINIO, name="minio-pushing", binary=lambda: locate("minio-pushing"))

VERSITY = Program(
    name="versity",
    binary=lambda: locate("versitygw"),
    arguments=_versity_arguments,
    access_key_variable="ROOT_ACCESS_KEY",
    secret_key_variable="ROOT_SECRET_KEY",
)

# Only where neither real server can be had. It keeps its objects in memory, so a restart loses
# them, and it checks no signature.
MOTO = Program(name="moto", binary=_python_with_moto, arguments=_moto_arguments)


# --- running -------------------------------------------------------------------------------------


class ServerProcess:
    """One server's process, which can be ended and started again on the same port and data."""

    def __init__(self, command: list[str], environment: dict[str, str], directory: Path) -> None:
        self._command = command
        self._environment = environment
        self._directory = directory
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process's id, or None when it doesn't run."""
        return self._child.pid if self._child is not None and self.alive else None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._child is not None and self._child.poll() is None

    @property
    def log(self) -> str:
        """The end of what the server printed."""
        path = self._directory / "log"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""

    def launch(self) -> None:
        """Start the process; it may not answer yet."""
        with (self._directory / "log").open("ab") as log:
            self._child = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C must reach pytest alone, which then ends its servers in order.
                start_new_session=True,
            )

    def terminate(self) -> None:
        """Ask the process to end, and make it end if it doesn't."""
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()


@dataclass(frozen=True, slots=True)
class Server:
    """An S3 server of our own, on 127.0.0.1, with credentials that no other server has."""

    name: str
    endpoint_url: str
    access_key: str
    secret_key: str = field(repr=False)
    process: ServerProcess = field(repr=False)

    def start(self) -> None:
        """Start the server and wait until it answers; `ServerUnavailableError` if it doesn't."""
        if not self.process.alive:
            self.process.launch()
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if not self.process.alive or time.monotonic() > deadline:
                self.process.kill()
                raise ServerUnavailableError(f"{self.name} did not start: {self.process.log}")
            time.sleep(0.05)  # between two looks: the server has no way to tell us

    def stop(self) -> None:
        """End the server in order; its data stays."""
        self.process.terminate()

    def kill(self) -> None:
        """End the server as a crash would; its data stays."""
        self.process.kill()

    def restart(self) -> None:
        """End the server if it still runs, and start it on the same port and data."""
        self.stop()
        self.start()

    def answers(self) -> bool:
        """Whether this very server answers: another one on the port would refuse our keys."""
        client = self.boto3_client(attempts=1)
        try:
            client.list_buckets()
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
            return False
        finally:
            client.close()
        return True

    def boto3_client(self, *, endpoint_url: str | None = None, attempts: int = 3) -> S3Client:
        """A plain boto3 S3 client; `endpoint_url` leads it through a proxy, say."""
        with _session_lock:
            return self._client(endpoint_url or self.endpoint_url, attempts)

    def _client(self, endpoint_url: str, attempts: int) -> S3Client:
        return _session().client(
            "s3",
            endpoint_url=endpoint_url,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=botocore.config.Config(
                s3={"addressing_style": "path"},
                signature_version="s3v4",  # for presigned addresses too
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                retries={"total_max_attempts": attempts, "mode": "standard"},
                connect_timeout=5,
                read_timeout=30,
                max_pool_connections=64,
            ),
        )

    def new_bucket(self) -> str:
        """Create a bucket that nobody else uses, and return its name."""
        bucket = f"amfs-{uuid.uuid4().hex}"
        client = self.boto3_client()
        try:
            client.create_bucket(Bucket=bucket)
        finally:
            client.close()
        return bucket


_session_lock = threading.Lock()  # a session must not be used by two threads, a client may be


@functools.cache
def _session() -> boto3.session.Session:
    # One for all clients: reading the description of S3 is most of the time that a client takes.
    return boto3.session.Session()


@contextlib.contextmanager
def running(program: Program, inside: Path | None = None) -> Iterator[Server]:
    """A server of this kind in a temporary directory of its own, for as long as the block lasts.

    In a directory that is made `inside` another, it leaves its files behind. Raises
    `ServerUnavailableError` when the program can't be had or doesn't start.
    """
    prefix = f"amfs-{program.name}-"
    with contextlib.ExitStack() as stack:
        if inside is None:
            aside = tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
            directory = stack.enter_context(aside)
        else:
            directory = tempfile.mkdtemp(prefix=prefix, dir=inside)
        server = _started(program, Path(directory))
        try:
            yield server
        finally:
            server.stop()


def _started(program: Program, directory: Path) -> Server:
    for attempt in range(1, START_ATTEMPTS + 1):
        server = _prepared(program, directory)
        try:
            server.start()
            return server
        except ServerUnavailableError:
            # Most likely another process took the port after we had found it free.
            if attempt == START_ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _prepared(program: Program, directory: Path) -> Server:
    binary = program.binary()
    if binary is None:
        raise ServerUnavailableError(f"{program.name} can't be had here")
    data = directory / "data"
    data.mkdir(exist_ok=True)
    port = free_port()
    access_key, secret_key = secrets.token_hex(8), secrets.token_hex(20)
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(directory),  # the servers look there for configuration: let them find none
        **program.settings,
    }
    if program.access_key_variable:
        environment[program.access_key_variable] = access_key
        environment[program.secret_key_variable] = secret_key
    return Server(
        name=program.name,
        endpoint_url=f"http://127.0.0.1:{port}",
        access_key=access_key,
        secret_key=secret_key,
        process=ServerProcess(
            [str(binary), *program.arguments(port, data)], environment, directory
        ),
    )


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on and that no outgoing connection is given."""
    # Not the module's generator: a test that seeds it would send every process to the same port.
    for port in random.SystemRandom().sample(PORTS, k=100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise ServerUnavailableError(f"no free port between {PORTS.start} and {PORTS.stop}")


# --- as a script ---------------------------------------------------------------------------------


def main() -> int:
    """Find or build the servers, print where they are; 1 if one can't be had."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.servers", description=__doc__)
    parser.add_argument("command", choices=["build"], help="find them, or build them")
    parser.add_argument("names", nargs="*", default=TESTED, help="default: what the tests use")
    names = parser.parse_args().names
    if unknown := set(names) - set(MODULES):
        parser.error(f"there is no {min(unknown)}; there are {', '.join(MODULES)}")
    places = {name: locate(name) for name in names}
    for name, place in places.items():
        print(f"{name}: {place or 'NOT AVAILABLE'}")
    return 0 if all(places.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
