"""What the tests share: real S3 servers, buckets, the fault proxy, and a clean environment."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import servers
from tests.support.postgres import Postgres
from tests.support.postgres import running as running_postgres
from tests.support.proxy import FaultProxy
from tests.support.servers import NotCoveredWarning, Server, ServerUnavailableError

pytest_plugins = ["tests.support.deadline"]

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = {path.parent.name for path in REPOSITORY.glob("amfs*/__init__.py")}
NOT_COVERED = "NOT COVERED:"
SHARED_MEMORY = Path("/dev/shm")  # files in memory, where there is one

# The same examples in every run, so that a failure is the change's; `make fuzz` draws new ones.
settings.register_profile("steady", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("fuzz", max_examples=1000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

ProxyFactory = Callable[[Server], FaultProxy]


def pytest_configure(config: pytest.Config) -> None:
    # A server that can't be had is to be shown, even where all other warnings are errors.
    config.addinivalue_line("filterwarnings", "always::tests.support.servers.NotCoveredWarning")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As a shell leaves it for what runs in the background: what the tests start would ignore
        # Ctrl-C too.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `make quick` leaves out: by the fixtures that a test asks for, and by its name."""
    for item in items:
        folder = Path(str(item.path)).parent.name
        asked = set(getattr(item, "fixturenames", ()))
        if asked & _SERVERS or folder in ("s3", "postgres"):
            item.add_marker("server")
        if "fuse" in asked:
            item.add_marker("mount")
        if folder in _SLOW_FOLDERS or any(name in item.nodeid for name in _SLOW):
            item.add_marker("slow")
        if any(name in item.nodeid for name in _FORKING):
            item.add_marker("fork")


_SERVERS = {"minio", "versity", "s3_server", "bucket", "european_minio", "ceph", "postgres"}
_SLOW_FOLDERS = {"system", "testing", "docs"}
_SLOW = ("machine", "damage", "quality", "oracle", "load", "Machine", "hostile", "demo", "eager")
_FORKING = ("fork", "process", "signal", "killed", "workers", "crash", "race", "exit")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end of the run what this machine could not test."""
    # Read from the reports, not from a variable: under xdist the tests run in other processes.
    gaps = Counter(_skip_reason(report) for report in terminalreporter.stats.get("skipped", []))
    gaps.update(str(warning.message) for warning in terminalreporter.stats.get("warnings", []))
    lines = [gap[gap.index(NOT_COVERED) :] for gap in gaps if NOT_COVERED in gap]
    if lines:
        terminalreporter.section("NOT COVERED", sep="!", red=True, bold=True)
        for line in sorted({line.splitlines()[0] for line in lines}):
            terminalreporter.line(line, red=True)


def _skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Have threads take turns after nearly every step."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


# --- environment ---------------------------------------------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hide the developer's own settings of AWS, AMFS and PostgreSQL, and caches, from the tests."""
    built_servers = servers.cache_directory().absolute()  # before the cache moves
    nowhere = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("AWS_", "AMFS_", "PG")):
                patch.delenv(name)
        patch.setenv("AMFS_TEST_CACHE", str(built_servers))
        patch.setenv("XDG_CACHE_HOME", str(nowhere / "cache"))
        patch.setenv("AWS_CONFIG_FILE", str(nowhere / "no-config"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nowhere / "no-credentials"))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("PGPASSFILE", str(nowhere / "no-passwords"))
        yield


# --- servers -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def minio(clean_environment: None) -> Iterator[Server]:
    """A MinIO for the whole run (where no real server can be had: moto, with a warning)."""
    if servers.locate("minio"):
        program = servers.MINIO
    elif servers.locate("versitygw") or not servers.MOTO.binary():
        pytest.skip(f"{NOT_COVERED} MinIO can't be had: nothing is tested against it")
    else:
        program = servers.MOTO
        warnings.warn(
            f"{NOT_COVERED} no real S3 server can be had: moto stands in for MinIO. It is no proof "
            "of atomic creates under load, of signatures, of durability or of bucket notifications",
            NotCoveredWarning,
            stacklevel=1,
        )
    with servers.running(program) as server:
        yield server


@pytest.fixture(scope="session")
def versity(clean_environment: None) -> Iterator[Server]:
    """A versitygw for the whole run."""
    if not servers.locate("versitygw"):
        pytest.skip(f"{NOT_COVERED} versitygw can't be had: nothing is tested against it")
    with servers.running(servers.VERSITY) as server:
        yield server


@pytest.fixture(scope="session")
def postgres(clean_environment: None) -> Iterator[Postgres]:
    """A PostgreSQL for the whole run; a test that crashes it must start it again."""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(running_postgres())
        except ServerUnavailableError as reason:
            pytest.skip(f"{NOT_COVERED} PostgreSQL can't be had, nothing is tested on it: {reason}")
        yield server


@pytest.fixture(scope="session", params=["minio", "versity"])
def s3_server(request: pytest.FixtureRequest) -> Server:
    """Each of the S3 servers in turn; a test that kills it must restart it."""
    server = request.getfixturevalue(request.param)
    assert isinstance(server, Server)
    return server


@pytest.fixture
def bucket(s3_server: Server) -> str:
    """A bucket on `s3_server` that no other test uses."""
    return s3_server.new_bucket()


@pytest.fixture
def proxy() -> Iterator[ProxyFactory]:
    """Makes fault proxies: `proxy(server)` listens until the test ends."""
    with contextlib.ExitStack() as open_proxies:

        def in_front_of(server: Server) -> FaultProxy:
            credentials = (server.access_key, server.secret_key)
            return open_proxies.enter_context(
                FaultProxy(server.endpoint_url, credentials=credentials)
            )

        yield in_front_of


# --- data ----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def locomo() -> Path:
    """The directory of LoCoMo conversations, which lies beside the repository, not in it."""
    directory = REPOSITORY.parent / "shared" / "data" / "locomo"
    if not any(directory.glob("*.json")):
        pytest.skip(f"{NOT_COVERED} real conversations: there is no LoCoMo data at {directory}")
    return directory
