"""Bodies that a broken disk, another tool or an enemy leaves, and what must hold among them."""

from __future__ import annotations

import copy
import gzip
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from amfs_core.errors import AMFSError, CorruptEntryError
from amfs_core.format import Layout, decode_entry
from amfs_core.memory import AgentMemory
from amfs_core.memory.jsonl import export_entries
from amfs_core.storage import StorageAdapter
from amfs_core.testing import ModelAdapter
from amfs_core.upkeep.copy import copy as copy_store
from tests.support.s3_store import chain, sealed

ENTITY = "hostile"
GOOD = ("neighbour before", "zz neighbour after")
_SEAL = len(',"sha256":"') + 64 + len('"}')

Damage = Callable[[bytes], bytes]


def genuine(key: str) -> bytes:
    """The body of version 1 of a memory under `ENTITY`."""
    return next(body for _, body in chain(key, 1, ENTITY))


def resealed(covered: bytes) -> bytes:
    """Any bytes with a seal that fits, as whoever may write to the store can make it."""
    return covered + f',"sha256":"{hashlib.sha256(covered).hexdigest()}"}}'.encode()


def forged(change: Callable[[dict[str, Any]], object]) -> Damage:
    """A body with other fields, sealed again."""

    def damage(body: bytes) -> bytes:
        fields = copy.deepcopy(json.loads(body))
        del fields["sha256"]
        change(fields)
        return sealed(fields)

    return damage


def with_field(path: str, value: Any) -> Damage:
    """A body in which one field, such as `provenance.agent_id`, is another."""

    def change(fields: dict[str, Any]) -> None:
        *above, name = path.split(".")
        for parent in above:
            fields = fields[parent]
        fields[name] = value

    return forged(change)


def without_field(path: str) -> Damage:
    def change(fields: dict[str, Any]) -> None:
        *above, name = path.split(".")
        for parent in above:
            fields = fields[parent]
        del fields[name]

    return forged(change)


def rewritten(old: bytes, new: bytes) -> Damage:
    """A body whose text is another in one place, sealed again."""

    def damage(body: bytes) -> bytes:
        covered = body[:-_SEAL]
        assert old in covered
        return resealed(covered.replace(old, new, 1))

    return damage


REQUIRED = (
    *("format", "namespace", "entity_path", "key", "version", "value", "confidence", "tags"),
    *("memory_type", "expires_at", "deleted", "provenance", "evidence", "previous"),
    *("provenance.agent_id", "provenance.session_id", "provenance.written_at"),
    *("provenance.write_id", "provenance.pattern_refs"),
    *("evidence.successes", "evidence.failures"),
)

WRONG: dict[str, tuple[Any, ...]] = {
    "format": (2, -1, 0, "1", 1.0, True, None, [1], 10**400),
    "version": (0, 2, -1, 1.0, True, "1", None, 10**20),
    "confidence": ("high", None, 2, -0.1, True, [], 10**400),
    "tags": ("abc", {"a": 1}, [1], None, [None], [["a"]]),
    "memory_type": (5, None, ["fact"]),
    "expires_at": (5, "tomorrow", "2026-01-01T00:00:00", "2026-01-01Z", "", False, []),
    "deleted": ("no", 0, None),
    "provenance": (None, [], "me", 5),
    "provenance.agent_id": (7, None),
    "provenance.written_at": (None, 0, "2026-01-01", "2026-13-01T00:00:00.000000Z"),
    "provenance.write_id": (None, 5),
    "provenance.pattern_refs": ("abc", [1], None),
    "provenance.outcome_ref": (5, []),
    "evidence": (None, [], 5),
    "evidence.successes": ("1", None, -1, 10**400),
    "evidence.prior": ("1", 2),
    "previous": (5, [], False),
    "erased": (5, False, {}),
    "purges": ("yes", 1),
    "claim": ("1", 0, 1.5),
}


def deep(levels: int) -> Damage:
    return rewritten(b'"value":{"n":1}', b'"value":' + b"[" * levels + b"]" * levels)


