"""What a value may be: exactly what JSON carries, and nothing that it would alter in silence.

`json.dumps` turns tuples into lists, numbers as keys into text, enum members into their numbers and
NaN into a word that other readers refuse. Here each of these is refused by name instead.
"""

from __future__ import annotations

import math
import sys
from typing import Any, NoReturn

from amfs_core.errors import InvalidValueError

MAX_DEPTH = 200
"""Deepest nesting of lists and objects: every JSON reader follows that far."""

_MAX_DIGITS = 4299  # with a sign, the most that Python and msgspec read back
_TOO_LARGE = 10**_MAX_DIGITS
_TOO_SMALL = -_TOO_LARGE

_LONG = 16  # items in a list that is worth a look at all of them at once

_HINTS = {
    "bytes": "encode it as text, for example with base64",
    "bytearray": "encode it as text, for example with base64",
    "tuple": "make it a list",
    "set": "make it a sorted list",
    "frozenset": "make it a sorted list",
    "datetime": "use .isoformat()",
    "date": "use .isoformat()",
    "time": "use .isoformat()",
    "timedelta": "use .total_seconds()",
    "Decimal": "use str() or float()",
    "UUID": "use str()",
}


def copied(value: object, what: str = "value") -> Any:
    """Return a copy of `value` that shares nothing mutable with it, if JSON carries it exactly.

    Raises `InvalidValueError`, naming the place, otherwise. Allowed are None, bool, int (up to
    4,299 digits), finite float, text that is valid UTF-8, and lists and dicts with text keys of
    these, nested up to 200 deep. Subclasses are refused: they would come back as their base.
    """
    try:
        return _copy(value, 0)
    except (_NotJSONError, RecursionError):
        _refuse(value, what)


def shown(value: object) -> str:
    """Return a short `repr` for a message; some objects have none (a whole number too long)."""
    try:
        return f"{value!r:.80}"
    except Exception:
        return "(too long to show)" if type(value) is int else "(without a repr)"


class _NotJSONError(Exception):
    """Something in the value is not JSON; `_refuse` finds out what and where."""


def _copy(node: Any, depth: int) -> Any:
    kind = type(node)
    if kind is str:
        if node.isascii() or _is_utf8(node):
            return node
    elif kind is dict:
        if depth < MAX_DEPTH:
            below = depth + 1
            copy = {}
            for key, child in node.items():
                if type(key) is not str or not (key.isascii() or _is_utf8(key)):
                    raise _NotJSONError
                plain = type(child) is str and child.isascii()
                copy[key] = child if plain else _copy(child, below)
            return copy
    elif kind is list:
        if depth < MAX_DEPTH:
            if len(node) >= _LONG and _is_plain(flat := node.copy()):
                return flat
            below = depth + 1
            return [
                # Most children are numbers: a call for each would be most of the cost.
                child
                if type(child) is int and _TOO_SMALL < child < _TOO_LARGE
                else _copy(child, below)
                for child in node
            ]
    elif node is None or kind is bool or _scalar_fault(node) is None:
        return node
    raise _NotJSONError


def _is_plain(nodes: list[Any]) -> bool:
    """True for numbers of one kind, or ASCII texts, that JSON carries: such as a vector, in a sixth
    of the time that looking at each of its numbers takes. False where each has to be looked at."""
    kinds = set(map(type, nodes))
    if kinds == {float}:
        return math.isfinite(sum(nodes))  # no infinity and no NaN leaves a sum finite
    if kinds == {int}:
        fits: bool = _TOO_SMALL < min(nodes) <= max(nodes) < _TOO_LARGE
        return fits
    return kinds == {str} and "".join(nodes).isascii()


def _is_utf8(text: Any) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _scalar_fault(node: object) -> str | None:
    """Say what is wrong with something that is neither text nor a container, or None."""
    kind = type(node)
    if node is None or kind is bool:
        return None
    if kind is float:
        return None if math.isfinite(node) else f"is {node}, which JSON has no number for"  # type: ignore[arg-type]
    if kind is int:
        fits = _TOO_SMALL < node < _TOO_LARGE
        return None if fits else f"is a whole number of more than {_MAX_DIGITS} digits"
    hint = _HINTS.get(kind.__name__, "convert it to plain JSON types first")
    return f"is of type {kind.__module__}.{kind.__qualname__}; {hint}".replace("builtins.", "")


def _refuse(value: object, what: str) -> NoReturn:
    """Find the first fault again, this time with its place, and raise it."""
    trail: list[object] = []

    def fault(node: object, place: str) -> str | None:
        if type(node) is str:
            return None if _is_utf8(node) else f"{place} has a lone surrogate, which is not UTF-8"
        if type(node) is not dict and type(node) is not list:
            problem = _scalar_fault(node)
            return f"{place} {problem}" if problem else None
        if any(node is above for above in trail):
            return f"{place} contains itself"
        if len(trail) >= MAX_DEPTH:
            return f"{what} is nested deeper than {MAX_DEPTH} levels"
        trail.append(node)
        inner_fault = within_dict(node, place) if type(node) is dict else within_list(node, place)
        trail.pop()
        return inner_fault

    def within_dict(node: Any, place: str) -> str | None:
        for key, child in node.items():
            if type(key) is not str:
                kind = type(key).__name__
                return f"{place} has the key {shown(key)} of type {kind}; keys are text"
            if not _is_utf8(key):
                return f"{place} has a key with a lone surrogate, which is not UTF-8"
            if child_fault := fault(child, f"{place}[{key!r}]"):
                return child_fault
        return None

    def within_list(node: Any, place: str) -> str | None:
        for index, child in enumerate(node):
            if child_fault := fault(child, f"{place}[{index}]"):
                return child_fault
        return None

    limit = sys.getrecursionlimit()
    try:
        problem = fault(value, what)
    except RecursionError:
        problem = f"{what} is nested too deep for the interpreter's limit of {limit} calls"
    raise InvalidValueError(problem or f"{what} cannot be JSON", says_written=True)
