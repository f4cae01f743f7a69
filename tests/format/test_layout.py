"""The public layout: names become object keys and back, exactly, and never leave the root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from amfs_core.errors import AMFSError, ConfigurationError, InvalidKeyError
from amfs_core.format.names import (
    MAX_OBJECT_KEY_BYTES,
    MAX_PREFIX_BYTES,
    MAX_SEGMENT_BYTES,
    Layout,
    checked_prefix,
    escape,
    unescape,
)
from amfs_local import LocalAdapter

# Text made mostly of what the escaping looks at, and any other text.
AWKWARD = st.text(
    st.sampled_from('%/\\.. v1json<>:"|?*\x00\x1f\x7f\x85\u2028\ufffe2EFfAa😀é\ud800'), max_size=12
)
ANY_TEXT = st.one_of(AWKWARD, st.text(st.characters(), max_size=300), st.text(max_size=20))
LAYOUT = Layout("default")


def escaped_or_none(text: str) -> str | None:
    try:
        return escape(text)
    except InvalidKeyError:
        return None


@given(ANY_TEXT)
@example("v1.json")
@example("V01.JSON")
@example("..")
@example("%2E")
@example(" ")
@settings(max_examples=1000, deadline=None)
def test_a_name_comes_back_exactly_or_is_refused(text: str) -> None:
    escaped = escaped_or_none(text)
    if escaped is not None:
        assert unescape(escaped) == text
        return
    lone = any("\ud800" <= character <= "\udfff" for character in text)
    assert not text or lone or len(text.encode(errors="replace")) * 3 > MAX_SEGMENT_BYTES


@given(ANY_TEXT)
@example(".")
@example("..")
@example("a.")
@example("v1.json")
@settings(max_examples=1000, deadline=None)
def test_a_segment_is_a_safe_file_name_everywhere(text: str) -> None:
    escaped = escaped_or_none(text)
    assume(escaped is not None)
    assert escaped
    assert len(escaped.encode()) <= MAX_SEGMENT_BYTES
    assert not set(escaped) & set('/\\<>:"|?*')
    assert all(character >= " " and not "\x7f" <= character <= "\x9f" for character in escaped)
    assert not escaped.startswith((".", " "))
    assert not escaped.endswith((".", " "))
    folded = escaped.lower()
    assert not (folded.startswith("v") and folded.endswith(".json") and folded[1:-5].isdecimal())


@pytest.mark.slow
@given(ANY_TEXT, ANY_TEXT)
@settings(max_examples=1000, deadline=None)
def test_different_names_are_different_segments(one: str, other: str) -> None:
    assume(one != other)
    escaped = escaped_or_none(one)
    assume(escaped is not None)
    assert escaped != escaped_or_none(other)


@pytest.mark.slow
@given(st.one_of(AWKWARD, st.text(st.characters(), max_size=40)))
@example("%2e")
@example("%41")
@example("%")
@example("%C3")
@example("v1.json")
@settings(max_examples=1000, deadline=None)
def test_only_what_escape_makes_is_a_segment(segment: str) -> None:
    name = unescape(segment)
    if name is not None:
        assert escape(name) == segment


@pytest.mark.parametrize(
    ("name", "segment"),
    [
        ("checkout-service", "checkout-service"),
        ("a b", "a b"),
        ("Grüße, 漢字 😀", "Grüße, 漢字 😀"),
        ("-_.~+=@,", "-_.~+=@,"),
        ("100%", "100%25"),
        ("a/b", "a%2Fb"),
        ("a\\b", "a%5Cb"),
        (".hidden", "%2Ehidden"),
        ("..", "%2E%2E"),
        (".", "%2E"),
        ("end.", "end%2E"),
        ("end ", "end%20"),
        ("v1.json", "v1%2Ejson"),
        ("v007.json", "v007%2Ejson"),
        ("v1.json.bak", "v1.json.bak"),
        ("a\x00b\n", "a%00b%0A"),
        ('<>:"|?*', "%3C%3E%3A%22%7C%3F%2A"),
        ("\u2028", "%E2%80%A8"),
    ],
)
def test_the_published_escaping_does_not_change(name: str, segment: str) -> None:
    assert escape(name) == segment
    assert unescape(segment) == name


@pytest.mark.slow
@given(st.lists(ANY_TEXT, min_size=1, max_size=4), ANY_TEXT, st.integers(1, 9_999_999_999))
@settings(max_examples=500, deadline=None)
def test_parse_inverts_object_key(names: list[str], key: str, version: int) -> None:
    try:
        address = LAYOUT.address("/".join(names), key)
    except InvalidKeyError:
        assume(False)
    object_key = address.object_key(version)
    assert LAYOUT.parse(object_key) == (address, version)
    assert len(object_key.encode()) <= MAX_OBJECT_KEY_BYTES - MAX_PREFIX_BYTES
    pair = LAYOUT.parse(object_key)
    assert pair is not None
    assert pair[0].prefix == address.prefix


@pytest.mark.slow
@given(ANY_TEXT, ANY_TEXT)
@settings(max_examples=300, deadline=None)
def test_no_file_is_ever_outside_the_root(
    tmp_path_factory: pytest.TempPathFactory, entity: str, key: str
) -> None:
    try:
        object_key = LAYOUT.address(entity, key).object_key(1)
    except InvalidKeyError:
        assume(False)
    around = tmp_path_factory.mktemp("around")
    root = around / "root"
    LocalAdapter(root, durability="none").create(object_key, b"body")
    assert [path.name for path in around.iterdir()] == ["root"]
    files = [os.path.join(path, name) for path, _, names in os.walk(root) for name in names]
    assert files == [str(root / object_key)]
    assert os.path.realpath(files[0]) == files[0]


@pytest.mark.parametrize(
    "object_key",
    [
        "",
        "default/entries/",
        "default/entries/e/v1.json",
        "default/entries/e/k/v0.json",
        "default/entries/e/k/v01.json",
        "default/entries/e/k/V1.json",
        "default/entries/e/k/v1.JSON",
        "default/entries/e/k/v1",
        "default/entries/e/k/v-1.json",
        "default/entries/e/k/v１.json",
        "default/entries/e/k/v1.json/",
        "default/entries/e//v1.json",
        "default/entries//k/v1.json",
        "default/entries/e/%6B/v1.json",
        "default/entries/e/k%2/v1.json",
        "default/entries/e/k%ff/v1.json",
        "default/entries/../k/v1.json",
        "default/entries/.e/k/v1.json",
        "default/outcomes/e/k/v1.json",
        "other/entries/e/k/v1.json",
        "default/entries/e/k/v99999999999.json",
        "default/entries/e/k/v" + "9" * 5000 + ".json",
    ],
)
def test_a_key_that_the_layout_never_makes_is_foreign(object_key: str) -> None:
    assert LAYOUT.parse(object_key) is None


def test_a_segment_of_255_bytes_is_allowed_and_of_256_refused() -> None:
    assert escape("x" * 255) == "x" * 255
    assert escape("%" * 85) == "%25" * 85
    for text in ("x" * 256, "%" * 86, "é" * 128, "😀" * 64):
        with pytest.raises(InvalidKeyError, match=r"takes 25[68] bytes"):
            escape(text)


def test_an_object_key_fits_s3_under_the_longest_prefix_or_is_refused() -> None:
    fits = LAYOUT.address("/".join(["e" * 200] * 4), "k" * 59)
    size = len(fits.object_key(9_999_999_999))
    assert size + MAX_PREFIX_BYTES == MAX_OBJECT_KEY_BYTES
    with pytest.raises(InvalidKeyError, match="limit is 896") as caught:
        LAYOUT.address("/".join(["e" * 200] * 4), "k" * 60)
    assert caught.value.key == "k" * 60


@pytest.mark.parametrize("entity", ["", "/", "a/", "/a", "a//b"])
def test_an_empty_segment_is_refused(entity: str) -> None:
    with pytest.raises(InvalidKeyError, match="empty"):
        LAYOUT.address(entity, "k")


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize("name", [None, 1, b"k", ["k"], Text("k"), Path("k")])
def test_a_name_that_is_not_exactly_text_is_refused(name: object) -> None:
    for call in (
        lambda: LAYOUT.address("e", name),  # type: ignore[arg-type]
        lambda: LAYOUT.address(name, "k"),  # type: ignore[arg-type]
        lambda: Layout(name),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidKeyError, match="must be text"):
            call()


def test_a_key_with_a_slash_is_not_a_deeper_entity_path() -> None:
    assert LAYOUT.address("a", "b/c").prefix != LAYOUT.address("a/b", "c").prefix


@pytest.mark.parametrize("prefix", ["/", "/a", "a//b", "../a", "a/./b", "x" * 200])
def test_a_prefix_that_is_not_names_joined_by_slashes_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="prefix"):
        checked_prefix(prefix)


def test_every_layout_error_is_an_amfs_error() -> None:
    assert issubclass(InvalidKeyError, AMFSError)
