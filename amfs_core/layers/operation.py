"""`Operation`: a write that is kept in a fallback store until the primary has it, and its bytes
(docs/design/degraded.md)."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime
from typing import NoReturn

import msgspec

from amfs_core.errors import CorruptEntryError
from amfs_core.format import (
    Address,
    Layout,
    MemoryEntry,
    as_provisional,
    decode_entry,
    seal,
    time_text,
)

_HINT = "restore this object from a copy, or delete it: what it holds is then lost"


class Operation(msgspec.Struct, frozen=True):
    """A write as it was asked for, and the version that it would make.

    `name` is the end of its object's key. `entry` is that version, provisional, and `body` its
    bytes. It is `conditional` when it was decided on the version before: then `base` is the
    `write_id` of that, if it was provisional too. `since` is when the call began, `writer` the
    process that kept it, and `stamp` says in which order: microseconds, and always higher than
    that of the operation before by the same writer, or on the same memory.
    """

    name: str
    stamp: int
    writer: str
    since: datetime
    conditional: bool
    base: str | None
    address: Address
    entry: MemoryEntry
    body: bytes

    @property
    def write_id(self) -> str:
        """What the write is found by."""
        return self.entry.provenance.write_id

    @property
    def merged_id(self) -> str:
        """What a version is found by that has another value in place of this one's: what was
        decided on this one's value does not stand on that."""
        return f"{self.write_id}+merged"


class Conflict(msgspec.Struct, frozen=True):
    """An operation that was not replayed, and is to be decided about.

    `entry` is the version as it was kept, `reason` says why it did not become one, and `newest` was
    the newest version of the memory then (0: there was none). `id` names it for `reconcile`.
    """

    id: str
    entry: MemoryEntry
    reason: str
    newest: int
    operation: Operation


class _Fields(msgspec.Struct):
    stamp: int
    writer: str
    since: datetime
    conditional: bool
    base: str | None
    body: str
    entity_path: str
    key: str
    version: int
    reason: str | None = None
    newest: int = 0


def new_name(stamp: int) -> str:
    """Return the name of an operation, which no other one has or ever had."""
    return f"{stamp:016x}-{secrets.token_hex(8)}.json"


def encode(operation: Operation, reason: str | None = None, newest: int = 0) -> bytes:
    """Return the bytes of an operation, or with a reason those of a conflict."""
    fields = {
        "format": seal.FORMAT,
        "stamp": operation.stamp,
        "writer": operation.writer,
        "since": time_text(operation.since),
        "conditional": operation.conditional,
        "base": operation.base,
        "entity_path": operation.address.entity_path,
        "key": operation.address.key,
        "version": operation.entry.version,
        "body": operation.body.decode(),
    }
    if reason is not None:
        fields.update(reason=reason, newest=newest)
    return seal.sealed(fields)


def decode(layout: Layout, object_key: str, data: bytes) -> Operation:
    """Return the operation in an object; `CorruptEntryError` unless it is one, whole."""
    return _decode(layout, object_key, data)[0]


def decode_conflict(layout: Layout, object_key: str, data: bytes) -> Conflict:
    """Return the conflict in an object; `CorruptEntryError` unless it is one, whole."""
    operation, fields = _decode(layout, object_key, data)
    name = operation.name.removesuffix(".json")
    return Conflict(name, operation.entry, fields.reason or "", fields.newest, operation)


def _decode(layout: Layout, object_key: str, data: bytes) -> tuple[Operation, _Fields]:
    def corrupt(problem: str) -> NoReturn:
        raise CorruptEntryError(f"{object_key}: {problem}", hint=_HINT, object_key=object_key)

    try:
        fields = msgspec.convert(seal.opened(data, "a kept operation", corrupt), _Fields)
        address = layout.address(fields.entity_path, fields.key)
        body = fields.body.encode()
        entry = decode_entry(body, layout.namespace, address, fields.version)
    except seal.DAMAGES as error:
        raise CorruptEntryError(
            f"{object_key}: it is not a kept operation ({error!r:.200})",
            hint=_HINT,
            object_key=object_key,
        ) from error
    operation = Operation(
        name="-".join(object_key.rpartition("/")[2].split("-")[-2:]),
        stamp=fields.stamp,
        writer=fields.writer,
        since=fields.since,
        conditional=fields.conditional,
        base=fields.base,
        address=address,
        entry=as_provisional(entry),
        body=body,
    )
    return operation, fields


def place_of(address: Address) -> str:
    """Return what the keys of a memory's operations begin with, below the place of all."""
    digest = hashlib.sha256(address.prefix.encode()).hexdigest()[:32]
    return f"{digest[:2]}/{digest}"
