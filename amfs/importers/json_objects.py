"""Finding the objects in a JSON document that is too large to be parsed as a whole.

A document is a list of objects, an object with such a list under a name, or a single object. It is
split at its brackets alone, in one pass. `strict_json` parses each piece, so one invalid piece does
not affect the others.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator

from amfs_core.errors import InvalidValueError
from amfs_core.format import strict_json

Document = bytes | mmap.mmap

# Before a bracket come words and strings; brackets within strings do not count.
_BRACKET = re.compile(rb'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+")*+([\[\]{}])', re.DOTALL)


def objects(document: Document, name: bytes) -> Iterator[bytes]:
    """Yield the text of each object in the document's list, which may be under `name` in an object.

    A document without such a list is yielded whole. Raises `InvalidValueError` where the document
    stops being JSON, possibly only at its end.
    """
    is_named = re.compile(rb'(?:^|[,\s])"%s"\s*:\s*\Z' % re.escape(name))
    depth = 0
    inside: int | None = None  # the depth of the list's objects
    begun = done = 0  # the start of the current object, and the end of what has been read
    head = b""
    for at, bracket in _brackets(document):
        if bracket in b"[{":
            if depth == inside:
                _expect(b"," if begun else b"", document[done:at])
                begun = at
            depth += 1
            is_list = bracket == b"[" and inside is None
            if is_list and (depth == 1 or (depth == 2 and is_named.search(document[done:at]))):
                inside, head = depth, document[:at]
                done = at + 1
        else:
            depth -= 1
            if depth == inside:
                yield document[begun : at + 1]
            elif inside is not None and depth == inside - 1:
                _expect(b"]", document[done : at + 1])
                strict_json.from_bytes(head + b"[]" + document[at + 1 :])
                return
        if inside is None or depth == inside:
            done = at + 1
    if inside is not None or depth:
        raise InvalidValueError("it ends in the middle of JSON")
    yield document[:]


def is_whole(text: bytes) -> bool:
    """True if the text has at least one bracket and closes every bracket that it opens."""
    brackets = [bracket for _, bracket in _brackets(text)]
    opened = sum(bracket in b"[{" for bracket in brackets)
    return opened > 0 and 2 * opened == len(brackets)


def _brackets(document: Document) -> Iterator[tuple[int, bytes]]:
    position = 0
    while match := _BRACKET.match(document, position):
        position = match.end()
        yield position - 1, match[1]


def _expect(mark: bytes, between: bytes) -> None:
    if between.strip() != mark:
        raise InvalidValueError(f"{between.strip()[:40]!r} is between two objects of a list")
