"""The documentation is run: its Python, its shell, its YAML, its links, and what it must name.

Blocks of one page share a directory and a namespace, in the order of the page. Names that stand for
the reader's own (`PLACEHOLDERS`) are replaced by a bucket on a real server. In a ```console block a
line that begins with `$ ` is a command and the lines below it are what it prints (`…` stands for
anything); a command must exit with 0 unless `$ echo $?` follows and says what it exits with. A
block that cannot run here has `<!-- not run: reason -->` before it and is counted.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import itertools
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

import amfs_core.errors
from amfs import AgentMemory
from amfs.cli import amfs as program
from amfs.cli.run import COMMANDS
from amfs.config import settings
from amfs_core.format import Layout, decode_entry
from amfs_http import HttpAdapter
from amfs_local import LocalAdapter
from amfs_postgres import PostgresAdapter
from amfs_s3 import S3Adapter
from amfs_sqlite import SqliteAdapter
from tests.conftest import PACKAGES, REPOSITORY
from tests.support import servers
from tests.support.postgres import Postgres
from tests.support.servers import Server

DOCS = REPOSITORY / "docs"
RUN = [REPOSITORY / "README.md", *sorted(DOCS.glob("*.md"))]
ALL = [
    *RUN,
    *sorted((DOCS / "design").glob("*.md")),
    *(REPOSITORY / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    REPOSITORY / "compose" / "README.md",
]

NOT_RUN = {
    "README.md": 2,
    "docs/agent-framework.md": 1,
    "docs/anthropic.md": 1,
    "docs/deployment.md": 3,
    "docs/filesystem.md": 1,
    "docs/http.md": 1,
    "docs/langgraph.md": 1,
    "docs/import.md": 1,
    "docs/layout.md": 1,
    "docs/observability.md": 1,
    "docs/openai-agents.md": 1,
    "docs/pydantic-ai.md": 1,
    "docs/search.md": 2,
    "docs/stores.md": 1,
    "CONTRIBUTING.md": 1,
    "compose/README.md": 2,
}
"""How many blocks of each page say that they cannot run here."""

PLACEHOLDERS = {
    "http://localhost:9000": "endpoint",
    "https://ACCOUNT_ID.r2.cloudflarestorage.com": "endpoint",
    "https://YOUR_ACS_ENDPOINT": "endpoint",
    "my-bucket": "bucket",
    "my-database": "database",
    "ACCESS_KEY_ID_OF_YOURS": "access_key",
    "SECRET_ACCESS_KEY_OF_YOURS": "secret_key",
}

_FENCE = re.compile(
    r"^(?P<mark><!-- not run: (?P<reason>.+?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (?P<title>.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the line that it begins on, and why it is not run."""

    language: str
    text: str
    line: int
    not_run: str | None

    @classmethod
    def all_of(cls, page: Path) -> list[Block]:
        source = page.read_text()
        return [
            cls(
                match["language"],
                match["text"],
                source.count("\n", 0, match.start("text")) + 1,
                match["reason"],
            )
            for match in _FENCE.finditer(source)
        ]


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def prose_of(page: Path) -> str:
    """A page without its blocks."""
    return _FENCE.sub("", page.read_text())


def sections_of(page: Path) -> dict[str, str]:
    """A page's level-2 sections by their titles."""
    _, *parts = re.split(r"^## ", page.read_text(), flags=re.MULTILINE)
    return {part.partition("\n")[0].replace("`", ""): part.partition("\n")[2] for part in parts}


# --- running -------------------------------------------------------------------------------------


