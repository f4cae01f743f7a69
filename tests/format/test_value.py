"""Values: what JSON carries exactly comes back exactly; all else is refused by name and place."""

from __future__ import annotations

import dataclasses
import enum
import math
import uuid
from collections import OrderedDict, defaultdict, namedtuple
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from amfs_core.errors import InvalidValueError
from amfs_core.format.values import MAX_DEPTH, copied
from amfs_core.memory import AgentMemory
from amfs_core.testing import ModelAdapter

JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(-(10**400), 10**400),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(st.text(), inner, max_size=5)
    ),
    max_leaves=25,
)


def same(value: Any, other: Any) -> bool:
    """Equal in type and bits, all the way down, and in the order of keys."""
    if type(value) is not type(other):
        return False
    if type(value) is dict:
        return list(value) == list(other) and all(same(value[key], other[key]) for key in value)
    if type(value) is list:
        return len(value) == len(other) and all(map(same, value, other))
    if type(value) is float:
        return value.hex() == other.hex()
    return bool(value == other)


@pytest.mark.slow
@given(JSON)
@example(-0.0)
@example(5e-324)
@example(1.7976931348623157e308)
@example(2**53 + 1)
@example(10**4299 - 1)
@example(-(10**4299 - 1))
@example({"": {"": [[], {}]}})
@example({"sha256": "x", 'a","sha256":"': ',"sha256":"'})
@example("\u2028\u2029\x00\x7f\ufeff\ufffe\U0010ffff")
@example({"b": 1, "a": 2})
@example([True, 1, 1.0, False, 0, 0.0, None])
@settings(max_examples=400, deadline=None)
def test_any_json_value_comes_back_exactly(value: Any) -> None:
    adapter = ModelAdapter()
    written = AgentMemory("a", adapter=adapter).write("e", "k", value)
    read = AgentMemory("b", adapter=adapter).read("e", "k")
    assert read is not None
    assert same(read.value, value)
    assert same(written.value, value)
    assert read == written


class Number(enum.IntEnum):
    ONE = 1


class Word(enum.StrEnum):
    A = "a"


class Plain(enum.Enum):
    A = "a"


class Float64(float):
    """As numpy's float64: a float to isinstance, and lost by JSON."""


class Text(str):
    __slots__ = ()


class Int(int):
    pass


Point = namedtuple("Point", "x y")


@dataclasses.dataclass
class Data:
    x: int = 1


REFUSED = [
    pytest.param(math.nan, "nan", id="NaN"),
    pytest.param(math.inf, "inf", id="infinity"),
    pytest.param(-math.inf, "-inf", id="minus-infinity"),
    pytest.param(b"x", "bytes", id="bytes"),
    pytest.param(bytearray(b"x"), "bytearray", id="bytearray"),
    pytest.param(memoryview(b"x"), "memoryview", id="memoryview"),
    pytest.param(date(2026, 1, 1), "date", id="date"),
    pytest.param(datetime(2026, 1, 1, tzinfo=UTC), "datetime", id="datetime"),
    pytest.param(time(1), "time", id="time"),
    pytest.param(timedelta(1), "timedelta", id="timedelta"),
    pytest.param({1}, "set", id="set"),
    pytest.param(frozenset({1}), "frozenset", id="frozenset"),
    pytest.param((1, 2), "tuple", id="tuple"),
    pytest.param((), "tuple", id="empty-tuple"),
    pytest.param(Point(1, 2), "Point", id="namedtuple"),
    pytest.param({1: "x"}, "type int", id="int-key"),
    pytest.param({None: "x"}, "type NoneType", id="None-key"),
    pytest.param({True: "x"}, "type bool", id="bool-key"),
    pytest.param({1.5: "x"}, "type float", id="float-key"),
    pytest.param({(1,): "x"}, "type tuple", id="tuple-key"),
    pytest.param({Word.A: "x"}, "type Word", id="enum-key"),
    pytest.param({Text("a"): "x"}, "type Text", id="str-subclass-key"),
    pytest.param({10**5000: "x"}, "type int", id="huge-int-key"),
    pytest.param("a\ud800", "lone surrogate", id="surrogate"),
    pytest.param("\udfff\ud800", "lone surrogate", id="surrogates-the-wrong-way"),
    pytest.param({"\udc00": 1}, "lone surrogate", id="surrogate-in-a-key"),
    pytest.param(Number.ONE, "Number", id="IntEnum"),
    pytest.param(Word.A, "Word", id="StrEnum"),
    pytest.param(Plain.A, "Plain", id="Enum"),
    pytest.param(Data(), "Data", id="dataclass"),
    pytest.param(Data, "type", id="class"),
    pytest.param(Decimal("1.5"), "Decimal", id="Decimal"),
    pytest.param(uuid.UUID(int=1), "UUID", id="UUID"),
    pytest.param(Float64(1.5), "Float64", id="float-subclass"),
    pytest.param(Int(1), "Int", id="int-subclass"),
    pytest.param(Text("a"), "Text", id="str-subclass"),
    pytest.param(OrderedDict(a=1), "OrderedDict", id="OrderedDict"),
    pytest.param(defaultdict(int, a=1), "defaultdict", id="defaultdict"),
    pytest.param(1j, "complex", id="complex"),
    pytest.param(10**5000, "4299 digits", id="5000-digit-int"),
    pytest.param(-(10**5000), "4299 digits", id="minus-5000-digit-int"),
    pytest.param(object(), "object", id="object"),
    pytest.param(iter([1]), "iterator", id="iterator"),
    pytest.param(range(3), "range", id="range"),
    pytest.param({"a": 1}.keys(), "dict_keys", id="keys-view"),
    pytest.param(lambda: 1, "function", id="function"),
    pytest.param(..., "ellipsis", id="ellipsis"),
]