BROKEN: dict[str, Damage] = {
    "empty": lambda _: b"",
    "one byte": lambda body: body[:1],
    "half": lambda body: body[: len(body) // 2],
    "without its seal": lambda body: body[:-_SEAL],
    "in its seal": lambda body: body[:-30],
    "without its last byte": lambda body: body[:-1],
    "without its first byte": lambda body: body[1:],
    "twice": lambda body: body * 2,
    "with a newline": lambda body: body + b"\n",
    "with a byte order mark": lambda body: b"\xef\xbb\xbf" + body,
    "all zeros": lambda body: bytes(len(body)),
    "a tail of zeros": lambda body: body[:100] + bytes(len(body) - 100),
    "compressed": gzip.compress,
    "as UTF-16": lambda body: body.decode().encode("utf-16"),
    "text": lambda _: b"hello\n",
    "a page": lambda _: b"<html><body>403</body></html>",
    "an empty object": lambda _: b"{}",
    "null": lambda _: b"null",
    "a list": lambda _: b"[]",
    "a sealed nothing": lambda _: resealed(b'{"a":1'),
    "a sealed list": lambda _: resealed(b"["),
    "not UTF-8": lambda body: body.replace(b"loader", b"loade\xff"),
    "sealed and not UTF-8": rewritten(b"loader", b"loade\xff"),
    "a lone surrogate": rewritten(b"loader", b"\\ud800"),
    "a NUL inside": rewritten(b"loader", b"load\0er"),
    "a field twice": rewritten(b'"value":{"n":1}', b'"value":{"n":1},"value":{"n":2}'),
    "the key twice": rewritten(b'"version":1', b'"version":1,"version":1'),
    "a name twice inside": rewritten(b'"value":{"n":1}', b'"value":{"n":1,"n":1}'),
    "a seal twice": rewritten(b'"value":{"n":1}', b'"value":{"n":1},"sha256":"' + b"0" * 64 + b'"'),
    "nested 100,000 deep": deep(100_000),
    "nested 300 deep": deep(300),
    "only brackets": lambda _: b"[" * 100_000,
    "1e999": rewritten(b'"value":{"n":1}', b'"value":1e999'),
    "NaN": rewritten(b'"value":{"n":1}', b'"value":NaN'),
    "Infinity": rewritten(b'"confidence":1.0', b'"confidence":Infinity'),
    **{f"without {name}": without_field(name) for name in REQUIRED},
    **{
        f"{name} {index}": with_field(name, value)
        for name, values in WRONG.items()
        for index, value in enumerate(values)
    },
}


def bits_of(body: bytes) -> Iterator[bytes]:
    """The body with each of its bits flipped in turn."""
    for place, bit in itertools.product(range(len(body)), range(8)):
        yield body[:place] + bytes([body[place] ^ (1 << bit)]) + body[place + 1 :]


def place(adapter: StorageAdapter, key: str, body: bytes, version: int = 1) -> str:
    """Put a body where a version of a memory under `ENTITY` is; return its object key."""
    object_key = f"default/entries/{ENTITY}/{key}/v{version}.json"
    adapter.replace(object_key, body)
    return object_key


def fill(adapter: StorageAdapter, broken: dict[str, bytes]) -> dict[str, str]:
    """Put good memories and broken ones side by side; return the broken keys by object key."""
    for key in GOOD:
        place(adapter, key, genuine(key))
    return {place(adapter, key, body): key for key, body in broken.items()}


def decoded(body: bytes, key: str) -> object:
    """What `decode` makes of a body at the place of a memory under `ENTITY`."""
    return decode_entry(body, "default", Layout("default").address(ENTITY, key), 1)


def hold(adapter: StorageAdapter, broken: dict[str, str], *, foreign: int = 0) -> None:
    """Assert that the broken objects are found and named, and in nobody's way.

    `broken` has the memory's key by the object key of its damaged newest version. `foreign` is how
    many objects there are beside those that are no versions at all.
    """
    with AgentMemory("looker", adapter=adapter, patience=0.5) as memory:
        _found_by_verify(memory, broken, foreign)
        for object_key, key in broken.items():
            _never_truth(memory, object_key, key)
        assert [entry.key for entry in memory.list()] == list(GOOD)
        assert [entry.key for entry in memory.list(ENTITY)] == list(GOOD)
        assert {hit.entry.key for hit in memory.search(limit=1000)} == set(GOOD)
        assert {hit.entry.key for hit in memory.search("neighbour", limit=1000)} == set(GOOD)
        assert [line["key"] for line in export_entries(memory)] == list(GOOD)
        assert memory.stats().foreign == foreign
        _followed(memory, broken)
        _copied(adapter, broken)
        for key in GOOD:
            entry = memory.read(ENTITY, key)
            assert entry is not None and entry.value == {"n": 1}
            assert memory.history(ENTITY, key) == [entry]


def _found_by_verify(memory: AgentMemory, broken: dict[str, str], foreign: int) -> None:
    findings = memory.verify().findings
    named = {finding.object_key for finding in findings}
    assert named >= set(broken)
    assert len(named - set(broken)) == foreign
    assert all(finding.problem and finding.hint for finding in findings)


def _never_truth(memory: AgentMemory, object_key: str, key: str) -> None:
    for call in (
        lambda: memory.read(ENTITY, key),
        lambda: memory.write(ENTITY, key, "more"),
        lambda: memory.update(ENTITY, key, lambda old: old),
        lambda: memory.history(ENTITY, key),
        lambda: memory.delete(ENTITY, key),
        lambda: memory.diff(ENTITY, key),
    ):
        with pytest.raises(CorruptEntryError) as caught:
            call()
        assert caught.value.object_key == object_key
        assert caught.value.key == key
        assert object_key in str(caught.value)


def _followed(memory: AgentMemory, broken: dict[str, str]) -> None:
    missing = set(GOOD)
    with memory.watch(since="beginning") as watch:
        while missing:
            entry = next(watch)
            missing.discard(entry.key)
            name = f"{entry.entity_path}/{entry.key}/v{entry.version}.json"
            assert f"default/entries/{name}" not in broken


def _copied(adapter: StorageAdapter, broken: dict[str, str]) -> None:
    target = ModelAdapter()
    copy_store(adapter, target)
    for object_key in broken:
        assert target.get(object_key) == adapter.get(object_key)
    for key in GOOD:
        assert target.get(f"default/entries/{ENTITY}/{key}/v1.json") == genuine(key)


def error_of(call: Callable[[], object]) -> AMFSError | None:
    """The error of AMFS that a call raises, or None; anything else passes."""
    try:
        call()
    except AMFSError as error:
        return error
    return None
