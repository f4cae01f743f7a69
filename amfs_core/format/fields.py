"""What is said of each field of an entry beside its name and type, and what follows from that.

The structs of `amfs_core.format.entry` are the one description of an entry: a field there has its
name, its type with bounds, its default, and a `Field`. Bodies are written and read by it, shapes
are checked by it, and it says who may give a field and what becomes of it. Places that have to name
each field, as Python's parameters do, are held to it by `tests/format/test_description.py`.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal

import msgspec

from amfs_core.format.types import Count, Number

EXTRA = "extra"
"""The attribute that holds the fields of a newer format."""


@dataclass(frozen=True, slots=True)
class Field:
    """What a field is about, and where it shows.

    `about` is "place" for where the version stands, "claim" for what is claimed, which whoever
    carries a version on (an update, an outcome) repeats, "write" for one write, which nobody
    repeats, and "fate" for what became of the memory. Only "place", `written_at` and `write_id`
    outlive erasure. "state" is for what is known of an entry here and is in no body.

    `given`: a write takes it, under its name. `compared`: `diff` compares it. `exported`: lines of
    JSON have it; those that an import ignores are `given` to nobody.
    """

    about: Literal["place", "claim", "write", "fate", "state"]
    given: bool = False
    compared: bool = False
    exported: bool = False


PLACE = Field("place")
NAME = Field("place", given=True, exported=True)
CLAIM = Field("claim")
WRITE = Field("write")
FATE = Field("fate")
STATE = Field("state")


class Described(typing.NamedTuple):
    """A field of a struct: its name, its type without annotations, whether it is left out of a body
    where it has its default, and what is said of it."""

    name: str
    type: Any
    is_optional: bool
    default: Any
    field: Field


@cache
def described(kind: type[msgspec.Struct]) -> tuple[Described, ...]:
    """Return the fields of a struct that bodies have, in their order, but for `extra`."""
    fields = (
        Described(
            info.name,
            _plain(info.type),
            info.default is not msgspec.NODEFAULT,
            info.default,
            _said_of(kind, info),
        )
        for info in msgspec.structs.fields(kind)
        if info.name != EXTRA
    )
    return tuple(description for description in fields if description.field is not STATE)


def _said_of(kind: type[msgspec.Struct], info: msgspec.structs.FieldInfo) -> Field:
    for annotation in getattr(info.type, "__metadata__", ()):
        if isinstance(annotation, Field):
            return annotation
    raise TypeError(f"{kind.__name__}.{info.name} does not say what it is about")


def _plain(kind: Any) -> Any:
    """Return a type without its annotations, and without None beside it."""
    if typing.get_origin(kind) is Annotated:
        return _plain(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        others = [member for member in typing.get_args(kind) if member is not type(None)]
        return _plain(others[0])
    return kind


def named(kind: type[msgspec.Struct], wanted: Callable[[Field], bool]) -> tuple[str, ...]:
    """Return the names of those fields of a struct of which something is said."""
    return tuple(description.name for description in described(kind) if wanted(description.field))


# -- bodies ----------------------------------------------------------------------------------


def written(struct: msgspec.Struct, time_text: Callable[[datetime], str]) -> dict[str, Any]:
    """Return the fields of a body, or of an object in it, in their order; those of a newer format
    come last."""
    fields: dict[str, Any] = {}
    for name, _, is_optional, default, _ in described(type(struct)):
        value = getattr(struct, name)
        if is_optional and value == default:
            continue
        if isinstance(value, datetime):
            value = time_text(value)
        elif isinstance(value, msgspec.Struct):
            value = written(value, time_text)
        fields[name] = value
    fields.update(getattr(struct, EXTRA))
    return fields


def read(
    kind: type[msgspec.Struct],
    fields: dict[str, Any],
    time_from: Callable[[str], datetime],
    ignored: frozenset[str] = frozenset(),
) -> Any:
    """Return what a body, or an object in it, holds: the reverse of `written`, once its shape has
    been checked. Every value stays as it was written; `ignored` are no fields of a newer format."""
    values: dict[str, Any] = {}
    for name, of, is_optional, default, _ in described(kind):
        if is_optional and name not in fields:
            values[name] = default
            continue
        value = fields[name]
        if of is datetime:
            value = None if value is None else time_from(value)
        elif typing.get_origin(of) is tuple:
            value = tuple(value)
        elif isinstance(of, type) and issubclass(of, msgspec.Struct):
            value = read(of, value, time_from)
        values[name] = value
    values[EXTRA] = {
        name: value for name, value in fields.items() if name not in values and name not in ignored
    }
    return kind(**values)


@cache
def shape(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Return what the fields of a body have to be, as JSON has them. Others are not looked at."""
    return msgspec.defstruct(f"{kind.__name__}Shape", list(_shapes(kind)), kw_only=True)


def _shapes(kind: type[msgspec.Struct]) -> Iterator[tuple[str, Any] | tuple[str, Any, Any]]:
    infos = {info.name: info for info in msgspec.structs.fields(kind)}
    for description in described(kind):
        of: Any = infos[description.name].type
        if typing.get_origin(description.type) is tuple:
            of = list[typing.get_args(description.type)[0]]  # type: ignore[misc]
        elif isinstance(description.type, type) and issubclass(description.type, msgspec.Struct):
            of = shape(description.type)
        elif typing.get_args(of)[0] == Number:
            of = Count  # which takes a whole number of any size
        yield (
            (description.name, of, description.default)
            if description.is_optional
            else (description.name, of)
        )
