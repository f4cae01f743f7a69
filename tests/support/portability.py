"""The table of servers: the conformance kit, a short load and a short torture on each, written to
docs/servers.md.

python -m tests.support.portability            # all that can be had here
python -m tests.support.portability minio      # some of them; the page is printed, not written
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

from tests.support import ceph, postgres, servers
from tests.support.servers import Program, Server, ServerUnavailableError
from tests.torture.run import Options, torture
from tests.torture.stores import own_cache

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "servers.md"
MINUTES = 15
TORTURE_SECONDS = 600.0
SEED = 5
SHOWN = 5

_INTRODUCTION = """# Servers

This page shows which stores AMFS was tested on, and how each did. `make portability` writes it: it
starts each store on this machine and runs these tests against it:

- **conformance kit**: the [conformance kit](../amfs_core/testing/README.md)
- **random programs**: the kit's random programs
- **8 x 25 writes**: 8 processes write 25 versions each to one memory at the same time; no version
  may be lost, doubled or skipped
- **torture**: a short [torture](guarantees.md#how-it-is-tortured) of 16 processes with 50
  operations each, faults on 15 % of the requests, 8 SIGKILLs of processes and one of the server, if
  there is one (moto's is spared). A violation is a promise that the results of the operations prove
  to be broken.

| store | version | conformance kit | random programs | 8 x 25 writes | torture |
| --- | --- | --- | --- | --- | --- |
"""

_GROUPS = ("TestContract", "test_random_programs", "test_processes")


@dataclass(frozen=True, slots=True)
class Subject:
    """A kind of store: its name in the table, its version, and how one is had for a while."""

    name: str
    version: Callable[[], str]
    place: Callable[[], AbstractContextManager[str]]


@dataclass(frozen=True, slots=True)
class Case:
    """One test: in which group of the table, its name, and how it failed ("" when it passed)."""

    group: str
    name: str
    failure: str
    skipped: bool


def on_server(server: Server) -> str:
    """A new bucket, as `tests.support.portability_kit` takes it."""
    return json.dumps(
        {
            "bucket": server.new_bucket(),
            "endpoint_url": server.endpoint_url,
            "access_key": server.access_key,
            "secret_key": server.secret_key,
        }
    )


@contextlib.contextmanager
def started(program: Program) -> Iterator[str]:
    """A bucket of a server of this kind."""
    with servers.running(program) as server:
        yield on_server(server)


@contextlib.contextmanager
def file_made() -> Iterator[str]:
    """A SQLite file."""
    with tempfile.TemporaryDirectory(prefix="amfs-portability-") as directory:
        yield f"sqlite:///{directory}/store.db"


@contextlib.contextmanager
def database_started() -> Iterator[str]:
    """A database of a PostgreSQL of its own."""
    with postgres.running() as server:
        yield server.dsn


@contextlib.contextmanager
def ceph_started() -> Iterator[str]:
    """A bucket of a Ceph of one machine."""
    with ceph.running() as server:
        yield on_server(server)


def told_by(name: str) -> str:
    """The version of a program that is one of `servers.MODULES`, as it says or as it was built."""
    program = servers.locate(name)
    if program is None:
        return "not here"
    told = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    built = servers.MODULES[name].partition("@")[2]
    line = next((candidate for candidate in told.splitlines() if "ersion" in candidate), "")
    unknown = "DEVELOPMENT" in line or not any(letter.isdigit() for letter in line)
    return built if unknown else line.replace("Version", "").replace(":", "").strip()


def postgres_version() -> str:
    """The version of the PostgreSQL that would be started."""
    directory = postgres.programs()
    if directory is None:
        return "not here"
    command = [directory / "postgres", "--version"]
    return subprocess.run(command, capture_output=True, text=True).stdout.split()[2]


def file_system() -> str:
    """The kind of file system that temporary directories are on."""
    if not shutil.which("findmnt"):
        return platform.system()
    command = ["findmnt", "-no", "FSTYPE", "-T", tempfile.gettempdir()]
    told = subprocess.run(command, capture_output=True, text=True)
    return f"{platform.system()}, {told.stdout.strip()}"


SUBJECTS = {
    "local": Subject(
        "local disk", file_system, lambda: tempfile.TemporaryDirectory(prefix="amfs-portability-")
    ),
    "sqlite": Subject("SQLite", lambda: sqlite3.sqlite_version, file_made),
    "postgres": Subject("PostgreSQL", postgres_version, database_started),
    "minio": Subject("MinIO", lambda: told_by("minio"), lambda: started(servers.MINIO)),
    "versity": Subject(
        "Versity S3 Gateway", lambda: told_by("versitygw"), lambda: started(servers.VERSITY)
    ),
    "ceph": Subject("Ceph RADOS Gateway", ceph.version, ceph_started),
    "moto": Subject("moto", lambda: metadata.version("moto"), lambda: started(servers.MOTO)),
}


def run(place: str) -> list[Case]:
    """Run the kit against a place."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
                *(f"--junit-xml={report}", "tests/support/portability_kit.py"),
            ],
            cwd=REPOSITORY,
            env={**os.environ, "PORTABILITY_PLACE": place},
            stdout=sys.stderr,
            timeout=MINUTES * 60,
        )
        return [_case(element) for element in ElementTree.parse(report).iter("testcase")]


