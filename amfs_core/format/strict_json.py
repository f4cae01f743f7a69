"""JSON as people and other programs write it: one way to read it, for lines and for arguments.

`json.loads` keeps the last of two members with one name, and stops at what Python cannot hold. Here
text is either a value, or no JSON at all, or JSON that would be altered if it were kept.
"""

from __future__ import annotations

import json
import re
from math import isfinite
from typing import Any, NoReturn

from amfs_core.errors import InvalidValueError
from amfs_core.format.values import MAX_DEPTH

_TOKEN = re.compile(
    r"""
    [ \t\n\r]*+ (?:
        (?P<text>"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+")
      | (?P<scalar>-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+|true|false|null)
      | (?P<mark>[\[\]{},:])
    )""",
    re.VERBOSE | re.ASCII,
)
_SPACE = " \t\n\r"


def from_bytes(raw: bytes) -> Any:
    """Return the value that the bytes of a JSON text stand for.

    Raises `InvalidValueError` for all that `parsed` refuses, and for bytes that are not UTF-8.
    """
    try:
        return parsed(raw.decode())
    except UnicodeDecodeError as error:
        raise InvalidValueError(f"byte {error.start + 1} is not UTF-8") from error
    except NotJSONError as error:
        raise InvalidValueError(f"not JSON: {error}") from error


class NotJSONError(Exception):  # whoever reads says what that means
    """The text does not follow the grammar of JSON (RFC 8259); the message says where."""


def parsed(text: str) -> Any:
    """Return the value that a JSON text stands for.

    Raises `NotJSONError`, or `InvalidValueError` for JSON that cannot be kept as it is: a name
    twice in an object, a number that would be rounded, a whole number too long for Python, nesting
    too deep to be read. A fraction is kept when the shortest text of the nearest double stands for
    the same decimal number: `0.1`, `1.50` and `1e2` are, `0.1234567890123456789` is not.
    """
    try:
        return json.loads(
            text,
            parse_constant=_refuse_word,
            parse_float=_exactly,
            object_pairs_hook=_without_doubles,
        )
    except json.JSONDecodeError as error:
        raise NotJSONError(f"{error.msg} at column {error.colno}") from error
    except _NotKeptError as error:
        problem: str = str(error)
        hint: str | None = error.hint
        cause: Exception = error
    except RecursionError as error:
        problem, hint, cause = f"it is nested deeper than {MAX_DEPTH} levels", None, error
    except ValueError as error:  # of int()
        problem, hint = "a whole number in it has more digits than can be read back", None
        cause = error
    # Further on it may turn out to be no JSON: what comes first says nothing about the rest.
    if not _follows_the_grammar(text):
        raise NotJSONError("it does not follow the grammar of JSON") from cause
    raise InvalidValueError(problem, hint=hint, says_written=True) from cause


class _NotKeptError(Exception):
    """Something in the text is JSON, and would be lost."""

    def __init__(self, problem: str, *, hint: str | None = None) -> None:
        super().__init__(problem)
        self.hint = hint


def _refuse_word(word: str) -> NoReturn:
    raise json.JSONDecodeError(f"{word} is not JSON", word, 0)


def _exactly(text: str) -> float:
    number = float(text)
    written = repr(number)  # the shortest that reads as the same double
    if text == written:
        return number
    from decimal import Decimal, InvalidOperation  # which takes long to import

    try:
        is_exact = isfinite(number) and Decimal(text) == Decimal(written)
    except InvalidOperation:  # an exponent beyond all bounds, of which only zero is nothing
        is_exact = not re.search("[1-9]", re.split("[eE]", text)[0])
    if not is_exact:
        raise _NotKeptError(
            f"the number {text:.80} would be rounded to {written}",
            hint="as a text it keeps every digit",
        )
    return number


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise _NotKeptError(f"the name {name!r:.80} is there twice, and one would be lost")
        seen.add(name)
    raise AssertionError("fewer names than pairs, and none twice")


def _follows_the_grammar(text: str) -> bool:
    """True for JSON, however deep: no call goes a level deeper."""
    open_marks: list[str] = []
    wanted = "value"  # or: a name, a colon, what follows a value; "first …" may be the end as well
    position = 0
    while match := _TOKEN.match(text, position):
        position = match.end()
        token = match["mark"] or match.lastgroup
        if token in ("[", "{") and wanted in ("value", "first value"):
            open_marks.append(token)
            wanted = "first value" if token == "[" else "first name"
        elif token in ("text", "scalar") and wanted in ("value", "first value"):
            wanted = "more"
        elif token == "text" and wanted in ("name", "first name"):
            wanted = "colon"
        elif token == ":" and wanted == "colon":
            wanted = "value"
        elif token == "," and wanted == "more" and open_marks:
            wanted = "value" if open_marks[-1] == "[" else "name"
        elif (token == "]" and wanted in ("more", "first value") and open_marks[-1:] == ["["]) or (
            token == "}" and wanted in ("more", "first name") and open_marks[-1:] == ["{"]
        ):
            open_marks.pop()
            wanted = "more"
        else:
            return False
    return wanted == "more" and not open_marks and not text[position:].strip(_SPACE)
