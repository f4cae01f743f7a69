"""The table of kinds: what it says of each kind holds everywhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from amfs_core.format import (
    BACKUP_KINDS,
    FALLBACK_KINDS,
    KINDS,
    MANIFEST,
    OUTCOME,
    VERSION,
    Feature,
    Kind,
    Layout,
    Parsed,
)
from amfs_core.memory import AgentMemory
from amfs_core.storage import StoreClient
from amfs_core.upkeep.backup import Backups
from amfs_core.upkeep.copy import copy
from amfs_core.upkeep.listing import ListedForeign, listed
from amfs_core.versions import Manifests
from amfs_local import LocalAdapter
from amfs_server.keys import Key
from amfs_server.object_rights import ObjectRights
from amfs_server.problems import Refusal
from tests.conftest import REPOSITORY
from tests.support.backups import local, objects

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
    assert not any(isinstance(entry, ListedForeign) for entry in listed([info]))


def test_the_page_of_the_layout_has_the_same_table() -> None:
    page = (REPOSITORY / "docs/layout.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    said = [tuple(cell.strip() for cell in row) for row in rows if row[0].split("/")[0] in FOLDERS]
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

# -- everything that goes through all kinds ------------------------------------------------------

NAMESPACE = LAYOUT.namespace


def kind_of(object_key: str) -> Kind | None:
    parsed = LAYOUT.parse_any(object_key)
    return parsed and parsed.kind


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalAdapter:
    """A store with an object of each kind, below `mine` and below `theirs`."""
    monkeypatch.setattr("amfs_core.format.manifest.KNOWN", frozenset({"telepathy"}))
    store = LocalAdapter(tmp_path / "source", durability="none")
    features = {"telepathy": Feature("writers", "9.1")}
    Manifests(StoreClient(store), LAYOUT).change(lambda _: features)
    with AgentMemory("ann", adapter=store, namespace=NAMESPACE) as memory:
        for path in ("mine", "theirs"):
            memory.write(path, "k", 1)
            memory.commit_outcome(f"about {path}", "success", entries=[(path, "k")])
    assert {kind_of(key) for key in objects(tmp_path / "source")} == set(KINDS)
    return store


@pytest.mark.usefixtures("store")
def test_a_copy_brings_every_kind(tmp_path: Path) -> None:
    copy(local(tmp_path / "source"), local(tmp_path / "target"))
    assert objects(tmp_path / "target") == objects(tmp_path / "source")


@pytest.mark.usefixtures("store")
def test_a_backup_brings_every_kind_and_counts_it(tmp_path: Path) -> None:
    backups = Backups(local(tmp_path / "backups"), namespace=NAMESPACE)
    report = backups.create(local(tmp_path / "source"))
    assert report is not None
    assert (report.memories, report.versions, report.outcomes) == (2, 4, 2)
    backups.restore(local(tmp_path / "target"))
    assert objects(tmp_path / "target") == objects(tmp_path / "source")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_verify_finds_damage_in_every_kind(kind: Kind, tmp_path: Path, store: LocalAdapter) -> None:
    with AgentMemory("ann", adapter=store, namespace=NAMESPACE) as memory:
        assert memory.verify().findings == ()
    path = next(key for key in objects(tmp_path / "source") if kind_of(key) is kind)
    (tmp_path / "source" / path).write_text("{}")
    with AgentMemory("ann", adapter=store, namespace=NAMESPACE) as memory:
        assert path in {finding.object_key for finding in memory.verify().findings}


RIGHTS = {
    MANIFEST: ("listed", "read"),
    VERSION: ("listed", "read"),
    OUTCOME: ("read",),  # its name does not say which memories it is about
}
"""What a key that sees some entity paths may do with an object about them."""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_rights_of_keys_say_who_sees_every_kind(
    kind: Kind, tmp_path: Path, store: LocalAdapter
) -> None:
    key = Key("k", "0" * 64, namespaces=[NAMESPACE], entity_paths=["mine"])
    rights = ObjectRights(key, StoreClient(store))
    for name, body in objects(tmp_path / "source").items():
        if kind_of(name) is not kind:
            continue
        is_seen = kind is MANIFEST or b'"mine"' in body
        assert rights.lists(name) == (is_seen and "listed" in RIGHTS[kind])
        if is_seen and "read" in RIGHTS[kind]:
            rights.require_place(name)
            rights.require_read(name, body)
        else:
            with pytest.raises(Refusal):
                rights.require_place(name)
                rights.require_read(name, body)


def test_a_key_with_limits_sees_nothing_of_a_kind_that_the_rights_do_not_know(
    store: LocalAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = Parsed(Kind("label", "labels", "<name>.json", "a label"))
    monkeypatch.setattr(Layout, "parse_any", lambda *_: newer)
    rights = ObjectRights(Key("k", "0" * 64, entity_paths=["mine"]), StoreClient(store))
    name = f"{LAYOUT.root}labels/one.json"
    assert not rights.lists(name)
    with pytest.raises(Refusal):
        rights.require_place(name)
    with pytest.raises(Refusal):
        rights.require_read(name, b"{}")
    with pytest.raises(Refusal):
        rights.require_write(name, b"{}", replaces=False)
