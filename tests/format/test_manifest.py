"""The bytes of a manifest: what this release writes, and what it makes of anything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amfs_core.errors import CorruptEntryError, UnknownFeatureError
from amfs_core.format import Feature, Layout, Manifest, decode_manifest, seal_manifest
from amfs_core.format import manifest as manifest_module
from tests.support.s3_store import sealed

LAYOUT = Layout("default")
NOTICES = Feature("writers", "0.4.0")
GOLDEN = (
    b'{"format":1,"namespace":"default","version":1,"features":{"notices":{"needed_by":"writers",'
    b'"since":"0.4.0"}},"written_at":"2026-11-27T09:00:00.000000Z","write_id":"w1","previous":null,'
    b'"sha256":"12f672ca14692c2ee9d0305f209ff5cdb3d09f825cf7998bd30d5346442e1352"}'
)


def manifest(**features: Feature) -> Manifest:
    made, _ = seal_manifest(
        Manifest(
            namespace="default",
            version=1,
            features=features,
            written_at=datetime(2026, 11, 27, 9, tzinfo=UTC),
            write_id="w1",
            previous=None,
            sha256="",
        )
    )
    return made


def body(change: Callable[[dict[str, Any]], object] = lambda fields: None) -> bytes:
    """A manifest with other fields, sealed again."""
    fields: dict[str, Any] = json.loads(manifest_module.encode_manifest(manifest(notices=NOTICES)))
    del fields["sha256"]
    change(fields)
    return sealed(fields)


def test_the_bytes_are_those_of_the_published_format() -> None:
    assert body() == GOLDEN
    assert decode_manifest(GOLDEN, LAYOUT, 1) == manifest(notices=NOTICES)


def test_fields_of_a_newer_release_are_kept() -> None:
    def more(fields: dict[str, Any]) -> None:
        fields["mood"] = "good"
        fields["features"]["notices"]["state"] = "starting"

    given_body = body(more)
    newer_manifest = decode_manifest(given_body, LAYOUT, 1)
    assert newer_manifest.extra == {"mood": "good"}
    assert newer_manifest.features["notices"].extra == {"state": "starting"}
    assert json.loads(manifest_module.encode_manifest(newer_manifest)) == json.loads(given_body)


WRONG: dict[str, Callable[[dict[str, Any]], object]] = {
    "a newer format": lambda fields: fields.update(format=2),
    "no format": lambda fields: fields.pop("format"),
    "another namespace": lambda fields: fields.update(namespace="other"),
    "another number": lambda fields: fields.update(version=2),
    "features as a list": lambda fields: fields.update(features=["notices"]),
    "no features": lambda fields: fields.pop("features"),
    "a feature that is text": lambda fields: fields.update(features={"notices": "writers"}),
    "a feature without a release": lambda fields: fields.update(
        features={"notices": {"needed_by": "writers"}}
    ),
    "needed by a list": lambda fields: fields.update(
        features={"notices": {"needed_by": ["writers"], "since": "1"}}
    ),
    "a time without a zone": lambda fields: fields.update(written_at="2026-11-27T09:00:00"),
    "a number as write_id": lambda fields: fields.update(write_id=7),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_anything_else_is_refused_by_its_name(wrong: str) -> None:
    with pytest.raises(CorruptEntryError, match=r"default/manifest/v1\.json") as refused:
        decode_manifest(body(WRONG[wrong]), LAYOUT, 1)
    assert refused.value.object_key == "default/manifest/v1.json"


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_byte_that_was_changed_is_found(where: int, byte: int) -> None:
    good = body()
    bad = bytearray(good)
    bad[where % len(bad)] = byte
    if bytes(bad) == good:
        return
    with pytest.raises(CorruptEntryError):
        decode_manifest(bytes(bad), LAYOUT, 1)


@given(st.binary(max_size=300))
def test_bytes_of_anything_are_no_manifest(data: bytes) -> None:
    with pytest.raises(CorruptEntryError):
        decode_manifest(data, LAYOUT, 1)


@pytest.mark.parametrize(
    ("needed_by", "reads", "writes"),
    [("writers", True, False), ("readers", False, False), ("erasers", False, False)],
)
def test_a_release_refuses_a_feature_that_it_must_know_and_does_not(
    needed_by: str, reads: bool, writes: bool
) -> None:
    unknown = manifest(telepathy=Feature(needed_by, "9.1"))
    for may, does_write in ((reads, False), (writes, True)):
        if may:
            unknown.require_known("k", writes=does_write)
            continue
        with pytest.raises(UnknownFeatureError, match=r"'telepathy'.*upgrade to amfs '9\.1'") as no:
            unknown.require_known("k", writes=does_write)
        assert (no.value.feature, no.value.since, no.value.code) == (
            "telepathy",
            "9.1",
            "unknown_feature",
        )


def test_a_feature_that_this_release_knows_is_refused_to_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(manifest_module, "KNOWN", frozenset({"notices"}))
    manifest(notices=NOTICES).require_known("k", writes=True)


def test_a_name_that_would_spoil_a_terminal_is_shown_escaped_and_cut() -> None:
    with pytest.raises(UnknownFeatureError) as refused:
        manifest(**{"\x1b[2J" + "x" * 500: Feature("readers", "\n")}).require_known(
            "k", writes=False
        )
    assert "\x1b" not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400
