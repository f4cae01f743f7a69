"""Reading `amfs.yaml`: the error for a mistake names its line and suggests what was meant.

YAML provides the lines, msgspec checks the types. Messages never repeat a value, because an option
may be a secret.
"""

from __future__ import annotations

import os
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import msgspec
import yaml

from amfs.config import adapters
from amfs.config.layers import Layer, Layers, MirrorLayer, NamedStore, Place, RouteLayer, named
from amfs.config.option_types import WrongTypeError, converted
from amfs_core.arguments import expanded
from amfs_core.errors import ConfigurationError
from amfs_core.storage import StorageAdapter

if TYPE_CHECKING:
    from amfs_core.catalog import Index

T = TypeVar("T")

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
    index: Layer | None = None


_OTHERS = ("layers", "routes", "index")
_PLAIN = tuple(name for name in _Settings.__struct_fields__ if name not in _OTHERS)


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """The content of a configuration file, with line numbers.

    `adapter` is None when the file does not name one. `settings` holds everything except the stores
    (`layers` and `routes`) and the `index`.
    """

    path: Path
    adapter: str | None
    options: Mapping[str, Any] = field(repr=False)
    settings: Mapping[str, Any]
    lines: Mapping[Place, int] = field(repr=False)
    layers: Layers = field(default_factory=Layers)
    index: NamedStore | None = None

    @property
    def directory(self) -> str:
        """The directory to which relative paths in the file refer."""
        return os.path.dirname(os.path.abspath(self.path))

    def path_of(self, path: str) -> str:
        """Return a path from this file, relative to the file's directory and with `~` expanded."""
        return os.path.join(self.directory, expanded(path, "the path"))

    def require_unreplaced(self, adapter: str, options: Mapping[str, Any]) -> None:
        """Raise `ConfigurationError` when variables replace the primary store of a file that names
        more stores: those would receive data that belongs elsewhere.

        `adapter` and `options` are what the variables select.
        """
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
                "a variable replaces this, but the file has more stores beside it "
                f"({self.layers}), which would get data that belongs elsewhere; unset it, "
                "or name the store with AMFS_STORE or --store, which replace all of them",
            )

    def open_adapter(self, name: str, options: Mapping[str, Any]) -> StorageAdapter:
        """Open the primary store after checking the options that this file gives it."""
        if self.adapter != name:
            return adapters.make(name, options)
        return self.open_store(NamedStore(_PRIMARY, name, self.options), options)

    def open_store(self, store: NamedStore, options: Mapping[str, Any]) -> StorageAdapter:
        """Open a store of this file after checking the options that the file gives it; `options`
        are those of all sources."""
        return self._opened(adapters.find, store, options)

    def open_index(self, options: Mapping[str, Any]) -> Index:
        """Open the index of this file in the same way."""
        from amfs.config import indexes

        assert self.index is not None
        return self._opened(indexes.find, self.index, options)

    def _opened(
        self, find: Callable[[str], type[T]], store: NamedStore, options: Mapping[str, Any]
    ) -> T:
        name, place = store.adapter, (*store.place, "options")
        try:
            adapter_class = find(name)
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
        """Return the place in this file of the option with which a constructor's error begins, as
        in `timeout must be …` and `client_options.proxy_url names …`; None when it is not there."""
        place: Place = (*options, *problem.partition(" ")[0].split("."))
        while len(place) > len(options):
            if place in self.lines:
                return place
            place = place[:-1]
        return None

    def _checked(
        self, adapter_class: type, store: NamedStore, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return this file's options, converted to the types of the constructor's annotations."""
        types = _types(adapter_class)
        checked = {}
        for name in store.options:
            try:
                checked[name] = converted(options[name], types.get(name, Any))
            except WrongTypeError as error:
                place: Place = (*store.place, "options", name, *error.keys)
                key = next(part for part in reversed(place) if isinstance(part, str))
                self._refuse(place, f"{key!r}: it must be {error}")
        return checked

    def _refuse(self, place: Place, problem: str, cause: Exception | None = None) -> NoReturn:
        raise _error(self.path, self.lines.get(place), problem) from cause


def read(path: Path) -> ConfigFile:
    """Read a configuration file; raises `ConfigurationError` with the file, the line and a hint."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text") from error
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror or error}") from error
    document = _Document(path, text)
    if problems := list(_problems(document.data, _Settings, (), document.lines)):
        _, line, problem = min(problems, key=lambda candidate: candidate[:2])
        raise _error(path, line, problem)
    settings = msgspec.convert(document.data, _Settings)
    primary = settings.layers.primary if settings.layers else None
    return ConfigFile(
        path=path,
        adapter=primary.adapter if primary else None,
        options=(primary.options if primary else None) or {},
        settings={name: getattr(settings, name) for name in _PLAIN},
        lines=document.lines,
        layers=named(
            settings.layers.cache if settings.layers else None,
            settings.layers.mirrors if settings.layers else None,
            settings.routes,
            settings.layers.fallback if settings.layers else None,
        ),
        index=(
            None
            if settings.index is None
            else NamedStore(("index",), settings.index.adapter, settings.index.options or {})
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
            raise _error(path, 1, "the file must hold settings such as 'namespace: production'")

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
                return [self._value(item, (*place, i)) for i, item in enumerate(node.value)]
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
                raise _error(self.path, line, f"{key!r} is already set on line {seen[key]}")
            seen[key] = line
            self.lines[(*place, key)] = line
            yield key, self._value(value_node, (*place, key))


def _types(adapter_class: type) -> dict[str, Any]:
    """Return the constructor's annotations, or none of them if they cannot be resolved."""
    try:
        return typing.get_type_hints(adapter_class.__init__, include_extras=True)  # type: ignore[misc]
    except (NameError, TypeError):  # a name that only type checkers import
        return {}


def _problems(
    data: Any, struct: type[msgspec.Struct], place: Place, lines: Mapping[Place, int]
) -> Iterator[tuple[bool, int, str]]:
    """Yield the problems of settings: whether a key is missing, the line, and a sentence.

    The smallest is the one to report: a misspelt key then comes before the missing key that it was
    meant to be.
    """
    line = lines.get(place, 1)
    if not isinstance(data, dict):
        yield False, line, f"{_name(place)} must hold keys of its own, indented below it"
        return
    fields = {field.name: field for field in msgspec.structs.fields(struct)}
    for key, value in data.items():
        inside = (*place, key)
        if key not in fields:
            problem = f"unknown key {key!r}{adapters.meant(key, list(fields))}"
            yield False, lines[inside], problem
        elif (part := _struct(fields[key].type)) and (fields[key].required or value is not None):
            yield from _problems(value, part, inside, lines)
        elif (part := _list_of(fields[key].type)) and isinstance(value, list):
            for index, item in enumerate(value):
                yield from _problems(item, part, (*inside, index), lines)
        else:
            try:
                converted(value, fields[key].type, strict=True)
            except WrongTypeError as error:
                yield False, lines[inside], f"{key!r}: it must be {error}"
    for name, wanted in fields.items():
        if wanted.required and name not in data:
            yield True, line, f"{_name(place)} needs {name!r}"


def _name(place: Place) -> str:
    """Return the name of a part of the file: its key, or its number in a list."""
    last = place[-1]
    return repr(last) if isinstance(last, str) else f"number {last + 1} of {place[-2]!r}"


def _struct(annotation: Any) -> type[msgspec.Struct] | None:
    """Return the struct that an annotation asks for, None when that is a plain value."""
    members = (annotation, *typing.get_args(annotation))
    classes = (member for member in members if isinstance(member, type))
    return next((class_ for class_ in classes if issubclass(class_, msgspec.Struct)), None)


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
