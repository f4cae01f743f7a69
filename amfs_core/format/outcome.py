"""The outcome: what happened after memories were used, and its bytes in the published format.

An outcome is one object, created once, sealed like a version. It is the truth; the confidence of
the memories that it names is moved by versions that are appended to them
(`amfs_core.outcomes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, NoReturn

import msgspec

from amfs_core.errors import CorruptEntryError, InvalidKeyError
from amfs_core.format.entry import time_from, time_text
from amfs_core.format.names import Layout
from amfs_core.format.seal import DAMAGES, FORMAT, opened, sealed
from amfs_core.format.types import OutcomeShape


class OutcomeType(StrEnum):
    """How it went. Each member is also its plain text, such as `"minor_failure"`."""

    SUCCESS = "success"
    MINOR_FAILURE = "minor_failure"
    FAILURE = "failure"
    CRITICAL_FAILURE = "critical_failure"


class Cause(NamedTuple):
    """The version of a memory that was used."""

    entity_path: str
    key: str
    version: int

    def __str__(self) -> str:
        return f"{self.entity_path}/{self.key} v{self.version}"


class Outcome(msgspec.Struct, frozen=True):
    """What happened after memories were used: recorded once, and never changed.

    `ref` is unique in the namespace. `causes` are the versions that were used, sorted by name.
    `committed_at` is the committer's clock, in UTC. `write_id` is unique to the call that recorded
    it. `extra` holds fields of a newer format.
    """

    namespace: str
    ref: str
    type: OutcomeType
    agent_id: str
    session_id: str
    committed_at: datetime
    write_id: str
    causes: tuple[Cause, ...]
    sha256: str
    extra: Mapping[str, Any] = msgspec.field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.namespace, self.ref, self.sha256))

    def memories(self) -> dict[tuple[str, str], int]:
        """Return the newest version named of each memory, by `(entity_path, key)`."""
        return {(cause.entity_path, cause.key): cause.version for cause in sorted(self.causes)}

    def is_about(self, entity_path: str) -> bool:
        """True when it names a memory of the entity path or of a deeper one."""
        return any(f"{cause.entity_path}/".startswith(f"{entity_path}/") for cause in self.causes)

    def to_dict(self) -> dict[str, Any]:
        """Return the published JSON form as a dict, fields in the order of the format."""
        fields: dict[str, Any] = msgspec.json.decode(encode_outcome(self))
        return fields


_FIELDS = frozenset(Outcome.__struct_fields__) - {"extra"} | {"format"}


def encode_outcome(outcome: Outcome) -> bytes:
    """Return the body of an outcome, sealed with its SHA-256; its own `sha256` is not looked at."""
    return sealed(
        {
            "format": FORMAT,
            "namespace": outcome.namespace,
            "ref": outcome.ref,
            "type": outcome.type.value,
            "agent_id": outcome.agent_id,
            "session_id": outcome.session_id,
            "committed_at": time_text(outcome.committed_at),
            "write_id": outcome.write_id,
            "causes": [cause._asdict() for cause in outcome.causes],
            **outcome.extra,
        }
    )


def seal_outcome(outcome: Outcome) -> tuple[Outcome, bytes]:
    """Return an outcome that was just made with its `sha256`, and its body."""
    body = encode_outcome(outcome)
    return msgspec.structs.replace(outcome, sha256=body[-66:-2].decode()), body


def decode_outcome(body: bytes, layout: Layout, ref: str) -> Outcome:
    """Return the outcome that a body holds, once its seal and its place have been checked.

    Raises `CorruptEntryError` for bytes that were damaged, cut, swapped with another object's or
    written by something else, and for a `format` above this one.
    """
    object_key = layout.outcome_key(ref)

    def corrupt(problem: str, cause: Exception | None = None) -> NoReturn:
        raise CorruptEntryError(
            f"{object_key}: {problem}",
            hint="restore this object from a copy",
            object_key=object_key,
        ) from cause

    try:
        outcome = _from_fields(opened(body, "an outcome", corrupt))
        for cause in outcome.causes:
            layout.address(cause.entity_path, cause.key)
    except (*DAMAGES, InvalidKeyError) as error:
        corrupt(f"it is not an outcome as the format describes it ({error!r:.200})", error)
    if (outcome.namespace, outcome.ref) != (layout.namespace, ref):
        corrupt(f"it says it is the outcome {outcome.ref!r} in {outcome.namespace}")
    return outcome


def _from_fields(fields: dict[str, Any]) -> Outcome:
    msgspec.convert(fields, OutcomeShape)
    return Outcome(
        namespace=fields["namespace"],
        ref=fields["ref"],
        type=OutcomeType(fields["type"]),
        agent_id=fields["agent_id"],
        session_id=fields["session_id"],
        committed_at=time_from(fields["committed_at"]),
        write_id=fields["write_id"],
        causes=tuple(
            Cause(cause["entity_path"], cause["key"], cause["version"])
            for cause in fields["causes"]
        ),
        sha256=fields["sha256"],
        extra={name: value for name, value in fields.items() if name not in _FIELDS},
    )
