"""Reading `amfs.yaml`: every mistake is answered with its line and what was meant.

YAML gives the lines, msgspec the types. Values are never repeated in a message: an option may be a
secret.
"""

from __future__ import annotations

import os
import sys
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import yaml

from amfs.config import adapters
from amfs.config.layers import Layer, Layers, MirrorLayer, NamedStore, Place, RouteLayer, named
from amfs.config.option_types import WrongTypeError, converted
from amfs_core.arguments import expanded
from amfs_core.errors import ConfigurationError
from amfs_core.storage import StorageAdapter

_PRIMARY: Place = ("layers", "primary")
_FINITE = sys.float_info.max
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=_FINITE, description="seconds, 0 or more")]
_Bytes = Annotated[int, msgspec.Meta(ge=1, description="a whole number of bytes, 1 or more")]


class _Layers(msgspec.Struct):
    primary: Layer
    cache: Layer | None = None
    mirrors: list[MirrorLayer] | None = None
    fallback: Layer | None = None


class _Settings(msgspec.Struct):
    namespace: str | None = None
    agent_id: str | None = None
    patience: _Seconds | None = None
    cache_dir: str | None = None
    max_value_bytes: _Bytes | None = None
    layers: _Layers | None = None
    routes: list[RouteLayer] | None = None


_PLAIN = tuple(name for name in _Settings.__struct_fields__ if name not in ("layers", "routes"))


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What a configuration file says, and on which lines.

    `adapter` is None when the file names none; `settings` holds all that is beside `layers` and
    `routes`, which are the other stores.
    """

    path: Path
    adapter: str | None
    options: Mapping[str, Any] = field(repr=False)
    settings: Mapping[str, Any]
    lines: Mapping[Place, int] = field(repr=False)
    layers: Layers = field(default_factory=Layers)

    @property
    def directory(self) -> str:
        """The directory that relative paths in the file start from."""
        return os.path.dirname(os.path.abspath(self.path))

    def path_of(self, path: str) -> str:
        """Return a path that this file gives, from its own directory and with `~` expanded."""
        return os.path.join(self.directory, expanded(path, "the path"))

    def require_unreplaced(self, adapter: str, options: Mapping[str, Any]) -> None:
        """Raise `ConfigurationError` when variables, which say what the adapter is and give some
        `options`, replace the primary store of this file, and it names others beside it: those
        would get what belongs elsewhere."""
        if not self.layers:
            return
        other = self.adapter is not None and self.adapter != adapter
        replaced = next(
            (name for name in options if self.options.get(name) not in (None, "", options[name])),
            None,
        )
        if other or replaced is not None:
            place = (*_PRIMARY, "adapter") if other else (*_PRIMARY, "options", str(replaced))
            self._refuse(
                place,
                "a variable replaces this, and the file has more stores beside it "
                f"({self.layers}), which would get what belongs elsewhere; unset the variable, or "
                "name the store with AMFS_STORE or --store, which count alone",
            )

    def open_adapter(self, name: str, options: Mapping[str, Any]) -> StorageAdapter:
        """Open the primary store, once the options that this file gives it are checked."""
        if self.adapter != name:
            return adapters.make(name, options)
        return self.open_store(NamedStore(_PRIMARY, name, self.options), options)

    def open_store(self, store: NamedStore, options: Mapping[str, Any]) -> StorageAdapter:
        """Open a store of this file, once the options that the file gives it are checked; `options`
        are all that count."""
        name, place = store.adapter, (*store.place, "options")
        try:
            adapter_class = adapters.find(name)
        except ConfigurationError as error:
            self._refuse((*store.place, "adapter"), str(error), error)
        for option in store.options:
            if problem := adapters.unknown_option(adapter_class, option):
                self._refuse((*place, option), problem)
        if missing := adapters.missing_options(adapter_class, options):
            at = place if place in self.lines else store.place
            self._refuse(at, f"adapter {name!r} needs the option {missing[0]!r}")
        checked = self._checked(adapter_class, store, options)
        try:
            return adapter_class(**{**options, **checked})
        except ConfigurationError as error:
            named_at = self._place_of(place, str(error))
            if named_at is None:
                raise
            self._refuse(named_at, str(error), error)

    def _place_of(self, options: Place, problem: str) -> Place | None:
        """Return where this file has the option that a constructor's error begins with, as in
        `timeout must be …` and `client_options.proxy_url names …`; None when it has it not."""
        place: Place = (*options, *problem.partition(" ")[0].split("."))
        while len(place) > len(options):
            if place in self.lines:
                return place
            place = place[:-1]
        return None

    def _checked(
        self, adapter_class: adapters.AdapterClass, store: NamedStore, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return this file's options as the types that the constructor's annotations ask for."""
        types = _types(adapter_class)
        found = {}
        for name in store.options:
            try:
                found[name] = converted(options[name], types.get(name, Any))
            except WrongTypeError as error:
                place: Place = (*store.place, "options", name, *error.keys)
                key = next(one for one in reversed(place) if isinstance(one, str))
                self._refuse(place, f"{key!r}: it must be {error}")
        return found

    def _refuse(self, place: Place, problem: str, cause: Exception | None = None) -> NoReturn:
        raise _error(self.path, self.lines.get(place), problem) from cause


