"""Who may see what: one predicate, which the catalog's SQL agrees with."""

from __future__ import annotations

import ast
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amfs_core.catalog.filters import Filters
from amfs_core.catalog.sqlite import conditions, tables
from amfs_core.format import Evidence, Layout, MemoryEntry, Provenance, Visibility
from tests.conftest import REPOSITORY

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
ADDRESS = Layout("default").address("e", "k")


def entry(
    *, deleted: bool = False, erased: str | None = None, expires_at: datetime | None = None
) -> MemoryEntry:
    return MemoryEntry(
        namespace="default",
        entity_path="e",
        key="k",
        version=1,
        value=None,
        confidence=1.0,
        tags=(),
        memory_type="fact",
        expires_at=expires_at,
        deleted=deleted,
        provenance=Provenance("a", "s", NOW, "w"),
        evidence=Evidence(),
        previous=None,
        erased=erased,
        sha256="",
    )


STATES = {
    Visibility.LIVE: entry(),
    Visibility.EXPIRED: entry(expires_at=NOW),
    Visibility.DELETED: entry(deleted=True, expires_at=NOW),
    Visibility.PURGED: entry(deleted=True, erased="0" * 64),
}


@pytest.mark.parametrize("state", Visibility)
def test_each_state_has_its_name(state: Visibility) -> None:
    memory_entry = STATES[state]
    assert memory_entry.visibility(NOW) is state
    assert memory_entry.is_live(NOW) is (state is Visibility.LIVE)
    assert memory_entry.has_content is (state in (Visibility.LIVE, Visibility.EXPIRED))


def test_a_memory_is_seen_until_just_before_it_expires() -> None:
    memory_entry = entry(expires_at=NOW)
    assert memory_entry.is_live(NOW - timedelta(microseconds=1))
    assert not memory_entry.is_live(NOW)
    assert memory_entry.has_content


@given(
    st.booleans(),
    st.sampled_from([None, "0" * 64]),
    st.none() | st.integers(-3, 3).map(lambda seconds: NOW + timedelta(seconds=seconds)),
)
def test_the_catalog_shows_what_the_predicate_shows(
    deleted: bool, erased: str | None, expires_at: datetime | None
) -> None:
    memory_entry = entry(deleted=deleted, erased=erased, expires_at=expires_at)

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return NOW

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conditions, "datetime", Clock)
        where, given_values = conditions.condition(Filters())
    connection = sqlite3.connect(":memory:")
    connection.executescript(tables.SCHEMA)
    connection.execute(tables.UPSERT, tables.row(ADDRESS, memory_entry, 1, None))
    ((shown,),) = connection.execute(f"SELECT count(*) FROM memory WHERE {where}", given_values)
    connection.close()
    assert bool(shown) is memory_entry.is_live(NOW)


MAY_LOOK = {
    "amfs_core/format/visibility.py": "it is the predicate",
    "amfs_core/versions/log.py": "a draft becomes a version",
    "amfs_core/testing/machine.py": "its model of a memory is independent of the code",
    "amfs_core/format/entry.py": "the bytes",
    "amfs_core/degraded/replay.py": "what waited becomes a draft again",
    "amfs_local/doorbell.py": "it is about files",
    "amfs_server/tools.py": "it shows the field",
}


def test_nobody_decides_it_by_itself() -> None:
    """`deleted` is a field of the format, and what follows from it is asked of the predicate."""
    alone = []
    for package in ("amfs", "amfs_core", "amfs_server", "amfs_agents", "amfs_otel"):
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            name = str(path.relative_to(REPOSITORY))
            for node in ast.walk(ast.parse(path.read_text())):
                looks = isinstance(node, ast.Attribute) and node.attr == "deleted"
                if isinstance(node, ast.Compare):
                    sides = [node.left, *node.comparators]
                    looks = any(
                        isinstance(side, ast.Attribute) and side.attr == "expires_at"
                        for side in sides
                    ) and not any(
                        isinstance(side, ast.Constant) and side.value is None for side in sides
                    )
                if looks and name not in MAY_LOOK:
                    alone.append(f"{name}:{node.lineno}")
    assert not alone
