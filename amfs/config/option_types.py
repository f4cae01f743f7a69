"""What the annotations of a constructor allow: values of a file checked by msgspec, types in words.

No message repeats a value, because it may be a secret; that is why msgspec's own are not passed on.
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
"""In this order: a bool is an int, a mapping can be iterated."""


class WrongTypeError(ValueError):
    """A value that its annotation does not allow; `keys` lead to the part of it that is wrong."""

    def __init__(self, annotation: Any, keys: tuple[str | int, ...]) -> None:
        super().__init__(described(annotation))
        self.keys = keys


def converted(value: Any, annotation: Any, *, strict: bool = False) -> Any:
    """Return a value from YAML as the type that an annotation asks for, such as a `Path`.

    Unless `strict`, text such as "5" is taken for a number. What msgspec knows nothing of (a type
    variable, a class of the adapter's own) is checked with `isinstance` where that is possible.
    Raises `WrongTypeError`, whose text says what the value must be.
    """
    members = _members(annotation)
    for as_given in (True,) if strict else (True, False):
        for member in members:
            try:
                return msgspec.convert(value, member, strict=as_given, dec_hook=_of_another_type)
            except msgspec.ValidationError:
                continue
            except TypeError:  # an annotation that cannot be checked
                return value
    raise _wrong_part(value, annotation, strict)


def described(annotation: Any) -> str:
    """Say in words what an annotation allows: `text or a path`, `'a' or 'b'`."""
    members = [one for one in _members(annotation) if one is not types.NoneType]
    return " or ".join(dict.fromkeys(_noun(one) for one in members)) or "empty"


def _members(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union: msgspec takes none with a class that it does not know."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _of_another_type(wanted: type, value: Any) -> Any:
    """Take what msgspec has no rule for: a path as text, and instances."""
    if isinstance(value, str) and issubclass(wanted, PurePath):
        return wanted(value)
    try:
        fits = isinstance(value, wanted)
    except TypeError:  # a protocol that is checked by type checkers only
        return value
    if not fits:
        raise TypeError
    return value


def _wrong_part(value: Any, annotation: Any, strict: bool) -> WrongTypeError:
    """Return the error for the innermost part of a mapping or list that is wrong."""
    for member in _members(annotation):
        for key, part, wanted in _parts(value, member):
            try:
                converted(part, wanted, strict=strict)
            except WrongTypeError as error:
                error.keys = (key, *error.keys)
                return error
    return WrongTypeError(annotation, ())


def _parts(value: Any, annotation: Any) -> Iterator[tuple[str | int, Any, Any]]:
    """Yield key, value and annotation of what a mapping or a list holds."""
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
        metas = (one for one in arguments[1:] if isinstance(one, msgspec.Meta))
        told = next((one.description for one in metas if one.description), None)
        return told or described(arguments[0])
    wanted = origin or annotation
    for base, noun in _NOUNS.items():
        if isinstance(wanted, type) and issubclass(wanted, base):
            return noun
    return f"of the type {getattr(wanted, '__name__', wanted)}"