def _case(element: ElementTree.Element) -> Case:
    name = element.get("name", "")
    where = f"{element.get('classname', '')}.{name}"
    group = next((group for group in _GROUPS if group in where), _GROUPS[0])
    failed = [part.get("message", "") for part in element if part.tag in ("failure", "error")]
    failure = " ".join(failed[0].split())[:200] or "it failed" if failed else ""
    return Case(group, name, failure, any(part.tag == "skipped" for part in element))


def tortured(name: str) -> tuple[str, list[Case]]:
    """Torture a kind of store in short; return the cell of the table, and what broke as cases."""
    options = Options(
        store=name,
        processes=16,
        operations=50,
        faults=0.15,
        kills=8,
        server_kills=int(
            name not in ("local", "sqlite", "moto")
        ),  # moto's objects would go with it
        seed=SEED,
        patience=(1.0, 10.0, 30.0),
        seconds=TORTURE_SECONDS,
    )
    with tempfile.TemporaryDirectory(prefix="amfs-portability-") as directory:
        try:
            report = torture(options, Path(directory))
        except (TimeoutError, ChildProcessError) as error:
            return "did not end", [Case("torture", "torture", str(error), False)]
    print(report, file=sys.stderr)
    broken = [
        Case("torture", violation.rule, violation.text[:200], False)
        for violation in report.violations
    ]
    kills = f"{report.kills + report.server_kills} kills"
    return f"{report.operations} operations, {kills}, {len(broken)} violations", broken


def row(subject: Subject, cases: list[Case], told: str) -> str:
    """One line of the table."""
    cells = []
    for group in _GROUPS:
        mine = [case for case in cases if case.group == group and not case.skipped]
        passed = sum(not case.failure for case in mine)
        cells.append(f"{passed} of {len(mine)} passed")
    return f"| {subject.name} | {subject.version()} | {' | '.join([*cells, told])} |\n"


def failures(subject: Subject, cases: list[Case]) -> str:
    """What failed, as a list."""
    failed = [case for case in cases if case.failure]
    lines = [f"- {subject.name}: `{case.name}`: {_plain(case.failure)}\n" for case in failed]
    return "".join(lines)


def _plain(text: str) -> str:
    return text.replace("|", "/").replace("<", "(").replace(">", ")").replace("`", "'")


def earlier_row(subject: Subject) -> str:
    """The line of a store in the page as it is; "" where it has none."""
    lines = PAGE.read_text().splitlines(keepends=True) if PAGE.exists() else []
    return next((line for line in lines if line.startswith(f"| {subject.name} |")), "")


def page(table: str, problems: str, absent: str = "") -> str:
    """The whole page."""
    failed = f"## What failed\n\n{problems}" if problems else "Nothing failed.\n"
    return f"{_INTRODUCTION}{table}\n{failed}{absent}{_NOTES}"


def main() -> int:
    """Make the table: what fails is in it, and is not a failure of this program."""
    with own_cache():  # one for all: what starts the processes has the first one that it saw
        return _main(sys.argv[1:])


def _main(chosen: list[str]) -> int:
    wanted = chosen or list(SUBJECTS)
    table, problems, absent = "", "", ""
    for name in wanted:
        subject = SUBJECTS[name]
        try:
            with subject.place() as place:
                cases = run(place)
        except ServerUnavailableError as error:
            print(f"{subject.name}: {error}", file=sys.stderr)
            earlier = earlier_row(subject)
            table += earlier
            where = "its row is from an earlier run" if earlier else "it is not in the table"
            absent += f"{subject.name} could not be started here: {where}.\n"
            continue
        cell, broken = tortured(name)
        table += row(subject, cases, cell)
        problems += failures(subject, [*cases, *broken[:SHOWN]])
    text = page(table, problems, absent)
    if chosen:
        print(text)
    else:
        PAGE.write_text(text)
    return 0


_NOTES = """
We do not run AWS S3, Cloudflare R2 and other services that need an account. Before the first write
to any endpoint except AWS, AMFS [proves](design/conditional-writes.md) that it honours
`If-None-Match`. moto is a stand-in for tests: one process, no signatures, nothing durable. To start
Ceph by itself, run `python -m tests.support.ceph`. [Guarantees](guarantees.md) says what is
promised for which store.
"""


if __name__ == "__main__":
    sys.exit(main())
