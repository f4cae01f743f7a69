"""The YAML at the beginning of a note, between two lines of three dashes.

Scalars follow the JSON schema of YAML 1.2: `true`, `null` and JSON's numbers have their meaning,
and any other scalar is text, so a date, `12:30` or `0042` stays as it is. Content that would be
lost or could grow without bounds is refused: duplicate names, aliases and tags.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

import yaml

from amfs_core.errors import InvalidValueError
from amfs_core.format import strict_json

_FENCED = re.compile(
    r"---[ \t]*\r?\n(?P<yaml>(?:[^\n]*\n)*?)(?:---|\.\.\.)[ \t]*(?:\r?\n(?P<text>.*))?\Z", re.DOTALL
)
MAX_CHARACTERS = 65_536
"""The longest front matter that is read; parsing this much takes about a second."""

_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "seq", "map")}


def split(note: str) -> tuple[dict[str, Any] | None, str]:
    """Return the front matter of a note and the text that follows it.

    If a note has no front matter, or the part between the dashes is not a mapping, returns None and
    the whole note. Raises `InvalidValueError`, which names the line, for invalid YAML or YAML that
    cannot be stored exactly.
    """
    fenced = _FENCED.match(note)
    if fenced is None:
        return None, note
    if len(fenced["yaml"]) > MAX_CHARACTERS:
        raise InvalidValueError(f"its front matter is longer than {MAX_CHARACTERS:,} characters")
    try:
        node = yaml.compose(fenced["yaml"], Loader=yaml.BaseLoader)
        if not isinstance(node, yaml.MappingNode):
            return None, note
        return _Reader().mapping(node), fenced["text"] or ""
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = f"not YAML: {error.problem or error.context}"
        raise InvalidValueError(problem if mark is None else f"{_line(mark)}: {problem}") from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        reason = getattr(error, "reason", "it cannot be read")
        raise InvalidValueError(f"its front matter is not YAML: {reason}") from error
    except RecursionError as error:
        raise InvalidValueError("its front matter is nested too deep") from error


class _Reader:
    """Converts nodes to plain data."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, value in node.value:
            if not isinstance(name, yaml.ScalarNode):
                _refuse(name, "a name must be plain text")
            if name.value in values:
                _refuse(name, f"the name {name.value!r:.80} is there twice, and one would be lost")
            values[name.value] = self._value(value)
        return values

    def _value(self, node: yaml.Node) -> Any:
        if id(node) in self._seen:
            _refuse(node, "an alias refers to this part; repeat the part in place of the alias")
        self._seen.add(id(node))
        if node.tag not in _TAGS:
            _refuse(node, f"JSON has no equivalent of the tag {node.tag}")
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item) for item in node.value]
        return self._scalar(node)

    def _scalar(self, node: yaml.Node) -> Any:
        text: str = node.value
        if getattr(node, "style", None):  # quoted, or a block
            return text
        if text in _WORDS:
            return _WORDS[text]
        if not _NUMBER.fullmatch(text):
            return text
        try:
            return strict_json.parsed(text)
        except InvalidValueError as error:
            raise InvalidValueError(f"{_line(node.start_mark)}: {error.reason}") from error


def _refuse(node: yaml.Node, problem: str) -> NoReturn:
    raise InvalidValueError(f"{_line(node.start_mark)}: {problem}")


def _line(mark: yaml.Mark) -> str:
    return f"line {mark.line + 2}"  # the mark counts from 0, after the line of dashes
