"""The manifest: which features a namespace uses that a reader or a writer must know.

`docs/design/manifest.md` says why. Which features this release knows is `KNOWN`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NoReturn

import msgspec

from amfs_core.errors import CorruptEntryError, UnknownFeatureError
from amfs_core.format.entry import time_from, time_text
from amfs_core.format.names import Layout
from amfs_core.format.seal import DAMAGES, FORMAT, opened, sealed
from amfs_core.format.types import ManifestShape

KNOWN: frozenset[str] = frozenset()
"""The features that this release knows."""

WRITERS = "writers"
READERS = "readers"


class Feature(msgspec.Struct, frozen=True):
    """A feature of a namespace.

    `needed_by` is "writers" for one that whoever only reads may ignore, "readers" for one that
    nobody may. `since` is the first release that knows it. `extra` holds what else is said of it.
    """

    needed_by: str
    since: str
    extra: Mapping[str, Any] = msgspec.field(default_factory=dict)


class Manifest(msgspec.Struct, frozen=True):
    """One version of the manifest of a namespace: the features that are used, all of them.

    `written_at` is the writer's clock, in UTC; `write_id` is unique to the call that created it;
    `previous` is the `sha256` of the version before, None in version 1. `extra` holds fields of a
    newer release.
    """

    namespace: str
    version: int
    features: Mapping[str, Feature]
    written_at: datetime
    write_id: str
    previous: str | None
    sha256: str
    extra: Mapping[str, Any] = msgspec.field(default_factory=dict)

    def require_known(self, object_key: str, *, writes: bool) -> None:
        """Raise `UnknownFeatureError` for a feature that this release does not know and that
        concerns whoever reads, or also whoever writes."""
        for name, feature in self.features.items():
            if name in KNOWN or (feature.needed_by == WRITERS and not writes):
                continue
            does = "write to" if feature.needed_by == WRITERS else "use"
            raise UnknownFeatureError(
                f"the namespace {self.namespace!r} uses the feature {name!r:.80}, which this "
                f"release of amfs does not know; every process that would {does} it must know it",
                hint=f"upgrade to amfs {feature.since!r:.80} or later",
                feature=name,
                since=feature.since,
                object_key=object_key,
            )


_FIELDS = frozenset(Manifest.__struct_fields__) - {"extra"} | {"format"}
_FEATURE_FIELDS = frozenset(Feature.__struct_fields__) - {"extra"}


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the body of a manifest, sealed; its own `sha256` is not looked at."""
    features = {
        name: {"needed_by": feature.needed_by, "since": feature.since, **feature.extra}
        for name, feature in manifest.features.items()
    }
    return sealed(
        {
            "format": FORMAT,
            "namespace": manifest.namespace,
            "version": manifest.version,
            "features": features,
            "written_at": time_text(manifest.written_at),
            "write_id": manifest.write_id,
            "previous": manifest.previous,
            **manifest.extra,
        }
    )


def seal_manifest(manifest: Manifest) -> tuple[Manifest, bytes]:
    """Return a manifest that was just made with its `sha256`, and its body."""
    body = encode_manifest(manifest)
    return msgspec.structs.replace(manifest, sha256=body[-66:-2].decode()), body


def decode_manifest(body: bytes, layout: Layout, number: int) -> Manifest:
    """Return the manifest that a body holds, once its seal and its place have been checked.

    Raises `CorruptEntryError` for bytes that were damaged, cut, swapped with another object's or
    written by something else, and for a `format` above this one.
    """
    object_key = layout.manifest_key(number)

    def corrupt(problem: str, cause: Exception | None = None) -> NoReturn:
        raise CorruptEntryError(
            f"{object_key}: {problem}",
            hint="until this object is restored from a copy, nobody knows what the namespace asks "
            "of its readers and writers",
            object_key=object_key,
            version=number,
        ) from cause

    try:
        manifest = _from_fields(opened(body, "a manifest", corrupt))
    except DAMAGES as error:
        corrupt(f"it is not a manifest as the format describes it ({error!r:.200})", error)
    if (manifest.namespace, manifest.version) != (layout.namespace, number):
        corrupt(f"it says it is version {manifest.version} of that of {manifest.namespace!r:.80}")
    return manifest


def _from_fields(fields: dict[str, Any]) -> Manifest:
    msgspec.convert(fields, ManifestShape)
    return Manifest(
        namespace=fields["namespace"],
        version=fields["version"],
        features={name: _feature(said) for name, said in fields["features"].items()},
        written_at=time_from(fields["written_at"]),
        write_id=fields["write_id"],
        previous=fields["previous"],
        sha256=fields["sha256"],
        extra={name: value for name, value in fields.items() if name not in _FIELDS},
    )


def _feature(said: dict[str, Any]) -> Feature:
    extra = {name: value for name, value in said.items() if name not in _FEATURE_FIELDS}
    return Feature(said["needed_by"], said["since"], extra)
