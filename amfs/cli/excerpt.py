"""The part of a value that a search found, on one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from amfs.cli import output
from amfs_core.ranking import terms

_LENGTH = 200
_BEFORE = 24
"""Characters that may stand before the first match: few, as what does not fit is cut behind it."""

_WORD = re.compile(r"[^\s!-&(-,/:-@\[-^`{-~]+")
_JSON_SPACE = re.compile(r"(?<!\\)((?:\\\\)*)\\[nrt]")


class Matches:
    """The words of a query, as the search compares them."""

    def __init__(self, query: str) -> None:
        self._wanted = frozenset(terms.query_terms(query))

    def spans(self, line: str) -> Iterator[tuple[int, int]]:
        """Yield where a line has words that the query asks for."""
        if not self._wanted:
            return
        for found in _WORD.finditer(line):
            word = found[0].strip(".-'’")
            start = found.start() + found[0].find(word)
            hits = self._wanted.intersection(terms.terms(word))
            # In scripts without spaces a word of the query stands inside a longer run.
            inside = [one for one in hits if not one.isascii() and one in word.lower()]
            if inside:
                for part in re.finditer("|".join(map(re.escape, inside)), word, re.IGNORECASE):
                    yield start + part.start(), start + part.end()
            elif hits:
                yield start, start + len(word)

    def excerpt(self, value: Any) -> str:
        """Return the value around its first matching word, safe on a terminal; else its start."""
        line = _on_one_line(value)
        start = next((first for first, _ in self.spans(line)), 0) - _BEFORE
        if start <= 0:
            return _cut(line)
        start = line.find(" ", start, start + _BEFORE) + 1 or start
        return "…" + _cut(line[start:])


def _on_one_line(value: Any) -> str:
    if isinstance(value, str):
        return output.plain(" ".join(value.split()))
    return _JSON_SPACE.sub(r"\1 ", output.compact(value))


def _cut(line: str) -> str:
    return line if len(line) <= _LENGTH else line[: _LENGTH - 1] + "…"
