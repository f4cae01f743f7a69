"""The shapes of bodies: which types the fields of the format have, and in which ranges.

A seal says that a body is whole, not that it makes sense: whoever may write to the store can seal
anything. What has another shape is refused where it is read, before it is somebody's surprise.
Fields that are not named here are a newer writer's, and are not looked at.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from amfs_core.format.names import MAX_VERSION

Time = Annotated[datetime, Meta(tz=True)]
Count = Annotated[float, Meta(ge=0)]
Number = Annotated[int, Meta(ge=0, le=2**53)] | Count
"""A `Count` that may be an int too: JSON tells `1` from `1.0`, and each is written as it was."""
Fraction = Annotated[float, Meta(ge=0, le=1)]
Version = Annotated[int, Meta(ge=1, le=MAX_VERSION)]


class CauseShape(Struct):
    """The version that an outcome is about."""

    entity_path: str
    key: str
    version: Version


class OutcomeShape(Struct):
    """An outcome."""

    namespace: str
    ref: str
    type: str
    agent_id: str
    session_id: str
    committed_at: Time
    write_id: str
    causes: list[CauseShape]


class FeatureShape(Struct):
    """A feature that a manifest names."""

    needed_by: str
    since: str


class ManifestShape(Struct):
    """A version of the manifest."""

    namespace: str
    version: Version
    features: dict[str, FeatureShape]
    written_at: Time
    write_id: str
    previous: str | None
