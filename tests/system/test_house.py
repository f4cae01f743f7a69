"""The rooms of the core: what each one shows, and that nobody comes in by a window."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

ADAPTERS = ("amfs_local", "amfs_s3", "amfs_sqlite", "amfs_postgres", "amfs_http", "amfs_curl")
PACKAGES = ("amfs", "amfs_core", *ADAPTERS, "amfs_agents", "amfs_otel", "amfs_server")
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
