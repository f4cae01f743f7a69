"""What the tests of importers share: a store, and what came of an import into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from amfs.importers import import_from
from amfs_core.memory import AgentMemory, Imported
from amfs_local import LocalAdapter

RECORDED = Path(__file__).parent / "recorded"

Import = Callable[..., list[Imported]]


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[AgentMemory]:
    with AgentMemory("importer", adapter=LocalAdapter(tmp_path / "store")) as opened:
        yield opened


@pytest.fixture
def imported(memory: AgentMemory) -> Import:
    def run(kind: str, source: Path | str, **options: Any) -> list[Imported]:
        done: list[Imported] = []
        report = import_from(memory, kind, source, on_record=done.append, **options)
        for state in ("new", "changed", "unchanged", "kept", "expired", "refused"):
            assert getattr(report, state) == sum(result.state == state for result in done)
        return done

    return run


def values(memory: AgentMemory) -> dict[tuple[str, str], Any]:
    return {(entry.entity_path, entry.key): entry.value for entry in memory.list()}


def states(done: list[Imported]) -> list[str]:
    return [result.state for result in done]


def reasons(done: list[Imported]) -> dict[str, str | None]:
    return {result.place: result.reason for result in done if result.state == "refused"}
