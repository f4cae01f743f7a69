"""The entry: one version of one memory, and its bytes in the published format (format 1).

The body is one line of UTF-8 JSON whose last field, `sha256`, covers every byte before
`,"sha256":"`. Whatever a newer writer added is kept in `extra` and written back.

The values here are msgspec's frozen structs, not dataclasses: every write and read makes three, and
a frozen dataclass takes about twenty times as long to make (`docs/design/speed.md`). Their fields
have the order and the types of the format, and what is optional there is left out when it is not
set, so that msgspec turns nearly every entry into its body, and back, in one step. `written` and
`read` of `amfs_core.format.fields` do the same for the rest; `tests/format/test_entry.py` shows
that the bytes are equal. What a field is about stands beside its type; other places follow that.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NoReturn

import msgspec

from amfs_core.errors import CorruptEntryError, InvalidValueError
from amfs_core.format.fields import (
    CLAIM,
    FATE,
    NAME,
    PLACE,
    STATE,
    WRITE,
    Field,
    named,
    read,
    shape,
    written,
)
from amfs_core.format.names import Address
from amfs_core.format.seal import DAMAGES, FORMAT, is_sealed, may_be_deep, opened, sealed, with_seal
from amfs_core.format.types import Fraction, Number, Time, Version
from amfs_core.format.visibility import Visibility, hidden, visibility

MEMORY_TYPES = ("fact", "belief", "experience", "procedure")


class Provenance(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who wrote a version, in which session, when (UTC), and the unique id of that write call.

    `outcome_ref` is set where an outcome wrote it: the one that moved the confidence.
    """

    agent_id: Annotated[str, Field("write", exported=True)]
    session_id: Annotated[str, WRITE]
    written_at: Annotated[Time, Field("write", exported=True)]
    write_id: Annotated[str, Field("write", given=True)]
    pattern_refs: Annotated[tuple[str, ...], Field("claim", given=True, exported=True)] = (
        msgspec.field(default_factory=lambda: ())  # never left out
    )
    extra: Mapping[str, Any] = msgspec.field(default_factory=dict)
    outcome_ref: Annotated[str | None, WRITE] = None


class Evidence(msgspec.Struct, frozen=True, omit_defaults=True):
    """How much outcomes spoke for and against a claim, as weighted sums.

    `prior` is the confidence that the claim was written with, None while there is no evidence.
    """

    successes: Annotated[Number, CLAIM] = msgspec.field(default_factory=int)  # never left out
    failures: Annotated[Number, CLAIM] = msgspec.field(default_factory=int)
    extra: Mapping[str, Any] = msgspec.field(default_factory=dict)
    prior: Annotated[Fraction | None, CLAIM] = None


