"""A one-line excerpt of a value, around the words that a search matched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from amfs.cli import output
from amfs_core.ranking import terms

_LENGTH = 200
_BEFORE = 24
"""Most characters shown before the first match: few, because an excerpt that is too long loses its
end."""

_WORD = re.compile(r"[^\s!-&(-,/:-@\[-^`{-~]+")
_JSON_SPACE = re.compile(r"(?<!\\)((?:\\\\)*)\\[nrt]")


class Matches:
    """The words of a query, normalized as the search normalizes them."""

    def __init__(self, query: str) -> None:
        self._wanted = frozenset(terms.query_terms(query))

    def spans(self, line: str) -> Iterator[tuple[int, int]]:
        """Yield the start and end of each word in the line that matches the query."""
        if not self._wanted:
            return
        for match in _WORD.finditer(line):
            word = match[0].strip(".-'’")
            start = match.start() + match[0].find(word)
            hits = self._wanted.intersection(terms.terms(word))
            # In scripts without spaces, a word of the query is part of a longer run of characters.
            inside = [term for term in hits if not term.isascii() and term in word.lower()]
            if inside:
                for part in re.finditer("|".join(map(re.escape, inside)), word, re.IGNORECASE):
                    yield start + part.start(), start + part.end()
            elif hits:
                yield start, start + len(word)

    def excerpt(self, value: Any) -> str:
        """Return the text around the first match, or the start without one; safe on a terminal."""
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