@pytest.mark.parametrize(("value", "name"), REFUSED)
def test_a_value_that_json_cannot_carry_is_refused_by_name_and_place(value: Any, name: str) -> None:
    adapter = ModelAdapter()
    memory = AgentMemory("a", adapter=adapter)
    for wrapped, place in (
        (value, "value"),
        ([0, {"deep": [value]}], "value[1]['deep'][0]"),
        ({"a": {"b": value}}, "value['a']['b']"),
        ([value] * 40, "value[0]"),
        ([1] * 40 + [value], "value[40]"),
        ([0.5] * 40 + [value], "value[40]"),
        (["a"] * 40 + [value, "b"], "value[40]"),
    ):
        with pytest.raises(InvalidValueError) as caught:
            memory.write("e", "k", wrapped)
        assert name in str(caught.value)
        assert str(caught.value).startswith(f"{place} ")
        assert len(str(caught.value)) < 500
        with pytest.raises(InvalidValueError):
            memory.update("e", "k", lambda _, wrapped=wrapped: wrapped)
        with pytest.raises(InvalidValueError):
            memory.write_many(
                [
                    {"entity_path": "e", "key": "good", "value": 1},
                    {"entity_path": "e", "key": "k", "value": wrapped},
                ]
            )
    assert list(adapter.list("")) == []


@pytest.mark.parametrize(
    "long",
    [
        [number / 7 for number in range(1000)],
        [1e308] * 40,  # their sum is infinite
        [1e308, -1e308, 0.1] * 20,
        [5e-324, -0.0] * 20,
        list(range(-500, 500)),
        [10**4299 - 1, 1 - 10**4299] * 20,
        ["ascii"] * 40,
        ["été", "漢", "😀", ""] * 10,
        [True, False] * 20,
        [1, 1.0, True, None, "1", [1]] * 10,
        [[1] * 20, [0.5] * 20] * 20,
    ],
    ids=lambda long: f"{long[0]!r:.12}",
)
def test_long_lists_come_back_as_they_are_and_share_nothing(long: list[Any]) -> None:
    memory = AgentMemory("a", adapter=ModelAdapter())
    value = {"list": long[:]}
    entry = memory.write("e", "k", value)
    value["list"].append("later")
    for result in (entry, AgentMemory("b", adapter=memory.adapter).read("e", "k")):
        assert result is not None
        assert list(map(repr, result.value["list"])) == list(map(repr, long))


def nested(kind: type, depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if kind is list else {"a": value}
    return value


@pytest.mark.parametrize("kind", [list, dict])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 10_000, 100_000])
def test_an_absurdly_deep_value_is_refused_by_name(kind: type, depth: int) -> None:
    adapter = ModelAdapter()
    with pytest.raises(InvalidValueError, match=f"deeper than {MAX_DEPTH} levels"):
        AgentMemory("a", adapter=adapter).write("e", "k", nested(kind, depth))
    assert list(adapter.list("")) == []


