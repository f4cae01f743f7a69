"""Where the memories are in a JSON document that is too large to be read as a whole.

A document is a list of objects, an object with such a list under a name, or one object. It is cut
by its marks alone, in one pass. What the pieces say is for `strict_json` to judge, so one that
cannot be kept does not spoil the others.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator

from amfs_core.errors import InvalidValueError
from amfs_core.format import strict_json

Document = bytes | mmap.mmap

_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)
_COLON = re.compile(rb"[ \t\r\n]*:")
_OPEN, _CLOSE = b"[{", b"]}"


def objects(document: Document, name: bytes) -> Iterator[bytes]:
    """Yield the text of each object of a list, which may be under a name in an object.

    A document without such a list is yielded as it is.

    Raises `InvalidValueError` where the document stops being JSON, which may be at its end.
    """
    depth = 0
    inside: int | None = None  # how deep the list's objects are
    is_named = False
    begun = done = 0  # where an object begins, and up to where all is read
    head = b""
    quoted = b'"%s"' % name
    for token in _TOKEN.finditer(document):
        at, end = token.span()
        mark = document[at : at + 1]
        if mark == b'"':
            is_named = (
                depth == 1
                and inside is None
                and document[at:end] == quoted
                and _COLON.match(document, end) is not None
            )
        elif mark in _OPEN:
            if depth == inside:
                _expect(b"," if begun else b"", document[done:at])
                begun = at
            depth += 1
            if inside is None and mark == b"[" and (depth == 1 or is_named):
                inside, head, done = depth, document[:at], end
            is_named = False
        else:
            depth -= 1
            if depth == inside:
                yield document[begun:end]
                done = end
            elif inside is not None and depth == inside - 1:
                _expect(b"]", document[done:end])
                strict_json.from_bytes(head + b"[]" + document[end:])
                return
    if inside is not None or depth:
        raise InvalidValueError("it ends in the middle of JSON")
    yield document[:]


def is_whole(text: bytes) -> bool:
    """True for text that opens something, and closes all that it opens."""
    marks = [found[0] for found in _TOKEN.finditer(text) if not found[0].startswith(b'"')]
    opened = sum(mark in _OPEN for mark in marks)
    return opened > 0 and 2 * opened == len(marks)


def _expect(mark: bytes, found: bytes) -> None:
    if found.strip() != mark:
        raise InvalidValueError(f"{found.strip()[:40]!r} is between two objects of a list")
