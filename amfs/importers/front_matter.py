"""The YAML at the beginning of a note, between two lines of three dashes.

It is read as YAML 1.2's schema for JSON has it: `true`, `null` and JSON's numbers are what they
say, and any other scalar is the text that stands there, so that a date, `12:30` or `0042` stays as
it is. What would be lost, or could grow beyond all bounds, is refused: a name that is there twice,
aliases, and tags.
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
"""Longest front matter that is read: its parser takes a second for so much."""

_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "seq", "map")}


def split(note: str) -> tuple[dict[str, Any] | None, str]:
    """Return the front matter of a note, and the text that follows it.

    A note without one, or whose dashes enclose no names, is text as a whole, and its front matter
    None. Raises `InvalidValueError`, which names the line, for YAML that is wrong or cannot be kept
    exactly.
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
    """Makes plain data of nodes."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in node.value:
            if not isinstance(name, yaml.ScalarNode):
                _refuse(name, "a name must be plain text")
            if name.value in found:
                _refuse(name, f"the name {name.value!r:.80} is there twice, and one would be lost")
            found[name.value] = self._value(value)
        return found

    def _value(self, node: yaml.Node) -> Any:
        if id(node) in self._seen:
            _refuse(node, "an alias stands for it in another place; write it there once more")
        self._seen.add(id(node))
        if node.tag not in _TAGS:
            _refuse(node, f"the tag {node.tag} is not of JSON")
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(one) for one in node.value]
        return self._scalar(node)

    def _scalar(self, node: yaml.Node) -> Any:
        text: str = node.value
        if getattr(node, "style", None):  # it is in quotes, or a block
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
    return f"line {mark.line + 2}"  # counted from 0, after the line of dashes
