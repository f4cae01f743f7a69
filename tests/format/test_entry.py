"""The published body: exact round trips, the format's text, and no damage that goes unseen."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amfs_core.errors import CorruptEntryError
from amfs_core.format import (
    MEMORY_TYPES,
    Address,
    Evidence,
    MemoryEntry,
    Provenance,
    decode_entry,
    encode_entry,
    seal_entry,
)
from amfs_core.memory import AgentMemory
from amfs_core.testing import ModelAdapter

UNICODE = st.text(max_size=20)
TIMES = st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.replace(fold=0))
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        UNICODE,
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(UNICODE, inner, max_size=4)
    ),
    max_leaves=10,
)
HASHES = st.binary(min_size=32, max_size=32).map(bytes.hex)
NEW_FIELDS = st.dictionaries(UNICODE.map("new_{}".format), VALUES, max_size=2)
ENTRIES = st.builds(
    MemoryEntry,
    namespace=UNICODE,
    entity_path=UNICODE,
    key=UNICODE,
    version=st.integers(1, 10**9),
    value=VALUES,
    confidence=st.floats(0, 1),
    tags=st.lists(UNICODE, max_size=3).map(tuple),
    memory_type=st.sampled_from(MEMORY_TYPES),
    expires_at=st.none() | TIMES,
    deleted=st.booleans(),
    provenance=st.builds(
        Provenance,
        agent_id=UNICODE,
        session_id=UNICODE,
        written_at=TIMES,
        write_id=UNICODE,
        pattern_refs=st.lists(UNICODE, max_size=2).map(tuple),
        outcome_ref=st.none() | UNICODE,
        extra=NEW_FIELDS,
    ),
    evidence=st.builds(
        Evidence,
        successes=st.integers(0, 9),
        failures=st.floats(0, 9),
        prior=st.none() | st.floats(0, 1),
        extra=NEW_FIELDS,
    ),
    previous=st.none() | HASHES,
    sha256=st.just(""),
    erased=st.none() | HASHES,
    purges=st.booleans(),
    claim=st.none() | st.integers(1, 10**9),
    extra=NEW_FIELDS,
)
BASE = MemoryEntry(
    namespace="default",
    entity_path="checkout-service",
    key="retry-pattern",
    version=2,
    value={"max_retries": 3, "why": "429 – Grüße"},
    confidence=0.9,
    tags=("http",),
    memory_type="fact",
    expires_at=None,
    deleted=False,
    provenance=Provenance("a1", "s1", datetime(2026, 11, 21, 4, 27, 20, 123456, UTC), "w1"),
    evidence=Evidence(),
    previous="0" * 64,
    sha256="",
)
BODY = encode_entry(BASE)
PLACE = {"namespace": "default", "entity_path": "checkout-service", "key": "retry-pattern"}


def read(body: bytes, **place: Any) -> MemoryEntry:
    said: dict[str, Any] = {**PLACE, "version": 2, **place}
    address = Address(said["entity_path"], said["key"], "the/")
    return decode_entry(body, said["namespace"], address, said["version"])


def sealed(covered: bytes) -> bytes:
    return covered + b',"sha256":"' + hashlib.sha256(covered).hexdigest().encode() + b'"}'


def altered(**changes: Any) -> bytes:
    """The body with other fields, rightly sealed, as a newer or a foreign writer would make it."""
    fields = {**json.loads(BODY), **changes}
    del fields["sha256"]
    return sealed(json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()[:-1])


@pytest.mark.slow
@given(ENTRIES)
@settings(max_examples=300, deadline=None)
def test_every_entry_comes_back_exactly_and_gives_the_same_bytes_again(entry: MemoryEntry) -> None:
    body = seal_entry(entry)
    address = Address(entry.entity_path, entry.key, "the/")
    decoded_entry = decode_entry(body, entry.namespace, address, entry.version)
    assert decoded_entry == entry
    assert repr(decoded_entry) == repr(entry)
    assert encode_entry(decoded_entry) == body


@given(moment=TIMES, value=VALUES, claim=st.none() | st.integers(1, 9), ttl=st.integers(0, 10**6))
def test_both_ways_to_write_a_body_give_the_same_bytes(
    moment: datetime, value: Any, claim: int | None, ttl: int
) -> None:
    """`seal` lets msgspec write an entry of this format; `encode` makes its fields one by one."""
    provenance = Provenance("a", "s", moment, "w", outcome_ref=None if claim else "o")
    try:
        expires_at = moment + timedelta(microseconds=ttl)
    except OverflowError:
        expires_at = None
    entry = _with(provenance=provenance, expires_at=expires_at, value=value, claim=claim)
    body = seal_entry(entry)
    assert body == encode_entry(entry)
    assert seal_entry(entry) == body  # also when it has a seal


@pytest.mark.parametrize("part", ["provenance", "evidence", None])
def test_a_newer_field_named_extra_is_kept_as_one(part: str | None) -> None:
    """msgspec would take it for the attribute of that name."""
    fields = json.loads(BODY)
    newer = {**(fields if part is None else fields[part]), "extra": {"a": 1}}
    body = altered(**newer) if part is None else altered(**{part: newer})
    entry = read(body)
    holder = entry if part is None else getattr(entry, part)
    assert holder.extra == {"extra": {"a": 1}}
    assert encode_entry(entry) == body


def test_the_published_format_does_not_change() -> None:
    assert BODY.decode() == (
        '{"format":1,"namespace":"default","entity_path":"checkout-service","key":"retry-pattern",'
        '"version":2,"value":{"max_retries":3,"why":"429 – Grüße"},"confidence":0.9,'
        '"tags":["http"],"memory_type":"fact","expires_at":null,"deleted":false,'
        '"provenance":{"agent_id":"a1","session_id":"s1",'
        '"written_at":"2026-11-21T04:27:20.123456Z","write_id":"w1","pattern_refs":[]},'
        '"evidence":{"successes":0,"failures":0},"previous":"' + "0" * 64 + '",'
        '"sha256":"' + hashlib.sha256(BODY[: BODY.rindex(b',"sha256":"')]).hexdigest() + '"}'
    )
    assert BODY.count(b"\n") == 0


@given(ENTRIES)
@settings(max_examples=50, deadline=None)
def test_a_body_is_one_line_of_plain_json_that_covers_itself(entry: MemoryEntry) -> None:
    body = encode_entry(entry)
    fields = json.loads(body)
    assert list(fields)[-1] == "sha256"
    assert b"\n" not in body
    covered = body[: body.rindex(b',"sha256":"')]
    assert hashlib.sha256(covered).hexdigest() == fields["sha256"]


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, UTC),
        datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    ],
)
def test_times_always_take_27_characters_so_that_text_sorts(moment: datetime) -> None:
    provenance = Provenance("a", "s", moment, "w")
    text = json.loads(encode_entry(_with(provenance=provenance)))["provenance"]["written_at"]
    assert len(text) == 27
    assert text.endswith("Z")
    assert datetime.fromisoformat(text) == moment


def _with(**changes: Any) -> MemoryEntry:
    names = [name for name in MemoryEntry.__struct_fields__ if name not in changes]
    return MemoryEntry(**{name: getattr(BASE, name) for name in names}, **changes)


def test_every_single_flipped_bit_is_found() -> None:
    for place in range(len(BODY)):
        for bit in range(8):
            damaged = bytearray(BODY)
            damaged[place] ^= 1 << bit
            with pytest.raises(CorruptEntryError):
                read(bytes(damaged))


def test_every_truncation_is_found() -> None:
    for size in range(len(BODY)):
        with pytest.raises(CorruptEntryError, match=r"^the/v2\.json: "):
            read(BODY[:size])
        with pytest.raises(CorruptEntryError, match=r"^the/v2\.json: "):
            read(BODY[size + 1 :])


@pytest.mark.parametrize("added", [b"\n", b" ", b"\x00", b"}", BODY])
def test_added_bytes_are_found(added: bytes) -> None:
    for body in (BODY + added, added + BODY):
        with pytest.raises(CorruptEntryError):
            read(body)


@pytest.mark.parametrize(
    "place", [{"namespace": "n"}, {"entity_path": "e"}, {"key": "k"}, {"version": 1}]
)
def test_a_body_at_another_place_is_found(place: dict[str, Any]) -> None:
    with pytest.raises(CorruptEntryError, match="says it is version 2 of checkout-service/retry"):
        read(BODY, **place)


def test_two_swapped_bodies_are_both_found() -> None:
    adapter = ModelAdapter()
    memory = AgentMemory("a", adapter=adapter)
    memory.write("e", "one", 1)
    memory.write("e", "two", 2)
    keys = [f"default/entries/e/{name}/v1.json" for name in ("one", "two")]
    bodies = [adapter.get(key) or b"" for key in keys]
    for key, body in zip(keys, reversed(bodies), strict=True):
        adapter.replace(key, body)
    for key in ("one", "two"):
        with pytest.raises(CorruptEntryError) as caught:
            AgentMemory("b", adapter=adapter).read("e", key)
        assert (caught.value.entity_path, caught.value.key, caught.value.version) == ("e", key, 1)
        assert caught.value.object_key == f"default/entries/e/{key}/v1.json"


def test_a_newer_format_asks_for_an_upgrade() -> None:
    with pytest.raises(CorruptEntryError, match=r"format 2, newer than 1: upgrade amfs"):
        read(altered(format=2))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        sealed(b"{"),
        sealed(b'{"format":1'),
        sealed(b"[1"),
        sealed(b'{"format":1,"value":NaN'),
        sealed(b'{"format":"1"'),
        sealed(b"\xff\xfe"),
        sealed(b'{"format":1,"value":' + b"[" * 100_000),
        altered(format="x"),
        altered(provenance=None),
        altered(provenance={}),
        altered(evidence=[]),
        altered(tags=None),
        altered(expires_at="2026-01-01"),
        altered(expires_at=1),
        altered(version="2"),
    ],
    ids=range(17),
)
def test_only_bodies_that_the_format_does_not_describe_are_corrupt(body: bytes) -> None:
    with pytest.raises(CorruptEntryError):
        read(body)


def test_fields_of_a_newer_writer_are_kept() -> None:
    fields = json.loads(BODY)
    body = altered(
        transaction={"id": "t1"},
        provenance={**fields["provenance"], "model": "m1"},
        evidence={**fields["evidence"], "weights": [0.5]},
    )
    entry = read(body)
    assert entry.extra == {"transaction": {"id": "t1"}}
    assert entry.provenance.extra == {"model": "m1"}
    assert entry.evidence.extra == {"weights": [0.5]}
    assert json.loads(encode_entry(entry)) == json.loads(encode_entry(read(encode_entry(entry))))
    assert entry.to_dict()["transaction"] == {"id": "t1"}


@pytest.mark.parametrize("by", ["an update", "an outcome"])
def test_carrying_a_claim_on_keeps_a_newer_writers_fields_of_the_claim_but_not_of_the_write(
    by: str,
) -> None:
    adapter = ModelAdapter()
    AgentMemory("a", adapter=adapter).write("checkout-service", "retry-pattern", {"n": 0})
    first = json.loads(adapter.get("default/entries/checkout-service/retry-pattern/v1.json") or b"")
    adapter.create(
        "default/entries/checkout-service/retry-pattern/v2.json",
        altered(
            previous=first["sha256"],
            transaction="t1",
            provenance={**first["provenance"], "model": "m1"},
            evidence={"successes": 2, "failures": 1, "weights": [1]},
        ),
    )
    memory = AgentMemory("b", adapter=adapter)
    carried = memory.read("checkout-service", "retry-pattern")
    assert carried is not None
    assert carried.provenance.extra == {"model": "m1"}
    if by == "an update":
        memory.update("checkout-service", "retry-pattern", lambda old: {**old, "max_retries": 4})
    else:
        memory.commit_outcome("o", "success")
    newest = AgentMemory("c", adapter=adapter).read("checkout-service", "retry-pattern")
    assert newest is not None
    assert newest.version == 3
    assert newest.extra == {"transaction": "t1"}
    assert newest.evidence.extra == {"weights": [1]}
    assert newest.provenance.extra == {}
    if by == "an update":
        assert newest.value["max_retries"] == 4
        assert newest.evidence == Evidence(2, 1, {"weights": [1]})
        assert (newest.confidence, newest.tags) == (0.9, ("http",))
    assert memory.verify().ok


def test_entries_can_be_put_in_sets() -> None:
    adapter = ModelAdapter()
    entry = AgentMemory("a", adapter=adapter).write("e", "k", {"a": [1]})
    assert {entry, AgentMemory("b", adapter=adapter).read("e", "k")} == {entry}
