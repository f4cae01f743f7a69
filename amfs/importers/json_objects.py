"""Where the objects are in a JSON document that is too large to be read as a whole.

A document is a list of objects, an object with such a list under a name, or one object. It is cut
by its brackets alone, in one pass. What the pieces say is for `strict_json` to judge, so one that
cannot be kept does not spoil the others.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator

from amfs_core.errors import InvalidValueError
from amfs_core.format import strict_json

Document = bytes | mmap.mmap

# What is before a bracket is words, or strings, whose brackets are not the document's.
_BRACKET = re.compile(rb'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+")*+([\[\]{}])', re.DOTALL)


def objects(document: Document, name: bytes) -> Iterator[bytes]:
    """Yield the text of each object of a list, which may be under a name in an object.

    A document without such a list is yielded as it is. Raises `InvalidValueError` where the
    document stops being JSON, which may be at its end.
    """
    is_named = re.compile(rb'(?:^|[,\s])"%s"\s*:\s*\Z' % re.escape(name))
    depth = 0
    inside: int | None = None  # how deep the list's objects are
    begun = done = 0  # where an object begins, and up to where all is read
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
    """True for text that opens something, and closes all that it opens."""
    brackets = [bracket for _, bracket in _brackets(text)]
    opened = sum(bracket in b"[{" for bracket in brackets)
    return opened > 0 and 2 * opened == len(brackets)


def _brackets(document: Document) -> Iterator[tuple[int, bytes]]:
    position = 0
    while found := _BRACKET.match(document, position):
        position = found.end()
        yield position - 1, found[1]


def _expect(mark: bytes, found: bytes) -> None:
    if found.strip() != mark:
        raise InvalidValueError(f"{found.strip()[:40]!r} is between two objects of a list")
