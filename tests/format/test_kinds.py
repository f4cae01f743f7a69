"""The table of kinds: what it says of each kind holds everywhere."""

from __future__ import annotations

import re

import pytest

from amfs_core.format import (
    BACKUP_KINDS,
    FALLBACK_KINDS,
    KINDS,
    MANIFEST,
    OUTCOME,
    VERSION,
    Kind,
    Layout,
    Parsed,
)
from amfs_core.upkeep.listing import ListedForeign, listed
from tests.conftest import REPOSITORY

EVERY_KIND = (*KINDS, *BACKUP_KINDS, *FALLBACK_KINDS)
LAYOUT = Layout("a namespace")
OBJECTS = {
    MANIFEST: (LAYOUT.manifest_key(7), Parsed(MANIFEST, number=7)),
    VERSION: (
        LAYOUT.address("e/f", "k").object_key(3),
        Parsed(VERSION, LAYOUT.address("e/f", "k"), number=3),
    ),
    OUTCOME: (LAYOUT.outcome_key("deploy-42"), Parsed(OUTCOME, reference="deploy-42")),
}


def test_every_kind_has_a_folder_of_its_own() -> None:
    folders = [kind.folder for kind in EVERY_KIND]
    assert len(set(folders)) == len(folders)
    assert set(OBJECTS) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_key_of_each_kind_is_made_and_parsed(kind: Kind) -> None:
    key, parsed = OBJECTS[kind]
    assert key.startswith(f"{LAYOUT.root}{kind.folder}/")
    assert LAYOUT.parse_any(key) == parsed
    assert Layout("another").parse_any(key) is None


@pytest.mark.parametrize(
    "name",
    [
        *("manifest/v0.json", "manifest/v01.json", "manifest/v1.JSON", "manifest/v1.json/v1.json"),
        *("manifest/", "manifest/a/v1.json", "manifest", "manifests/v1.json", "manifest/v1"),
        *("transactions/t.json", "entries/k/v1.json", "outcomes/a/b.json", "", "outcomes/.json"),
        *("backups/b/manifest.json", "archives/b/00001.tar.gz"),
        *("waiting/0a/0a1b-65f-0c.json", "conflicts/65f-0c.json"),
    ],
)
def test_nothing_else_is_of_a_kind(name: str) -> None:
    assert LAYOUT.parse_any(f"{LAYOUT.root}{name}") is None


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_code_that_goes_through_a_store_knows_each_kind(kind: Kind) -> None:
    from datetime import UTC, datetime

    from amfs_core.storage import ObjectInfo

    info = ObjectInfo(OBJECTS[kind][0], 1, datetime(2026, 1, 1, tzinfo=UTC))
    assert not any(isinstance(one, ListedForeign) for one in listed([info]))


def test_the_page_of_the_layout_has_the_same_table() -> None:
    page = (REPOSITORY / "docs/layout.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    said = [tuple(one.strip() for one in row) for row in rows if row[0].split("/")[0] in FOLDERS]
    assert said == [
        (
            f"{kind.folder}/{kind.names}",
            kind.holds,
            kind.rewritten,
            "yes" if kind.removed else "never",
        )
        for kind in EVERY_KIND
    ]


FOLDERS = {kind.folder for kind in EVERY_KIND}