class Reader:
    """Somebody who follows a page from its beginning, in an empty directory."""

    def __init__(
        self, page: Path, directory: Path, server: Server, database: Postgres | None
    ) -> None:
        self.page = page
        self.directory = directory
        self.own = {
            "endpoint": server.endpoint_url,
            "bucket": server.new_bucket(),
            "access_key": server.access_key,
            "secret_key": server.secret_key,
            "database": "" if database is None else database.new_database().rpartition("/")[2],
        }
        self.names: dict[str, Any] = {"__name__": "__main__"}
        programs = directory.parent / "programs"
        programs.mkdir()
        for program_name, arguments in (("amfs", "-m amfs "), ("python", "")):
            script = programs / program_name
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
            script.chmod(0o755)
        self.environment = {
            **{name: text for name, text in os.environ.items() if name != "AMFS_TEST_CACHE"},
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
            "AWS_ENDPOINT_URL": server.endpoint_url,  # what "AWS" means here
            "AMFS_AGENT_ID": "you@laptop",
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "TZ": "UTC",
            **({} if database is None else database.variables),
        }

    def follow(self) -> None:
        for block in Block.all_of(self.page):
            if block.not_run:
                continue
            text = self.with_own_names(block.text)
            match block.language:
                case "python":
                    self.run_python(text, block.line)
                case "sh":
                    self.run_script(text, block.line)
                case "console":
                    self.run_commands(text, block.line)
                case "yaml":
                    self.load_yaml(text, block.line)
                case "json":
                    for line in text.splitlines() if "\n{" in text else [text]:
                        json.loads(line)
                case "" | "text" | "toml" | "sql":  # shows a shape, or has a test of its own
                    pass
                case other:
                    pytest.fail(f"{name_of(self.page)}:{block.line} nobody runs ```{other}")

    def with_own_names(self, text: str) -> str:
        for placeholder, kind in PLACEHOLDERS.items():
            text = text.replace(placeholder, self.own[kind])
        return text

    def run_python(self, text: str, line: int) -> None:
        code = compile("\n" * (line - 1) + text, str(self.page), "exec")
        with in_place(self.directory, self.environment):
            exec(code, self.names)

    def run_script(self, text: str, line: int) -> None:
        done = self.bash(f"set -euo pipefail\n{text}")
        assert done.returncode == 0, f"{name_of(self.page)}:{line}\n{done.stdout}"

    def run_commands(self, text: str, line: int) -> None:
        code = 0
        commands = list(_commands(text))
        for index, (offset, command, expected) in enumerate(commands):
            where = f"{name_of(self.page)}:{line + offset}: $ {command}"
            if command == "echo $?":
                assert expected == str(code), f"{where}\nexited with {code}"
                continue
            done = self.bash(f"set -o pipefail\n{command}")
            code = done.returncode
            told = index + 1 < len(commands) and commands[index + 1][1] == "echo $?"
            assert told or code == 0, f"{where}\nexited with {code}\n{done.stdout}"
            if expected:
                assert _matches(expected, done.stdout), f"{where}\nprinted:\n{done.stdout}"

    def bash(self, script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", script],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )

    def load_yaml(self, text: str, line: int) -> None:
        """Load it as `amfs.yaml` and use the store, the bucket and endpoint being the reader's."""
        path = self.directory / f"line-{line}" / settings.FILE_NAME
        path.parent.mkdir()
        path.write_text(text)
        variables = {}
        data = yaml.safe_load(text)
        primary = (data.get("layers") or {}).get("primary", {})
        kind = primary.get("adapter", "local")
        if kind == "s3":
            variables = {
                "AMFS_S3_BUCKET": self.own["bucket"],
                "AMFS_S3_ENDPOINT": self.own["endpoint"],
            }
        with in_place(path.parent, {**self.environment, **variables}), AgentMemory() as memory:
            written = memory.write("documentation", name_of(self.page), line)
            assert memory.read("documentation", name_of(self.page)) == written
            assert memory.adapter.backend_type == ("routed" if data.get("routes") else kind)


@contextlib.contextmanager
def in_place(directory: Path, environment: dict[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        for name, value in environment.items():
            patch.setenv(name, value)
        yield


def _commands(text: str) -> Iterator[tuple[int, str, str]]:
    """The commands of a console block: line, command, and what it is to print."""
    lines = text.replace("\\\n", "\0").splitlines()
    starts = [index for index, line in enumerate(lines) if line.startswith("$ ")]
    assert starts[:1] == [0], "a console block begins with a command"
    for start, end in itertools.pairwise([*starts, len(lines)]):
        command = lines[start][2:].replace("\0", "\\\n")
        yield start, command, "\n".join(lines[start + 1 : end]).strip()


def _matches(expected: str, printed: str) -> bool:
    parts = (re.escape(" ".join(part.split())) for part in expected.split("…"))
    pattern = ".*".join(rf"\s*{part}\s*" for part in parts)
    return re.fullmatch(pattern, " ".join(printed.split())) is not None


@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_every_block_of_the_page_runs_as_written(
    page: Path, tmp_path: Path, minio: Server, request: pytest.FixtureRequest
) -> None:
    directory = tmp_path / "reader"
    directory.mkdir()
    uses_database = "my-database" in page.read_text()
    database = request.getfixturevalue("postgres") if uses_database else None
    Reader(page, directory, minio, database).follow()


def test_blocks_that_are_not_run_are_few_and_say_why() -> None:
    blocks = [(page, block) for page in ALL for block in Block.all_of(page)]
    assert Counter(name_of(page) for page, block in blocks if block.not_run) == NOT_RUN
    programs = ("python", "sh", "console", "yaml")
    forgotten = [
        f"{name_of(page)}:{block.line}"
        for page, block in blocks
        if page not in RUN and block.language in programs and not block.not_run
    ]
    assert not forgotten, "nobody runs these"
    stray = [name_of(page) for page in ALL if "<!-- not run" in prose_of(page)]
    assert not stray, "a mark must stand on the line before its block"


# --- what must be said ---------------------------------------------------------------------------


@pytest.mark.parametrize("page", ALL, ids=name_of)
def test_every_relative_link_resolves(page: Path) -> None:
    for match in _LINK.finditer(prose_of(page)):
        target, _, anchor = match["target"].partition("#")
        if re.match(r"https?:|mailto:", target):
            continue
        place = (page.parent / target).resolve() if target else page
        assert place.exists(), f"{name_of(page)} links to {target}, which is not there"
        assert place.is_relative_to(REPOSITORY)
        if anchor:
            assert anchor in anchors_of(place), f"{name_of(place)} has no heading for #{anchor}"


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    titles = (match["title"].lower() for match in _HEADING.finditer(prose_of(page)))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def test_every_design_page_is_linked_and_every_page_is_reached_from_the_readme() -> None:
    reached, waiting = set[Path](), [REPOSITORY / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        links = (match["target"].partition("#")[0] for match in _LINK.finditer(prose_of(page)))
        waiting += [(page.parent / link).resolve() for link in links if ":" not in link and link]
    assert not {name_of(page) for page in ALL} - {name_of(page) for page in reached}


def test_design_notes_are_numbered_dated_and_say_what_was_refused() -> None:
    index = DOCS / "design" / "README.md"
    rows = re.findall(r"^\| (\d+) \| \[.+\]\((\S+)\) \| (\S+) \|", index.read_text(), re.MULTILINE)
    notes = {page.name: page.read_text() for page in index.parent.glob("*.md") if page != index}
    assert [int(number) for number, _, _ in rows] == list(range(1, len(notes) + 1))
    assert {name for _, name, _ in rows} == set(notes)
    for number, name, date in rows:
        assert notes[name].split("\n\n")[1] == f"Design note {number}, {date}.", name
        wanted = ("## What we refused to do\n", "## How it is tested\n")
        assert all(heading in notes[name] for heading in wanted), name
    dates = [date for _, _, date in rows]
    assert dates == sorted(dates)


def test_pages_that_the_code_points_to_are_there() -> None:
    sources = [path for name in PACKAGES for path in (REPOSITORY / name).rglob("*.py")]
    named = {name for path in sources for name in re.findall(r"docs/[\w/-]+\.md", path.read_text())}
    assert named
    assert not [name for name in sorted(named) if not (REPOSITORY / name).exists()]


def test_test_files_that_pages_name_are_there() -> None:
    named = {name for page in ALL for name in re.findall(r"tests/[\w/]+\.py", page.read_text())}
    assert named
    assert not [name for name in sorted(named) if not (REPOSITORY / name).exists()]


def test_every_error_has_its_section() -> None:
    classes = inspect.getmembers(amfs_core.errors, inspect.isclass)
    names = {name for name, member in classes if member.__module__ == "amfs_core.errors"}
    assert set(sections_of(DOCS / "errors.md")) >= names


def test_every_command_and_its_options_have_their_section() -> None:
    sections = sections_of(DOCS / "cli.md")
    for name in COMMANDS:
        command = program.get_command(click.Context(program), name)
        assert command is not None
        section = sections[f"amfs {name}"]
        assert "```console" in section, f"amfs {name} has no example"
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.name not in ("json", "help"):
                assert parameter.opts[-1] in section, f"amfs {name} {parameter.opts[-1]} is missing"
    for parameter in program.params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[-1] in (DOCS / "cli.md").read_text()


def test_every_variable_and_option_is_in_the_configuration_page() -> None:
    page = (DOCS / "configuration.md").read_text()
    modules = (REPOSITORY / "amfs" / "config").glob("*.py")
    sources = "".join(module.read_text() for module in modules)
    wanted = set(re.findall(r"\bAMFS_[A-Z0-9_]*[A-Z0-9]\b", sources))
    for adapter in (HttpAdapter, LocalAdapter, PostgresAdapter, S3Adapter, SqliteAdapter):
        wanted |= set(inspect.signature(adapter).parameters)
    assert not [name for name in sorted(wanted) if f"`{name}`" not in page]


def test_every_method_is_in_the_tour_of_python() -> None:
    page = (DOCS / "python.md").read_text()
    names = [name for name in dir(AgentMemory) if not name.startswith("_") and name != "after_fork"]
    assert not [name for name in names if f"`{name}" not in page and f".{name}" not in page]


def test_bodies_in_the_layout_page_are_valid_versions() -> None:
    blocks = [block for block in Block.all_of(DOCS / "layout.md") if block.language == "json"]
    bodies = [line for block in blocks for line in block.text.splitlines()]
    assert len(bodies) >= 3
    layout = Layout("default")
    for body in bodies:
        fields = json.loads(body)
        address = layout.address(fields["entity_path"], fields["key"])
        decode_entry(body.encode(), "default", address, fields["version"])


# --- compose -------------------------------------------------------------------------------------


def test_compose_starts_the_minio_that_the_tests_use() -> None:
    compose = REPOSITORY / "compose"
    services = yaml.safe_load((compose / "compose.yaml").read_text())["services"]
    assert set(services) == {"minio", "bucket", "demo"}
    for service in services.values():
        build = service["build"]
        context = compose / (build if isinstance(build, str) else build["context"])
        name = "Dockerfile" if isinstance(build, str) else build.get("dockerfile", "Dockerfile")
        assert (context / name).exists()
    module, version = servers.MODULES["minio"].split("@")
    dockerfile = (compose / "minio" / "Dockerfile").read_text()
    assert module in dockerfile
    assert version in dockerfile
    [command] = [services["demo"]["command"]]
    assert importlib.import_module(command[-1])


def test_compose_runs_from_a_checkout_that_only_its_owner_may_read() -> None:
    """COPY keeps the modes of the checkout, and the demo runs as a user who owns nothing of it."""
    dockerfile = (REPOSITORY / "compose" / "demo" / "Dockerfile").read_text()
    installed, _, _ = dockerfile.partition("\nUSER ")
    copied = re.findall(r"^COPY .* (/\S+)$", installed, re.MULTILINE)
    services = yaml.safe_load((REPOSITORY / "compose" / "compose.yaml").read_text())["services"]
    assert copied == [services["bucket"]["command"][-1]]
    for path in copied:
        assert re.search(rf"^RUN chmod 644 {re.escape(path)}\b", installed, re.MULTILINE)
