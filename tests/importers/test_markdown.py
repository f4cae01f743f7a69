"""A directory of Markdown notes, as people have them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from amfs.importers import front_matter
from amfs_core.errors import InvalidValueError
from amfs_core.memory import AgentMemory
from tests.importers.conftest import Import, reasons, states, values


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    directory = tmp_path / "vault"
    directory.mkdir()
    return directory


def write(notes: Path, name: str, text: str | bytes) -> Path:
    path = notes / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_notes_become_memories_of_their_directories(
    memory: AgentMemory, imported: Import, notes: Path
) -> None:
    write(notes, "index.md", "# All\n")
    write(notes, "ideas/tea ceremony.md", "---\ntags: [tea, japan]\ndate: 2026-11-27\n---\nSlow.\n")
    write(notes, "ideas/50% off/.hidden.markdown", "dot")
    write(notes, "日記/v1.json.MD", "ü")
    write(notes, ".obsidian/x.md", "not a note")
    write(notes, "ideas/picture.png", b"\xff")
    assert states(imported("markdown", notes)) == ["new"] * 4
    assert values(memory) == {
        ("notes", "index"): {"text": "# All\n"},
        ("notes/ideas", "tea ceremony"): {
            "text": "Slow.\n",
            "front_matter": {"tags": ["tea", "japan"], "date": "2026-11-27"},
        },
        ("notes/ideas/50% off", ".hidden"): {"text": "dot"},
        ("notes/日記", "v1.json"): {"text": "ü"},
    }
    (hit,) = memory.search(tags=["tea"])
    assert hit.entry.key == "tea ceremony"
    assert states(imported("markdown", notes)) == ["unchanged"] * 4


def test_a_note_that_was_edited_becomes_a_version_and_one_that_is_gone_stays(
    memory: AgentMemory, imported: Import, notes: Path
) -> None:
    write(notes, "a.md", "one")
    write(notes, "b.md", "one")
    imported("markdown", notes, into="vault")
    os.utime(write(notes, "a.md", "one"))
    write(notes, "b.md", "two")
    done = imported("markdown", notes, into="vault")
    assert [(result.place, result.state) for result in done] == [
        ("a.md", "unchanged"),
        ("b.md", "changed"),
    ]
    (notes / "b.md").unlink()
    assert states(imported("markdown", notes, into="vault")) == ["unchanged"]
    assert memory.read("vault", "b") is not None


def test_notes_that_cannot_be_memories_are_refused_by_file(imported: Import, notes: Path) -> None:
    write(notes, "latin.md", "\xfc".encode("latin-1"))
    write(notes, "same.md", "one")
    write(notes, "same.markdown", "two")
    write(notes, "twice.md", "---\na: 1\nb: 2\na: 3\n---\n")
    write(notes, "dir/large.md", "x" * 20_000_000)
    (notes / "gone.md").symlink_to("nowhere")
    os.makedirs(os.fsencode(notes) + b"/\xff")
    with open(os.fsencode(notes) + b"/\xff/odd.md", "w") as odd:
        odd.write("text")
    refused = reasons(imported("markdown", notes))
    said = {
        "latin.md": "byte 1 is not UTF-8",
        "same.md": "same.markdown is another record of the same memory",
        "twice.md": "line 4: the name 'a' is there twice",
        "dir/large.md": "16,777,216",
        "gone.md": "No such file",
        "\udcff/odd.md": "surrogate",
    }
    assert set(refused) == set(said)
    for place, words in said.items():
        assert words in str(refused[place])


def test_a_note_in_no_directory_needs_a_path(imported: Import, notes: Path) -> None:
    write(notes, "root.md", "text")
    write(notes, "dir/note.md", "text")
    done = imported("markdown", notes, into="")
    assert states(done) == ["refused", "new"]
    assert "--into" in str(reasons(done)["root.md"])


def test_what_is_not_a_directory_is_an_error(imported: Import, notes: Path) -> None:
    with pytest.raises(FileNotFoundError):
        imported("markdown", notes / "absent")
    with pytest.raises(NotADirectoryError):
        imported("markdown", write(notes, "a.md", "text"))


# -- front matter ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("note", "matter", "text"),
    [
        ("plain", None, "plain"),
        ("", None, ""),
        ("---", None, "---"),
        ("---\n", None, "---\n"),
        ("---\nno end", None, "---\nno end"),
        ("---\njust words\n---\nrest", None, "---\njust words\n---\nrest"),
        ("---\n---\nrest", None, "---\n---\nrest"),
        ("a\n---\nb: 1\n---\n", None, "a\n---\nb: 1\n---\n"),
        ("---\na: 1\n---", {"a": 1}, ""),
        ("---\na: 1\n...\nrest\n", {"a": 1}, "rest\n"),
        ("--- \r\na: x\r\n---\r\nrest\r\n", {"a": "x"}, "rest\r\n"),
        ("---\na: |\n  one\n\n  two\n---\n\n---\nb: 1\n", {"a": "one\n\ntwo\n"}, "\n---\nb: 1\n"),
    ],
)
def test_front_matter_is_what_stands_between_dashes_at_the_beginning(
    note: str, matter: dict[str, Any] | None, text: str
) -> None:
    assert front_matter.split(note) == (matter, text)


@pytest.mark.parametrize(
    ("yaml", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("false", False),
        ("yes", "yes"),
        ("off", "off"),
        ("7", 7),
        ("-0.5", -0.5),
        ("1e3", 1000.0),
        ("12345678901234567890123", 12345678901234567890123),
        ("0042", "0042"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("12:30:45", "12:30:45"),
        ("2026-11-27", "2026-11-27"),
        ("2026-11-27 10:00:00 +01:00", "2026-11-27 10:00:00 +01:00"),
        (".nan", ".nan"),
        ("'7'", "7"),
        ('"true"', "true"),
        ("[1, two, {three: 3}]", [1, "two", {"three": 3}]),
        ("\n  b:\n  - x\n  - ''", {"b": ["x", ""]}),
        ("<<", "<<"),
        (">-\n  one\n  two", "one two"),
    ],
)
def test_scalars_are_what_json_has_or_the_text_that_stands_there(yaml: str, value: Any) -> None:
    assert front_matter.split(f"---\na: {yaml}\n---\n") == ({"a": value}, "")


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        ("a: [1", "line 3: not YAML"),
        ("a: 1\nb: {a: 1, a: 2}", "line 3: the name 'a' is there twice"),
        ("a: &x [1]\nb: *x", "an alias"),
        ("a: *x", "not YAML"),
        ("a: &x [*x]", "an alias"),
        ("a: !!int '1'", "the tag tag:yaml.org,2002:int"),
        ("a: !!python/object:os.system x", "the tag"),
        ("? [1]\n: 2", "a name must be plain text"),
        ("a: 0.1234567890123456789", "line 2: the number"),
        ("a: \x07", "not YAML"),
        (f"a: {'x' * 70_000}", "longer than 65,536"),
        (f"a: {'[' * 700}{']' * 700}", "nested too deep"),
    ],
)
def test_front_matter_that_cannot_be_kept_is_refused(yaml: str, words: str) -> None:
    with pytest.raises(InvalidValueError) as raised:
        front_matter.split(f"---\n{yaml}\n---\n")
    assert words in raised.value.reason


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("[tea, 2026]", ("tea", "2026")),
        ("tea, japan", ("tea", "japan")),
        ("tea japan", ("tea", "japan")),
        ("", ()),
        ("{a: 1}", ()),
        ("[true, [x], ok]", ("ok",)),
    ],
)
def test_tags_of_the_front_matter_are_tags(
    memory: AgentMemory, imported: Import, notes: Path, tags: str, expected: tuple[str, ...]
) -> None:
    write(notes, "a.md", f"---\ntags: {tags}\n---\n")
    imported("markdown", notes)
    entry = memory.read("notes", "a")
    assert entry is not None and entry.tags == expected
