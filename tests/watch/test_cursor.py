"""The cursor of a watch: exact, bound to its path, and short."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amfs_core.errors import InvalidKeyError, InvalidValueError
from amfs_core.format.names import MAX_VERSION, escape
from amfs_core.watch import cursor
from tests.support.naughty import NAUGHTY


def _escapable(name: str) -> bool:
    try:
        return bool(escape(name))
    except InvalidKeyError:
        return False


_segments = st.sampled_from([escape(name) for name in NAUGHTY if _escapable(name)]) | st.text(
    min_size=1, max_size=8
).filter(_escapable).map(escape)
_names = st.lists(_segments, min_size=2, max_size=4).map("/".join)
_delivered = st.dictionaries(_names, st.integers(1, MAX_VERSION), max_size=30)
_paths = st.none() | st.sampled_from(["e", "e/f", "日本語", 'a "quoted"\nname'])


@given(delivered=_delivered, namespace=st.sampled_from(["default", "ü/\t"]), path=_paths)
def test_a_cursor_says_exactly_what_was_delivered(
    delivered: dict[str, int], namespace: str, path: str | None
) -> None:
    text = cursor.encode(namespace, path, delivered)
    assert cursor.decode(text, namespace, path) == delivered
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


def test_a_cursor_of_nothing_is_short() -> None:
    assert len(cursor.encode("default", None, {})) < 60


def test_a_cursor_of_another_path_or_namespace_is_refused_by_name() -> None:
    text = cursor.encode("default", "e", {"k": 1})
    with pytest.raises(InvalidValueError, match=r"'e' in namespace 'default', not to 'e/f'"):
        cursor.decode(text, "default", "e/f")
    with pytest.raises(InvalidValueError, match="not to everything"):
        cursor.decode(text, "default", None)
    with pytest.raises(InvalidValueError, match="namespace 'other'"):
        cursor.decode(text, "other", "e")


@given(cut=st.integers(0, 200), put=st.sampled_from(["", "A", "-", "é", "=", " ", "\n", "."]))
def test_a_cursor_that_was_cut_or_changed_is_refused(cut: int, put: str) -> None:
    text = cursor.encode("default", "e", {f"key-{number}": number for number in range(1, 40)})
    place = cut % len(text)
    for changed in (text[:place] + put, text[:place] + put + text[place + 1 :], text + put):
        if changed != text:
            with pytest.raises(InvalidValueError):
                cursor.decode(changed, "default", "e")


@pytest.mark.parametrize("text", ["", "garbage", "1", "1.", ".x", "1.AAAA", "0.AAAA", "v1.json"])
def test_an_invalid_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidValueError):
        cursor.decode(text, "default", None)


def test_a_cursor_of_a_newer_format_says_so() -> None:
    text = cursor.encode("default", None, {})
    with pytest.raises(InvalidValueError, match="use a newer AMFS"):
        cursor.decode("2" + text[1:], "default", None)


def test_ten_thousand_memories_take_less_than_60_kilobytes() -> None:
    dice = random.Random(7)
    services = ("checkout", "payment", "search", "inventory", "billing", "gateway", "shipping")
    topics = ("retry-pattern", "timeout-budget", "known-bug", "runbook", "cache-ttl", "owner")
    people = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi")
    delivered: dict[str, int] = {}
    while len(delivered) < 10_000:
        place = f"{dice.choice(services)}-service-{dice.randrange(40)}"
        person = f"users/{dice.choice(people)}-{dice.randrange(2000)}"
        name = f"{dice.choice((place, person))}/{dice.choice(topics)}-{dice.randrange(100)}"
        delivered[name] = min(int(dice.expovariate(0.3)) + 1, 1000)
    assert len(cursor.encode("default", None, delivered)) < 60_000


def test_names_of_random_bits_take_little_more_than_the_bits() -> None:
    dice = random.Random(7)
    delivered = {f"sessions/{dice.getrandbits(128):032x}": 1 for _ in range(10_000)}
    assert len(cursor.encode("default", None, delivered)) < 10_000 * 26
