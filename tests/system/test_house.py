"""The rooms of the core: what each one shows, and that nobody comes in by a window."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PACKAGES, REPOSITORY

MAKEFILE = (REPOSITORY / "Makefile").read_text()
ADAPTERS = ("amfs_local", "amfs_s3", "amfs_sqlite", "amfs_postgres", "amfs_http", "amfs_curl")
ROOMS = sorted(path.parent.name for path in (REPOSITORY / "amfs_core").glob("*/__init__.py"))

BY_NAME = {
    "amfs_core.catalog.search": "needs SQLite, so it is imported where it is used",
    "amfs_core.memory.async_memory": "needs an event loop, likewise",
    "amfs_core.testing.cases": "needs pytest",
    "amfs_core.testing.machine": "needs hypothesis",
    "amfs_core.upkeep.backup": "opens archives, so it is imported where it is used",
    "amfs_core.upkeep.copy": "its function has the name of the module",
    "amfs_core.upkeep.tend": "makes backups, likewise",
}
"""Modules that are imported past the door, and why."""

ADAPTERS_MAY_USE = {
    *(
        "errors",
        "fork",
        "mounts",
        "arguments",
        "spelling",
        "parallel",
        "flag",
        "format",
        "storage",
        "doctor",
    ),
    "testing",
}


AN_INDEX_MAY_USE = ADAPTERS_MAY_USE | {"catalog", "changes", "ranking", "versions"}
"""It is a catalog, so it stands on the rooms that one in the core does."""


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def sources(*packages: str) -> Iterator[Path]:
    for package in packages:
        yield from (REPOSITORY / package).rglob("*.py")


def _rooms_of(path: Path) -> Iterator[str]:
    """The rooms that a module imports when it runs, not only to name types."""

    def walk(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING":
                continue
            if isinstance(child, ast.ImportFrom) and child.module == "amfs_core":
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and (child.module or "").startswith(
                "amfs_core."
            ):
                yield (child.module or "").split(".")[1]
            yield from walk(child)

    yield from walk(ast.parse(path.read_text()))


def test_every_package_is_shipped_type_checked_and_on_the_map() -> None:
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    tools = settings["tool"]
    assert set(tools["hatch"]["build"]["targets"]["wheel"]["packages"]) == PACKAGES
    assert set(tools["mypy"]["packages"]) == PACKAGES
    assert set(tools["importlinter"]["root_packages"]) == PACKAGES
    layers = " | ".join(tools["importlinter"]["contracts"][0]["layers"]).split(" | ")
    assert set(layers) == PACKAGES
    pattern = re.compile(r"^(amfs\w*)/", re.MULTILINE)
    assert set(pattern.findall((REPOSITORY / "CONTRIBUTING.md").read_text())) == PACKAGES
    own = {
        value.partition(":")[0]
        for value in settings["project"]["entry-points"]["amfs.adapters"].values()
    }
    assert own == set(ADAPTERS) - {"amfs_curl"}


def test_the_places_where_a_change_goes_are_there() -> None:
    """Every path that CONTRIBUTING names, and every name in code beside it."""
    page = (REPOSITORY / "CONTRIBUTING.md").read_text()
    places = re.findall(r"`((?:amfs\w*|tests|docs|deploy)/[\w/.]+)`", page)
    assert len(places) > 50
    assert not [place for place in places if not (REPOSITORY / place).exists()]
    where = page.partition("## Where a change goes")[2]
    names = set(re.findall(r"`(_?[A-Z][A-Z_]+|[A-Z]\w+|[a-z]+_[a-z_]+|[A-Z]\w+\.\w+)`", where))
    code = "".join(path.read_text() for path in sources(*PACKAGES, "tests"))
    assert not [name for name in names if name.rpartition(".")[2] not in code + MAKEFILE]


def test_the_quick_loop_runs_every_room_that_has_tests() -> None:
    rooms = re.search(r"^ROOMS := (.*)$", MAKEFILE, re.MULTILINE)
    assert rooms
    tested = {room for room in ROOMS if (REPOSITORY / "tests" / room).is_dir()}
    assert set(rooms[1].split()) == tested - {"testing"} | {"cli", "local"}


def test_the_table_of_rooms_is_as_they_are_built() -> None:
    """Exactly in what each imports, and to about a quarter in its lines."""
    core = REPOSITORY / "amfs_core"
    table = re.findall(
        r"^\| (\d+) \| `(\w+)` \| [^|]+ \| ([\d,]+) \| ([^|]*) ?\|$",
        (REPOSITORY / "CONTRIBUTING.md").read_text(),
        re.MULTILINE,
    )
    assert {room for _, room, _, _ in table} == {
        path.stem
        for path in core.iterdir()
        if not path.name.startswith("_") and (path.is_dir() or path.suffix == ".py")
    }
    floors = {room: int(floor) for floor, room, _, _ in table}
    assert max(floors.values()) == len(set(floors.values())) <= 7
    for floor, room, lines, named in table:
        home = core / room
        files = list(home.rglob("*.py")) if home.is_dir() else [core / f"{room}.py"]
        imported = {name for path in files for name in _rooms_of(path)} - {room}
        assert {name for name in named.strip().split(", ") if name} == imported, room
        assert all(floors[name] < int(floor) for name in imported), room
        counted = sum(len(path.read_text().splitlines()) for path in files)
        said = int(lines.replace(",", ""))
        assert abs(counted - said) <= max(100, counted // 4), (room, counted)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_is_for_and_what_others_may_use(room: str) -> None:
    module = importlib.import_module(f"amfs_core.{room}")
    assert module.__doc__ and module.__doc__.strip().endswith(".")
    assert module.__all__ == sorted(module.__all__, key=lambda name: (name.upper() != name, name))
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert not name.startswith("_")


def test_rooms_are_entered_by_the_door() -> None:
    windows = []
    for path in sources(*PACKAGES):
        own = path.relative_to(REPOSITORY).parts[:2]
        for name in imports(path):
            parts = name.split(".")
            if parts[0] != "amfs_core" or len(parts) < 3 or parts[1] not in ROOMS:
                continue
            if own != ("amfs_core", parts[1]) and name not in BY_NAME:
                windows.append(f"{path.relative_to(REPOSITORY)}: {name}")
    assert not windows


def test_an_adapter_needs_few_rooms() -> None:
    for path in sources(*ADAPTERS):
        used = {name.split(".")[1] for name in imports(path) if name.startswith("amfs_core.")}
        assert used <= (AN_INDEX_MAY_USE if "index" in path.parts else ADAPTERS_MAY_USE), path