def read(path: Path) -> ConfigFile:
    """Read a configuration file; `ConfigurationError` names the file, the line and a hint."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text") from error
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror or error}") from error
    document = _Document(path, text)
    if problems := list(_problems(document.data, _Settings, (), document.lines)):
        _, line, problem = min(problems, key=lambda one: one[:2])
        raise _error(path, line, problem)
    found = msgspec.convert(document.data, _Settings)
    primary = found.layers.primary if found.layers else None
    return ConfigFile(
        path=path,
        adapter=primary.adapter if primary else None,
        options=(primary.options if primary else None) or {},
        settings={name: getattr(found, name) for name in _PLAIN},
        lines=document.lines,
        layers=named(
            found.layers.cache if found.layers else None,
            found.layers.mirrors if found.layers else None,
            found.routes,
            found.layers.fallback if found.layers else None,
        ),
    )


class _Document:
    """A YAML document as plain data, with the line of each key."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.lines: dict[Place, int] = {}
        self._open: set[int] = set()
        try:
            loader = yaml.SafeLoader(text)
            node = loader.get_single_node()
            self._scalars = loader
            self.data = {} if node is None else self._value(node, ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else None
            raise _error(path, line, f"not YAML: {error.problem or error.context}") from error
        except yaml.YAMLError as error:  # a character that YAML does not allow
            position = getattr(error, "position", None)
            line = None if position is None else text.count("\n", 0, position) + 1
            problem = f"not YAML: {getattr(error, 'reason', 'it cannot be read')}"
            raise _error(path, line, problem) from error
        if not isinstance(self.data, dict):
            raise _error(path, 1, "it must be settings such as 'namespace: production'")

    def _value(self, node: yaml.Node, place: Place) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(place, line)
        if id(node) in self._open:
            raise _error(self.path, line, "this part contains itself")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return dict(self._pairs(node, place))
            if isinstance(node, yaml.SequenceNode):
                return [self._value(one, (*place, i)) for i, one in enumerate(node.value)]
            return self._scalars.construct_object(node)
        except ValueError as error:  # such as the date 2026-13-45
            raise _error(self.path, line, "this value is not valid; put it in quotes") from error
        finally:
            self._open.discard(id(node))

    def _pairs(self, node: yaml.MappingNode, place: Place) -> Iterator[tuple[str, Any]]:
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode) or not isinstance(key, str):
                raise _error(self.path, line, "a key must be plain text")
            if key in seen:
                raise _error(self.path, line, f"{key!r} was given on line {seen[key]} already")
            seen[key] = line
            self.lines[(*place, key)] = line
            yield key, self._value(value_node, (*place, key))


def _types(adapter_class: adapters.AdapterClass) -> dict[str, Any]:
    """Return the constructor's annotations; none where they cannot be resolved."""
    try:
        return typing.get_type_hints(adapter_class.__init__, include_extras=True)
    except (NameError, TypeError):  # a name that only type checkers import
        return {}


def _problems(
    data: Any, struct: type[msgspec.Struct], place: Place, lines: Mapping[Place, int]
) -> Iterator[tuple[bool, int, str]]:
    """Yield what is wrong with settings: whether a key is missing, the line, and a sentence.

    So the smallest is what to name: a misspelt key comes before the missing one that it was meant
    to be.
    """
    line = lines.get(place, 1)
    if not isinstance(data, dict):
        yield False, line, f"{_name(place)} must hold keys of its own, indented below it"
        return
    fields = {one.name: one for one in msgspec.structs.fields(struct)}
    for key, value in data.items():
        inside = (*place, key)
        if key not in fields:
            problem = f"unknown key {key!r}{adapters.meant(key, list(fields))}"
            yield False, lines[inside], problem
        elif (part := _struct(fields[key].type)) and (fields[key].required or value is not None):
            yield from _problems(value, part, inside, lines)
        elif (part := _list_of(fields[key].type)) and isinstance(value, list):
            for index, one in enumerate(value):
                yield from _problems(one, part, (*inside, index), lines)
        else:
            try:
                converted(value, fields[key].type, strict=True)
            except WrongTypeError as error:
                yield False, lines[inside], f"{key!r}: it must be {error}"
    for name, one in fields.items():
        if one.required and name not in data:
            yield True, line, f"{_name(place)} needs {name!r}"


def _name(place: Place) -> str:
    """Return what a part of the file is called: its key, or its number in a list."""
    last = place[-1]
    return repr(last) if isinstance(last, str) else f"number {last + 1} of {place[-2]!r}"


def _struct(annotation: Any) -> type[msgspec.Struct] | None:
    """Return the struct that an annotation asks for, None when that is a plain value."""
    members = (annotation, *typing.get_args(annotation))
    classes = (one for one in members if isinstance(one, type))
    return next((one for one in classes if issubclass(one, msgspec.Struct)), None)


def _list_of(annotation: Any) -> type[msgspec.Struct] | None:
    """Return the struct that an annotation asks for a list of, None when it does not."""
    for member in (annotation, *typing.get_args(annotation)):
        if typing.get_origin(member) is list:
            return _struct(typing.get_args(member)[0])
    return None


def _error(path: Path, line: int | None, problem: str) -> ConfigurationError:
    where = f"{path.name if _is_here(path) else path}"
    return ConfigurationError(f"{where} line {line}: {problem}" if line else f"{where}: {problem}")


def _is_here(path: Path) -> bool:
    try:
        return path.parent.resolve() == Path.cwd()
    except OSError:
        return False