@pytest.mark.parametrize("kind", [list, dict])
def test_a_value_of_the_greatest_depth_comes_back(kind: type) -> None:
    adapter = ModelAdapter()
    value = nested(kind, MAX_DEPTH)
    AgentMemory("a", adapter=adapter).write("e", "k", value)
    read = AgentMemory("a", adapter=adapter).read("e", "k")
    assert read is not None
    assert read.value == value


def test_a_circular_value_is_refused_by_name_and_place() -> None:
    loop: list[Any] = [1]
    loop.append({"again": loop})
    knot: dict[str, Any] = {}
    knot["self"] = knot
    with pytest.raises(InvalidValueError, match=r"^value\[1\]\['again'\] contains itself"):
        copied(loop)
    with pytest.raises(InvalidValueError, match=r"^value\['self'\] contains itself"):
        copied(knot)


def test_a_value_that_is_shared_is_not_circular() -> None:
    shared = {"x": [1]}
    assert copied([shared, shared]) == [shared, shared]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"tags": ["ok", "\ud800"]}, r"tags\[1\]"),
        ({"tags": "text"}, "tags"),
        ({"tags": [1]}, r"tags\[0\]"),
        ({"tags": [""]}, r"tags\[0\]"),
        ({"tags": [Word.A]}, r"tags\[0\]"),
        ({"tags": None}, "tags"),
        ({"pattern_refs": [b"x"]}, r"pattern_refs\[0\]"),
        ({"confidence": 1.1}, "confidence"),
        ({"confidence": -0.1}, "confidence"),
        ({"confidence": math.nan}, "confidence"),
        ({"confidence": "1"}, "confidence"),
        ({"confidence": True}, "confidence"),
        ({"confidence": None}, "confidence"),
        ({"confidence": 10**400}, "confidence"),
        ({"confidence": 10**5000}, "confidence"),
        ({"memory_type": "opinion"}, "memory_type"),
        ({"memory_type": None}, "memory_type"),
        ({"memory_type": enum.StrEnum("Kind", {"FACT": "fact"}).FACT}, "memory_type"),
        ({"memory_type": ["fact"]}, "memory_type"),
        ({"memory_type": 10**5000}, "memory_type"),
        ({"ttl": 0}, "ttl"),
        ({"ttl": -1}, "ttl"),
        ({"ttl": timedelta(-1)}, "ttl"),
        ({"ttl": math.inf}, "ttl"),
        ({"ttl": 1e300}, "ttl"),
        ({"ttl": 10**400}, "ttl"),
        ({"ttl": "1"}, "ttl"),
        ({"expected_version": -1}, "expected_version"),
        ({"expected_version": 1.0}, "expected_version"),
        ({"expected_version": True}, "expected_version"),
        ({"expected_version": 10**5000}, "expected_version"),
    ],
)
def test_an_argument_out_of_its_range_is_refused_by_name(
    arguments: dict[str, Any], name: str
) -> None:
    adapter = ModelAdapter()
    with pytest.raises(InvalidValueError, match=name):
        AgentMemory("a", adapter=adapter).write("e", "k", 1, **arguments)
    assert list(adapter.list("")) == []


@pytest.mark.parametrize(
    "version", [0, -1, 1.0, True, "1", 10**10, 10**300, pytest.param(10**5000, id="5000-digits")]
)
def test_a_version_that_cannot_be_is_refused_by_name(version: Any) -> None:
    memory = AgentMemory("a", adapter=ModelAdapter())
    with pytest.raises(InvalidValueError, match="version"):
        memory.read("e", "k", version=version)
    assert sum(memory.metrics.requests.values()) == 0


@pytest.mark.parametrize("at", [datetime(2026, 1, 1), "2026-01-01", 1.0, date(2026, 1, 1)])
def test_a_time_without_a_zone_or_of_another_type_is_refused(at: Any) -> None:
    with pytest.raises(InvalidValueError, match="at"):
        AgentMemory("a", adapter=ModelAdapter()).read("e", "k", at=at)


def test_the_largest_whole_number_that_python_reads_back_is_kept() -> None:
    largest = 10**4299 - 1
    assert copied([largest, -largest]) == [largest, -largest]
    with pytest.raises(InvalidValueError, match="4299 digits"):
        copied(largest + 1)