class MemoryEntry(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="format",
    tag=FORMAT,
):
    """One immutable version of a memory.

    `confidence` is between 0 and 1. `deleted` marks a tombstone. `erased` marks a stub whose
    content was purged, and is then the SHA-256 that the content had; `purges` marks the tombstone
    that ordered it. `previous` is the `sha256` of the version before, None in version 1. `claim` is
    the version whose write made the claim, where that is an earlier one: updates and outcomes carry
    a claim on, a write makes one. `index` is False where no search is to find it by its words or
    its meaning. `extra` holds fields of a newer format. `provisional` says that the version is kept
    in a fallback store, not yet in the primary, where its number may become another; it is never
    in a body.
    """

    namespace: Annotated[str, PLACE]
    entity_path: Annotated[str, NAME]
    key: Annotated[str, NAME]
    version: Annotated[Version, Field("place", exported=True)]
    value: Annotated[Any, Field("claim", given=True, compared=True, exported=True)]
    confidence: Annotated[Fraction, Field("claim", given=True, compared=True, exported=True)]
    tags: Annotated[tuple[str, ...], Field("claim", given=True, compared=True, exported=True)]
    memory_type: Annotated[str, Field("claim", given=True, compared=True, exported=True)]
    expires_at: Annotated[Time | None, Field("claim", given=True, compared=True, exported=True)]
    deleted: Annotated[bool, Field("fate", compared=True)]
    provenance: Annotated[Provenance, WRITE]
    evidence: Annotated[Evidence, Field("claim", compared=True)]
    previous: Annotated[str | None, PLACE]
    erased: Annotated[str | None, FATE] = None
    purges: Annotated[bool, FATE] = False
    claim: Annotated[Version | None, CLAIM] = None
    index: Annotated[bool, Field("claim", given=True, exported=True)] = True
    provisional: Annotated[bool, STATE] = False
    extra: Mapping[str, Any] = msgspec.field(default_factory=dict)
    sha256: Annotated[str, PLACE]

    def __hash__(self) -> int:
        return hash((self.namespace, self.entity_path, self.key, self.version, self.sha256))

    def is_live(self, at: datetime | None = None) -> bool:
        """True unless deleted, or expired at the given time (default: now)."""
        return visibility(self, at) is Visibility.LIVE

    def visibility(self, at: datetime | None = None) -> Visibility:
        """Return whether it can be read at the given time (default: now), or why not."""
        return visibility(self, at)

    @property
    def claimed_in(self) -> int:
        """The version whose write made the claim that this one carries."""
        return self.claim or self.version

    @property
    def has_content(self) -> bool:
        """True unless there is nothing to show at any time: deleted, or purged."""
        return hidden(self) is None

    def to_dict(self) -> dict[str, Any]:
        """Return the published JSON form as a dict, fields in the order of the format."""
        fields: dict[str, Any] = msgspec.json.decode(encode_entry(self))
        return fields


class Draft(msgspec.Struct, frozen=True):
    """What a writer wants the next version to say; the version number and chain are added later."""

    write_id: str
    agent_id: str
    session_id: str
    value: Any = None
    confidence: float = 1.0
    tags: tuple[str, ...] = ()
    memory_type: str = "fact"
    ttl: timedelta | None = None
    expires_at: datetime | None = None
    pattern_refs: tuple[str, ...] = ()
    evidence: Evidence = msgspec.field(default_factory=Evidence)
    outcome_ref: str | None = None
    deleted: bool = False
    purges: bool = False
    claim: int | None = None
    index: bool = True
    extra: Mapping[str, Any] = msgspec.field(default_factory=dict)


_CLAIMED = named(MemoryEntry, lambda field: field.about == "claim")
_CLAIMED_BESIDE = named(Provenance, lambda field: field.about == "claim")


def carried_on(entry: MemoryEntry) -> dict[str, Any]:
    """Return what the next version repeats of the claim of this one, as fields of a `Draft`.

    Those of a newer format are repeated too, but for what they say in `provenance` about one write.
    """
    said = {name: getattr(entry, name) for name in _CLAIMED}
    said.update((name, getattr(entry.provenance, name)) for name in _CLAIMED_BESIDE)
    said["claim"] = entry.claimed_in
    said["extra"] = entry.extra
    return said


def time_text(moment: datetime) -> str:
    """Return a UTC time as the format writes it: always 27 characters, so that text sorts."""
    return f"{moment.astimezone(UTC).isoformat(timespec='microseconds')[:26]}Z"


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(MemoryEntry).decode
_set = msgspec.structs.force_setattr
_SHAPE = shape(MemoryEntry)
_NOT_EXTRA = frozenset({"format"})
_NO_SEAL_BYTES = len(',"sha256":""}')


def _is_plain(entry: MemoryEntry) -> bool:
    """True when msgspec writes the entry just as `encode` does: it has no fields of a newer format,
    and its times are in UTC and not in a whole second, which msgspec writes without a fraction."""
    provenance, expires_at = entry.provenance, entry.expires_at
    return (
        not (entry.extra or provenance.extra or entry.evidence.extra)
        and provenance.written_at.tzinfo is UTC
        and provenance.written_at.microsecond != 0
        and (expires_at is None or (expires_at.tzinfo is UTC and expires_at.microsecond != 0))
    )


