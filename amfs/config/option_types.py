"""Checking option values against a constructor's annotations, and describing types in words.

msgspec checks the values. No message repeats a value, because it may be a secret; msgspec's own
messages do, so they are not passed on.
"""

from __future__ import annotations

import os
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal

import msgspec

_NOUNS: Mapping[type, str] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    os.PathLike: "a path",
    PurePath: "a path",
    Mapping: "keys of its own, indented below it",
    Iterable: "a list",
}
"""The order matters: a bool is an int, and a mapping is iterable."""


class WrongTypeError(ValueError):
    """A value that its annotation does not allow; `keys` lead to the invalid part of it."""

    def __init__(self, annotation: Any, keys: tuple[str | int, ...]) -> None:
        super().__init__(described(annotation))
        self.keys = keys


def converted(value: Any, annotation: Any, *, strict: bool = False) -> Any:
    """Return a value from YAML, converted to the type of an annotation, such as a `Path`.

    Unless `strict`, text such as "5" is accepted as a number. Types that msgspec does not know (a
    type variable, an adapter's own class) are checked with `isinstance` where that is possible.
    Raises `WrongTypeError`, whose text says what the value must be.
    """
    members = _members(annotation)
    for exactly in (True,) if strict else (True, False):
        for member in members:
            try:
                return msgspec.convert(value, member, strict=exactly, dec_hook=_of_another_type)
            except msgspec.ValidationError:
                continue
            except TypeError:  # an annotation that cannot be checked
                return value
    raise _wrong_part(value, annotation, strict)


def described(annotation: Any) -> str:
    """Return what an annotation allows in words: `text or a path`, `'a' or 'b'`."""
    members = [member for member in _members(annotation) if member is not types.NoneType]
    return " or ".join(dict.fromkeys(_noun(member) for member in members)) or "empty"


def _members(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union: msgspec rejects a union with a class that it does not know."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _of_another_type(wanted: type, value: Any) -> Any:
    """Convert types that msgspec does not know: a path from text, and instances as they are."""
    if isinstance(value, str) and issubclass(wanted, PurePath):
        return wanted(value)
    try:
        fits = isinstance(value, wanted)
    except TypeError:  # a protocol that only type checkers can check
        return value
    if not fits:
        raise TypeError
    return value


def _wrong_part(value: Any, annotation: Any, strict: bool) -> WrongTypeError:
    """Return the error for the innermost invalid part of a mapping or list."""
    for member in _members(annotation):
        for key, part, wanted in _parts(value, member):
            try:
                converted(part, wanted, strict=strict)
            except WrongTypeError as error:
                error.keys = (key, *error.keys)
                return error
    return WrongTypeError(annotation, ())


def _parts(value: Any, annotation: Any) -> Iterator[tuple[str | int, Any, Any]]:
    """Yield the key, value and annotation of each element of a mapping or list."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if not isinstance(origin, type):
        return
    if isinstance(value, dict) and issubclass(origin, Mapping):
        yield from ((key, part, arguments[-1]) for key, part in value.items())
    elif isinstance(value, list) and issubclass(origin, Iterable) and arguments[1:] in ((), (...,)):
        yield from ((index, part, arguments[0]) for index, part in enumerate(value))


def _noun(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return " or ".join(repr(value) for value in arguments)
    if origin is Annotated:
        metas = (extra for extra in arguments[1:] if isinstance(extra, msgspec.Meta))
        description = next((meta.description for meta in metas if meta.description), None)
        return description or described(arguments[0])
    wanted = origin or annotation
    for base, noun in _NOUNS.items():
        if isinstance(wanted, type) and issubclass(wanted, base):
            return noun
    return f"of the type {getattr(wanted, '__name__', wanted)}"