def seal_entry(entry: MemoryEntry) -> bytes:
    """Return the body of an entry that was just made, and give the entry its `sha256`.

    Decoding the body gives an equal entry: its value holds nothing that JSON would alter.
    """
    try:
        if entry.sha256 or not _is_plain(entry):  # it has one when it is a changed copy of another
            body = encode_entry(entry)
            sha256 = body[-66:-2].decode()
        else:
            body, sha256 = with_seal(_encode(entry)[:-_NO_SEAL_BYTES])
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidValueError(f"the value cannot be written as JSON: {error}") from error
    # Nobody else has seen the entry yet, and making a second one would cost more CPU than this.
    _set(entry, "sha256", sha256)
    return body


def encode_entry(entry: MemoryEntry) -> bytes:
    """Return the body of an entry, sealed with its SHA-256.

    The `sha256` of the entry itself is not looked at: an unchanged entry gives the same bytes.
    """
    fields = {"format": FORMAT, **written(entry, time_text)}
    del fields["sha256"]
    try:
        return sealed(fields)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidValueError(f"the value cannot be written as JSON: {error}") from error


def decode_entry(body: bytes, namespace: str, address: Address, version: int) -> MemoryEntry:
    """Return the entry that a body holds, once its seal and its place have been checked.

    Raises `CorruptEntryError` for bytes that were damaged, cut, swapped with another object's or
    written by something else, and for a `format` above this one.
    """
    try:
        entry = _decode(body)
        # Nearly all bodies are just as `seal` makes them. To write one again is the quickest proof
        # that nothing in it was altered or overlooked: no field of a newer format, no name that is
        # there twice, no other spelling of a number.
        if (
            entry.version == version
            and entry.key == address.key
            and entry.entity_path == address.entity_path
            and entry.namespace == namespace
            and not entry.provisional
            and _encode(entry) == body
            and is_sealed(body, entry.sha256)
            and _is_plain(entry)
            and not may_be_deep(body)
        ):
            return entry
    except DAMAGES:
        pass
    return _decode_closely(body, namespace, address, version)


def _decode_closely(body: bytes, namespace: str, address: Address, version: int) -> MemoryEntry:
    """Do the same for any body, and say what is wrong with one that is not such a version."""
    object_key = address.object_key(version)

    def corrupt(problem: str) -> NoReturn:
        raise CorruptEntryError(
            f"{object_key}: {problem}",
            hint="restore this object from a copy, or purge the memory",
            entity_path=address.entity_path,
            key=address.key,
            version=version,
            object_key=object_key,
        )

    try:
        fields = opened(body, "a version", corrupt)
        msgspec.convert(fields, _SHAPE)
        entry: MemoryEntry = read(MemoryEntry, fields, time_from, _NOT_EXTRA)
    except DAMAGES as error:
        raise CorruptEntryError(
            f"{object_key}: it is not a version as the format describes it ({error!r:.200})",
            hint="restore this object from a copy, or purge the memory",
            entity_path=address.entity_path,
            key=address.key,
            version=version,
            object_key=object_key,
        ) from error
    if (entry.namespace, entry.entity_path, entry.key, entry.version) != (
        namespace,
        address.entity_path,
        address.key,
        version,
    ):
        corrupt(
            f"it says it is version {entry.version} of {entry.entity_path}/{entry.key} "
            f"in {entry.namespace}"
        )
    return entry


def as_provisional(entry: MemoryEntry) -> MemoryEntry:
    """Return the same version, as one that is kept in a fallback store."""
    return msgspec.structs.replace(entry, provisional=True)


def time_from(text: str) -> datetime:
    """Return the time that `time_text` wrote; `ValueError` when it is not in UTC."""
    if not text.endswith("Z"):
        raise ValueError(f"{text!r} is not a UTC time")
    return datetime.fromisoformat(text)
